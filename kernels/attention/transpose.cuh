// V for products of 8-bit floats, whose operands both lie along K (here: keys), while V comes with a row per key.
//
// Three warps beside the copying one turn each tile. ldmatrix exchanges rows and columns of 16-bit units: of matrix
// (8 keys) x (8 units) lane 4 * u + q gets unit u of keys 2q and 2q + 1. A unit is two columns, so that bytes of two
// such registers (keys 2q, 2q + 1 and 8 + 2q, 8 + 2q + 1) make four keys of one column: the order in which a thread
// holds its probabilities (mainloop.cuh), since the order of a contraction is free.
#pragma once

#include "attention/mask.cuh"
#include "attention/tile.cuh"
#include "ptx/barrier.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/prmt.cuh"
#include "ptx/stmatrix.cuh"

namespace zf {

template <class C> struct Transposer {
    static constexpr int WARPS = 3;  // of the copying warpgroup, after the warp that copies

    const zf_flash_attention_params &p;
    AttentionShared<C> &shared;
    RingState<C::STAGES> v;

    __device__ __forceinline__ Transposer(const zf_flash_attention_params &p, AttentionShared<C> &shared) : p(p), shared(shared) {}

    __device__ __forceinline__ void run() {
        TileCoordinates t;
#pragma unroll 1
        for (TileScheduler<C> scheduler(p); scheduler.tile(t); scheduler.next()) {
            const Sequence s = Sequence::of<C>(p, t.batch);
            if (t.block * C::M >= s.queries * C::PACK) continue;
            const KeyTiles<C> tiles(p, s, t.block);
#pragma unroll 1
            for (int n = tiles.end - 1; n >= tiles.first; --n) {
                shared.values.copied_ring.wait_full(v);
                shared.v_ring.wait_empty(v);
                tile(s.keys - n * C::N);
                // Before the products read it, and before the next copy overwrites what was read.
                ptx::fence_proxy_async_shared();
                __syncwarp();
                if (threadIdx.x % 32 == 0) {
                    ptx::mbarrier_arrive(&shared.v_ring.full[v.slot]);
                    shared.values.copied_ring.release(v);
                }
                v.advance();
            }
        }
    }

    // `keys` from here on belong to the sequence.
    __device__ __forceinline__ void tile(int keys) {
        const unsigned char *const from = shared.values.copied[v.slot];
        unsigned char *const to = shared.v[v.slot];
        const int lane = threadIdx.x % 32, u = lane / 4, q = lane % 4;
        // Odd columns of the units from 4 on go with even ones of those before: eight different rows modulo 8.
        const uint32_t first = u < 4 ? 0x6420 : 0x7531, second = u < 4 ? 0x7531 : 0x6420;
#pragma unroll 1
        for (int i = threadIdx.x / 32 - 1; i < C::N / 32 * (C::DV / 16); i += WARPS) {
            const int key = i / (C::DV / 16) * 32, column = i % (C::DV / 16) * 16;
            uint32_t r[4];
            ptx::ldmatrix_x4_trans(r, from + column / 128 * (C::N * SWIZZLE_BYTES) + swizzled(key + lane, column % 128));
            uint32_t w[4];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                uint32_t low = ptx::prmt_b32(r[2 * half], r[2 * half + 1], first);
                uint32_t high = ptx::prmt_b32(r[2 * half], r[2 * half + 1], second);
                if (C::CLEAR_TAIL && keys < C::N) {
                    const int k = key + 16 * half + 2 * q;
                    const uint32_t mask = (k < keys ? 0xffu : 0u) | (k + 1 < keys ? 0xff00u : 0u) |
                                          (k + 8 < keys ? 0xff0000u : 0u) | (k + 9 < keys ? 0xff000000u : 0u);
                    low &= mask;
                    high &= mask;
                }
                w[2 * half] = low;
                w[2 * half + 1] = high;
            }
            // Lane 8 * m + x gives the place of row x of matrix m.
            const int m = lane / 8, x = lane % 8;
            const int row = column + 2 * x + ((x < 4) == (m % 2 == 0) ? 0 : 1);
            const int at = key + 16 * (m / 2);
            ptx::stmatrix_x4(ptx::shared_address(to) + at / 128 * (C::DV * SWIZZLE_BYTES) + swizzled(row, at % 128), w[0], w[1], w[2], w[3]);
        }
    }
};

}  // namespace zf
