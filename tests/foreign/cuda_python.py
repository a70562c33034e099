"""The driver API through cuda-bindings: each check prints its verdict."""

import ctypes
import traceback

import numpy as np
from cuda.bindings import driver, nvrtc


def check(result):
    """The values of a call that must succeed."""
    error, *values = result
    if error.value != 0:
        name = driver.cuGetErrorName(error)[1] if isinstance(error, driver.CUresult) else error
        raise RuntimeError(f"{name}")
    return values[0] if len(values) == 1 else tuple(values)


def compile_ptx(source):
    program = check(nvrtc.nvrtcCreateProgram(source.encode(), b"k.cu", 0, [], []))
    check(nvrtc.nvrtcCompileProgram(program, 1, [b"--gpu-architecture=compute_90a"]))
    size = check(nvrtc.nvrtcGetPTXSize(program))
    ptx = b" " * size
    check(nvrtc.nvrtcGetPTX(program, ptx))
    return ptx


SOURCE = r"""
__device__ int counter;
extern "C" __global__ void saxpy(float a, const float *x, const float *y, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a * x[i] + y[i];
}
extern "C" __global__ void count(int by) {
    atomicAdd(&counter, by);
}
"""


class Kernels:
    def __init__(self):
        check(driver.cuInit(0))
        self.device = check(driver.cuDeviceGet(0))
        self.context = check(driver.cuDevicePrimaryCtxRetain(self.device))
        check(driver.cuCtxSetCurrent(self.context))
        self.module = check(driver.cuModuleLoadData(compile_ptx(SOURCE)))


def device(k):
    name = check(driver.cuDeviceGetName(128, k.device)).decode()
    assert "zeroforge software device" in name, name
    attribute = driver.CUdevice_attribute
    for a in attribute:
        if a != attribute.CU_DEVICE_ATTRIBUTE_MAX:
            check(driver.cuDeviceGetAttribute(a, k.device))
    assert check(driver.cuDriverGetVersion()) >= 12080


