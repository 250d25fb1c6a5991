//! `ac7 run` as a user meets it: the real binary, real sockets, real TLS, real signals, and curl as the agent.
#![cfg(test)]
#[path = "support/broker_stub.rs"]
mod broker_stub;
#[path = "run/bytes.rs"]
mod bytes;
#[path = "run/capture.rs"]
mod capture;
#[path = "run/ci.rs"]
mod ci;
#[path = "run/confined.rs"]
mod confined;
#[path = "run/environment.rs"]
mod environment;
#[path = "run/exits.rs"]
mod exits;
#[path = "run/faults.rs"]
mod faults;
#[path = "run/files.rs"]
mod files;
#[path = "run/http.rs"]
mod http;
#[path = "run/lab.rs"]
mod lab;
#[path = "run/load.rs"]
mod load;
#[path = "run/proxy.rs"]
mod proxy;
#[path = "run/scope.rs"]
mod scope;
#[path = "run/secrets.rs"]
mod secrets;
#[path = "run/server.rs"]
mod server;
#[path = "run/upload.rs"]
mod upload;
