//! Drives NVRTC: one module per kernel, in parallel, through the kernel cache.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use zeroforge_artifact::Target;
use zeroforge_kernels::headers::DEVICE;

use super::nvrtc::{Compiled, Nvrtc};
use crate::backend::KernelSource;
use crate::cache::Cache;

/// Why device code could not be produced.
#[derive(Debug, thiserror::Error)]
pub enum CudaCompileError {
    /// There is no compiler.
    #[error(
        "no CUDA compiler was found; run `zeroforge toolchain install`, or set CUDA_HOME to an installed CUDA 12 or newer"
    )]
    NoCompiler,
    /// The library cannot be used.
    #[error(
        "the CUDA compiler `{path}` cannot be used: {reason}; run `zeroforge toolchain install`"
    )]
    Unusable {
        /// The library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It rejected generated code.
    #[error("NVRTC failed on {unit}: {log}")]
    Failed {
        /// Which kernel.
        unit: String,
        /// What it printed.
        log: String,
    },
}

/// Device code of one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct CudaModule {
    /// PTX text.
    pub ptx: Vec<u8>,
    /// Machine code, an ELF.
    pub cubin: Vec<u8>,
}

/// Folder that line information names. NVRTC puts the working directory before relative names, which
/// would give other bytes in another folder.
const SOURCE_FOLDER: &str = "/zeroforge/kernels";

/// A source with its includes as names in [`SOURCE_FOLDER`].
fn with_absolute_includes(text: &str) -> String {
    text.replace("#include \"", &format!("#include \"{SOURCE_FOLDER}/"))
}

/// The options of a target, for provenance and cache keys.
pub(super) fn options(target: Target) -> Vec<String> {
    vec![
        format!("--gpu-architecture={target}"),
        "--std=c++17".to_owned(),
        "--generate-line-info".to_owned(),
        "--extra-device-vectorization".to_owned(),
    ]
}

/// Headers that a source includes, directly or not.
fn headers_of(source: &str) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut pending = vec![source];
    while let Some(text) = pending.pop() {
        let included = text.lines().filter_map(|l| l.trim().strip_prefix("#include \""));
        for name in included.filter_map(|rest| rest.split('"').next()) {
            let known = DEVICE.iter().find(|(n, _)| *n == name);
            if let Some(&header) = known
                && !found.contains(&header)
            {
                found.push(header);
                pending.push(header.1);
            }
        }
    }
    found.sort_unstable();
    found
}

fn encode(compiled: &Compiled) -> Vec<u8> {
    let mut bytes = (compiled.ptx.len() as u64).to_le_bytes().to_vec();
    bytes.extend(&compiled.ptx);
    bytes.extend(&compiled.cubin);
    bytes
}

fn decode(bytes: &[u8]) -> Option<CudaModule> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (ptx, cubin) = rest.split_at_checked(length)?;
    Some(CudaModule { ptx: ptx.to_vec(), cubin: cubin.to_vec() })
}

/// Compiles kernels, one module each, in their order. `progress` is called after each kernel with
/// (done, total).
pub fn compile(
    nvrtc: &Nvrtc,
    sources: &[KernelSource],
    target: Target,
    cache: &Cache,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<CudaModule>, CudaCompileError> {
    let options = options(target);
    let version = nvrtc.version();
    let total = sources.len();
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<CudaModule>>> =
        sources.iter().map(|_| Mutex::new(None)).collect();
    let worker = || -> Result<(), CudaCompileError> {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = sources.get(i) else { return Ok(()) };
            let name = format!("{SOURCE_FOLDER}/{}.cu", source.entry);
            let headers = headers_of(&source.text);
            let mut parts: Vec<&[u8]> = vec![version.as_bytes(), source.text.as_bytes()];
            parts.extend(options.iter().map(|o| o.as_bytes()));
            parts.extend(headers.iter().flat_map(|(n, t)| [n.as_bytes(), t.as_bytes()]));
            let key = Cache::key(parts);
            let module = match cache.get(&key).as_deref().and_then(decode) {
                Some(module) => module,
                None => {
                    let headers: Vec<(String, String)> = headers
                        .iter()
                        .map(|(n, t)| (format!("{SOURCE_FOLDER}/{n}"), with_absolute_includes(t)))
                        .collect();
                    let text = with_absolute_includes(&source.text);
                    let compiled = nvrtc.compile(&name, &text, &headers, &options)?;
                    cache.put(&key, &encode(&compiled));
                    CudaModule { ptx: compiled.ptx, cubin: compiled.cubin }
                }
            };
            if let Ok(mut slot) = results[i].lock() {
                *slot = Some(module);
            }
            progress(1 + done.fetch_add(1, Ordering::Relaxed), total);
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(total.max(1));
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().try_for_each(|h| match h.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    results
        .into_iter()
        .enumerate()
        .map(|(i, slot)| {
            slot.into_inner().ok().flatten().ok_or_else(|| CudaCompileError::Failed {
                unit: sources[i].entry.clone(),
                log: "it was not compiled".to_owned(),
            })
        })
        .collect()
}

/// Compiles a source that somebody wrote: as artifacts' kernels, with further options. The layers of
/// `kernels/` can be included by their names.
pub fn compile_source(
    nvrtc: &Nvrtc,
    name: &str,
    text: &str,
    target: Target,
    more: &[String],
) -> Result<CudaModule, CudaCompileError> {
    let mut options = options(target);
    options.extend_from_slice(more);
    let headers: Vec<(String, String)> =
        DEVICE.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    let compiled = nvrtc.compile(name, text, &headers, &options)?;
    Ok(CudaModule { ptx: compiled.ptx, cubin: compiled.cubin })
}

/// The text of a file that line information of an artifact's kernels names, if it is one of `kernels/`.
pub fn kernel_source(file: &str) -> Option<&'static str> {
    let name = file.strip_prefix(SOURCE_FOLDER)?.trim_start_matches('/');
    DEVICE.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_transitively() {
        let names: Vec<&str> =
            headers_of("#include \"scalar/device.cuh\"\n").iter().map(|h| h.0).collect();
        assert_eq!(
            names,
            ["ptx/convert.cuh", "scalar/device.cuh", "zeroforge/abi.h", "zeroforge/integer.h"]
        );
    }

    #[test]
    fn cached_modules_decode_back() {
        let compiled = Compiled { ptx: b"ptx".to_vec(), cubin: b"\x7fELF".to_vec() };
        let module = decode(&encode(&compiled)).unwrap();
        assert_eq!((module.ptx, module.cubin), (compiled.ptx, compiled.cubin));
        assert_eq!(decode(b"short"), None);
        assert_eq!(decode(&u64::MAX.to_le_bytes()), None);
    }
}