def saxpy(k, stream=0):
    n = 10_000
    x, y = np.random.rand(n).astype(np.float32), np.random.rand(n).astype(np.float32)
    out = np.zeros(n, dtype=np.float32)
    buffers = [check(driver.cuMemAlloc(n * 4)) for _ in range(3)]
    for buffer, host in zip(buffers, (x, y)):
        check(driver.cuMemcpyHtoDAsync(buffer, host.ctypes.data, n * 4, stream))
    kernel = check(driver.cuModuleGetFunction(k.module, b"saxpy"))
    values = (2.0, *buffers, n)
    types = (ctypes.c_float, None, None, None, ctypes.c_int)
    check(driver.cuLaunchKernel(kernel, (n + 255) // 256, 1, 1, 256, 1, 1, 0, stream, (values, types), 0))
    check(driver.cuMemcpyDtoHAsync(out.ctypes.data, buffers[2], n * 4, stream))
    check(driver.cuStreamSynchronize(stream))
    assert np.allclose(out, 2 * x + y)
    for buffer in buffers:
        check(driver.cuMemFree(buffer))


def streams(k):
    stream = check(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
    start, end = check(driver.cuEventCreate(0)), check(driver.cuEventCreate(0))
    check(driver.cuEventRecord(start, stream))
    saxpy(k, stream)
    check(driver.cuEventRecord(end, stream))
    check(driver.cuEventSynchronize(end))
    assert check(driver.cuEventElapsedTime(start, end)) > 0
    check(driver.cuStreamDestroy(stream))


def globals_and_graphs(k):
    address, size = check(driver.cuModuleGetGlobal(k.module, b"counter"))
    assert size == 4
    check(driver.cuMemsetD32(address, 0, 1))
    kernel = check(driver.cuModuleGetFunction(k.module, b"count"))
    stream = check(driver.cuStreamCreate(0))
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
    check(driver.cuStreamBeginCapture(stream, mode))
    check(driver.cuLaunchKernel(kernel, 2, 1, 1, 32, 1, 1, 0, stream, ((3,), (ctypes.c_int,)), 0))
    graph = check(driver.cuStreamEndCapture(stream))
    executable = check(driver.cuGraphInstantiate(graph, 0))
    for _ in range(5):
        check(driver.cuGraphLaunch(executable, stream))
    check(driver.cuStreamSynchronize(stream))
    found = np.zeros(1, dtype=np.int32)
    check(driver.cuMemcpyDtoH(found.ctypes.data, address, 4))
    assert found[0] == 5 * 64 * 3, found
    check(driver.cuGraphExecDestroy(executable))
    check(driver.cuGraphDestroy(graph))


def library(k):
    image = compile_ptx(SOURCE)
    loaded = check(driver.cuLibraryLoadData(image, [], [], 0, [], [], 0))
    kernel = check(driver.cuLibraryGetKernel(loaded, b"saxpy"))
    assert check(driver.cuKernelGetName(kernel)) == b"saxpy"
    offset, size = check(driver.cuKernelGetParamInfo(kernel, 1))
    assert (offset, size) == (8, 8)
    check(driver.cuLibraryUnload(loaded))


def pools(k):
    address = check(driver.cuMemAllocAsync(1 << 20, 0))
    check(driver.cuMemsetD8Async(address, 1, 1 << 20, 0))
    check(driver.cuMemFreeAsync(address, 0))
    check(driver.cuCtxSynchronize())


def virtual_memory(k):
    prop = driver.CUmemAllocationProp()
    prop.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    prop.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    prop.location.id = 0
    flag = driver.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
    size = check(driver.cuMemGetAllocationGranularity(prop, flag))
    address = check(driver.cuMemAddressReserve(size, 0, 0, 0))
    handle = check(driver.cuMemCreate(size, prop, 0))
    check(driver.cuMemMap(address, size, 0, handle, 0))
    access = driver.CUmemAccessDesc()
    access.location = prop.location
    access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    check(driver.cuMemSetAccess(address, size, [access], 1))
    check(driver.cuMemsetD32(address, 7, size // 4))
    found = np.zeros(size // 4, dtype=np.uint32)
    check(driver.cuMemcpyDtoH(found.ctypes.data, address, size))
    assert (found == 7).all()
    check(driver.cuMemUnmap(address, size))
    check(driver.cuMemRelease(handle))
    check(driver.cuMemAddressFree(address, size))


def errors(k):
    error, _ = driver.cuMemAlloc(1 << 45)
    assert error == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    assert check(driver.cuGetErrorString(error)) == b"out of memory"
    error, _ = driver.cuModuleGetFunction(k.module, b"nothing")
    assert error == driver.CUresult.CUDA_ERROR_NOT_FOUND
    error, _ = driver.cuModuleLoadData(b"this is no PTX\0")
    assert error == driver.CUresult.CUDA_ERROR_INVALID_PTX


def tensor_map(k):
    address = check(driver.cuMemAlloc(64 * 64 * 4))
    d = driver
    arguments = (
        d.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, int(address),
        [d.cuuint64_t(64), d.cuuint64_t(64)], [d.cuuint64_t(256)], [d.cuuint32_t(32), d.cuuint32_t(8)],
        [d.cuuint32_t(1), d.cuuint32_t(1)], d.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        d.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B, d.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_NONE,
        d.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    check(driver.cuTensorMapEncodeTiled(*arguments))
    check(driver.cuMemFree(address))


def main():
    k = Kernels()
    for test in [device, saxpy, streams, globals_and_graphs, library, pools, virtual_memory, errors, tensor_map]:
        try:
            test(k)
            print(f"{test.__name__}: ok", flush=True)
        except Exception:
            traceback.print_exc()
            print(f"{test.__name__}: FAILED", flush=True)


if __name__ == "__main__":
    main()
