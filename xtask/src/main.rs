//! Developer tasks: `cargo xtask codegen [--check]`.

mod codegen;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask codegen [--check]

  codegen   writes crates/artifact/src/abi.rs from kernels/include/zeroforge/abi.h (needs libclang:
            `make codegen` installs it in target/, or set LIBCLANG_PATH)
  --check   compares instead of writing";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
