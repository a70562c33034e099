// Tensor copies (PTX ISA 9.7.9.27): boxes of a tensor map to and from shared memory. Coordinates are in elements,
// innermost first; what lies outside the tensor reads as zero and is not written.
#pragma once

#include "ptx/address.cuh"

namespace ptx {

static __device__ __forceinline__ void prefetch_tensormap(const zf_tensor_map *map) {
    asm volatile("prefetch.tensormap [%0];" :: "l"(map) : "memory");
}


static __device__ __forceinline__ void tensor_load_1d(void *to, const zf_tensor_map *map, uint64_t *barrier, int x) {
    asm volatile("cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2}], [%3];"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(shared_address(barrier)) : "memory");
}

// To the same place in every block of the cluster whose bit is set in `blocks`.
static __device__ __forceinline__ void tensor_load_1d_multicast(void *to, const zf_tensor_map *map, uint64_t *barrier,
                                                              int x, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2}], [%3], %4;"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(shared_address(barrier)), "h"(blocks)
                 : "memory");
}

static __device__ __forceinline__ void tensor_store_1d(const zf_tensor_map *map, const void *from, int x) {
    asm volatile("cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%0, {%1}], [%2];"
                 :: "l"(map), "r"(x), "r"(shared_address(from)) : "memory");
}

static __device__ __forceinline__ void tensor_load_2d(void *to, const zf_tensor_map *map, uint64_t *barrier, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)) : "memory");
}

// To the same place in every block of the cluster whose bit is set in `blocks`.
static __device__ __forceinline__ void tensor_load_2d_multicast(void *to, const zf_tensor_map *map, uint64_t *barrier,
                                                              int x, int y, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3}], [%4], %5;"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)), "h"(blocks)
                 : "memory");
}

static __device__ __forceinline__ void tensor_store_2d(const zf_tensor_map *map, const void *from, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"
                 :: "l"(map), "r"(x), "r"(y), "r"(shared_address(from)) : "memory");
}

static __device__ __forceinline__ void tensor_load_3d(void *to, const zf_tensor_map *map, uint64_t *barrier, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier)) : "memory");
}

// To the same place in every block of the cluster whose bit is set in `blocks`.
static __device__ __forceinline__ void tensor_load_3d_multicast(void *to, const zf_tensor_map *map, uint64_t *barrier,
                                                              int x, int y, int z, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4}], [%5], %6;"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier)), "h"(blocks)
                 : "memory");
}

static __device__ __forceinline__ void tensor_store_3d(const zf_tensor_map *map, const void *from, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%1, %2, %3}], [%4];"
                 :: "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(from)) : "memory");
}

static __device__ __forceinline__ void tensor_load_4d(void *to, const zf_tensor_map *map, uint64_t *barrier, int x, int y, int z, int u) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(shared_address(barrier)) : "memory");
}

// To the same place in every block of the cluster whose bit is set in `blocks`.
static __device__ __forceinline__ void tensor_load_4d_multicast(void *to, const zf_tensor_map *map, uint64_t *barrier,
                                                              int x, int y, int z, int u, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(shared_address(barrier)), "h"(blocks)
                 : "memory");
}

static __device__ __forceinline__ void tensor_store_4d(const zf_tensor_map *map, const void *from, int x, int y, int z, int u) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];"
                 :: "l"(map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(shared_address(from)) : "memory");
}

static __device__ __forceinline__ void tensor_load_5d(void *to, const zf_tensor_map *map, uint64_t *barrier, int x, int y, int z, int u, int v) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5, %6}], [%7];"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(v), "r"(shared_address(barrier)) : "memory");
}

// To the same place in every block of the cluster whose bit is set in `blocks`.
static __device__ __forceinline__ void tensor_load_5d_multicast(void *to, const zf_tensor_map *map, uint64_t *barrier,
                                                              int x, int y, int z, int u, int v, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8;"
                 :: "r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(v), "r"(shared_address(barrier)), "h"(blocks)
                 : "memory");
}

static __device__ __forceinline__ void tensor_store_5d(const zf_tensor_map *map, const void *from, int x, int y, int z, int u, int v) {
    asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4, %5}], [%6];"
                 :: "l"(map), "r"(x), "r"(y), "r"(z), "r"(u), "r"(v), "r"(shared_address(from)) : "memory");
}

static __device__ __forceinline__ void bulk_commit_group() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Waits until at most N of this thread's groups may still read shared memory.
template <int N> static __device__ __forceinline__ void bulk_wait_group_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(N) : "memory");
}

// Waits until at most N of this thread's groups are pending.
template <int N> static __device__ __forceinline__ void bulk_wait_group() {
    asm volatile("cp.async.bulk.wait_group %0;" :: "n"(N) : "memory");
}

}  // namespace ptx
