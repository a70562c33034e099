//! Wrong, stale and hostile arguments: an error code, never a crash.

mod support;

use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult as E};
use support::{Own, arg, function, launch};

#[test]
fn handles_that_name_nothing_are_refused() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let mut p = own.buffer(&[1u32]);
    for wild in [3usize, 16, 0xdead_beef, usize::MAX, kernel as usize ^ 16] {
        let wild_function = wild as sys::CUfunction;
        let result = own.launch_one(wild_function, null_mut(), &mut [arg(&mut p)]);
        assert_eq!(result, Err(E::CUDA_ERROR_INVALID_HANDLE), "{wild:#x}");
        let result = own.launch_one(kernel, wild as sys::CUstream, &mut [arg(&mut p)]);
        assert_eq!(result, Err(E::CUDA_ERROR_INVALID_HANDLE), "{wild:#x}");
        assert!(call!(cuModuleUnload(wild as _)).is_err());
        assert!(call!(cuEventSynchronize(wild as _)).is_err());
        assert!(call!(cuStreamDestroy_v2(wild as _)).is_err());
        assert!(call!(cuGraphDestroy(wild as _)).is_err());
        assert!(call!(cuGraphExecDestroy(wild as _)).is_err());
        assert!(call!(cuGraphLaunch(wild as _, null_mut())).is_err());
        assert!(call!(cuCtxSetCurrent(wild as _)).is_err());
        assert!(call!(cuMemPoolDestroy(wild as _)).is_err());
        assert!(call!(cuMemRelease(wild as _)).is_err());
        assert!(call!(cuLinkDestroy(wild as _)).is_err());
        assert!(call!(cuMemFree_v2(wild as _)).is_err());
        assert!(call!(cuMemFreeHost(wild as _)).is_err());
    }
    assert_eq!(own.read(p, 1), Ok(vec![1]));
}

#[test]
fn stale_handles_are_refused() {
    let own = Own::new();
    let module = own.module(support::PTX).expect("a module");
    let kernel = function(module, "increment").expect("a kernel");
    call!(cuModuleUnload(module)).expect("unloading");
    assert_eq!(call!(cuModuleUnload(module)), Err(E::CUDA_ERROR_INVALID_HANDLE));
    let mut p = own.buffer(&[1u32]);
    let result = own.launch_one(kernel, null_mut(), &mut [arg(&mut p)]);
    assert_eq!(result, Err(E::CUDA_ERROR_INVALID_HANDLE));
    call!(cuMemFree_v2(p)).expect("the first free");
    assert_eq!(call!(cuMemFree_v2(p)), Err(E::CUDA_ERROR_INVALID_VALUE));
    assert_eq!(own.read(p, 1), Err(E::CUDA_ERROR_INVALID_VALUE));
    let mut stream = null_mut();
    call!(cuStreamCreate(&mut stream, 0)).expect("a stream");
    call!(cuStreamDestroy_v2(stream)).expect("the end");
    assert_eq!(call!(cuStreamSynchronize(stream)), Err(E::CUDA_ERROR_INVALID_HANDLE));
}

