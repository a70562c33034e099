//! Drives the host's C compiler: kernel sources in, one shared object out.
//!
//! Sources are grouped into a few translation units compiled side by side. File names are relative
//! and fixed and no build id is written, so equal sources give equal bytes in any folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroforge_artifact::CpuIsa;

use super::{ABI, INTEGER, PRELUDE};
use crate::backend::KernelSource;
use crate::cache::Cache;

/// Kernels per translation unit.
const UNIT: usize = 6;

/// Without these, gcc makes calls of the functions that [`MEMORY`] defines out of their own loops.
const MEMORY_FLAGS: [&str; 2] = ["-fno-tree-loop-distribute-patterns", "-fno-builtin"];

/// How objects become one.
const LINK: [&str; 8] = [
    "-shared",
    "-nostdlib",
    "-Wl,--build-id=none",
    "-Wl,-z,defs",
    "-Wl,--gc-sections",
    "-Wl,-s",
    "-o",
    "kernels.so",
];

/// What gcc may call even in freestanding code.
const MEMORY: &str = "#include <stddef.h>
__attribute__((visibility(\"hidden\"))) void *memcpy(void *restrict d, const void *restrict s, size_t n) {
    char *a = d; const char *b = s; while (n--) *a++ = *b++; return d;
}
__attribute__((visibility(\"hidden\"))) void *memmove(void *d, const void *s, size_t n) {
    char *a = d; const char *b = s;
    if (a < b) while (n--) *a++ = *b++; else while (n--) a[n] = b[n];
    return d;
}
__attribute__((visibility(\"hidden\"))) void *memset(void *d, int v, size_t n) {
    char *a = d; while (n--) *a++ = (char)v; return d;
}
";

/// Why the host compiler could not produce the object.
#[derive(Debug, thiserror::Error)]
pub enum CpuCompileError {
    /// None was found.
    #[error(
        "no C compiler was found ({reason}); install gcc or clang (for example `apt install gcc`) or set CC"
    )]
    NoCompiler {
        /// What the search said.
        reason: String,
    },
    /// It rejected generated code.
    #[error("`{compiler}` failed on {unit}: {log}")]
    Failed {
        /// The compiler's path.
        compiler: String,
        /// Which file.
        unit: String,
        /// What it printed.
        log: String,
    },
    /// Reading or writing failed.
    #[error("{what} failed: {source}")]
    Io {
        /// The operation.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> CpuCompileError {
    move |source| CpuCompileError::Io { what: what.into(), source }
}

/// The host's C compiler.
#[derive(Clone, Debug)]
pub struct HostCompiler {
    path: PathBuf,
    /// First line of `--version`, for provenance and cache keys.
    pub version: String,
}

impl HostCompiler {
    /// Finds it as the `cc` crate does: `CC`, then `cc`.
    pub fn find() -> Result<HostCompiler, CpuCompileError> {
        let tool = cc::Build::new()
            .target("x86_64-unknown-linux-gnu")
            .host("x86_64-unknown-linux-gnu")
            .opt_level(3)
            .cargo_metadata(false)
            .cargo_warnings(false)
            .try_get_compiler()
            .map_err(|e| CpuCompileError::NoCompiler { reason: e.to_string() })?;
        let output = Command::new(tool.path())
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| CpuCompileError::NoCompiler { reason: e.to_string() })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().unwrap_or("unknown").to_owned();
        Ok(HostCompiler { path: tool.path().to_owned(), version })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The flags of a level, for provenance and cache keys.
    pub fn flags(isa: CpuIsa) -> Vec<String> {
        let mut flags: Vec<String> = [
            "-std=gnu11",
            "-O3",
            "-ffreestanding",
            "-fPIC",
            "-fvisibility=hidden",
            "-fno-math-errno",
            "-fno-trapping-math",
            "-ffp-contract=fast",
            "-fopenmp-simd",
            "-fno-stack-protector",
            "-fno-asynchronous-unwind-tables",
            "-fno-ident",
            "-w",
        ]
        .map(str::to_owned)
        .to_vec();
        flags.push(format!("-march={}", isa.name()));
        if isa == CpuIsa::X86_64V4 {
            flags.push("-mprefer-vector-width=512".to_owned());
        }
        flags
    }

    fn run(&self, folder: &Path, unit: &str, args: &[&str]) -> Result<(), CpuCompileError> {
        let output = Command::new(&self.path)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .map_err(io(format!("running `{}`", self.path.display())))?;
        if output.status.success() {
            return Ok(());
        }
        let log = String::from_utf8_lossy(&output.stderr);
        Err(CpuCompileError::Failed {
            compiler: self.path.display().to_string(),
            unit: unit.to_owned(),
            log: log.lines().take(40).collect::<Vec<_>>().join("\n"),
        })
    }
}

/// The translation units of a set of kernels.
fn units(sources: &[KernelSource]) -> Vec<String> {
    sources
        .chunks(UNIT)
        .map(|chunk| {
            let mut text = format!("{PRELUDE}\n{INTEGER}\n{ABI}\n");
            for source in chunk {
                text.push_str(&format!("/* {} */\n{}\n", source.doc, source.text));
            }
            text
        })
        .collect()
}

/// Compiles kernels into one shared object. `progress` is called after each translation unit with
/// (done, total).
pub fn compile(
    compiler: &HostCompiler,
    sources: &[KernelSource],
    isa: CpuIsa,
    cache: &Cache,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<u8>, CpuCompileError> {
    let mut units = units(sources);
    units.push(MEMORY.to_owned());
    let total = units.len();
    let flags = HostCompiler::flags(isa);
    // The linked object has an entry too, so that a second compile runs no compiler at all.
    let whole = [compiler.version.as_bytes()].into_iter();
    let whole = whole.chain(flags.iter().map(|f| f.as_bytes()));
    let whole = whole.chain(MEMORY_FLAGS.iter().chain(&LINK).map(|f| f.as_bytes()));
    let whole = Cache::key(whole.chain(units.iter().map(|u| u.as_bytes())));
    if let Some(linked) = cache.get(&whole) {
        progress(total, total);
        return Ok(linked);
    }
    let folder = tempfile::tempdir().map_err(io("creating a temporary folder"))?;
    let folder = folder.path();
    for (i, text) in units.iter().enumerate() {
        let path = folder.join(format!("unit{i}.c"));
        let mut file = std::fs::File::create(&path).map_err(io("writing kernel source"))?;
        file.write_all(text.as_bytes()).map_err(io("writing kernel source"))?;
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(total);
    let worker = || -> Result<(), CpuCompileError> {
        loop {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if i >= total {
                return Ok(());
            }
            let (source, object) = (format!("unit{i}.c"), format!("unit{i}.o"));
            let mut args: Vec<&str> = flags.iter().map(String::as_str).collect();
            if i + 1 == total {
                args.extend(MEMORY_FLAGS);
            }
            args.extend(["-c", &source, "-o", &object]);
            let parts = [compiler.version.as_bytes(), units[i].as_bytes()];
            let key = Cache::key(parts.into_iter().chain(args.iter().map(|a| a.as_bytes())));
            let path = folder.join(&object);
            if let Some(bytes) = cache.get(&key) {
                std::fs::write(&path, bytes).map_err(io("writing a cached object"))?;
            } else {
                compiler.run(folder, &source, &args)?;
                cache.put(&key, &std::fs::read(&path).map_err(io("reading an object"))?);
            }
            progress(1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed), total);
        }
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().try_for_each(|h| match h.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let objects: Vec<String> = (0..total).map(|i| format!("unit{i}.o")).collect();
    let mut args = LINK.to_vec();
    args.extend(objects.iter().map(String::as_str));
    compiler.run(folder, "the link of kernels.so", &args)?;
    let linked =
        std::fs::read(folder.join("kernels.so")).map_err(io("reading the linked object"))?;
    cache.put(&whole, &linked);
    Ok(linked)
}
