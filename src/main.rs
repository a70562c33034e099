//! The `zeroforge` command line.

mod args;
mod commands;
mod config;
mod exit;
mod findings;
mod interrupt;
mod output;
mod software;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use args::{Cli, Command};
use config::Config;
use exit::Exit;
use output::Output;

fn main() -> ExitCode {
    // Help, versions and wrong usage need no configuration; what is run does.
    let plain = Cli::parse();
    let config = Config::load();
    let cli = match &config {
        Ok(config) => {
            let matches = config.apply(Cli::command()).get_matches();
            Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
        }
        Err(_) => plain,
    };
    let log = config.as_ref().ok().and_then(|c| c.value("log"));
    start_logging(cli.verbose, log);
    let output = Output::new(cli.json, cli.quiet);
    let config = match config {
        Ok(config) => config,
        // A completion script does not depend on settings.
        Err(_) if matches!(cli.command, Command::Completions { .. }) => Config::default(),
        Err(error) => {
            output.error(&error.into(), Exit::Usage as u8);
            return Exit::Usage.into();
        }
    };
    if let Some(folder) = config.value("cache_dir") {
        zeroforge_compiler::cache::configure_user_folder(folder.into());
    }
    let result = match cli.command {
        Command::Compile(args) => commands::compile::run(&args, &output),
        Command::Run(args) => commands::run::run(&args, &output),
        Command::Verify(args) => commands::verify::run(&args, &output),
        Command::Analyze(args) => commands::analyze::run(&args, &output),
        Command::Emulate(args) => commands::emulate::run(&args, &output),
        Command::Inspect(args) => commands::inspect::run(&args, &output),
        Command::Bench(args) => commands::bench::run(&args, &output),
        Command::Toolchain { action } => commands::toolchain::run(&action, &output),
        Command::Doctor => commands::doctor::run(&config, &output),
        Command::Keygen(args) => commands::keys::keygen(&args, &output),
        Command::Sign(args) => commands::keys::sign(&args, &output),
        Command::VerifySignature(args) => commands::keys::verify(&args, &output),
        Command::Completions { shell } => commands::completions::run(shell),
    };
    match result {
        Ok(exit) => match output.lost() {
            None => exit.into(),
            Some(error) => {
                eprintln!("error: writing results to standard output failed: {error}");
                Exit::Io.into()
            }
        },
        Err(error) => {
            let code = exit::code_of(&error);
            output.error(&error, code as u8);
            code.into()
        }
    }
}

/// Logs go to standard error; ZEROFORGE_LOG, else `-v`, else the configured filter says which.
fn start_logging(verbose: u8, configured: Option<&str>) {
    use tracing_subscriber::EnvFilter;
    let default = match (verbose, configured) {
        (0, Some(filter)) => filter,
        _ => ["warn", "info", "debug", "trace"][usize::from(verbose.min(3))],
    };
    let filter =
        EnvFilter::try_from_env("ZEROFORGE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}
