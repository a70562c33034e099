//! Every fixture as a user runs it without a GPU: compiled for the processor and for sm_90a, run with `--device cpu` and
//! with `--device software`, where the code for the GPU goes through the CUDA driver API. The results agree, and
//! the software device's checkers find nothing.
//!
//! Needs NVIDIA's compiler (`make test` installs it); without it every test is ignored and the reason printed.
//! `FIXTURE=name` selects.

mod expected;

use std::path::Path;
use std::process::Command;

use expected::{archives, compare, read_expected};
use libtest_mimic::{Arguments, Failed, Trial};
use zeroforge_artifact::{CpuIsa, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{Nvrtc, find_nvrtc};
use zeroforge_compiler::pipeline::{CompileOptions, compile};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Tensor, host_has, tensor_io};

fn host() -> Target {
    if host_has(CpuIsa::X86_64V4) { Target::X86_64_V4 } else { Target::X86_64_V3 }
}

/// Runs an artifact and returns its outputs.
fn run(folder: &Path, device: &str) -> Result<Vec<(String, Tensor)>, Failed> {
    let output = folder.join(device).with_extension("safetensors");
    let ran = Command::new(env!("CARGO_BIN_EXE_zeroforge"))
        .args(["run", "model.zfa", "--input", "inputs.safetensors", "--threads", "1"])
        .args(["--device", device, "--output"])
        .arg(&output)
        .env("ZEROFORGE_SOFTWARE_THREADS", "1")
        .env_remove("ZEROFORGE_DEVICE")
        .current_dir(folder)
        .output()?;
    let errors = String::from_utf8_lossy(&ran.stderr);
    if !ran.status.success() {
        return Err(format!("--device {device}: {}\n{errors}", ran.status).into());
    }
    // A finding would have been said there.
    if !errors.trim().is_empty() {
        return Err(format!("--device {device} said:\n{errors}").into());
    }
    Ok(tensor_io::read_safetensors(&output)?)
}

fn check(pt2: &Path) -> Result<(), Failed> {
    let files = WeightFiles::none();
    let imported = load_pt2(pt2, &files, &ImportOptions::default())?;
    let options = CompileOptions {
        targets: vec![host(), Target::SM_90A],
        model_hash: imported.hash.clone(),
        external_weights: false,
        sms: None,
        cache: Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")),
    };
    let folder = tempfile::tempdir()?;
    let artifact = compile(&imported.graph, &files, &options, &|_| {})?;
    artifact.write_atomically(&folder.path().join("model.zfa"))?;
    let expected = read_expected(&pt2.with_extension("safetensors"))?;
    let case = expected.cases.values().next().ok_or("the fixture has no cases")?;
    let inputs = tensor_io::to_safetensors(&case.inputs)?;
    std::fs::write(folder.path().join("inputs.safetensors"), inputs)?;
    let cpu = run(folder.path(), "cpu")?;
    let software = run(folder.path(), "software")?;
    for (name, tensor) in &cpu {
        let found = software.iter().find(|(n, _)| n == name);
        let (_, found) = found.ok_or_else(|| format!("no output `{name}`"))?;
        compare(name, found, tensor, &expected)?;
    }
    for (name, tensor) in &case.expected {
        let found = software.iter().find(|(n, _)| n == name);
        let (_, found) = found.ok_or_else(|| format!("no output `{name}`"))?;
        compare(name, found, tensor, &expected)?;
    }
    Ok(())
}

fn main() {
    let args = Arguments::from_args();
    let missing = match find_nvrtc() {
        Some(found) => Nvrtc::load(&found.path).err().map(|e| e.to_string()),
        None => Some("no CUDA compiler; run `zeroforge toolchain install`".to_owned()),
    };
    if let Some(reason) = &missing {
        eprintln!("the software device is not tested: {reason}");
    }
    let mut trials = Vec::new();
    // Archives of torch 2.8 are refused (`tests/fixtures.rs`).
    for (name, path) in archives().into_iter().filter(|(name, _)| !name.ends_with("_torch28")) {
        let trial = Trial::test(name, move || check(&path));
        trials.push(trial.with_ignored_flag(missing.is_some()));
    }
    assert!(!trials.is_empty(), "no fixtures were found");
    libtest_mimic::run(&args, trials).exit();
}