#[test]
fn null_pointers_are_refused() {
    let own = Own::new();
    let kernel = own.kernel("add");
    assert_eq!(call!(cuMemAlloc_v2(null_mut(), 4)), Err(E::CUDA_ERROR_INVALID_VALUE));
    assert_eq!(call!(cuModuleLoadData(null_mut(), null_mut())), Err(E::CUDA_ERROR_INVALID_VALUE));
    let mut module = null_mut();
    assert_eq!(call!(cuModuleLoadData(&mut module, null_mut())), Err(E::CUDA_ERROR_INVALID_VALUE));
    let result =
        call!(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, null_mut(), null_mut(), null_mut()));
    assert_eq!(result, Err(E::CUDA_ERROR_INVALID_VALUE));
    let result = own.launch_one(kernel, null_mut(), &mut [null_mut(); 4]);
    assert_eq!(result, Err(E::CUDA_ERROR_INVALID_VALUE));
    let p = own.buffer(&[1u32]);
    assert_eq!(call!(cuMemcpyDtoH_v2(null_mut(), p, 4)), Err(E::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn shapes_out_of_range_are_refused() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let mut p = own.buffer(&[1u32]);
    for (grid, block) in [
        ([0, 1, 1], [1, 1, 1]),
        ([1, 65_536, 1], [1, 1, 1]),
        ([1 << 31, 1, 1], [1, 1, 1]),
        ([u32::MAX; 3], [u32::MAX; 3]),
        ([1, 1, 1], [1025, 1, 1]),
        ([1, 1, 1], [32, 33, 1]),
        ([1, 1, 1], [1, 1, 65]),
    ] {
        let result = launch(kernel, grid, block, 0, null_mut(), &mut [arg(&mut p)]);
        assert_eq!(result, Err(E::CUDA_ERROR_INVALID_VALUE), "{grid:?} {block:?}");
    }
}

#[test]
fn dynamic_shared_memory_needs_the_opt_in() {
    let own = Own::new();
    let kernel = own.kernel("shared");
    let mut out = own.buffer(&[0u32]);
    let mut last = 100 * 1024 - 4u32;
    let size = 100 * 1024;
    let go = |out: &mut u64, last: &mut u32| {
        launch(kernel, [1; 3], [1; 3], size, null_mut(), &mut [arg(out), arg(last)])
    };
    assert_eq!(go(&mut out, &mut last), Err(E::CUDA_ERROR_INVALID_VALUE));
    let opt_in = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert!(call!(cuFuncSetAttribute(kernel, opt_in, 228 * 1024)).is_err());
    call!(cuFuncSetAttribute(kernel, opt_in, size as i32)).expect("the opt-in");
    go(&mut out, &mut last).expect("the launch");
    assert_eq!(own.read(out, 1), Ok(vec![last]));
}

#[test]
fn a_launch_without_a_context_is_refused() {
    support::preload();
    let result = std::thread::spawn(|| {
        call!(cuInit(0)).expect("init");
        let mut p = 0;
        call!(cuMemAlloc_v2(&mut p, 4))
    });
    assert_eq!(result.join().expect("no panic"), Err(E::CUDA_ERROR_INVALID_CONTEXT));
}

#[test]
fn broken_ptx_says_where_in_the_error_log() {
    let own = Own::new();
    let text =
        c".version 8.0\n.target sm_90\n.address_size 64\n.entry k() {\n  frobnicate.u32;\n}\n";
    let mut log = [0u8; 512];
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    let mut values = [log.as_mut_ptr().cast::<std::ffi::c_void>(), log.len() as *mut _];
    let mut module = null_mut();
    let result = call!(cuModuleLoadDataEx(
        &mut module,
        text.as_ptr().cast(),
        2,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    ));
    assert_eq!(result, Err(E::CUDA_ERROR_INVALID_PTX));
    let written = values[1] as usize;
    let message = std::str::from_utf8(&log[..written]).expect("text");
    assert!(message.contains("line 5") && message.contains("frobnicate"), "{message}");
    for (ptx, error) in [
        (".version 99.0\n.target sm_90\n", E::CUDA_ERROR_UNSUPPORTED_PTX_VERSION),
        (".version 8.7\n.target sm_100a\n", E::CUDA_ERROR_NO_BINARY_FOR_GPU),
        ("", E::CUDA_ERROR_INVALID_PTX),
    ] {
        assert_eq!(own.module(ptx).err(), Some(error), "{ptx}");
    }
}

#[test]
fn a_bare_cubin_is_refused_until_its_ptx_is_registered() {
    let own = Own::new();
    // An ELF header with nothing behind it.
    let mut cubin = [0u8; 64];
    cubin[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2]);
    cubin[63] = 7;
    let load = || {
        let mut module = null_mut();
        call!(cuModuleLoadData(&mut module, cubin.as_ptr().cast())).map(|()| module)
    };
    assert_eq!(load(), Err(E::CUDA_ERROR_NO_BINARY_FOR_GPU));
    type Register = unsafe extern "C" fn(*const u8, usize, *const u8, usize) -> u32;
    // SAFETY: the extension has this signature, and the texts live for the call.
    unsafe {
        let register = support::preload().get::<Register>(b"zfRegisterPtx").expect("it");
        let ptx = support::PTX;
        assert_eq!(register(cubin.as_ptr(), cubin.len(), ptx.as_ptr(), ptx.len()), 0);
    }
    let module = load().expect("the PTX");
    let kernel = function(module, "increment").expect("a kernel");
    let mut p = own.buffer(&[41u32]);
    own.launch_one(kernel, null_mut(), &mut [arg(&mut p)]).expect("a launch");
    assert_eq!(own.read(p, 1), Ok(vec![42]));
}

