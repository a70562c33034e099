//! Memory: capacity, kinds, copies, fills, pools, virtual memory.

mod support;

use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult as E};
use support::{Own, arg};

fn free_and_total() -> (usize, usize) {
    let (mut free, mut total) = (0, 0);
    call!(cuMemGetInfo_v2(&mut free, &mut total)).expect("info");
    (free, total)
}

#[test]
fn the_card_is_as_large_as_the_slice() {
    let _own = Own::new();
    let (_, total) = free_and_total();
    assert_eq!(total, 74_625_056_768);
    let mut p = 0;
    for size in [total + 1, usize::MAX, usize::MAX - 511, 1 << 60] {
        assert_eq!(call!(cuMemAlloc_v2(&mut p, size)), Err(E::CUDA_ERROR_OUT_OF_MEMORY), "{size}");
    }
    assert_eq!(call!(cuMemAlloc_v2(&mut p, 0)), Err(E::CUDA_ERROR_INVALID_VALUE));
    // Two allocations of 40 GB do not fit on a slice of 74.6 GB.
    let forty = 40_000_000_000;
    let mut q = 0;
    call!(cuMemAlloc_v2(&mut p, forty)).expect("the first");
    assert_eq!(call!(cuMemAlloc_v2(&mut q, forty)), Err(E::CUDA_ERROR_OUT_OF_MEMORY));
    call!(cuMemFree_v2(p)).expect("free");
    call!(cuMemAlloc_v2(&mut q, forty)).expect("now it fits");
    call!(cuMemFree_v2(q)).expect("free");
}

#[test]
fn attributes_are_those_of_the_slice() {
    let _own = Own::new();
    use sys::CUdevice_attribute as A;
    let get = |a| {
        let mut value = 0;
        call!(cuDeviceGetAttribute(&mut value, a, 0)).map(|()| value)
    };
    assert_eq!(get(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), Ok(60));
    assert_eq!(get(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), Ok(9));
    assert_eq!(get(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), Ok(227 * 1024));
    assert_eq!(get(A::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH), Ok(1));
    let all = 1..=148u32;
    for number in all {
        // SAFETY: the numbers up to 148 are variants of the bindings or integers that the driver checks.
        let known = unsafe {
            let f = support::preload()
                .get::<unsafe extern "C" fn(*mut i32, u32, i32) -> u32>(b"cuDeviceGetAttribute")
                .expect("it");
            let mut value = 0;
            f(&mut value, number, 0)
        };
        assert_eq!(known, 0, "attribute {number}");
    }
}

