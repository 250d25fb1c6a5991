//! Sockets that were made for us.
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;

use rustix::net::sockopt::socket_acceptconn;

/// Standard input, if it is a socket that listens: so systemd hands one over (`StandardInput=socket`, systemd.exec(5)),
/// and so does inetd(8) with `wait`. What systemd passes as descriptor 3 could be taken by unsafe code alone.
#[must_use]
pub fn listening_stdin() -> Option<TcpListener> {
    let stdin = io::stdin();
    let listens = socket_acceptconn(&stdin).unwrap_or(false);
    listens.then(|| stdin.as_fd().try_clone_to_owned().ok().map(TcpListener::from)).flatten()
}
