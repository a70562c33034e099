//! Makes the library that was just built the process's CUDA driver.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

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
        let path = library();
        // `cargo test` puts the folder above the tests' on the library path, where an earlier `cargo build` may have left an
        // older copy; cudarc looks for `libcuda.so` there first.
        let older =
            path.parent().and_then(|deps| deps.parent()).expect("a folder").join("libcuda.so");
        if older.exists() {
            std::fs::remove_file(&older).expect("removing the old copy");
            std::fs::hard_link(&path, &older).expect("a link to the new one");
        }
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

/// Calls a function of the driver: `call!(cuMemFree_v2(address))`.
#[macro_export]
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        #[allow(clippy::macro_metavars_in_unsafe, reason = "a test's arguments are plain values")]
        // SAFETY: the driver checks what it is given; pointers in tests point to what the API says or are null.
        let result = unsafe { cudarc::driver::sys::$name($($argument),*) };
        $crate::support::ok(result)
    }};
}

/// A context of a test's own, so that what fails in it touches no other test. Current on the thread.
pub struct Own(pub sys::CUcontext);

impl Own {
    /// Makes one.
    pub fn new() -> Own {
        preload();
        call!(cuInit(0)).expect("init");
        let mut context = std::ptr::null_mut();
        call!(cuCtxCreate_v2(&mut context, 0, 0)).expect("a context");
        Own(context)
    }

    /// Loads a module.
    pub fn module(&self, ptx: &str) -> Result<sys::CUmodule, sys::CUresult> {
        let text = std::ffi::CString::new(ptx).expect("no NUL");
        let mut module = std::ptr::null_mut();
        call!(cuModuleLoadData(&mut module, text.as_ptr().cast())).map(|()| module)
    }

    /// A kernel of [`PTX`].
    pub fn kernel(&self, name: &str) -> sys::CUfunction {
        function(self.module(PTX).expect("a module"), name).expect("a kernel")
    }

    /// Device memory with contents.
    pub fn buffer<T: Copy>(&self, contents: &[T]) -> sys::CUdeviceptr {
        let mut address = 0;
        let bytes = std::mem::size_of_val(contents);
        call!(cuMemAlloc_v2(&mut address, bytes)).expect("memory");
        call!(cuMemcpyHtoD_v2(address, contents.as_ptr().cast(), bytes)).expect("a copy");
        address
    }

    /// Contents of device memory.
    pub fn read(&self, address: sys::CUdeviceptr, count: usize) -> Result<Vec<u32>, sys::CUresult> {
        let mut out = vec![0u32; count];
        call!(cuMemcpyDtoH_v2(out.as_mut_ptr().cast(), address, count * 4)).map(|()| out)
    }

    /// Launches with one block of one thread.
    pub fn launch_one(
        &self,
        function: sys::CUfunction,
        stream: sys::CUstream,
        params: &mut [*mut std::ffi::c_void],
    ) -> Result<(), sys::CUresult> {
        launch(function, [1; 3], [1; 3], 0, stream, params)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = call!(cuCtxDestroy_v2(self.0));
    }
}

/// A function of a module.
pub fn function(module: sys::CUmodule, name: &str) -> Result<sys::CUfunction, sys::CUresult> {
    let name = std::ffi::CString::new(name).expect("no NUL");
    let mut function = std::ptr::null_mut();
    call!(cuModuleGetFunction(&mut function, module, name.as_ptr())).map(|()| function)
}

/// Launches.
pub fn launch(
    function: sys::CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: sys::CUstream,
    params: &mut [*mut std::ffi::c_void],
) -> Result<(), sys::CUresult> {
    let [gx, gy, gz] = grid;
    let [bx, by, bz] = block;
    let extra = std::ptr::null_mut();
    call!(cuLaunchKernel(
        function,
        gx,
        gy,
        gz,
        bx,
        by,
        bz,
        shared,
        stream,
        params.as_mut_ptr(),
        extra
    ))
}

/// A pointer to an argument.
pub fn arg<T>(value: &mut T) -> *mut std::ffi::c_void {
    std::ptr::from_mut(value).cast()
}

/// What the checkers found.
pub fn findings() -> serde_json::Value {
    type Findings = unsafe extern "C" fn(*mut u8, *mut usize) -> u32;
    // SAFETY: the extension has this signature.
    unsafe {
        let find = preload().get::<Findings>(b"zfFindings").expect("the extension");
        let mut size = 0;
        assert_eq!(find(std::ptr::null_mut(), &mut size), 0);
        // Other tests may add findings between the two calls.
        size += 1 << 20;
        let mut text = vec![0u8; size];
        assert_eq!(find(text.as_mut_ptr(), &mut size), 0);
        serde_json::from_slice(&text[..size - 1]).expect("JSON")
    }
}