#[test]
fn pitched_copies_move_the_rectangle_only() {
    let own = Own::new();
    let (mut p, mut pitch) = (0, 0);
    call!(cuMemAllocPitch_v2(&mut p, &mut pitch, 12, 4, 4)).expect("memory");
    assert_eq!(pitch % 512, 0);
    call!(cuMemsetD8_v2(p, 0xee, pitch * 4)).expect("a fill");
    let source: Vec<u8> = (0..100).collect();
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 2,
        srcY: 1,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: source.as_ptr().cast(),
        srcPitch: 20,
        dstXInBytes: 4,
        dstY: 1,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstDevice: p,
        dstPitch: pitch,
        WidthInBytes: 8,
        Height: 3,
        srcDevice: 0,
        srcArray: null_mut(),
        dstHost: null_mut(),
        dstArray: null_mut(),
    };
    call!(cuMemcpy2D_v2(&copy)).expect("the copy");
    let words = own.read(p, pitch).expect("all of it");
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    for y in 0..4 {
        for x in 0..pitch {
            let inside = (1..4).contains(&y) && (4..12).contains(&x);
            let expected = if inside { (20 * y + 2 + x - 4) as u8 } else { 0xee };
            assert_eq!(bytes[y * pitch + x], expected, "row {y}, byte {x}");
        }
    }
    // A row too many leaves the allocation.
    let copy = sys::CUDA_MEMCPY2D { Height: 4, ..copy };
    assert_eq!(call!(cuMemcpy2D_v2(&copy)), Err(E::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn fills_have_elements_and_rows() {
    let own = Own::new();
    let p = own.buffer(&[0u32; 16]);
    call!(cuMemsetD16_v2(p, 0x1234, 4)).expect("16 bit");
    call!(cuMemsetD32_v2(p + 8, 0xabcd_ef01, 2)).expect("32 bit");
    call!(cuMemsetD2D8_v2(p + 32, 16, 7, 3, 2)).expect("two rows");
    let words = own.read(p, 16).expect("all");
    assert_eq!(words[..4], [0x1234_1234, 0x1234_1234, 0xabcd_ef01, 0xabcd_ef01]);
    assert_eq!((words[8], words[9], words[12], words[13]), (0x0007_0707, 0, 0x0007_0707, 0));
    assert_eq!(call!(cuMemsetD32_v2(p + 1, 0, 1)), Err(E::CUDA_ERROR_INVALID_VALUE));
    assert_eq!(call!(cuMemsetD8_v2(p, 0, usize::MAX)), Err(E::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn kernels_see_pinned_registered_and_managed_memory() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let run = |p: u64| {
        let mut p = p;
        own.launch_one(kernel, null_mut(), &mut [arg(&mut p)]).expect("a launch");
        call!(cuCtxSynchronize()).expect("no finding");
    };
    let mut pinned = null_mut();
    call!(cuMemHostAlloc(&mut pinned, 64, 0)).expect("pinned");
    run(pinned as u64);
    // SAFETY: the driver gave 64 bytes there.
    assert_eq!(unsafe { pinned.cast::<u32>().read() }, 1);
    let mut managed = 0;
    call!(cuMemAllocManaged(&mut managed, 64, 1)).expect("managed");
    // SAFETY: managed memory is the host's too.
    unsafe { (managed as *mut u32).write(5) };
    run(managed);
    // SAFETY: as above.
    assert_eq!(unsafe { (managed as *const u32).read() }, 6);
    let mut own_memory = vec![10u32; 1024];
    let address = own_memory.as_mut_ptr();
    call!(cuMemHostRegister_v2(address.cast(), 4096, 0)).expect("registered");
    let again = call!(cuMemHostRegister_v2(address.cast(), 4096, 0));
    assert_eq!(again, Err(E::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED));
    run(address as u64);
    call!(cuMemHostUnregister(address.cast())).expect("unregistered");
    let again = call!(cuMemHostUnregister(address.cast()));
    assert_eq!(again, Err(E::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED));
    assert_eq!(own_memory[0], 11);
    call!(cuMemFreeHost(pinned)).expect("free");
    call!(cuMemFree_v2(managed)).expect("free");
}

#[test]
fn pointers_tell_what_they_are() {
    let own = Own::new();
    let p = own.buffer(&[0u32; 8]);
    use sys::CUpointer_attribute as A;
    let mut kind = 0u32;
    call!(cuPointerGetAttribute(arg(&mut kind), A::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p + 4))
        .expect("known");
    assert_eq!(kind, 2);
    let mut base = 0u64;
    call!(cuPointerGetAttribute(arg(&mut base), A::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, p + 4))
        .expect("known");
    assert_eq!(base, p);
    let mut context = null_mut::<std::ffi::c_void>();
    call!(cuPointerGetAttribute(arg(&mut context), A::CU_POINTER_ATTRIBUTE_CONTEXT, p))
        .expect("known");
    assert_eq!(context, own.0.cast());
    let host = 5u32;
    let host = std::ptr::from_ref(&host) as u64;
    let unknown =
        call!(cuPointerGetAttribute(arg(&mut kind), A::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, host));
    assert_eq!(unknown, Err(E::CUDA_ERROR_INVALID_VALUE));
    let mut which = [A::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, A::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL];
    let (mut kind, mut device) = (9u32, 9i32);
    let mut data = [arg(&mut kind), arg(&mut device)];
    call!(cuPointerGetAttributes(2, which.as_mut_ptr(), data.as_mut_ptr(), host)).expect("zeros");
    assert_eq!((kind, device), (0, -2));
}

#[test]
fn pools_count_what_is_taken() {
    let own = Own::new();
    let mut pool = null_mut();
    // SAFETY: integers and pointers may be zero.
    let mut props: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
    props.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    call!(cuMemPoolCreate(&mut pool, &props)).expect("a pool");
    let used = || {
        let mut value = 0u64;
        let which = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        call!(cuMemPoolGetAttribute(pool, which, arg(&mut value))).expect("known");
        value
    };
    let mut p = 0;
    call!(cuMemAllocFromPoolAsync(&mut p, 5000, pool, null_mut())).expect("memory");
    assert!(used() >= 5000);
    call!(cuMemsetD32Async(p, 3, 1250, null_mut())).expect("a fill");
    assert_eq!(own.read(p, 1250), Ok(vec![3; 1250]));
    call!(cuMemFreeAsync(p, null_mut())).expect("free");
    assert_eq!(used(), 0);
    assert_eq!(call!(cuMemFreeAsync(p, null_mut())), Err(E::CUDA_ERROR_INVALID_VALUE));
    call!(cuMemPoolDestroy(pool)).expect("the end");
    let mut default = null_mut();
    call!(cuDeviceGetDefaultMemPool(&mut default, 0)).expect("a pool");
    assert_eq!(call!(cuMemPoolDestroy(default)), Err(E::CUDA_ERROR_NOT_PERMITTED));
}

#[test]
fn virtual_memory_is_one_range_of_several_pieces() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    // SAFETY: integers and pointers may be zero.
    let mut prop: sys::CUmemAllocationProp = unsafe { std::mem::zeroed() };
    prop.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    let mut size = 0;
    let minimum = sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
    call!(cuMemGetAllocationGranularity(&mut size, &prop, minimum)).expect("a size");
    let mut range = 0;
    call!(cuMemAddressReserve(&mut range, 2 * size, 0, 0, 0)).expect("addresses");
    let mut pieces = [0; 2];
    for (i, piece) in pieces.iter_mut().enumerate() {
        call!(cuMemCreate(piece, size, &prop, 0)).expect("memory");
        call!(cuMemMap(range + (i * size) as u64, size, 0, *piece, 0)).expect("a mapping");
    }
    let mut edge = range + size as u64;
    // Without access nobody sees it.
    assert_eq!(own.read(edge, 1), Err(E::CUDA_ERROR_INVALID_VALUE));
    let access = sys::CUmemAccessDesc {
        location: prop.location,
        flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    };
    call!(cuMemSetAccess(range, 2 * size, &access, 1)).expect("access");
    call!(cuMemsetD32_v2(edge - 8, 20, 4)).expect("a fill over the edge");
    own.launch_one(kernel, null_mut(), &mut [arg(&mut edge)]).expect("a launch");
    assert_eq!(own.read(edge - 8, 4), Ok(vec![20, 20, 21, 20]));
    // Memory lives while it is mapped, also when its handle is released.
    call!(cuMemRelease(pieces[0])).expect("released");
    assert_eq!(own.read(edge - 8, 1), Ok(vec![20]));
    assert!(call!(cuMemUnmap(range, size / 2)).is_err());
    assert!(call!(cuMemAddressFree(range, 2 * size)).is_err());
    call!(cuMemUnmap(range, 2 * size)).expect("unmapped");
    assert_eq!(own.read(edge, 1), Err(E::CUDA_ERROR_INVALID_VALUE));
    call!(cuMemRelease(pieces[1])).expect("released");
    assert!(call!(cuMemRelease(pieces[0])).is_err());
    call!(cuMemAddressFree(range, 2 * size)).expect("freed");
}

#[test]
fn globals_and_constants_are_found_by_name() {
    let own = Own::new();
    let module = own.module(support::PTX).expect("a module");
    let (mut counter, mut size) = (0, 0);
    call!(cuModuleGetGlobal_v2(&mut counter, &mut size, module, c"counter".as_ptr())).expect("it");
    assert_eq!(size, 4);
    assert_eq!(own.read(counter, 1), Ok(vec![0]));
    let mut out = own.buffer(&[0u32]);
    let mut value = 77u32;
    let kernel = support::function(module, "globals").expect("a kernel");
    own.launch_one(kernel, null_mut(), &mut [arg(&mut out), arg(&mut value)]).expect("a launch");
    assert_eq!(own.read(counter, 1), Ok(vec![77]));
    assert_eq!(own.read(out, 1), Ok(vec![2f32.to_bits()]));
    let (mut scale, three) = (0, 3f32);
    call!(cuModuleGetGlobal_v2(&mut scale, null_mut(), module, c"scale".as_ptr())).expect("it");
    call!(cuMemcpyHtoD_v2(scale, std::ptr::from_ref(&three).cast(), 4)).expect("a copy");
    own.launch_one(kernel, null_mut(), &mut [arg(&mut out), arg(&mut value)]).expect("a launch");
    assert_eq!(own.read(out, 1), Ok(vec![3f32.to_bits()]));
    let missing = call!(cuModuleGetGlobal_v2(&mut scale, null_mut(), module, c"none".as_ptr()));
    assert_eq!(missing, Err(E::CUDA_ERROR_NOT_FOUND));
}

#[test]
fn linked_ptx_loads_as_a_module() {
    let own = Own::new();
    let mut state = null_mut();
    call!(cuLinkCreate_v2(0, null_mut(), null_mut(), &mut state)).expect("a linker");
    let ptx = std::ffi::CString::new(support::PTX).expect("no NUL");
    let bytes = ptx.as_bytes_with_nul();
    let kind = sys::CUjitInputType::CU_JIT_INPUT_PTX;
    let data = bytes.as_ptr().cast_mut().cast();
    let name = c"input".as_ptr();
    call!(cuLinkAddData_v2(state, kind, data, bytes.len(), name, 0, null_mut(), null_mut()))
        .expect("an input");
    let (mut image, mut size) = (null_mut(), 0);
    call!(cuLinkComplete(state, &mut image, &mut size)).expect("an image");
    assert!(size > bytes.len());
    let mut module = null_mut();
    call!(cuModuleLoadData(&mut module, image)).expect("a module");
    call!(cuLinkDestroy(state)).expect("the end");
    let mut p = own.buffer(&[1u32]);
    let kernel = support::function(module, "increment").expect("a kernel");
    own.launch_one(kernel, null_mut(), &mut [arg(&mut p)]).expect("a launch");
    assert_eq!(own.read(p, 1), Ok(vec![2]));
}

#[test]
fn tensor_maps_are_validated() {
    let own = Own::new();
    let p = own.buffer(&[0u32; 4096]);
    #[repr(align(64))]
    struct Map(sys::CUtensorMap);
    // SAFETY: plain words.
    let mut map = Map(unsafe { std::mem::zeroed() });
    let encode = |map: &mut Map, address: u64, inner: u32| {
        call!(cuTensorMapEncodeTiled(
            &mut map.0,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            2,
            address as *mut _,
            [64u64, 64].as_ptr(),
            [256u64].as_ptr(),
            [inner, 8].as_ptr(),
            [1u32, 1].as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        ))
    };
    encode(&mut map, p, 32).expect("a map");
    assert_eq!(encode(&mut map, p + 4, 32), Err(E::CUDA_ERROR_INVALID_VALUE));
    assert_eq!(encode(&mut map, p, 64), Err(E::CUDA_ERROR_INVALID_VALUE));
    call!(cuTensorMapReplaceAddress(&mut map.0, (p + 256) as *mut _)).expect("another address");
    let odd = call!(cuTensorMapReplaceAddress(&mut map.0, (p + 4) as *mut _));
    assert_eq!(odd, Err(E::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn arrays_have_a_shape_and_hold_copies() {
    let _own = Own::new();
    let descriptor = sys::CUDA_ARRAY3D_DESCRIPTOR {
        Width: 6,
        Height: 4,
        Depth: 3,
        Format: sys::CUarray_format::CU_AD_FORMAT_UNSIGNED_INT8,
        NumChannels: 2,
        Flags: 0,
    };
    let mut array = null_mut();
    call!(cuArray3DCreate_v2(&mut array, &descriptor)).expect("an array");
    let source: Vec<u8> = (0..144).collect();
    let mut copy = sys::CUDA_MEMCPY3D {
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: source.as_ptr().cast(),
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_ARRAY,
        dstArray: array,
        WidthInBytes: 12,
        Height: 4,
        Depth: 3,
        // SAFETY: the two enumerations, for which zero is no value, are set above.
        ..unsafe { filled() }
    };
    call!(cuMemcpy3D_v2(&copy)).expect("in");
    let mut out = vec![0u8; 2 * 2 * 2];
    let back = sys::CUDA_MEMCPY3D {
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_ARRAY,
        srcArray: array,
        srcXInBytes: 3,
        srcY: 1,
        srcZ: 1,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        dstHost: out.as_mut_ptr().cast(),
        WidthInBytes: 2,
        Height: 2,
        Depth: 2,
        // SAFETY: as above.
        ..unsafe { filled() }
    };
    call!(cuMemcpy3D_v2(&back)).expect("out");
    let at = |x: u8, y: u8, z: u8| x + 12 * (y + 4 * z);
    let expected: Vec<u8> = (0..8).map(|i| at(3 + i % 2, 1 + i / 2 % 2, 1 + i / 4)).collect();
    assert_eq!(out, expected);
    copy.dstZ = 1;
    assert_eq!(call!(cuMemcpy3D_v2(&copy)), Err(E::CUDA_ERROR_INVALID_VALUE));
    call!(cuArrayDestroy(array)).expect("the end");
    copy.dstZ = 0;
    assert_eq!(call!(cuMemcpy3D_v2(&copy)), Err(E::CUDA_ERROR_INVALID_HANDLE));
}

/// A copy descriptor of zeros but for the memory types.
///
/// # Safety
/// None is needed: all other fields are integers and pointers.
unsafe fn filled() -> sys::CUDA_MEMCPY3D {
    let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
    let host = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
    // SAFETY: the fields lie inside, and with them set every field has a valid value.
    unsafe {
        (&raw mut (*copy.as_mut_ptr()).srcMemoryType).write(host);
        (&raw mut (*copy.as_mut_ptr()).dstMemoryType).write(host);
        copy.assume_init()
    }
}
