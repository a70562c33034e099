//! What eager torch computed for the fixtures, and how results are compared with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use safetensors::SafeTensors;
use zeroforge_artifact::DType;
use zeroforge_runtime::Tensor;

/// Every archive of the folder with its name; `FIXTURE` selects by a part of the name.
pub(crate) fn archives() -> Vec<(String, PathBuf)> {
    let filter = std::env::var("FIXTURE").unwrap_or_default();
    let entries = std::fs::read_dir(folder()).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "pt2"))
        .map(|p| (p.file_stem().unwrap_or_default().to_string_lossy().into_owned(), p))
        .filter(|(name, _)| name.contains(&filter))
        .collect()
}

/// Where the fixtures are.
pub(crate) fn folder() -> PathBuf {
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
pub(crate) struct Case {
    pub(crate) inputs: Vec<(String, Tensor)>,
    pub(crate) expected: BTreeMap<String, Tensor>,
    pub(crate) buffers: BTreeMap<String, Tensor>,
}

/// What is stored beside an archive.
pub(crate) struct Expected {
    pub(crate) cases: BTreeMap<usize, Case>,
    pub(crate) atol: f64,
    pub(crate) rtol: f64,
}

/// Reads what torch computed.
pub(crate) fn read_expected(path: &Path) -> Result<Expected, Failed> {
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
pub(crate) fn compare(
    name: &str,
    found: &Tensor,
    expected: &Tensor,
    e: &Expected,
) -> Result<(), Failed> {
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
