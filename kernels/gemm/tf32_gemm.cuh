// C = epilogue(A * B) in f32 on wgmma: a persistent, warp-specialised kernel of tf32 products (tf32_terms.cuh).
//
// wgmma takes tf32 operands K-major only when they lie in shared memory; from registers any layout will do. A's rows
// are K-major in memory already, so the product is computed transposed: C^T = B^T A^T, with B as the operand in
// registers, read from whatever layout weights have, and A as the one in shared memory, as it was copied. No operand is
// transposed on the way:
//
//   warp 0           copies tiles of A and B into a ring (tensor copies)
//   warps 1 to 3     write the further terms of A's tile beside it
//   warpgroups 1..   read B's tile into registers, split it there, multiply, add, store
//
// A slot's products have accumulators of their own, which are added to the sums in f32: rounding inside wgmma is not
// specified (PTX ISA 9.7.16.5.2), and in practice cuts, so that a long sum there drifts towards zero.
//
// SPLIT > 1: the blocks of a cluster share a tile, each a part of K. They leave their parts in shared memory and add
// each a share of the elements, in the order of ranks: results repeat.
#pragma once

#include "pipeline/ring.cuh"
#include "ptx/barrier.cuh"
#include "ptx/cluster.cuh"
#include "ptx/convert.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/wgmma.cuh"
#include "tile/shared.cuh"
#include "gemm/layout.cuh"
#include "gemm/tf32_terms.cuh"

