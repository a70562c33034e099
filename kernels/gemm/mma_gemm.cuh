// Contraction on mma.sync with a ring of shared-memory stages and a fused epilogue.
//
// A block computes BM x BN of the result with WARPS_M x WARPS_N warps; stages of BK columns of A and B
// arrive by cp.async while earlier ones are multiplied.
#pragma once

#include "gemm/layout.cuh"

namespace zf {

template <class A_, class B_, class S_, BLayout LAYOUT_, int PANEL_, int BM_, int BN_, int BK_, int WARPS_M_, int WARPS_N_, int STAGES_>
struct GemmTile {
    using A = A_;
    using B = B_;
    // What shared memory holds and the tensor core multiplies.
    using S = S_;
    static constexpr BLayout LAYOUT = LAYOUT_;
    static constexpr int PANEL = PANEL_;
    static constexpr int BM = BM_, BN = BN_, BK = BK_, WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, STAGES = STAGES_;
    static constexpr int THREADS = 32 * WARPS_M * WARPS_N;
    // 16 bytes more per row: eight rows of a fragment then lie in different banks.
    static constexpr int PAD = 16 / (int)sizeof(S);
    static constexpr int A_PITCH = BK + PAD;
    static constexpr int B_ROWS = LAYOUT == BLayout::NK ? BN : BK;
    static constexpr int B_COLUMNS = LAYOUT == BLayout::NK ? BK : BN;
    static constexpr int B_PITCH = B_COLUMNS + PAD;
    static constexpr int A_TILE = BM * A_PITCH, B_TILE = B_ROWS * B_PITCH;
    static constexpr int SHARED_BYTES = STAGES * (A_TILE + B_TILE) * (int)sizeof(S);
};

// `store(b0, b1, row, column, value)` applies the epilogue to one element of the product and writes it.
template <class T, class Store>
ZF_INLINE void mma_gemm(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, void *shared, const Store &store) {
    using S = typename T::S;
    using M = Mma<S>;
    constexpr int ROWS = T::BM / T::WARPS_M, COLUMNS = T::BN / T::WARPS_N;
    constexpr int MI = ROWS / 16, NI = COLUMNS / 8;
    static_assert(ROWS % 16 == 0 && COLUMNS % 16 == 0 && T::BK % M::K == 0, "a warp's tile is whole fragments");
    static_assert(T::STAGES >= 2, "loading overlaps multiplying");

    // Blocks that differ in their rows only are neighbours: they share their columns of B in L2.
    const int64_t tiles_m = (m + T::BM - 1) / T::BM, tiles_n = (n + T::BN - 1) / T::BN;
    int64_t rest = blockIdx.x;
    const int64_t m0 = rest % tiles_m * T::BM; rest /= tiles_m;
    const int64_t n0 = rest % tiles_n * T::BN; rest /= tiles_n;
    const int64_t b1 = rest % p.batch[1], b0 = rest / p.batch[1];

    using A = typename T::A;
    using B = typename T::B;
    const A *const a = (const A *)p.a.address + b0 * p.a.stride[0] + b1 * p.a.stride[1] + m0 * p.a.stride[2];
    const B *const b = (const B *)p.b.address + b0 * p.b.stride[0] + b1 * p.b.stride[1]
        + (T::LAYOUT == BLayout::NK ? n0 * p.b.stride[2] : T::LAYOUT == BLayout::KN ? n0 : 0);
    const bool whole_a = copies_whole<A, S>(a, p.a.stride[2]), whole_b = copies_whole<B, S>(b, p.b.stride[2]);
    S *const tiles_a = (S *)shared;
    S *const tiles_b = tiles_a + T::STAGES * T::A_TILE;

    auto load_stage = [&](int64_t step) {
        const int slot = (int)(step % T::STAGES);
        const int64_t k0 = step * T::BK;
        load_tile<T::THREADS, T::BM, T::BK, T::A_PITCH>(tiles_a + slot * T::A_TILE, a + k0, p.a.stride[2], m - m0, k - k0,
                                                        whole_a);
        if (T::LAYOUT == BLayout::NK) {
            load_tile<T::THREADS, T::B_ROWS, T::B_COLUMNS, T::B_PITCH>(tiles_b + slot * T::B_TILE, b + k0, p.b.stride[2],
                                                                       n - n0, k - k0, whole_b);
        } else if (T::LAYOUT == BLayout::KN) {
            load_tile<T::THREADS, T::B_ROWS, T::B_COLUMNS, T::B_PITCH>(tiles_b + slot * T::B_TILE, b + k0 * p.b.stride[2],
                                                                       p.b.stride[2], k - k0, n - n0, whole_b);
        } else {
            load_panels<T::THREADS, T::B_ROWS, T::B_COLUMNS, T::B_PITCH, T::PANEL>(tiles_b + slot * T::B_TILE, b, p.b.stride[2],
                                                                                   k0, n0, k, n, whole_b);
        }
    };

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warp_m = warp % T::WARPS_M * ROWS, warp_n = warp / T::WARPS_M * COLUMNS;
    float acc[MI][NI][4];
#pragma unroll
    for (int i = 0; i < MI; ++i)
#pragma unroll
        for (int j = 0; j < NI; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) acc[i][j][e] = 0.0f;

    const int64_t steps = (k + T::BK - 1) / T::BK;
    for (int s = 0; s < T::STAGES - 1; ++s) {
        if (s < steps) load_stage(s);
        ptx::cp_async_commit_group();
    }
    for (int64_t step = 0; step < steps; ++step) {
        ptx::cp_async_wait_group<T::STAGES - 2>();
        __syncthreads();  // The stage is here, and everybody has left the one that is overwritten next.
        if (step + T::STAGES - 1 < steps) load_stage(step + T::STAGES - 1);
        ptx::cp_async_commit_group();
        const S *const tile_a = tiles_a + (int)(step % T::STAGES) * T::A_TILE + warp_m * T::A_PITCH;
        const S *const tile_b = tiles_b + (int)(step % T::STAGES) * T::B_TILE
            + (T::LAYOUT == BLayout::NK ? warp_n * T::B_PITCH : warp_n);
#pragma unroll
        for (int kk = 0; kk < T::BK; kk += M::K) {
            typename M::A fa[MI];
            typename M::B fb[NI];
#pragma unroll
            for (int i = 0; i < MI; ++i) M::load_a(fa[i], tile_a + i * 16 * T::A_PITCH + kk, T::A_PITCH);
#pragma unroll
            for (int j = 0; j < NI; j += 2) {
                typename M::B pair[2];
                if (T::LAYOUT == BLayout::NK) M::load_b2_nk(pair, tile_b + j * 8 * T::B_PITCH + kk, T::B_PITCH);
                else M::load_b2_kn(pair, tile_b + kk * T::B_PITCH + j * 8, T::B_PITCH);
                fb[j] = pair[0];
                fb[j + 1] = pair[1];
            }
#pragma unroll
            for (int i = 0; i < MI; ++i)
#pragma unroll
                for (int j = 0; j < NI; ++j) M::mma(acc[i][j], fa[i], fb[j]);
        }
    }

#pragma unroll
    for (int i = 0; i < MI; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int64_t row = m0 + warp_m + i * 16 + half * 8 + lane / 4;
            if (row >= m) continue;
#pragma unroll
            for (int j = 0; j < NI; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const int64_t column = n0 + warp_n + j * 8 + lane % 4 * 2 + e;
                    if (column < n) store(b0, b1, row, column, acc[i][j][half * 2 + e]);
                }
        }
}

// One element per thread, for types that the tensor core does not take (f64).
template <class A, class B, class Acc, BLayout LAYOUT, int PANEL, class Store>
ZF_INLINE void scalar_gemm(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, const Store &store) {
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= p.batch[0] * p.batch[1] * m * n) return;
    const int64_t column = at % n; at /= n;
    const int64_t row = at % m; at /= m;
    const int64_t b1 = at % p.batch[1], b0 = at / p.batch[1];
    const A *const a = (const A *)p.a.address + b0 * p.a.stride[0] + b1 * p.a.stride[1] + row * p.a.stride[2];
    const B *const b = (const B *)p.b.address + b0 * p.b.stride[0] + b1 * p.b.stride[1]
        + (LAYOUT == BLayout::NK ? column * p.b.stride[2]
           : LAYOUT == BLayout::KN ? column
                                   : column / (PANEL + !PANEL) * p.b.stride[2] + column % (PANEL + !PANEL));
    const int64_t step = LAYOUT == BLayout::NK ? 1 : LAYOUT == BLayout::KN ? p.b.stride[2] : PANEL;
    Acc acc = 0;
    for (int64_t i = 0; i < k; ++i) acc += (Acc)load(a[i]) * (Acc)load(b[i * step]);
    store(b0, b1, row, column, acc);
}

}  // namespace zf
