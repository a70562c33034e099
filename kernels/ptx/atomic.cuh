// atom (PTX ISA 9.7.13.5) on global memory.
#pragma once

namespace ptx {

// Adds and gives the old value. What this thread saw before comes before what the next adders see after.
static __device__ __forceinline__ int atom_add_acq_rel_gpu(int *at, int x) {
    int old;
    asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], %2;" : "=r"(old) : "l"(at), "r"(x) : "memory");
    return old;
}

}  // namespace ptx
