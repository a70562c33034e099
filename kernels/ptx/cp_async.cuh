// Asynchronous copies from global to shared memory (PTX ISA 9.7.9.25.3).
#pragma once

#include "ptx/address.cuh"

namespace ptx {

// Copies `bytes` (0..16) and fills the rest of the 16 with zeros. Both addresses are 16-byte aligned.
static __device__ __forceinline__ void cp_async_16(void *shared, const void *global, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void cp_async_commit_group() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most N of the latest groups are pending.
template <int N> static __device__ __forceinline__ void cp_async_wait_group() {
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}

}  // namespace ptx
