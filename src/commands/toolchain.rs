//! `zeroforge toolchain`: the CUDA compiler in the user's cache.

use anyhow::{Result, bail};

use crate::args::ToolchainAction;
use crate::exit::Exit;
use crate::output::Output;

pub(crate) fn run(action: &ToolchainAction, output: &Output) -> Result<Exit> {
    let _ = (action, output);
    bail!("not implemented");
}

/// NVRTC, as `doctor` reports it.
pub(crate) fn nvrtc() -> Result<String, String> {
    Err("run `zeroforge toolchain install`".to_owned())
}
