//! Device kernels compiled as C++ for the host, to check what they compute where there is no GPU.
//!
//! `kernels/host` stands in for the PTX layer: threads are fibres, warp instructions meet at barriers.
//! The object has the CPU target's entry points, so the CPU runtime executes it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::headers::{DEVICE, HOST};
use crate::backend::KernelSource;

/// Why the host build failed.
#[derive(Debug, thiserror::Error)]
pub enum HostBuildError {
    /// No C++ compiler.
    #[error("no C++ compiler was found ({0}); install g++ or clang++, or set CXX")]
    NoCompiler(String),
    /// It rejected a kernel.
    #[error("the C++ compiler failed: {0}")]
    Failed(String),
    /// Reading or writing failed.
    #[error("building kernels for the host failed: {0}")]
    Io(#[from] std::io::Error),
}

/// A C++ compiler that can build host kernels.
#[derive(Clone, Debug)]
pub struct HostCxx {
    path: PathBuf,
    /// gcc's flag against symbols that keep an object loaded for ever; clang makes none.
    no_unique: Option<&'static str>,
}

impl HostCxx {
    /// Finds it as the `cc` crate does: `CXX`, then `c++`.
    pub fn find() -> Result<HostCxx, HostBuildError> {
        let tool = cc::Build::new()
            .cpp(true)
            .target("x86_64-unknown-linux-gnu")
            .host("x86_64-unknown-linux-gnu")
            .opt_level(1)
            .cargo_metadata(false)
            .cargo_warnings(false)
            .try_get_compiler()
            .map_err(|e| HostBuildError::NoCompiler(e.to_string()))?;
        let works = Command::new(tool.path()).arg("--version").stdout(Stdio::null()).status();
        match works {
            Ok(status) if status.success() => Ok(HostCxx {
                path: tool.path().to_owned(),
                no_unique: tool.is_like_gnu().then_some("-fno-gnu-unique"),
            }),
            Ok(status) => Err(HostBuildError::NoCompiler(status.to_string())),
            Err(e) => Err(HostBuildError::NoCompiler(e.to_string())),
        }
    }

    /// Compiles kernels into a shared object.
    pub fn build(&self, sources: &[KernelSource]) -> Result<Vec<u8>, HostBuildError> {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        for (name, text) in DEVICE {
            write(&folder.join("device").join(name), text)?;
        }
        for (name, text) in HOST {
            write(&folder.join("host").join(name), text)?;
        }
        // One unit, so that the layers are parsed once.
        let kernels: Vec<&str> = sources.iter().map(|s| s.text.as_str()).collect();
        write(&folder.join("kernels.cc"), &kernels.join("\n"))?;
        let output = Command::new(&self.path)
            .current_dir(folder)
            .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-w"])
            .args(self.no_unique)
            .args([
                "-march=x86-64-v3",
                "-Ihost",
                "-Idevice",
                "-include",
                "cuda.h",
                "-o",
                "kernels.so",
            ])
            .args(["kernels.cc", "host/runtime.cc"])
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr);
            return Err(HostBuildError::Failed(
                log.lines().take(40).collect::<Vec<_>>().join("\n"),
            ));
        }
        Ok(std::fs::read(folder.join("kernels.so"))?)
    }
}

fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}
