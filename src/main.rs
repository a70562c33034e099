//! The `zeroforge` command line.

mod args;
mod commands;
mod exit;
mod output;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.verbose);
    let output = Output::new(cli.json, cli.quiet);
    let result = match cli.command {
        Command::Compile(args) => commands::compile::run(&args, &output),
        Command::Run(args) => commands::run::run(&args, &output),
        Command::Inspect(args) => commands::inspect::run(&args, &output),
        Command::Bench(args) => commands::bench::run(&args, &output),
        Command::Toolchain { action } => commands::toolchain::run(&action, &output),
        Command::Doctor => commands::doctor::run(&output),
        Command::Keygen(args) => commands::keys::keygen(&args, &output),
        Command::Sign(args) => commands::keys::sign(&args, &output),
        Command::VerifySignature(args) => commands::keys::verify(&args, &output),
        Command::Completions { shell } => commands::completions::run(shell),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let code = exit::code_of(&error);
            output.error(&error, code as u8);
            code.into()
        }
    }
}

/// Logs go to standard error; ZEROFORGE_LOG overrides the level that `-v` sets.
fn start_logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = ["warn", "info", "debug", "trace"][usize::from(verbose.min(3))];
    let filter =
        EnvFilter::try_from_env("ZEROFORGE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}
