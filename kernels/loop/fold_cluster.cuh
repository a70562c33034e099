// Folds over the threads of a row that the blocks of a cluster share.
#pragma once

#include "loop/fold.cuh"
#include "ptx/barrier.cuh"
#include "ptx/cluster.cuh"

namespace zf {

// Four or eight bytes at an address of another block.
template <class T> ZF_INLINE void read_remote(uint32_t address, T &v) {
    uint32_t words[sizeof(T) / 4];
#pragma unroll
    for (int i = 0; i < (int)(sizeof(T) / 4); ++i) words[i] = ptx::ld_shared_cluster_u32(address + 4 * i);
    memcpy(&v, words, sizeof(T));
}
template <class T> ZF_INLINE void read_remote(uint32_t address, Extreme<T> &v) {
    read_remote(address, v.index);
    read_remote(address + 8, v.value);
}

// Combines the partial results of all threads of CLUSTER blocks of THREADS, in the order of their ranks. `scratch` as in
// `fold`; `slot` is 16 bytes that no other fold uses. Blocks stay until all have read: `leave_cluster`.
template <int THREADS, int CLUSTER, class T, class Op> ZF_INLINE T fold_cluster(T v, Op op, void *scratch, void *slot) {
    v = fold<THREADS>(v, op, scratch, 0xffffffffu);
    if (threadIdx.x == 0) put(slot, 1, 0, v);
    ptx::barrier_cluster_arrive();
    ptx::barrier_cluster_wait();
    const uint32_t here = ptx::shared_address(slot);
    read_remote(ptx::mapa_shared_cluster(here, 0), v);
    for (int rank = 1; rank < CLUSTER; ++rank) {
        T other;
        read_remote(ptx::mapa_shared_cluster(here, rank), other);
        v = op(v, other);
    }
    return v;
}

ZF_INLINE void leave_cluster() {
    ptx::barrier_cluster_arrive();
    ptx::barrier_cluster_wait();
}

}  // namespace zf
