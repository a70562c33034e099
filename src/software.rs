//! The software device: where its library is, when it is used, and what it found.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use zeroforge_artifact::Target;
use zeroforge_runtime::{
    Model, RunError, Session, SessionOptions, gpu_count, load_software_driver, software_findings,
};

use crate::args::DeviceName;
use crate::exit::{CheckError, Exit};
use crate::findings::{Printer, Shown};
use crate::output::Output;

/// Names the library by hand.
pub(crate) const VARIABLE: &str = "ZEROFORGE_SOFTWARE_DRIVER";
const FILE: &str = "libcuda.so";

/// The library: as the variable says, else beside the program or where an installation has it.
pub(crate) fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
        // Named by hand: taken even if it is wrong, so that the error names it.
        return Ok(path.into());
    }
    let program = std::env::current_exe().and_then(|p| p.canonicalize());
    let folder = program.ok().and_then(|p| p.parent().map(Path::to_owned)).unwrap_or_default();
    let places = [
        folder.join(FILE),
        folder.join("../lib/zeroforge").join(FILE),
        // In a build it may be where dependencies are.
        folder.join("deps").join(FILE),
    ];
    let found = places.iter().find(|p| p.is_file() && p.canonicalize().is_ok());
    found.cloned().ok_or_else(|| {
        format!(
            "the software device ({FILE}) is not beside the program; build it with `cargo build -p zeroforge-driver`, or name it with {VARIABLE}"
        )
    })
}

/// Makes the software device this process's CUDA driver.
fn load() -> Result<()> {
    let missing = |reason| RunError::Device { device: "software".to_owned(), reason };
    let path = find().map_err(missing)?;
    let path = path.canonicalize().with_context(|| format!("reading `{}`", path.display()))?;
    Ok(load_software_driver(&path)?)
}

/// Binds a model to a device; says so where that is the software device and nobody asked for it.
pub(crate) fn open(
    model: &Model,
    device: DeviceName,
    options: SessionOptions,
    output: &Output,
) -> Result<Session> {
    let has_gpu_code =
        model.manifest().targets.iter().any(|t| matches!(t.target, Target::Cuda { .. }));
    match device {
        DeviceName::Cpu => Ok(Session::cpu(model, options)?),
        // Where an artifact has code for both, the processor; it needs nothing.
        DeviceName::Auto if !has_gpu_code || model.cpu_target().is_ok() => {
            Ok(Session::cpu(model, options)?)
        }
        DeviceName::Auto | DeviceName::Cuda => {
            if gpu_count().unwrap_or(0) == 0 {
                let why = match gpu_count() {
                    Some(_) => "the NVIDIA driver offers no GPU",
                    None => "this machine has no NVIDIA driver",
                };
                output.remark(&format!(
                    "{why}: running on the software device, which is exact and slow (--device cpu runs code for this processor)"
                ));
                load()?;
            }
            Ok(Session::cuda(model, 0, options)?)
        }
        DeviceName::Software => {
            load()?;
            Ok(Session::cuda(model, 0, options)?)
        }
    }
}

/// Shows what the software device has found in this process, if it was used; an error if that was one.
pub(crate) fn report(output: &Output) -> Result<Exit> {
    let Some(text) = software_findings() else { return Ok(Exit::Success) };
    let value: Value =
        serde_json::from_str(&text?).context("reading the software device's findings")?;
    let findings = value["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut printer = Printer::default();
    let (mut errors, mut warnings) = (0u64, 0u64);
    for finding in findings.iter().map(Shown::from_json) {
        if finding.is_error {
            errors += 1;
            output.remark_or(&printer.text(&finding, None), || finding.json());
        } else {
            warnings += 1;
        }
    }
    let dropped = value["dropped"].as_u64().unwrap_or(0);
    if errors == 0 {
        return Ok(Exit::Success);
    }
    Err(CheckError(format!(
        "the software device found {errors} errors in kernels ({warnings} warnings, {dropped} not kept)"
    ))
    .into())
}

/// A run that failed: an error found in a kernel is the reason, if there is one.
pub(crate) fn failed(error: anyhow::Error, output: &Output) -> Result<Exit> {
    match report(output) {
        Err(found) => Err(error.context(found)),
        Ok(_) => Err(error),
    }
}
