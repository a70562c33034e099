//! Developer tasks: `cargo xtask codegen [--check]`, `cargo xtask coverage`, `cargo xtask selection`.

mod codegen;
#[cfg(feature = "reports")]
mod coverage;
#[cfg(feature = "reports")]
mod selection;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask codegen [--check]
       cargo xtask coverage
       cargo xtask selection

  codegen   writes crates/artifact/src/abi.rs from kernels/include/zeroforge/abi.h (needs libclang:
            `make codegen` installs it in target/, or set LIBCLANG_PATH)
  --check   compares instead of writing
  coverage  writes docs/ptx-coverage.md from the instruction table and the emulator's tests
  selection writes kernels/selection/ from the functions that choose kernels by size";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        #[cfg(feature = "reports")]
        ["coverage"] => coverage::write(),
        #[cfg(feature = "reports")]
        ["selection"] => selection::write(),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
