//! The program: the words of the command line in, an exit status out.
#![forbid(unsafe_code)]
use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ac7::cli::main(env::args_os().skip(1).collect()))
}
