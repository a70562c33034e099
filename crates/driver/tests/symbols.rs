//! The library exports every name that NVIDIA's does, and cuGetProcAddress knows the variants.

mod support;

use std::ffi::CString;

use cudarc::driver::sys;

const NAMES: &str = include_str!("symbols.txt");

fn export(name: &str) -> Option<usize> {
    // SAFETY: only the address is taken.
    let symbol = unsafe { support::preload().get::<usize>(name.as_bytes()) };
    symbol.ok().map(|s| s.into_raw() as usize)
}

fn proc_address(name: &str, version: i32, flags: u64) -> (usize, u32) {
    type Lookup = unsafe extern "C" fn(*const i8, *mut usize, i32, u64, *mut u32) -> u32;
    let name = CString::new(name).expect("no NUL");
    let (mut address, mut status) = (1, 9);
    // SAFETY: the function has this signature.
    unsafe {
        let lookup = support::preload().get::<Lookup>(b"cuGetProcAddress_v2").expect("it");
        assert_eq!(lookup(name.as_ptr().cast(), &mut address, version, flags, &mut status), 0);
    }
    (address, status)
}

#[test]
fn every_name_is_exported() {
    let missing: Vec<&str> = NAMES.lines().filter(|n| export(n).is_none()).collect();
    assert!(NAMES.lines().count() > 600);
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn names_mean_the_variant_of_the_version() {
    let is = |name, version, export_name: &str| {
        assert_eq!(proc_address(name, version, 0), (export(export_name).expect("it"), 0), "{name}");
    };
    is("cuMemAlloc", 12_000, "cuMemAlloc_v2");
    is("cuMemAlloc", 2000, "cuMemAlloc");
    is("cuCtxCreate", 11_030, "cuCtxCreate_v2");
    is("cuCtxCreate", 12_080, "cuCtxCreate_v4");
    is("cuStreamGetCaptureInfo", 11_030, "cuStreamGetCaptureInfo_v2");
    is("cuLaunchKernelEx", 12_000, "cuLaunchKernelEx");
    is("cuMemAlloc_v2", 12_000, "cuMemAlloc_v2");
    let per_thread = proc_address("cuMemcpyHtoD", 12_000, 2);
    assert_eq!(per_thread.0, export("cuMemcpyHtoD_v2_ptds").expect("it"));
    let per_thread = proc_address("cuLaunchKernel", 12_000, 2);
    assert_eq!(per_thread.0, export("cuLaunchKernel_ptsz").expect("it"));
    assert_eq!(proc_address("cuNoSuchThing", 12_000, 0), (0, 1));
    assert_eq!(proc_address("cuCtxGetDevice", 99_000, 0), (0, 2));
}

#[test]
fn the_library_is_found_by_its_soname_after_a_load_by_path() {
    let own = export("cuInit").expect("it");
    // SAFETY: loading runs no initialiser.
    let again = unsafe { libloading::Library::new("libcuda.so.1") }.expect("by soname");
    // SAFETY: only the address is taken.
    let init = unsafe { again.get::<usize>(b"cuInit") }.expect("it");
    // SAFETY: as above.
    assert_eq!(unsafe { init.into_raw() }.into_raw() as usize, own);
}

#[test]
fn what_is_missing_says_so() {
    support::start();
    let result = call!(cuMipmappedArrayDestroy(std::ptr::null_mut()));
    assert_eq!(result, Err(sys::CUresult::CUDA_ERROR_NOT_SUPPORTED));
}
