//! The kernel ABI header as Rust.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

fn target() -> PathBuf {
    root().join("crates/artifact/src/abi.rs")
}

/// The bindings' text.
fn generate() -> Result<String> {
    let header = root().join("kernels/include/zeroforge/abi.h");
    let name = header.to_str().context("the repository's path is not UTF-8")?;
    let bindings = bindgen::Builder::default()
        .header(name)
        .allowlist_type("zf_.*_params|zf_operand|zf_tensor_map")
        .allowlist_var("ZF_.*")
        .derive_default(false)
        .derive_partialeq(true)
        .use_core()
        .clang_args(["-std=c99", "-fparse-all-comments"])
        .rust_target(bindgen::RustTarget::stable(85, 0).map_err(|e| anyhow::anyhow!("{e}"))?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .disable_header_comment()
        .raw_line(
            "//! Parameter blocks of hand-written kernels. Written by `cargo xtask codegen` from",
        )
        .raw_line(
            "//! `kernels/include/zeroforge/abi.h`, where the fields are explained; do not edit.",
        )
        .raw_line("#![allow(missing_docs, reason = \"documented in the header\")]")
        .raw_line("#![allow(non_camel_case_types, reason = \"the names of the header\")]")
        .raw_line("#![allow(rustdoc::broken_intra_doc_links, reason = \"brackets are C's\")]")
        .raw_line("#![allow(clippy::all, clippy::allow_attributes_without_reason, reason = \"generated\")]")
        .rustfmt_configuration_file(Some(root().join("rustfmt.toml")))
        .generate()
        .context("reading the header failed")?;
    Ok(bindings.to_string())
}

/// Writes the bindings.
pub(crate) fn write() -> Result<()> {
    let path = target();
    std::fs::write(&path, generate()?).with_context(|| format!("writing {}", path.display()))
}

/// Compares the bindings with the committed ones.
pub(crate) fn check() -> Result<()> {
    let path = target();
    let committed =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    if committed != generate()? {
        bail!("{} is not what the header gives; run `cargo xtask codegen`", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_bindings_are_current() {
        // bindgen panics where there is no libclang; looking for it first makes that a message.
        if let Err(e) = bindgen_finds_libclang() {
            eprintln!("skipped: libclang was not found ({e}); `make codegen` installs and checks");
            return;
        }
        super::check().unwrap();
    }

    /// The layout assertions of the committed bindings, put to the C compiler.
    #[test]
    fn c_compiler_agrees_with_the_bindings() {
        let text = std::fs::read_to_string(super::target()).unwrap();
        // An assertion may be broken over lines: `["..."]` and `[... - 8usize];`.
        let text = text.replace("\n        [::core", "[::core");
        let mut source = "#include <stddef.h>\n#include \"zeroforge/abi.h\"\n".to_owned();
        let mut assertions = 0;
        for line in text.lines() {
            let Some((what, rest)) =
                line.trim().strip_prefix("[\"").and_then(|l| l.split_once("\"]"))
            else {
                continue;
            };
            let number = rest.rsplit_once(" - ").unwrap().1.trim_end_matches("usize];");
            let left = if let Some(name) = what.strip_prefix("Size of ") {
                format!("sizeof({name})")
            } else if let Some(name) = what.strip_prefix("Alignment of ") {
                format!("_Alignof({name})")
            } else {
                let (ty, field) =
                    what.strip_prefix("Offset of field: ").unwrap().split_once("::").unwrap();
                format!("offsetof({ty}, {field})")
            };
            source.push_str(&format!("_Static_assert({left} == {number}, \"{what}\");\n"));
            assertions += 1;
        }
        assert!(assertions > 20, "only {assertions} assertions were found");
        let check = |source: &str| {
            use std::io::Write;
            let mut compiler = std::process::Command::new("cc")
                .args(["-x", "c", "-std=c11", "-fsyntax-only", "-"])
                .arg(format!("-I{}", super::root().join("kernels/include").display()))
                .stdin(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
            compiler.wait().unwrap().success()
        };
        assert!(check(&source), "the C compiler lays the structures out in another way");
        // The check itself fails on a wrong layout.
        assert!(!check(&source.replacen("== 40,", "== 48,", 1)));
    }

    fn bindgen_finds_libclang() -> Result<(), String> {
        std::panic::catch_unwind(|| bindgen::clang_version().full).map(drop).map_err(|e| {
            e.downcast_ref::<String>().cloned().unwrap_or_else(|| "no reason given".to_owned())
        })
    }
}
