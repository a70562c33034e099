//! Every fixture of `tests/fixtures`, from archive to result on the CPU: imported, compiled, opened,
//! run, and compared with what eager torch computed.
//!
//! Each is also compiled for sm_90a, its device kernels built as C++ for the host and run as `device/NAME`.
//!
//! `FIXTURE=name cargo test --test fixtures` runs those whose name contains `name`.

mod expected;

use std::path::Path;

use expected::{archives, compare, folder, read_expected};
use libtest_mimic::{Arguments, Failed, Trial};
use zeroforge_artifact::{CpuIsa, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::host::HostCxx;
use zeroforge_compiler::pipeline::{CompileOptions, compile, compile_device_on_host};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Model, OpenOptions, Session, SessionOptions, Tensor, host_has};

fn target() -> Target {
    if host_has(CpuIsa::X86_64V4) { Target::X86_64_V4 } else { Target::X86_64_V3 }
}

/// Which kernels are checked.
#[derive(Clone)]
enum Kernels {
    Cpu,
    /// Those of sm_90a, built for the host.
    Device(HostCxx),
}

fn run(pt2: &Path, kernels: &Kernels) -> Result<(), Failed> {
    let files = WeightFiles::none();
    let imported = load_pt2(pt2, &files, &ImportOptions::default())?;
    let options = CompileOptions {
        targets: vec![target()],
        model_hash: imported.hash.clone(),
        external_weights: false,
        cache: Cache::none(),
    };
    let artifact = match kernels {
        Kernels::Cpu => compile(&imported.graph, &files, &options, &|_| {})?,
        Kernels::Device(cxx) => {
            compile_device_on_host(&imported.graph, &files, Target::SM_90A, cxx)?
        }
    };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("fixture.zfa");
    artifact.write_atomically(&path)?;
    let model = Model::open(&path, &OpenOptions { verify_all: true, ..Default::default() })?;
    let mut session =
        Session::cpu(&model, SessionOptions { threads: Some(2), ..Default::default() })?;
    let expected = read_expected(&pt2.with_extension("safetensors"))?;
    if expected.cases.is_empty() {
        return Err("the fixture has no cases".into());
    }
    for (i, case) in &expected.cases {
        let outputs = session.run(case.inputs.clone())?;
        for (name, tensor) in &case.expected {
            let found = outputs.iter().find(|(n, _)| n == name);
            let (_, found) = found.ok_or_else(|| format!("case {i}: no output `{name}`"))?;
            compare(&format!("case {i}, {name}"), found, tensor, &expected)?;
        }
        for (name, tensor) in &case.buffers {
            let found = session.state(name)?.ok_or_else(|| format!("no state `{name}`"))?;
            let found = Tensor::from_bytes(tensor.dtype(), tensor.shape(), &found)?;
            compare(&format!("case {i}, buffer {name}"), &found, tensor, &expected)?;
        }
    }
    Ok(())
}

fn main() {
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    let cxx = HostCxx::find();
    if let Err(e) = &cxx {
        eprintln!("device kernels are not checked: {e}");
    }
    for (name, path) in archives() {
        // torch 2.8 keeps weights in a pickle: refused with the way out.
        let pickled = name.ends_with("_torch28");
        if !pickled {
            let path = path.clone();
            let kernels = cxx.as_ref().ok().cloned().map(Kernels::Device);
            let trial = Trial::test(format!("device/{name}"), {
                let kernels = kernels.clone();
                move || kernels.as_ref().map_or(Ok(()), |k| run(&path, k))
            });
            trials.push(trial.with_ignored_flag(kernels.is_none()));
        }
        trials.push(Trial::test(name, move || {
            if pickled {
                return match load_pt2(&path, &WeightFiles::none(), &ImportOptions::default()) {
                    Ok(_) => Err("an archive of torch 2.8 was accepted".into()),
                    Err(e) if e.to_string().contains("save it again with torch 2.9") => Ok(()),
                    Err(e) => Err(format!("the error does not say what to do: {e}").into()),
                };
            }
            run(&path, &Kernels::Cpu)
        }));
    }
    assert!(!trials.is_empty(), "no fixtures in {}", folder().display());
    libtest_mimic::run(&args, trials).exit();
}
