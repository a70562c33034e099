// C = epilogue(A * B) for at most 16 rows of A (decoding): as fast as B can be read.
//
// Every byte of B is read once, in pieces of 16 bytes straight into registers; A's rows are in shared memory. A block has
// a tile of columns and, with SPLIT > 1, a part of K: its lanes and warps divide K further. Sums meet in shared memory,
// first of the block, then of the cluster, always in the same order: results repeat. f32 multiplies in FFMA, 16-bit types
// on mma.sync with B as the operand whose fragments 16-byte pieces are (skinny_f32.cuh, skinny_16bit.cuh).
#pragma once

#include "ptx/barrier.cuh"
#include "ptx/cluster.cuh"
#include "ptx/convert.cuh"
#include "ptx/ld_global.cuh"
#include "ptx/mma.cuh"
#include "gemm/layout.cuh"

namespace zf {

// T: memory type of A and B. ROWS: rows of A, rounded up. COLUMNS: a block's tile of columns. CHUNK: k's of A in shared
// memory at a time, a multiple of 64.
template <class T_, BLayout LAYOUT_, int PANEL_, int ROWS_, int COLUMNS_, int THREADS_, int CHUNK_, int SPLIT_> struct SkinnyConfig {
    using T = T_;
    static constexpr BLayout LAYOUT = LAYOUT_;
    static constexpr int PANEL = PANEL_, ROWS = ROWS_, COLUMNS = COLUMNS_, THREADS = THREADS_, CHUNK = CHUNK_, SPLIT = SPLIT_;
    static constexpr int VECTOR = 16 / (int)sizeof(T);
    static_assert(CHUNK % 64 == 0 && ROWS <= 16, "chunks start at whole pieces");
    static_assert(COLUMNS * 4 <= CHUNK * (int)sizeof(T), "sums take A's place");
};

// A block's share of the product.
struct SkinnyWork {
    int64_t b0, b1;
    int rank;
    int64_t column;          // first
    int64_t k_begin, k_end;  // k_begin is a multiple of 32

    template <class Config> static __device__ __forceinline__ SkinnyWork of(const zf_gemm_params &p, int64_t n, int64_t k, Config) {
        SkinnyWork w;
        int64_t rest = blockIdx.x;
        w.rank = (int)(rest % Config::SPLIT); rest /= Config::SPLIT;
        const int64_t tiles = (n + Config::COLUMNS - 1) / Config::COLUMNS;
        w.column = rest % tiles * Config::COLUMNS; rest /= tiles;
        w.b1 = rest % p.batch[1];
        w.b0 = rest / p.batch[1];
        const int64_t pieces = (k + 31) / 32;
        w.k_begin = pieces * w.rank / Config::SPLIT * 32;
        w.k_end = min(k, pieces * (w.rank + 1) / Config::SPLIT * 32);
        return w;
    }
};

ZF_INLINE uint32_t skinny_bits(float x) { return __float_as_uint(x); }
ZF_INLINE uint32_t skinny_bits(zf_bf16 x) { return x.bits; }
ZF_INLINE uint32_t skinny_bits(zf_f16 x) { return x.bits; }

// 16 bytes of which the first `valid` elements exist; the rest is zero.
template <class T> ZF_INLINE uint4 skinny_piece(const T *from, int64_t valid) {
    if (valid >= 16 / (int64_t)sizeof(T)) return ptx::ld_global_nc_no_allocate_v4(from);
    // The edge of a matrix whose rows are not whole pieces.
    constexpr int OF_WORD = 4 / (int)sizeof(T);
    uint32_t word[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 4 * OF_WORD - 1; ++i)
        if (i < valid) word[i / OF_WORD] |= skinny_bits(from[i]) << i % OF_WORD * 16;
    return make_uint4(word[0], word[1], word[2], word[3]);
}

// Adds `slices` partial tiles [slice][ROWS][COLUMNS] of the block, then those of the cluster, and stores. `sums`, a place
// for a tile, may be where A was.
template <class Config, class Store>
ZF_INLINE void skinny_store(const float *partial, float *sums, int slices, const SkinnyWork &w, int64_t m, int64_t n, const Store &store) {
    constexpr int TILE = Config::ROWS * Config::COLUMNS;
    __syncthreads();
    const int thread = threadIdx.x;
    auto of_block = [&](int i) {
        float sum = partial[i];
#pragma unroll 8
        for (int slice = 1; slice < slices; ++slice) sum += partial[slice * TILE + i];
        return sum;
    };
    auto put = [&](int i, float sum) {
        const int64_t row = i / Config::COLUMNS, column = w.column + i % Config::COLUMNS;
        if (row < m && column < n) store(w.b0, w.b1, row, column, sum);
    };
    if constexpr (Config::SPLIT == 1) {
        for (int i = thread; i < TILE; i += Config::THREADS) put(i, of_block(i));
    } else {
        for (int i = thread; i < TILE; i += Config::THREADS) sums[i] = of_block(i);
        ptx::barrier_cluster_arrive();
        ptx::barrier_cluster_wait();
        const uint32_t here = ptx::shared_address(sums);
        for (int i = w.rank * Config::THREADS + thread; i < TILE; i += Config::SPLIT * Config::THREADS) {
            float sum = 0;
#pragma unroll
            for (int rank = 0; rank < Config::SPLIT; ++rank)
                sum += ptx::ld_shared_cluster_f32(ptx::mapa_shared_cluster(here + i * 4, rank));
            put(i, sum);
        }
        // The others may still read this block's sums.
        __syncwarp();
        ptx::barrier_cluster_arrive();
        ptx::barrier_cluster_wait();
    }
}

}  // namespace zf
