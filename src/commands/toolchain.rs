//! `zeroforge toolchain`: the CUDA compiler in the user's cache.
//!
//! NVIDIA distributes it on PyPI. pip downloads it and checks the pinned hashes; a folder appears under
//! its final name only when it is whole.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::json;
use zeroforge_compiler::cuda::{
    Found, NVDISASM, NVRTC, Nvrtc, Wheel, find_nvdisasm, find_nvrtc, toolchain_folder,
};

use crate::args::ToolchainAction;
use crate::exit::{Exit, ToolchainError};
use crate::output::{Output, bytes};

pub(crate) fn run(action: &ToolchainAction, output: &Output) -> Result<Exit> {
    match action {
        ToolchainAction::Install { sass } => {
            install(&NVRTC, output)?;
            if *sass {
                install(&NVDISASM, output)?;
            }
            // Proves that the library loads here.
            let text = nvrtc().map_err(ToolchainError)?;
            output.result(&text, || json!({"event": "ready", "nvrtc": text}));
            Ok(Exit::Success)
        }
        ToolchainAction::List => {
            list(output);
            Ok(Exit::Success)
        }
        ToolchainAction::Remove => {
            let folder = folder()?;
            match std::fs::remove_dir_all(&folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("removing `{}`", folder.display()));
                }
                done => output.result(
                    &format!(
                        "{} `{}`",
                        if done.is_ok() { "removed" } else { "nothing is installed in" },
                        folder.display()
                    ),
                    || json!({"event": "removed", "folder": folder, "existed": done.is_ok()}),
                ),
            }
            Ok(Exit::Success)
        }
    }
}

fn folder() -> Result<PathBuf> {
    toolchain_folder().ok_or_else(|| {
        ToolchainError("no cache folder is known; set ZEROFORGE_CACHE_DIR or HOME".into()).into()
    })
}

/// The Python that runs pip: `PYTHON`, else `python3`.
pub(crate) fn python() -> PathBuf {
    std::env::var_os("PYTHON").filter(|v| !v.is_empty()).map_or("python3".into(), PathBuf::from)
}

fn command(what: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let python = python();
    let result = Command::new(&python)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| {
            ToolchainError(format!(
                "{what}: `{}` cannot be run ({e}); install python3 and python3-pip, or set PYTHON",
                python.display()
            ))
        })?;
    if result.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&result.stderr);
    let tail: Vec<&str> = log.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(ToolchainError(format!("{what} failed:\n{}", tail.join("\n"))).into())
}

fn install(wheel: &Wheel, output: &Output) -> Result<()> {
    let name = format!("{} {}", wheel.package, wheel.version);
    if let Some(path) = wheel.installed() {
        output.result(&format!("{name} is installed: {}", path.display()), || {
            json!({"event": "installed", "package": wheel.package, "version": wheel.version, "path": path, "already": true})
        });
        return Ok(());
    }
    let root = folder()?;
    std::fs::create_dir_all(&root).with_context(|| format!("creating `{}`", root.display()))?;
    let work = tempfile::Builder::new()
        .prefix(".install-")
        .tempdir_in(&root)
        .with_context(|| format!("creating a folder in `{}`", root.display()))?;
    let requirements = work.path().join("requirements.txt");
    let text = format!("{}=={} --hash=sha256:{}\n", wheel.package, wheel.version, wheel.sha256);
    std::fs::write(&requirements, text).context("writing the list of packages")?;
    output.progress(&format!("download {name}"), 0, 2);
    let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    let rest =
        ["--require-hashes", "--only-binary", ":all:", "-r", "requirements.txt", "-d", "wheels"];
    command(&format!("downloading {name}"), &[&download[..], &rest[..]].concat(), work.path())?;
    output.progress(&format!("unpack {name}"), 1, 2);
    let mut wheels =
        std::fs::read_dir(work.path().join("wheels")).context("reading what pip downloaded")?;
    let file = wheels
        .next()
        .ok_or_else(|| ToolchainError(format!("pip downloaded no file for {name}")))?
        .context("reading what pip downloaded")?
        .path();
    // The hash was checked, so the archive is NVIDIA's.
    let file = file.to_string_lossy().into_owned();
    command(
        &format!("unpacking {name}"),
        &["-m", "zipfile", "-e", &file, "unpacked"],
        work.path(),
    )?;
    let unpacked = work.path().join("unpacked");
    if wheel.file.contains("/bin/") {
        make_executable(&unpacked.join(wheel.file))?;
    }
    let target = root.join(format!("{}-{}", wheel.package, wheel.version));
    if let Err(e) = std::fs::rename(&unpacked, &target) {
        // Another install may have finished first.
        if wheel.installed().is_none() {
            return Err(e)
                .with_context(|| format!("moving the compiler to `{}`", target.display()));
        }
    }
    output.finish();
    let path = target.join(wheel.file);
    output.result(&format!("installed {name}: {}", path.display()), || {
        json!({"event": "installed", "package": wheel.package, "version": wheel.version, "path": path, "already": false})
    });
    Ok(())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making `{}` executable", path.display()))
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => size_of(&e.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

fn list(output: &Output) {
    for wheel in [&NVRTC, &NVDISASM] {
        let installed = wheel.installed();
        let size = wheel.folder().map_or(0, |f| size_of(&f));
        let text = match &installed {
            Some(path) => {
                format!("{} {}: {} ({})", wheel.package, wheel.version, path.display(), bytes(size))
            }
            None => format!("{} {}: not installed", wheel.package, wheel.version),
        };
        output.result(&text, || {
            json!({"event": "package", "package": wheel.package, "version": wheel.version, "path": installed, "bytes": size})
        });
    }
    let used = |what: &str, found: Option<Found>| {
        let text = match &found {
            Some(f) => format!("{what} in use: {} ({})", f.path.display(), f.source),
            None => format!("{what}: none found; run `zeroforge toolchain install`"),
        };
        output.result(&text, || {
            json!({"event": "used", "tool": what, "path": found.as_ref().map(|f| &f.path), "source": found.as_ref().map(|f| &f.source)})
        });
    };
    used("compiler", find_nvrtc());
    used("disassembler", find_nvdisasm());
}

/// Machine code as text.
pub(crate) fn disassemble(cubin: &[u8]) -> Result<Vec<u8>> {
    let found = find_nvdisasm().ok_or_else(|| {
        ToolchainError("no disassembler was found; run `zeroforge toolchain install --sass`".into())
    })?;
    let mut file = tempfile::NamedTempFile::new().context("creating a temporary file")?;
    file.write_all(cubin).context("writing a temporary file")?;
    let result =
        Command::new(&found.path).arg(file.path()).stdin(Stdio::null()).output().map_err(|e| {
            ToolchainError(format!("`{}` cannot be run: {e}", found.path.display()))
        })?;
    if !result.status.success() {
        let log = String::from_utf8_lossy(&result.stderr);
        return Err(
            ToolchainError(format!("`{}` failed: {}", found.path.display(), log.trim())).into()
        );
    }
    Ok(result.stdout)
}

/// NVRTC, as `doctor` reports it.
pub(crate) fn nvrtc() -> Result<String, String> {
    let found = find_nvrtc().ok_or("run `zeroforge toolchain install`")?;
    let library = Nvrtc::load(&found.path).map_err(|e| e.to_string())?;
    Ok(format!("{} ({}, {})", library.version(), found.path.display(), found.source))
}
