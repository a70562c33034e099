//! Weights beside the graph: safetensors files, whole or sharded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use zeroforge_artifact::DType;
use zeroforge_graph::ir::{Bytes, TensorType, WeightStore};

use crate::ImportError;

/// How a graph's weights and the files given for them matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightReport {
    /// In the graph, in no file.
    pub missing: Vec<String>,
    /// In a file, not in the graph.
    pub unexpected: Vec<String>,
    /// In both, but of another type or shape: name and explanation.
    pub mistyped: Vec<(String, String)>,
}

#[derive(Debug)]
struct Entry {
    dtype: DType,
    shape: Vec<i64>,
    bytes: Bytes,
}

/// Tensors by name from any number of files.
#[derive(Debug, Default)]
pub struct WeightFiles {
    tensors: BTreeMap<String, Entry>,
    unsupported: BTreeMap<String, String>,
}

impl WeightFiles {
    /// No files.
    pub fn none() -> WeightFiles {
        WeightFiles::default()
    }

    /// Adds a file: `.safetensors`, an index `.safetensors.index.json`, a GGUF, or a folder of them.
    pub fn add(&mut self, path: &Path) -> Result<(), ImportError> {
        if path.is_dir() {
            let read = |source| ImportError::Read { path: path.to_owned(), source };
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .map_err(read)?
                .filter_map(|e| e.ok().map(|e| e.path()))
                .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
                .collect();
            files.sort();
            if files.is_empty() {
                return Err(ImportError::Weights {
                    path: path.to_owned(),
                    reason: "the folder holds no .safetensors file".to_owned(),
                });
            }
            return files.iter().try_for_each(|f| self.add(f));
        }
        let bytes = std::fs::read(path)
            .map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        match path.extension().and_then(|e| e.to_str()) {
            Some("gguf") => self.add_gguf(path, &bytes),
            Some("json") => self.add_index(path, &bytes),
            _ => self.add_safetensors(path, Bytes::new(bytes)),
        }
    }

    fn add_gguf(&mut self, path: &Path, bytes: &[u8]) -> Result<(), ImportError> {
        let tensors = crate::gguf::read(bytes)
            .map_err(|reason| ImportError::Weights { path: path.to_owned(), reason })?;
        for t in tensors {
            let entry = Entry { dtype: DType::F32, shape: t.shape, bytes: Bytes::new(t.bytes) };
            self.insert(path, t.name, entry)?;
        }
        Ok(())
    }

    fn add_index(&mut self, path: &Path, bytes: &[u8]) -> Result<(), ImportError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let wrong = |reason: String| ImportError::Weights { path: path.to_owned(), reason };
        let index: Index = serde_json::from_slice(bytes)
            .map_err(|e| wrong(format!("not an index of safetensors shards: {e}")))?;
        let mut shards: Vec<&String> = index.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        for shard in shards {
            // Only plain files: an index that names itself would never end.
            if shard.contains(['/', '\\', '\0']) || !shard.ends_with(".safetensors") {
                return Err(wrong(format!(
                    "shard `{shard}` is no .safetensors file beside the index"
                )));
            }
            let shard = path.with_file_name(shard);
            let bytes = std::fs::read(&shard)
                .map_err(|source| ImportError::Read { path: shard.clone(), source })?;
            self.add_safetensors(&shard, Bytes::new(bytes))?;
        }
        Ok(())
    }

    fn add_safetensors(&mut self, path: &Path, bytes: Bytes) -> Result<(), ImportError> {
        let wrong = |reason: String| ImportError::Weights { path: path.to_owned(), reason };
        let parsed = SafeTensors::deserialize(bytes.as_slice()).map_err(|e| {
            wrong(format!("not a safetensors file, or cut off: {e}; download it again"))
        })?;
        let base = bytes.as_slice().as_ptr() as usize;
        let mut found = Vec::new();
        for (name, view) in parsed.iter() {
            let dtype = match view.dtype() {
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
                other => {
                    self.unsupported.insert(name.to_owned(), format!("{other:?}"));
                    continue;
                }
            };
            let shape = view.shape().iter().map(|&n| n as i64).collect();
            let start = view.data().as_ptr() as usize - base;
            let bytes = bytes.view(start..start + view.data().len());
            found.push((name.to_owned(), Entry { dtype, shape, bytes }));
        }
        found.into_iter().try_for_each(|(name, entry)| self.insert(path, name, entry))
    }

    fn insert(&mut self, path: &Path, name: String, entry: Entry) -> Result<(), ImportError> {
        if self.tensors.contains_key(&name) {
            let reason = format!("tensor `{name}` is in two of the files");
            return Err(ImportError::Weights { path: path.to_owned(), reason });
        }
        self.tensors.insert(name, entry);
        Ok(())
    }

    /// The key of a graph's weight: its name, with or without a leading module such as `model.`.
    pub(crate) fn bind(&self, name: &str, ty: &TensorType) -> Result<Option<String>, String> {
        let Some((key, entry)) = self.find(name) else {
            return match self.unsupported.get(name) {
                Some(dtype) => Err(format!("the file has it as {dtype}, which is not supported")),
                None => Ok(None),
            };
        };
        if entry.dtype != ty.dtype || Some(&entry.shape) != ty.static_shape().as_ref() {
            return Err(format!(
                "the file has {} {:?}, the graph needs {} {}",
                entry.dtype,
                entry.shape,
                ty.dtype,
                zeroforge_graph::infer::format_shape(&ty.shape)
            ));
        }
        Ok(Some(key.to_owned()))
    }

    fn find(&self, name: &str) -> Option<(&str, &Entry)> {
        let exact = self.tensors.get_key_value(name);
        let shorter = || name.split_once('.').and_then(|(_, n)| self.tensors.get_key_value(n));
        let longer = || {
            // Unique tensor whose name ends with `.name` after one module.
            self.tensors
                .iter()
                .find(|(n, _)| n.split_once('.').is_some_and(|(_, rest)| rest == name))
        };
        exact.or_else(shorter).or_else(longer).map(|(k, e)| (k.as_str(), e))
    }

    /// Tensors that none of the names uses.
    pub(crate) fn unused<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let used: std::collections::BTreeSet<&str> =
            names.filter_map(|n| self.find(n).map(|(k, _)| k)).collect();
        self.tensors.keys().filter(|k| !used.contains(k.as_str())).cloned().collect()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

impl WeightStore for WeightFiles {
    fn bytes(&self, key: &str) -> Result<Bytes, String> {
        match self.tensors.get(key) {
            Some(entry) => Ok(entry.bytes.clone()),
            None => Err(format!("tensor `{key}` is in none of the weight files")),
        }
    }
}
