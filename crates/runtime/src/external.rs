//! Weights that live in safetensors files beside the artifact.

use std::fs::File;
use std::path::PathBuf;

use memmap2::Mmap;
use safetensors::SafeTensors;
use zeroforge_artifact::manifest::WeightStorage;
use zeroforge_artifact::{DType, weights};

use crate::{Model, RunError, Tensor};

/// Finds a weight in the files, checks that it is the one the artifact was built with, and lays it
/// out.
pub(crate) fn load(model: &Model, index: u32, files: &[PathBuf]) -> Result<Tensor, RunError> {
    let entry = &model.manifest().weights[index as usize];
    let wrong = |reason: String| RunError::Weight { name: entry.name.clone(), reason };
    let WeightStorage::External { tensor, hash } = &entry.storage else {
        return Err(wrong("it is not external".to_owned()));
    };
    for path in files {
        let failed = |doing| {
            let path = path.clone();
            move |source| RunError::File { path, doing, source }
        };
        let file = File::open(path).map_err(failed("opening"))?;
        // SAFETY: as for artifacts, the file is replaced by rename, not rewritten while mapped.
        let map = unsafe { Mmap::map(&file) }.map_err(failed("mapping"))?;
        let parsed = SafeTensors::deserialize(&map)
            .map_err(|e| wrong(format!("`{}` is no safetensors file: {e}", path.display())))?;
        let Ok(view) = parsed.tensor(tensor) else { continue };
        if *hash != blake3::hash(view.data()).to_hex().as_str() {
            return Err(wrong(format!(
                "`{tensor}` in `{}` differs from the one that the artifact was compiled with",
                path.display()
            )));
        }
        let bytes = weights::lay_out(&entry.layout, &entry.shape, entry.dtype.size(), view.data())
            .map_err(|e| wrong(e.to_string()))?;
        return Tensor::from_bytes(DType::U8, &[bytes.len() as i64], &bytes);
    }
    Err(wrong(format!(
        "tensor `{tensor}` is in none of the given weight files; pass the file with --weights"
    )))
}
