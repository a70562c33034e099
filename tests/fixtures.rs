//! Every fixture of `tests/fixtures`, from archive to result on the CPU: imported, compiled, opened,
//! run, and compared with what eager torch computed.
//!
//! Each is also compiled for sm_90a, its device kernels built as C++ for the host and run as `device/NAME`.
//!
//! `FIXTURE=name cargo test --test fixtures` runs those whose name contains `name`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use safetensors::SafeTensors;
use zeroforge_artifact::container::write_atomically;
use zeroforge_artifact::{CpuIsa, DType, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::host::HostCxx;
use zeroforge_compiler::pipeline::{CompileOptions, compile, compile_device_on_host};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Model, OpenOptions, Session, SessionOptions, Tensor, host_has};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn dtype(d: safetensors::Dtype) -> Result<DType, Failed> {
    use safetensors::Dtype;
    Ok(match d {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        other => return Err(format!("fixture holds {other:?}").into()),
    })
}

/// The arguments, results and buffers of one call.
#[derive(Default)]
struct Case {
    inputs: Vec<(String, Tensor)>,
    expected: BTreeMap<String, Tensor>,
    buffers: BTreeMap<String, Tensor>,
}

struct Expected {
    cases: BTreeMap<usize, Case>,
    atol: f64,
    rtol: f64,
}

fn read_expected(path: &Path) -> Result<Expected, Failed> {
    let bytes = std::fs::read(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
    let metadata = metadata.metadata().clone().unwrap_or_default();
    let tolerance = |key: &str| -> Result<f64, Failed> {
        Ok(metadata.get(key).ok_or(format!("no `{key}` in the metadata"))?.parse()?)
    };
    let mut expected =
        Expected { cases: BTreeMap::new(), atol: tolerance("atol")?, rtol: tolerance("rtol")? };
    for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
        let mut parts = name.splitn(3, '/');
        let (Some(case), Some(kind), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("odd key `{name}`").into());
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::from_bytes(dtype(view.dtype())?, &shape, view.data())?;
        let case = expected.cases.entry(case.parse()?).or_default();
        match kind {
            "input" => case.inputs.push((key.to_owned(), tensor)),
            "output" => drop(case.expected.insert(format!("output_{key}"), tensor)),
            "mutated" => drop(case.expected.insert(key.to_owned(), tensor)),
            "buffer" => drop(case.buffers.insert(key.to_owned(), tensor)),
            _ => return Err(format!("odd key `{name}`").into()),
        }
    }
    Ok(expected)
}

/// Largest violation of `|a - b| <= atol + rtol * |b|`, as a message.
fn compare(name: &str, found: &Tensor, expected: &Tensor, e: &Expected) -> Result<(), Failed> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        return Err(format!(
            "{name}: {} {:?} instead of {} {:?}",
            found.dtype(),
            found.shape(),
            expected.dtype(),
            expected.shape()
        )
        .into());
    }
    let exact = !expected.dtype().is_float();
    for (i, (a, b)) in found.to_f64().into_iter().zip(expected.to_f64()).enumerate() {
        let same = a == b || a.is_nan() && b.is_nan();
        // NaN on either side is not close.
        let close = !exact && (a - b).abs() <= e.atol + e.rtol * b.abs();
        if !same && !close {
            return Err(format!("{name}: element {i} is {a}, torch has {b}").into());
        }
    }
    Ok(())
}

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
    let bytes = match kernels {
        Kernels::Cpu => compile(&imported.graph, &files, &options, &|_| {})?,
        Kernels::Device(cxx) => {
            compile_device_on_host(&imported.graph, &files, Target::SM_90A, cxx)?
        }
    };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("fixture.zfa");
    write_atomically(&path, &bytes)?;
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
    let filter = std::env::var("FIXTURE").unwrap_or_default();
    let mut trials = Vec::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .map(|entries| entries.filter_map(|e| e.ok().map(|e| e.path())).collect())
        .unwrap_or_default();
    paths.sort();
    let cxx = HostCxx::find();
    if let Err(e) = &cxx {
        eprintln!("device kernels are not checked: {e}");
    }
    for path in paths {
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_none_or(|e| e != "pt2") || !name.contains(&filter) {
            continue;
        }
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
