//! Opening an archive: entries, graph, weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroforge_graph::ir::{Bytes, TensorType, WeightData};
use zeroforge_graph::{Graph, ValueId};

use crate::archive::{Archive, ArchiveError};
use crate::lower::{self, Diagnostic, dtype::dtype_from_code};
use crate::pt2::schema::{ExportedProgram, Payload, PayloadConfig, SymInt};
use crate::weights::{WeightFiles, WeightReport};

/// Largest graph description in bytes.
const MAX_MODEL_JSON: usize = 256 << 20;
/// Most bytes that a tensor with repeating strides may grow to beyond its storage.
const MAX_EXPANSION: usize = 64 << 20;
/// Oldest archive schema that is read (torch 2.9).
const SCHEMA_MAJOR: i64 = 8;
const SCHEMA_MINOR_MIN: i64 = 9;

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Name of the model; the file's stem if `None`.
    pub name: Option<String>,
}

/// A model ready for the compiler.
#[derive(Debug)]
pub struct Imported {
    /// The graph; its weights are inline, named in the weight files, or unbound.
    pub graph: Graph,
    /// The value of the graph that each of the exporter's names stands for, inputs and weights included.
    pub values: BTreeMap<String, ValueId>,
    /// BLAKE3 of the archive, hexadecimal.
    pub hash: String,
    /// How weights and files matched.
    pub weights: WeightReport,
}

/// Why a model could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error("reading `{path}` failed: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The container.
    #[error("`{path}`: {source}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// The archive is of a kind or version that cannot be read.
    #[error("`{path}`: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is and what to do.
        reason: String,
    },
    /// Nodes, types or shapes that are not supported, all of them.
    #[error("`{path}` has {} that cannot be compiled:\n{}", count(.diagnostics), list(.diagnostics))]
    Model {
        /// The file.
        path: PathBuf,
        /// Each of them.
        diagnostics: Vec<Diagnostic>,
    },
    /// The importer made a graph that breaks a rule.
    #[error("`{path}` was imported wrongly, please report this: {source}")]
    Graph {
        /// The file.
        path: PathBuf,
        /// The rule.
        source: Box<zeroforge_graph::VerifyError>,
    },
    /// A weight file.
    #[error("`{path}`: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn count(list: &[Diagnostic]) -> String {
    match list.len() {
        1 => "1 part".to_owned(),
        n => format!("{n} parts"),
    }
}

fn list(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("  {d}")).collect::<Vec<_>>().join("\n")
}

/// Reads a `.pt2` file and binds weights that it does not hold from `files`.
pub fn load_pt2(
    path: &Path,
    files: &WeightFiles,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let bytes = std::fs::read(path)
        .map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    load_pt2_bytes(path, Bytes::new(bytes), files, options)
}

