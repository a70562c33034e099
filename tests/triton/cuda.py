"""The little of the CUDA Driver API that the runner needs, through ctypes."""

import ctypes
import json
import struct

import numpy as np

MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class Driver:
    def __init__(self, library):
        self.lib = ctypes.CDLL(library)
        self.call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        name = ctypes.create_string_buffer(128)
        self.call("cuDeviceGetName", name, 128, device)
        self.name = name.value.decode()

    def call(self, name, *args):
        result = getattr(self.lib, name)(*args)
        if result:
            text = ctypes.c_char_p()
            self.lib.cuGetErrorName(result, ctypes.byref(text))
            raise RuntimeError(f"{name}: {text.value.decode()}")

    def upload(self, array):
        array = np.ascontiguousarray(array)
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(array.nbytes))
        self.call("cuMemcpyHtoD_v2", address, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes))
        return address.value

    def allocate(self, size):
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def download(self, address, shape, dtype):
        array = np.empty(shape, dtype)
        self.call("cuMemcpyDtoH_v2", array.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes))
        return array

    def tensor_map(self, meta, address, shape):
        """A tensor map over a row-major array, as Triton's launcher fills it."""
        rank = len(shape)
        out = ctypes.create_string_buffer(128 + 64)
        aligned = (ctypes.addressof(out) + 63) // 64 * 64
        dims = (ctypes.c_uint64 * rank)(*reversed(shape))
        strides, size = [], meta["elem_size"]
        for extent in reversed(shape[1:]):
            size *= extent
            strides.append(size)
        box = (ctypes.c_uint32 * rank)(*reversed(meta["block_size"]))
        ones = (ctypes.c_uint32 * rank)(*([1] * rank))
        self.call(
            "cuTensorMapEncodeTiled", ctypes.c_void_p(aligned), meta["elem_type"], rank,
            ctypes.c_void_p(address), dims, (ctypes.c_uint64 * max(1, rank - 1))(*strides), box, ones,
            0, meta["swizzle"], 2, 0,
        )
        return ctypes.string_at(aligned, 128)

    def launch(self, compiled, grid, args):
        """`args` are bytes of each kernel parameter; Triton's scratch pointers are appended."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), compiled.asm["ptx"].encode() + b"\0")
        name = compiled.metadata.name.encode()
        self.call("cuModuleGetFunction", ctypes.byref(function), module, name)
        shared = compiled.metadata.shared
        if shared > 48 * 1024:
            self.call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED, shared)
        args = [*args, struct.pack("<Q", 0), struct.pack("<Q", 0)]
        buffers = [ctypes.create_string_buffer(a, len(a)) for a in args]
        pointers = (ctypes.c_void_p * len(buffers))(*[ctypes.addressof(b) for b in buffers])
        threads = 32 * compiled.metadata.num_warps
        self.call("cuLaunchKernel", function, *grid, threads, 1, 1, shared, None, pointers, None)
        self.call("cuCtxSynchronize")
        self.call("cuModuleUnload", module)

    def findings(self):
        """What the checkers found since the last call."""
        size = ctypes.c_size_t()
        self.call("zfFindings", None, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value + 1)
        self.call("zfFindings", buffer, ctypes.byref(size))
        self.call("zfClearFindings")
        return json.loads(buffer.value.decode())["findings"]