namespace zf {

// K of a slot: a swizzled row of 128 bytes.
constexpr int TF32_DEPTH = 32;
// Columns of B in one box of the layouts KN and PANELS: rows of 64 bytes, exchanged by swizzle in 64 bytes.
constexpr int TF32_BOX_COLUMNS = 16;
constexpr int TF32_BOX_BYTES = TF32_DEPTH * TF32_BOX_COLUMNS * 4;
// Warps that split A.
constexpr int TF32_SPLITTERS = 3;
// Named barrier of the warpgroups that multiply.
constexpr int TF32_CONSUMERS = 1;

template <BLayout LAYOUT_, int PANEL_, int ROWS_, int WARPGROUPS_, int TERMS_, int SPLIT_, int STAGES_> struct Tf32Config {
    static constexpr BLayout LAYOUT = LAYOUT_;
    static constexpr int PANEL = PANEL_;
    // A block's tile of C.
    static constexpr int ROWS = ROWS_, COLUMNS = 64 * WARPGROUPS_;
    static constexpr int WARPGROUPS = WARPGROUPS_, TERMS = TERMS_, SPLIT = SPLIT_, STAGES = STAGES_;
    static constexpr int THREADS = 128 * (WARPGROUPS + 1);
    static constexpr int A_BYTES = ROWS * SWIZZLE_BYTES, B_BYTES = COLUMNS * SWIZZLE_BYTES;
    static constexpr int PARTIAL_PITCH = COLUMNS + 4;
    static_assert(ROWS % 8 == 0 && ROWS <= 128, "one product; its accumulators are held twice");
};

template <class Config> struct Tf32Shared {
    alignas(1024) uint8_t a[Config::STAGES][Config::TERMS][Config::A_BYTES];
    alignas(1024) uint8_t b[Config::STAGES][Config::B_BYTES];
    alignas(16) float partial[Config::SPLIT > 1 ? Config::ROWS * Config::PARTIAL_PITCH : 4];
    Ring<Config::STAGES> ring;
    uint64_t ready[Config::STAGES];  // all terms of A are there
    uint64_t filled, drained;        // parts of a cluster's tile
};

// The tiles of a block: clusters take every (gridDim / SPLIT)-th; tiles of the same columns are neighbours and read B
// once from memory.
template <class Config> struct Tf32Tiles {
    int at, total, row_tiles, column_tiles;
    int block_begin, block_end;  // of K
    int b0, b1, row, column;

    __device__ __forceinline__ Tf32Tiles(const zf_tensor_gemm_params &p)
        : at(blockIdx.x / Config::SPLIT), row_tiles((p.m + Config::ROWS - 1) / Config::ROWS),
          column_tiles((p.n + Config::COLUMNS - 1) / Config::COLUMNS) {
        total = row_tiles * column_tiles * p.batch[0] * p.batch[1];
        const int blocks = (p.k + TF32_DEPTH - 1) / TF32_DEPTH, rank = blockIdx.x % Config::SPLIT;
        block_begin = blocks * rank / Config::SPLIT;
        block_end = blocks * (rank + 1) / Config::SPLIT;
    }

    __device__ __forceinline__ bool next(const zf_tensor_gemm_params &p) {
        if (at >= total) return false;
        int rest = at;
        row = rest % row_tiles * Config::ROWS; rest /= row_tiles;
        column = rest % column_tiles * Config::COLUMNS; rest /= column_tiles;
        b1 = rest % p.batch[1];
        b0 = rest / p.batch[1];
        at += gridDim.x / Config::SPLIT;
        return true;
    }
};

// By one thread: copies every block of every tile, as slots become empty.
template <class Config> ZF_INLINE void tf32_copy(const zf_tensor_gemm_params &p, Tf32Shared<Config> &s, Tf32Tiles<Config> tiles) {
    RingState<Config::STAGES> state;
#pragma unroll 1
    while (tiles.next(p)) {
        const int a0 = tiles.b0 * p.a_batch[0], a1 = tiles.b1 * p.a_batch[1];
        const int b0 = tiles.b0 * p.b_batch[0], b1 = tiles.b1 * p.b_batch[1];
#pragma unroll 1
        for (int block = tiles.block_begin; block < tiles.block_end; ++block) {
            const int k = block * TF32_DEPTH;
            s.ring.wait_empty(state);
            uint64_t *const full = &s.ring.full[state.slot];
            ptx::mbarrier_arrive_expect_tx(full, Config::A_BYTES + Config::B_BYTES);
            ptx::tensor_load_4d(s.a[state.slot][0], &p.a_map, full, k, tiles.row, a1, a0);
            uint8_t *const b = s.b[state.slot];
            if constexpr (Config::LAYOUT == BLayout::NK) {
                ptx::tensor_load_4d(b, &p.b_map, full, k, tiles.column, b1, b0);
            } else {
#pragma unroll
                for (int i = 0; i < Config::COLUMNS / TF32_BOX_COLUMNS; ++i) {
                    const int n = tiles.column + i * TF32_BOX_COLUMNS;
                    uint8_t *const to = b + i * TF32_BOX_BYTES;
                    if constexpr (Config::LAYOUT == BLayout::KN) ptx::tensor_load_4d(to, &p.b_map, full, n, k, b1, b0);
                    else ptx::tensor_load_5d(to, &p.b_map, full, n % Config::PANEL, k, n / Config::PANEL, b1, b0);
                }
            }
            state.advance();
        }
    }
}

// By warps 1 to 3: the terms of A that the tensor core does not see in the copied tile.
template <class Config> ZF_INLINE void tf32_split(const zf_tensor_gemm_params &p, Tf32Shared<Config> &s, Tf32Tiles<Config> tiles) {
    RingState<Config::STAGES> state;
    const int thread = threadIdx.x - 32;
#pragma unroll 1
    while (tiles.next(p)) {
#pragma unroll 1
        for (int block = tiles.block_begin; block < tiles.block_end; ++block) {
            s.ring.wait_full(state);
            // Every term has the place of its number: swizzle does not matter.
            float4 *const first = (float4 *)s.a[state.slot][0];
#pragma unroll 4
            for (int i = thread; i < Config::A_BYTES / 16; i += 32 * TF32_SPLITTERS) {
                float4 x = first[i];
                float y[4][Config::TERMS - 1];
                const bool changed[4] = {tf32_terms_of_a<Config::TERMS>(x.x, y[0]), tf32_terms_of_a<Config::TERMS>(x.y, y[1]),
                                         tf32_terms_of_a<Config::TERMS>(x.z, y[2]), tf32_terms_of_a<Config::TERMS>(x.w, y[3])};
                if (changed[0] | changed[1] | changed[2] | changed[3]) first[i] = x;
#pragma unroll
                for (int term = 1; term < Config::TERMS; ++term)
                    ((float4 *)s.a[state.slot][term])[i] = make_float4(y[0][term - 1], y[1][term - 1], y[2][term - 1], y[3][term - 1]);
            }
            ptx::fence_proxy_async_shared();
            __syncwarp();
            if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&s.ready[state.slot]);
            state.advance();
        }
    }
}

// The place of this thread's two columns of B, among a warpgroup's 64: rows g and g + 8 of its warp's 16 rows of the
// transposed product. In KN and PANELS they are neighbours, pair `pair` of the warp's box.
template <class Config> struct Tf32Columns {
    int pair, first, step;

    __device__ __forceinline__ Tf32Columns() {
        const int g = threadIdx.x % 32 / 4, warp = threadIdx.x % 128 / 32;
        // Pairs in an order in which eight lanes read from 32 different banks, whatever k they have.
        pair = (g & 1) | (g & 2) << 1 | (g & 4) >> 1;
        first = 16 * warp + (Config::LAYOUT == BLayout::NK ? g : 2 * pair);
        step = Config::LAYOUT == BLayout::NK ? 8 : 1;
    }
};