/// As [`load_pt2`], from memory; `path` is for messages.
pub fn load_pt2_bytes(
    path: &Path,
    bytes: Bytes,
    files: &WeightFiles,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let file = bytes.as_slice();
    let bad = |source| ImportError::Archive { path: path.to_owned(), source };
    let unsupported = |reason: String| ImportError::Unsupported { path: path.to_owned(), reason };
    let archive = Archive::parse(file).map_err(bad)?;
    let Some(model) = archive.names().find(|n| n.ends_with("/models/model.json")) else {
        let older = archive.names().any(|n| n.ends_with("serialized_exported_program.json"));
        return Err(unsupported(if older {
            "this archive was written by torch 2.8 or older, which keeps weights in a pickle; load it there with torch.export.load and save it again with torch 2.9 or newer".to_owned()
        } else {
            "no `models/model.json` in the archive; it was not written by torch.export.save"
                .to_owned()
        }));
    };
    let root = model.trim_end_matches("models/model.json").to_owned();
    let text = &file[archive.range(file, model).map_err(bad)?];
    if text.len() > MAX_MODEL_JSON {
        return Err(unsupported(format!("`{model}` is larger than {MAX_MODEL_JSON} bytes")));
    }
    let program: ExportedProgram = serde_json::from_slice(text)
        .map_err(|e| {
        unsupported(format!("`{model}` is not what torch.export writes: {e}; save the model again with torch.export.save"))
    })?;
    let config = |entry: &str| -> Result<PayloadConfig, ImportError> {
        match archive.range(file, &format!("{root}{entry}")) {
            Ok(range) => serde_json::from_slice(&file[range]).map_err(|e| {
                unsupported(format!("`{entry}` is not what torch.export writes: {e}; save the model again with torch.export.save"))
            }),
            Err(ArchiveError::Missing(_)) => Ok(PayloadConfig::default()),
            Err(e) => Err(bad(e)),
        }
    };
    let pickled = archive.names().find(|n| n.contains("/data/weights/") && n.ends_with(".pt"));
    if let Some(name) = pickled {
        return Err(unsupported(format!(
            "its weights are in the pickle `{name}` (torch 2.8), which is never executed; load the archive there with torch.export.load and save it again with torch 2.9 or newer"
        )));
    }
    let version = &program.schema_version;
    if version.major != SCHEMA_MAJOR || version.minor < SCHEMA_MINOR_MIN {
        return Err(unsupported(format!(
            "archive schema {}.{}; versions {SCHEMA_MAJOR}.{SCHEMA_MINOR_MIN} and later of {SCHEMA_MAJOR} are read (torch 2.9 to 2.15): save the model again with such a torch",
            version.major, version.minor
        )));
    }
    let weights = config("data/weights/model_weights_config.json")?;
    let constants = config("data/constants/model_constants_config.json")?;

    let mut report = WeightReport::default();
    let mut problems = Vec::new();
    let mut find = |name: &str, ty: &TensorType| -> WeightData {
        let inside = weights
            .config
            .get(name)
            .map(|p| (p, "weights"))
            .or_else(|| constants.config.get(name).map(|p| (p, "constants")));
        if let Some((payload, folder)) = inside {
            let entry = format!("{root}data/{folder}/{}", payload.path_name);
            let range = match archive.range(file, &entry) {
                Ok(range) => Some(Ok(range)),
                Err(ArchiveError::Missing(_)) => None,
                Err(e) => Some(Err(e.to_string())),
            };
            if let Some(range) = range {
                let data = range.and_then(|range| {
                    let dense = materialize(payload, &file[range.clone()], ty)?;
                    Ok(dense.map_or_else(|| bytes.view(range), Bytes::new))
                });
                match data {
                    Ok(data) => return WeightData::Inline(data),
                    Err(reason) => {
                        problems.push(Diagnostic {
                            node: name.to_owned(),
                            op: String::new(),
                            source: entry,
                            message: reason,
                        });
                        return WeightData::Unbound;
                    }
                }
            }
        }
        match files.bind(name, ty) {
            Ok(Some(key)) => WeightData::Source(key),
            Ok(None) => {
                report.missing.push(name.to_owned());
                WeightData::Unbound
            }
            Err(reason) => {
                report.mistyped.push((name.to_owned(), reason));
                WeightData::Unbound
            }
        }
    };
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = options.name.clone().or(stem).unwrap_or_else(|| "model".to_owned());
    let result = lower::import(&program, &name, &mut find);
    let (mut graph, values) = match result {
        Ok(named) => named,
        Err(mut found) => {
            problems.append(&mut found);
            Default::default()
        }
    };
    if !problems.is_empty() {
        return Err(ImportError::Model { path: path.to_owned(), diagnostics: problems });
    }
    report.unexpected = files.unused(graph.weights.iter().map(|w| w.name.as_str()));
    // Weights that nothing reads need no data.
    let read: std::collections::BTreeSet<_> = graph
        .nodes
        .iter()
        .flat_map(|n| &n.inputs)
        .chain(graph.outputs.iter().map(|o| &o.value))
        .collect();
    let unread: Vec<String> =
        graph.weights.iter().filter(|w| !read.contains(&w.value)).map(|w| w.name.clone()).collect();
    report.missing.retain(|n| !unread.contains(n));
    graph.name = name;
    zeroforge_graph::verify(&graph)
        .map_err(|source| ImportError::Graph { path: path.to_owned(), source: Box::new(source) })?;
    let hash = blake3::hash(file).to_hex().to_string();
    Ok(Imported { graph, values, hash, weights: report })
}

