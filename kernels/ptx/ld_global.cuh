// Loads of data that is read once (PTX ISA 9.7.9.9): 16 bytes past the L1 cache.
#pragma once

namespace ptx {

// `from` is 16-byte aligned, and nothing writes there while the kernel runs.
static __device__ __forceinline__ uint4 ld_global_nc_no_allocate_v4(const void *from) {
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(from));
    return x;
}

}  // namespace ptx