#[test]
fn a_bad_access_fails_the_context_and_nothing_else() {
    let healthy = Own::new();
    let mut fine = healthy.buffer(&[1u32]);
    let kernel = healthy.kernel("increment");
    {
        let own = Own::new();
        let kernel = own.kernel("increment");
        let mut p = 0x1234u64;
        own.launch_one(kernel, null_mut(), &mut [arg(&mut p)]).expect("launches are asynchronous");
        // Until somebody synchronises, nobody is told; what is enqueued meanwhile does not run.
        own.launch_one(kernel, null_mut(), &mut [arg(&mut fine)]).expect("nobody knows yet");
        let failed = Err(E::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_eq!(call!(cuCtxSynchronize()), failed);
        assert_eq!(call!(cuCtxSynchronize()), failed);
        let mut more = 0;
        assert_eq!(call!(cuMemAlloc_v2(&mut more, 4)), failed);
    }
    call!(cuCtxSetCurrent(healthy.0)).expect("the other context");
    assert_eq!(healthy.read(fine, 1), Ok(vec![1]));
    healthy.launch_one(kernel, null_mut(), &mut [arg(&mut fine)]).expect("a launch");
    assert_eq!(healthy.read(fine, 1), Ok(vec![2]));
}

#[test]
fn traps_races_and_loops_become_errors_with_findings() {
    for (name, kind, error) in [
        ("crash", "trap", E::CUDA_ERROR_LAUNCH_FAILED),
        ("race", "race", E::CUDA_ERROR_LAUNCH_FAILED),
    ] {
        let own = Own::new();
        let kernel = own.kernel(name);
        let mut p = own.buffer(&[0u32]);
        let mut params = [arg(&mut p)];
        let params = if name == "crash" { &mut params[..0] } else { &mut params[..] };
        launch(kernel, [1; 3], [64, 1, 1], 0, null_mut(), params).expect("a launch");
        assert_eq!(call!(cuCtxSynchronize()), Err(error), "{name}");
        let found = support::findings();
        let list = found["findings"].as_array().expect("a list").clone();
        assert!(list.iter().any(|f| f["kind"] == kind && f["kernel"] == name), "{name}: {found}");
    }
}

#[test]
fn host_functions_may_not_call_the_driver() {
    let _own = Own::new();
    unsafe extern "C" fn inside(data: *mut std::ffi::c_void) {
        let mut p = 0;
        let result = call!(cuMemAlloc_v2(&mut p, 4));
        // SAFETY: the test passes a result to fill.
        unsafe { *data.cast::<Option<E>>() = result.err() };
    }
    let mut result: Option<E> = None;
    call!(cuLaunchHostFunc(null_mut(), Some(inside), arg(&mut result))).expect("enqueued");
    call!(cuCtxSynchronize()).expect("done");
    assert_eq!(result, Some(E::CUDA_ERROR_NOT_PERMITTED));
}
