//! The command `devhost`: see the README beside it.

use std::process::ExitCode;

use clap::Parser;
use devhost::cli::{Cli, Command};

fn main() -> ExitCode {
    let Command::Up(flags) = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("devhost: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(devhost::up(flags));
    // A guest or a statement that still runs was given its time: it must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("devhost: {error:#}");
            ExitCode::FAILURE
        }
    }
}