// B's part of a slot: x[i][2 * h + c] is element k = 8 * i + 4 * h + lane % 4 of column c (wgmma's A registers).
template <class Config> ZF_INLINE void tf32_load_b(float (&x)[4][4], const uint8_t *b, const Tf32Columns<Config> &columns) {
    const int q = threadIdx.x % 4, warpgroup = threadIdx.x / 128 - 1;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            if constexpr (Config::LAYOUT == BLayout::NK) {
                const int row = 64 * warpgroup + columns.first;
#pragma unroll
                for (int c = 0; c < 2; ++c)
                    x[i][2 * h + c] = *(const float *)(b + swizzled(row + 8 * c, (8 * i + 4 * h + q) * 4));
            } else {
                const int k = 8 * i + 4 * h + q, warp = threadIdx.x % 128 / 32;
                const float2 pair = *(const float2 *)(b + (4 * warpgroup + warp) * TF32_BOX_BYTES + k * 64
                                                      + ((columns.pair >> 1) ^ (k >> 1 & 3)) * 16 + (columns.pair & 1) * 8);
                x[i][2 * h] = pair.x;
                x[i][2 * h + 1] = pair.y;
            }
        }
}

// One slot's products, smallest first, as one group.
template <class Config>
ZF_INLINE void tf32_multiply(float (&d)[Config::ROWS / 2], const uint32_t (&b)[Config::TERMS][4][4], const uint8_t *a) {
    using Product = ptx::Wgmma<zf_tf32, Config::ROWS>;
    const uint64_t first = k_major_descriptor(ptx::shared_address(a));
    ptx::wgmma_fence();
    int scale_d = 0;
#pragma unroll
    for (int order = Config::TERMS - 1; order >= 0; --order)
#pragma unroll
        for (int term = 0; term <= order; ++term)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                Product::rs(d, b[order - term][i], first + (term * Config::A_BYTES + i * 32) / 16, scale_d);
                scale_d = 1;
            }
    ptx::wgmma_commit_group();
}

// Adds the cluster's parts of a tile and stores this block's share of the sums.
template <class Config, class Store>
ZF_INLINE void tf32_combine(const zf_tensor_gemm_params &p, Tf32Shared<Config> &s, const Tf32Tiles<Config> &tile,
                            const float (&sums)[Config::ROWS / 2], const Tf32Columns<Config> &columns, uint32_t phase, const Store &store) {
    constexpr int THREADS = 128 * Config::WARPGROUPS;
    const int thread = threadIdx.x - 128, warpgroup = thread / 128, q = threadIdx.x % 4;
    // The others have read the part of the tile before.
    ptx::mbarrier_wait_cluster(&s.drained, phase ^ 1);
#pragma unroll
    for (int i = 0; i < Config::ROWS / 2; ++i) {
        const int row = i / 4 * 8 + 2 * q + i % 2, column = 64 * warpgroup + columns.first + i / 2 % 2 * columns.step;
        s.partial[row * Config::PARTIAL_PITCH + column] = sums[i];
    }
    ptx::bar_sync(TF32_CONSUMERS, THREADS);
    if (thread < Config::SPLIT) ptx::mbarrier_arrive_cluster(&s.filled, thread);
    ptx::mbarrier_wait_cluster(&s.filled, phase);
    const uint32_t here = ptx::shared_address(s.partial);
#pragma unroll 1
    for (int i = (int)(blockIdx.x % Config::SPLIT) * THREADS + thread; i < Config::ROWS * Config::COLUMNS; i += Config::SPLIT * THREADS) {
        const int row = i / Config::COLUMNS, column = i % Config::COLUMNS;
        if (tile.row + row >= p.m || tile.column + column >= p.n) continue;
        float sum = 0;
#pragma unroll
        for (int rank = 0; rank < Config::SPLIT; ++rank)
            sum += ptx::ld_shared_cluster_f32(ptx::mapa_shared_cluster(here + (row * Config::PARTIAL_PITCH + column) * 4, rank));
        store((int64_t)tile.b0, (int64_t)tile.b1, (int64_t)(tile.row + row), (int64_t)(tile.column + column), sum);
    }
    ptx::bar_sync(TF32_CONSUMERS, THREADS);
    if (thread < Config::SPLIT) ptx::mbarrier_arrive_cluster(&s.drained, thread);
}

