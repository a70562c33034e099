//! Where the CUDA compiler is: installed by `zeroforge toolchain install`, or an installed CUDA.

use std::path::{Path, PathBuf};

use crate::cache;

/// A pinned wheel of NVIDIA's on PyPI and the file in it that is used.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// Name on PyPI.
    pub package: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// SHA-256 of the wheel for x86-64 Linux.
    pub sha256: &'static str,
    /// Path of the used file in the wheel.
    pub file: &'static str,
}

/// The runtime compiler: CUDA C++ to PTX and machine code, without a host compiler.
pub const NVRTC: Wheel = Wheel {
    package: "nvidia-cuda-nvrtc",
    version: "13.5.37",
    sha256: "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc",
    file: "nvidia/cu13/lib/libnvrtc.so.13",
};

/// The disassembler.
pub const NVDISASM: Wheel = Wheel {
    package: "nvidia-cuda-nvdisasm",
    version: "13.5.37",
    sha256: "d3fdbdd49fa53e2e4aacd3db8259d052bd2b049ececdcb69e92e083c6728e7ca",
    file: "nvidia/cu13/bin/nvdisasm",
};

impl Wheel {
    /// Folder into which it is unpacked.
    pub fn folder(&self) -> Option<PathBuf> {
        Some(toolchain_folder()?.join(format!("{}-{}", self.package, self.version)))
    }

    /// The used file, if it is installed.
    pub fn installed(&self) -> Option<PathBuf> {
        self.folder().map(|f| f.join(self.file)).filter(|p| p.is_file())
    }
}

/// Where `zeroforge toolchain install` puts things, if there is a cache folder.
pub fn toolchain_folder() -> Option<PathBuf> {
    Some(cache::user_folder()?.join("toolchain"))
}

/// A tool that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// Why this one, for people.
    pub source: String,
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// Folders of installed CUDA toolkits.
fn toolkits() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(folder) = variable(name) {
            found.push((folder, format!("from {name}")));
        }
    }
    found.push((PathBuf::from("/usr/local/cuda"), "an installed CUDA".to_owned()));
    found
}

fn find(override_name: &str, wheel: &Wheel, in_toolkit: &[&str]) -> Option<Found> {
    if let Some(path) = variable(override_name) {
        // Named by hand: taken even if it is wrong, so that the error names it.
        return Some(Found { path, source: format!("from {override_name}") });
    }
    if let Some(path) = wheel.installed() {
        return Some(Found { path, source: format!("{} {}", wheel.package, wheel.version) });
    }
    for (folder, source) in toolkits() {
        for file in in_toolkit {
            let path = folder.join(file);
            if path.is_file() {
                return Some(Found { path, source });
            }
        }
    }
    None
}

/// The NVRTC library: `ZEROFORGE_NVRTC`, else the installed wheel, else `CUDA_HOME`, `CUDA_PATH` or
/// `/usr/local/cuda`.
pub fn find_nvrtc() -> Option<Found> {
    find("ZEROFORGE_NVRTC", &NVRTC, &["lib64/libnvrtc.so", "lib/libnvrtc.so"])
}

/// The disassembler: `ZEROFORGE_NVDISASM`, else the installed wheel, else an installed CUDA's.
pub fn find_nvdisasm() -> Option<Found> {
    find("ZEROFORGE_NVDISASM", &NVDISASM, &["bin/nvdisasm"])
}

impl Found {
    /// The file's folder.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}
