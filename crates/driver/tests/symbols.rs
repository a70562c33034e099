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

/// Set in a process that this test starts: a folder with a `libcuda.so` that stands for NVIDIA's is on its library path.
const CHILD: &str = "ZEROFORGE_TEST_CLAIM";

#[test]
fn the_library_takes_the_other_name_too() {
    if std::env::var_os(CHILD).is_some() {
        let own = export("cuInit").expect("it");
        let found = || {
            // SAFETY: loading runs no initialiser; only an address is taken.
            unsafe {
                let library =
                    libloading::os::unix::Library::new("libcuda.so").expect("one of them");
                library.get::<usize>(b"cuInit").expect("it").into_raw() as usize
            }
        };
        // SAFETY: the extension has no parameters.
        let claimed = unsafe {
            support::preload().get::<unsafe extern "C" fn() -> u32>(b"zfClaimNames").expect("it")()
        };
        assert_eq!(claimed, 0);
        assert_eq!(found(), own);
        return;
    }
    let folder = std::env::temp_dir().join(format!("zeroforge-claim-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(support::library(), folder.join("libcuda.so")).expect("another libcuda.so");
    let child = std::process::Command::new(std::env::current_exe().expect("the test"))
        .args(["--exact", "the_library_takes_the_other_name_too"])
        .env(CHILD, "1")
        .env("LD_LIBRARY_PATH", &folder)
        .output()
        .expect("the child");
    std::fs::remove_dir_all(&folder).expect("removing the folder");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[test]
fn what_is_missing_says_so() {
    support::start();
    let result = call!(cuMipmappedArrayDestroy(std::ptr::null_mut()));
    assert_eq!(result, Err(sys::CUresult::CUDA_ERROR_NOT_SUPPORTED));
}