/// Row-major bytes of a payload; `None` if the storage already is exactly that.
fn materialize(
    payload: &Payload,
    storage: &[u8],
    ty: &TensorType,
) -> Result<Option<Vec<u8>>, String> {
    if payload.use_pickle {
        return Err("it is stored as a pickle (a tensor subclass), which is never executed; save it as a plain tensor".to_owned());
    }
    let meta = payload.tensor_meta.as_ref().ok_or("its payload has no type")?;
    let dtype = dtype_from_code(meta.dtype)?;
    let constant = |s: &SymInt| match s {
        SymInt::AsInt(v) => Ok(*v),
        SymInt::AsExpr(_) => Err("its payload has a symbolic size".to_owned()),
    };
    let sizes = meta.sizes.iter().map(constant).collect::<Result<Vec<_>, _>>()?;
    let strides = meta.strides.iter().map(constant).collect::<Result<Vec<_>, _>>()?;
    let offset = meta.storage_offset.as_ref().map_or(Ok(0), constant)?;
    if dtype != ty.dtype || ty.static_shape().as_ref() != Some(&sizes) {
        return Err(format!(
            "its payload is {dtype} {sizes:?}, the graph says {} {}",
            ty.dtype,
            zeroforge_graph::infer::format_shape(&ty.shape)
        ));
    }
    let element = dtype.size();
    let count = sizes.iter().try_fold(1usize, |p, &n| p.checked_mul(usize::try_from(n).ok()?));
    let total = count.and_then(|c| c.checked_mul(element)).ok_or("its size overflows")?;
    if total == 0 {
        return Ok(Some(Vec::new()));
    }
    let mut dense = vec![1i64; sizes.len()];
    for i in (0..sizes.len().saturating_sub(1)).rev() {
        dense[i] = dense[i + 1].saturating_mul(sizes[i + 1]);
    }
    if strides.len() != sizes.len() || strides.iter().any(|&s| s < 0) || offset < 0 {
        return Err("its payload has impossible strides".to_owned());
    }
    // The last element that is read must be inside the storage.
    let last = sizes
        .iter()
        .zip(&strides)
        .try_fold(offset, |at, (&n, &s)| at.checked_add((n - 1).checked_mul(s)?));
    let end = last.and_then(|l| usize::try_from(l).ok()).and_then(|l| (l + 1).checked_mul(element));
    if end.is_none_or(|e| e > storage.len()) {
        return Err(format!("its payload of {} bytes is too short", storage.len()));
    }
    let same = sizes.iter().zip(&strides).zip(&dense).all(|((&n, s), d)| n == 1 || s == d);
    if same && offset == 0 && storage.len() == total {
        return Ok(None);
    }
    if total > storage.len().saturating_add(MAX_EXPANSION) {
        return Err(format!(
            "its strides repeat {} bytes of storage to {total}; save it contiguous",
            storage.len()
        ));
    }
    let mut out = Vec::with_capacity(total);
    let mut index = vec![0i64; sizes.len()];
    for _ in 0..total / element {
        let at: i64 = offset + index.iter().zip(&strides).map(|(i, s)| i * s).sum::<i64>();
        let at = at as usize * element;
        out.extend_from_slice(&storage[at..at + element]);
        for axis in (0..sizes.len()).rev() {
            index[axis] += 1;
            if index[axis] < sizes[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Some(out))
}
