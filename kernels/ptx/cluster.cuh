// Shared memory of the other blocks of a cluster (PTX ISA 9.7.9.24, 9.7.9.8).
#pragma once

#include "ptx/address.cuh"

namespace ptx {

// The address that `shared`, an address of this block, has in block `rank` of the cluster.
static __device__ __forceinline__ uint32_t mapa_shared_cluster(uint32_t shared, uint32_t rank) {
    uint32_t address;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared), "r"(rank));
    return address;
}

static __device__ __forceinline__ float ld_shared_cluster_f32(uint32_t address) {
    float x;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
    return x;
}

static __device__ __forceinline__ uint32_t ld_shared_cluster_u32(uint32_t address) {
    uint32_t x;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(x) : "r"(address) : "memory");
    return x;
}

}  // namespace ptx