// By a warpgroup: 64 columns of every tile.
template <class Config, class Store>
ZF_INLINE void tf32_consume(const zf_tensor_gemm_params &p, Tf32Shared<Config> &s, Tf32Tiles<Config> tiles, const Store &store) {
    const Tf32Columns<Config> columns;
    const int warpgroup = threadIdx.x / 128 - 1, q = threadIdx.x % 4;
    RingState<Config::STAGES> state;
    float sums[Config::ROWS / 2], part[Config::ROWS / 2], x[4][4];
    uint32_t terms[Config::TERMS][4][4];
    uint32_t phase = 0;
#pragma unroll 1
    while (tiles.next(p)) {
#pragma unroll
        for (int i = 0; i < Config::ROWS / 2; ++i) sums[i] = 0;
        if (tiles.block_begin < tiles.block_end) {
            s.ring.wait_full(state);
            tf32_load_b(x, s.b[state.slot], columns);
        }
#pragma unroll 1
        for (int block = tiles.block_begin; block < tiles.block_end; ++block) {
#pragma unroll
            for (int i = 0; i < 16; ++i) {
                float term[Config::TERMS];
                tf32_terms_of_b<Config::TERMS>(x[i / 4][i % 4], term);
#pragma unroll
                for (int t = 0; t < Config::TERMS; ++t) terms[t][i / 4][i % 4] = __float_as_uint(term[t]);
            }
            if constexpr (Config::TERMS > 1) ptx::mbarrier_wait(&s.ready[state.slot], state.phase);
            ptx::keep(part);
            tf32_multiply<Config>(part, terms, s.a[state.slot][0]);
            // While they run: B's part of the next slot.
            const int slot = state.slot;
            state.advance();
            if (block + 1 < tiles.block_end) {
                s.ring.wait_full(state);
                tf32_load_b(x, s.b[state.slot], columns);
            }
            ptx::wgmma_wait_group<0>();
            ptx::keep(part);
            // The products read these registers until now.
#pragma unroll
            for (int t = 0; t < Config::TERMS; ++t)
#pragma unroll
                for (int i = 0; i < 4; ++i) ptx::keep(terms[t][i]);
            __syncwarp();
            if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&s.ring.empty[slot]);
#pragma unroll
            for (int i = 0; i < Config::ROWS / 2; ++i) sums[i] += part[i];
        }
        if constexpr (Config::SPLIT > 1) {
            tf32_combine(p, s, tiles, sums, columns, phase, store);
            phase ^= 1;
        } else {
#pragma unroll
            for (int i = 0; i < Config::ROWS / 2; ++i) {
                const int row = tiles.row + i / 4 * 8 + 2 * q + i % 2;
                const int column = tiles.column + 64 * warpgroup + columns.first + i / 2 % 2 * columns.step;
                if (row < p.m && column < p.n) store((int64_t)tiles.b0, (int64_t)tiles.b1, (int64_t)row, (int64_t)column, sums[i]);
            }
        }
    }
}

// `store(b0, b1, row, column, value)` applies the epilogue to one element of the product and writes it.
template <class Config, class Store> ZF_INLINE void tf32_gemm(const zf_tensor_gemm_params &p, unsigned char *memory, const Store &store) {
    Tf32Shared<Config> &s = *(Tf32Shared<Config> *)memory;
    const Tf32Tiles<Config> tiles(p);
    if (threadIdx.x == 0) {
        ptx::prefetch_tensormap(&p.a_map);
        ptx::prefetch_tensormap(&p.b_map);
        s.ring.init(1, 4 * Config::WARPGROUPS);
#pragma unroll
        for (int i = 0; i < Config::STAGES; ++i) ptx::mbarrier_init(&s.ready[i], TF32_SPLITTERS);
        ptx::mbarrier_init(&s.filled, Config::SPLIT);
        ptx::mbarrier_init(&s.drained, Config::SPLIT);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if constexpr (Config::SPLIT > 1) {
        ptx::barrier_cluster_arrive();
        ptx::barrier_cluster_wait();
    }
    // Registers of 65,536: (40 + 2 * 232) * 128; two warpgroups alone may have 255 per thread from the start.
    if (threadIdx.x < 128) {
        if (Config::WARPGROUPS > 1) ptx::setmaxnreg_dec<40>();
        if (threadIdx.x == 0) tf32_copy(p, s, tiles);
        if constexpr (Config::TERMS > 1) {
            if (threadIdx.x >= 32) tf32_split(p, s, tiles);
        }
    } else {
        if (Config::WARPGROUPS > 1) ptx::setmaxnreg_inc<232>();
        tf32_consume(p, s, tiles, store);
    }
    if constexpr (Config::SPLIT > 1) {
        // The others may still read this block's part and arrive at its barriers.
        __syncwarp();
        ptx::barrier_cluster_arrive();
        ptx::barrier_cluster_wait();
    }
}

}  // namespace zf
