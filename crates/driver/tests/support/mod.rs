//! Makes the library that was just built the process's CUDA driver.

#![allow(dead_code, reason = "every test file uses its part")]

use std::path::PathBuf;
use std::sync::OnceLock;

use cudarc::driver::sys;

/// Where cargo puts the library beside the tests.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().expect("the test's path");
    let path = test.parent().expect("a folder").join("libcuda.so");
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// Loads it so that a later dlopen of `libcuda.so.1` finds it by its soname, which is what cudarc does.
pub fn preload() -> &'static libloading::os::unix::Library {
    static LIBRARY: OnceLock<libloading::os::unix::Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // SAFETY: loading the library runs no initialiser.
        let library = unsafe {
            libloading::os::unix::Library::open(
                Some(library()),
                libc_flags::NOW | libc_flags::GLOBAL,
            )
        };
        library.expect("our libcuda.so")
    })
}

mod libc_flags {
    pub(super) const NOW: i32 = 2;
    pub(super) const GLOBAL: i32 = 0x100;
}

/// The driver, started, with device 0's primary context current.
pub fn start() -> std::sync::Arc<cudarc::driver::CudaContext> {
    preload();
    let context = cudarc::driver::CudaContext::new(0).expect("a context");
    assert!(context.name().expect("a name").contains("zeroforge"), "another driver was found");
    context
}

/// Turns a call into a result.
pub fn ok(result: sys::CUresult) -> Result<(), sys::CUresult> {
    if result == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(result) }
}

/// A kernel that adds vectors, and others that tests use.
pub const PTX: &str = include_str!("../kernels/basic.ptx");
