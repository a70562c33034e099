// C = epilogue(A * B) by tensor copies and wgmma: a persistent, warp-specialised kernel.
//
// Warpgroup 0 copies (one thread of it), warpgroups 1 and 2 multiply. Cooperative: both work on one tile, each on
// half of its rows. Ping-pong: each has tiles of its own and they take turns to multiply, so that one stores while
// the other multiplies. In a cluster of two, blocks have neighbouring row tiles and share B, of which each copies half
// to both.
//
//   producer     [copy][copy][copy]...
//   warpgroup 1  [multiply tile 0][store 0]      [multiply tile 2]...
//   warpgroup 2                   [multiply tile 1][store 1]...
#pragma once

#include "gemm/epilogue.cuh"
#include "gemm/mainloop.cuh"
#include "gemm/scheduler.cuh"

namespace zf {

constexpr int GEMM_THREADS = 384;
// Registers per thread: (40 + 2 * 232) * 128 of 65,536.
constexpr int PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232;

template <class Config> struct GemmShared {
    Slots<Config> slots;
    alignas(1024) uint8_t staging[2][2 * PANEL_BYTES];
    uint64_t loaded[2][2];
    int last[2];
};

template <class Config, class Epilogue>
ZF_INLINE void consume(const zf_tensor_gemm_params &p, GemmShared<Config> &s, Scheduler<Config> scheduler, const Epilogue &epilogue, int warpgroup) {
    RingState<Config::STAGES> state;
    Store<Config, Epilogue> store{p, epilogue, s.staging[warpgroup], s.loaded[warpgroup], warpgroup};
    const int first = Config::PINGPONG ? 0 : warpgroup * UNITS<Config>;
    Sums<Config> sums;
    Work w;
    int turn = 0;
    // Ping-pong: the first turn is warpgroup 0's.
    if (Config::PINGPONG && warpgroup == 1) ptx::bar_arrive(TURN, 256);
#pragma unroll 1
    while (scheduler.next(w)) {
        const int blocks = w.k_end - w.k_begin;
        if constexpr (Config::PINGPONG) {
            if (turn++ % 2 != warpgroup) {
                skip(state, blocks);
                continue;
            }
            ptx::bar_sync(TURN + warpgroup, 256);
        }
        // The same in a warp, for the compiler to see: descriptors stay in uniform registers.
        state.slot = __shfl_sync(0xffffffff, state.slot, 0);
        state.phase = __shfl_sync(0xffffffff, state.phase, 0);
        if (w.parts == 1) store.prefetch(w);
        multiply(p, sums, s.slots, state, w, first, [&] {
            if constexpr (Config::PINGPONG) ptx::bar_arrive(TURN + (warpgroup ^ 1), 256);
        });
        if constexpr (Config::SPLIT) {
            if (w.parts > 1 && !add_parts(p, sums, w, scheduler.rank, warpgroup, &s.last[warpgroup])) continue;
        }
        store(sums, w);
    }
    store.drain();
    // The other one's last arrival has no turn behind it.
    if (Config::PINGPONG && turn % 2 == warpgroup) ptx::bar_sync(TURN + warpgroup, 256);
}

template <class Config, class Epilogue> ZF_INLINE void tensor_gemm(const zf_tensor_gemm_params &p, unsigned char *memory, const Epilogue &epilogue) {
    GemmShared<Config> &s = *(GemmShared<Config> *)memory;
    // From a lane, so that what follows from it is known to be the same in a warp.
    const int warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
    if (threadIdx.x == 0) {
        ptx::prefetch_tensormap(&p.a_map);
        ptx::prefetch_tensormap(&p.b_map);
        if (Config::TENSOR_STORE) ptx::prefetch_tensormap(&p.c_map);
        if (Config::RESIDUAL) {
            ptx::prefetch_tensormap(&p.residual_map);
            for (int i = 0; i < 4; ++i) ptx::mbarrier_init(&s.loaded[i / 2][i % 2], 1);
        }
        s.slots.ring.init(1, (Config::PINGPONG ? 1 : 2) * Config::CLUSTER);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if constexpr (Config::CLUSTER > 1) {
        ptx::barrier_cluster_arrive();
        ptx::barrier_cluster_wait();
    }
    if (warpgroup == 0) {
        ptx::setmaxnreg_dec<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) produce(p, s.slots, Scheduler<Config>(p, row_tiles<Config>(p), k_blocks<Config>(p)));
        __syncwarp();
    } else {
        ptx::setmaxnreg_inc<CONSUMER_REGISTERS>();
        consume(p, s, Scheduler<Config>(p, row_tiles<Config>(p), k_blocks<Config>(p)), epilogue, warpgroup - 1);
    }
    if constexpr (Config::CLUSTER > 1) {
        // The other block may still copy to this one's memory and arrive at its barriers.
        __syncwarp();
        ptx::barrier_cluster_arrive();
        ptx::barrier_cluster_wait();
    }
}

}  // namespace zf
