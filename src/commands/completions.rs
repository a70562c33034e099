//! `zeroforge completions`: a script for a shell.

use anyhow::Result;
use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::Exit;

pub(crate) fn run(shell: clap_complete::Shell) -> Result<Exit> {
    clap_complete::generate(shell, &mut Cli::command(), "zeroforge", &mut std::io::stdout());
    Ok(Exit::Success)
}
