// The sum over K: one warp copies blocks of A and B into a ring, warpgroups multiply them.
//
// A block of K is 128 bytes of it: one swizzled row of a K-major operand. A slot holds A as ROWS / 64 units of 64
// rows and B as COLUMNS rows (K-major), or both as panels of 64 columns by the block's k rows (MN-major).
#pragma once

#include "pipeline/ring.cuh"
#include "ptx/barrier.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/wgmma.cuh"
#include "tile/shared.cuh"
#include "gemm/scheduler.cuh"

namespace zf {

// Rows of A of one product, and the rows of one accumulator.
constexpr int UNIT_ROWS = 64;
// Columns of an MN-major panel.
constexpr int PANEL_COLUMNS = 64;

template <class Config> struct Slots {
    alignas(1024) uint8_t a[Config::STAGES][Config::ROWS * SWIZZLE_BYTES];
    alignas(1024) uint8_t b[Config::STAGES][Config::COLUMNS * SWIZZLE_BYTES];
    Ring<Config::STAGES> ring;

    static constexpr int BYTES = (Config::ROWS + Config::COLUMNS) * SWIZZLE_BYTES;
};

// K per slot.
template <class Config> constexpr int BLOCK_K = SWIZZLE_BYTES / (int)sizeof(typename Config::A);

// Where a unit of 64 output positions of a convolution lies: boxes of BOX positions, x first.
template <class Config> struct Patch {
    int at[4];  // x, y, z, image of the first position

    __device__ __forceinline__ Patch(const zf_tensor_gemm_params &p, int unit) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int boxes = ceil_div(p.output[i], Config::BOX[i]);
            at[i] = (i < 3 ? unit % boxes : unit) * Config::BOX[i];
            unit /= boxes;
        }
    }

    static __device__ __forceinline__ int units(const zf_tensor_gemm_params &p) {
        int units = 1;
#pragma unroll
        for (int i = 0; i < 4; ++i) units *= ceil_div(p.output[i], Config::BOX[i]);
        return units;
    }
};

// Tiles of rows, and blocks of K of a whole sum.
template <class Config> ZF_INLINE int row_tiles(const zf_tensor_gemm_params &p) {
    if constexpr (Config::CONV) return ceil_div(Patch<Config>::units(p), Config::ROWS / UNIT_ROWS);
    return ceil_div(p.m, Config::ROWS);
}
template <class Config> ZF_INLINE int k_blocks(const zf_tensor_gemm_params &p) {
    const int blocks = ceil_div(p.k, BLOCK_K<Config>);
    if constexpr (Config::CONV) return blocks * Config::TAPS[0] * Config::TAPS[1] * Config::TAPS[2];
    return blocks;
}

// Where a block of K is: of a convolution, channels of a tap of the filter. Blocks walk the channels of one tap after
// the other, x first.
template <class Config> struct BlockOfK {
    int k;              // first k, or first channel
    int tap, at[3];     // tap, and its x, y, z

    __device__ __forceinline__ BlockOfK(const zf_tensor_gemm_params &p, int block) {
        if constexpr (Config::CONV) {
            const int of_tap = ceil_div(p.k, BLOCK_K<Config>);
            k = block % of_tap * BLOCK_K<Config>;
            tap = block / of_tap;
            at[0] = tap % Config::TAPS[0];
            at[1] = tap / Config::TAPS[0] % Config::TAPS[1];
            at[2] = tap / (Config::TAPS[0] * Config::TAPS[1]);
        } else {
            k = block * BLOCK_K<Config>;
        }
    }

    __device__ __forceinline__ void advance(const zf_tensor_gemm_params &p) {
        k += BLOCK_K<Config>;
        if constexpr (Config::CONV) {
            if (k < p.k) return;
            k = 0;
            ++tap;
            if (++at[0] < Config::TAPS[0]) return;
            at[0] = 0;
            if (++at[1] < Config::TAPS[1]) return;
            at[1] = 0;
            ++at[2];
        }
    }
};

// The rows of A of a tile.
template <class Config> struct SourceOfA {
    static constexpr int UNITS = Config::ROWS / UNIT_ROWS;
    int input[Config::CONV ? UNITS : 1][4];  // of a convolution, where the first tap of a unit reads

    __device__ __forceinline__ SourceOfA(const zf_tensor_gemm_params &p, const Work &w) {
        if constexpr (Config::CONV) {
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                const Patch<Config> patch(p, w.row_tile * UNITS + u);
#pragma unroll
                for (int i = 0; i < 3; ++i) input[u][i] = patch.at[i] * Config::STRIDE[i] - Config::PADDING[i];
                input[u][3] = patch.at[3];
            }
        }
    }

    __device__ __forceinline__ void load(const zf_tensor_gemm_params &p, Slots<Config> &s, int slot, const Work &w, const BlockOfK<Config> &block) const {
        uint64_t *const full = &s.ring.full[slot];
        if constexpr (Config::CONV) {
            // Positions outside of the image read as zero: the padding.
#pragma unroll
            for (int u = 0; u < UNITS; ++u)
                ptx::tensor_load_5d(s.a[slot] + u * UNIT_ROWS * SWIZZLE_BYTES, &p.a_map, full, block.k,
                                    input[u][0] + block.at[0] * Config::DILATION[0], input[u][1] + block.at[1] * Config::DILATION[1],
                                    input[u][2] + block.at[2] * Config::DILATION[2], input[u][3]);
        } else {
            const int b1 = w.b1 * p.a_batch[1], b0 = w.b0 * p.a_batch[0];
            if constexpr (Config::A_MN) {
#pragma unroll
                for (int i = 0; i < Config::ROWS / PANEL_COLUMNS; ++i)
                    ptx::tensor_load_4d(s.a[slot] + i * BLOCK_K<Config> * SWIZZLE_BYTES, &p.a_map, full,
                                        w.row + i * PANEL_COLUMNS, block.k, b1, b0);
            } else {
                ptx::tensor_load_4d(s.a[slot], &p.a_map, full, block.k, w.row, b1, b0);
            }
        }
    }
};

// B comes in boxes. With GATED, the second half of a tile's columns are those of the second half of B. In a
// cluster each block copies half of the boxes, to both.
template <class Config>
ZF_INLINE void load_b(const zf_tensor_gemm_params &p, Slots<Config> &s, int slot, const Work &w, const BlockOfK<Config> &block, int rank) {
    constexpr int BOX = Config::B_MN ? PANEL_COLUMNS : Config::B_BOX;
    constexpr int BOXES = Config::COLUMNS / BOX;
    uint64_t *const full = &s.ring.full[slot];
    const int b1 = (Config::GROUPED ? w.group : w.b1) * p.b_batch[1], b0 = w.b0 * p.b_batch[0];
#pragma unroll
    for (int j = 0; j < BOXES; ++j) {
        if (Config::CLUSTER > 1 && j / (BOXES / Config::CLUSTER) != rank) continue;
        int column = w.column_tile * Config::OUT_COLUMNS + j * BOX;
        if (Config::GATED && j >= BOXES / 2) column += p.n - Config::OUT_COLUMNS;
        uint8_t *const to = s.b[slot] + j * BOX * SWIZZLE_BYTES;
        const int x = Config::B_MN ? column : block.k;
        const int y = Config::CONV ? block.tap : Config::B_MN ? block.k : column;
        const int z = Config::CONV ? column : b1;
        if constexpr (Config::CLUSTER > 1) {
            ptx::tensor_load_4d_multicast(to, &p.b_map, full, x, y, z, b0, (1 << Config::CLUSTER) - 1);
        } else {
            ptx::tensor_load_4d(to, &p.b_map, full, x, y, z, b0);
        }
    }
}

template <class Config> ZF_INLINE void wait_empty(Slots<Config> &s, RingState<Config::STAGES> state) {
    if constexpr (Config::CLUSTER > 1) ptx::mbarrier_wait_cluster(&s.ring.empty[state.slot], state.phase ^ 1);
    else s.ring.wait_empty(state);
}

// By one thread: copies every block of the block's work, as slots become empty.
template <class Config> ZF_INLINE void produce(const zf_tensor_gemm_params &p, Slots<Config> &s, Scheduler<Config> scheduler) {
    RingState<Config::STAGES> state;
    Work w;
#pragma unroll 1
    while (scheduler.next(w)) {
        const SourceOfA<Config> a(p, w);
        BlockOfK<Config> block(p, w.k_begin);
#pragma unroll 1
        for (int i = w.k_begin; i < w.k_end; ++i) {
            wait_empty(s, state);
            ptx::mbarrier_arrive_expect_tx(&s.ring.full[state.slot], Slots<Config>::BYTES);
            a.load(p, s, state.slot, w, block);
            load_b(p, s, state.slot, w, block, scheduler.rank);
            block.advance(p);
            state.advance();
        }
    }
}

// A warpgroup's sums: UNITS of 64 x COLUMNS.
template <class Config> constexpr int UNITS = Config::ROWS / UNIT_ROWS / (Config::PINGPONG ? 1 : 2);
template <class Config> struct Sums { typename Config::Acc d[UNITS<Config>][Config::COLUMNS / 2]; };

template <class Config> ZF_INLINE void product(typename Config::Acc (&d)[Config::COLUMNS / 2], uint64_t a, uint64_t b, int scale_d) {
    using Product = ptx::Wgmma<typename Config::Element, Config::COLUMNS>;
    if constexpr (sizeof(typename Config::A) == 2) Product::template ss<Config::A_MN, Config::B_MN>(d, a, b, scale_d);
    else Product::ss(d, a, b, scale_d);
}

// Descriptors of a warpgroup's operands in slot 0. Those of other places differ in the address alone, which is in
// the low word and never carries.
struct Operands {
    uint64_t a, b;

    template <class Config> static __device__ __forceinline__ Operands of(Slots<Config> &s, int first) {
        constexpr int PANEL = BLOCK_K<Config> * SWIZZLE_BYTES;
        const uint32_t a = ptx::shared_address(s.a[0]) + first * UNIT_ROWS * SWIZZLE_BYTES, b = ptx::shared_address(s.b[0]);
        return {Config::A_MN ? mn_major_descriptor(a, PANEL) : k_major_descriptor(a),
                Config::B_MN ? mn_major_descriptor(b, PANEL) : k_major_descriptor(b)};
    }
};

ZF_INLINE uint64_t advanced(uint64_t descriptor, uint32_t bytes) {
    return (descriptor & 0xffffffff00000000ull) | (uint32_t)((uint32_t)descriptor + bytes / 16);
}

// One slot's products, as one group.
template <class Config> ZF_INLINE void multiply_slot(Sums<Config> &sums, const Operands &operands, int slot, int scale_d) {
    constexpr int STEP = ptx::Wgmma<typename Config::Element, Config::COLUMNS>::K;
    // From one step to the next: 32 bytes of a K-major row, STEP rows of an MN-major panel.
    constexpr int A_STEP = Config::A_MN ? STEP * SWIZZLE_BYTES : 32, B_STEP = Config::B_MN ? STEP * SWIZZLE_BYTES : 32;
    const uint64_t a = advanced(operands.a, slot * Config::ROWS * SWIZZLE_BYTES);
    const uint64_t b = advanced(operands.b, slot * Config::COLUMNS * SWIZZLE_BYTES);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < BLOCK_K<Config> / STEP; ++i)
#pragma unroll
        for (int u = 0; u < UNITS<Config>; ++u)
            product<Config>(sums.d[u], advanced(a, i * A_STEP + u * UNIT_ROWS * SWIZZLE_BYTES), advanced(b, i * B_STEP),
                            i == 0 ? scale_d : 1);
    ptx::wgmma_commit_group();
}

template <class Config> ZF_INLINE void release(Slots<Config> &s, int slot) {
    if constexpr (Config::CLUSTER > 1) {
        // The copies of every block of the cluster write here.
        if (threadIdx.x % 128 < Config::CLUSTER) ptx::mbarrier_arrive_cluster(&s.ring.empty[slot], threadIdx.x % 128);
    } else {
        if (threadIdx.x % 128 == 0) ptx::mbarrier_arrive(&s.ring.empty[slot]);
    }
}

template <class Config> ZF_INLINE void keep(Sums<Config> &sums) {
#pragma unroll
    for (int u = 0; u < UNITS<Config>; ++u) ptx::keep(sums.d[u]);
}

// Multiplies the slots of `w`; one group stays in flight while the next is issued. `issued` runs when the last
// group was issued, before it is waited for.
template <class Config, class Issued>
ZF_INLINE void multiply_plain(Sums<Config> &sums, Slots<Config> &s, RingState<Config::STAGES> &state, const Work &w, int first, const Issued &issued) {
    const Operands operands = Operands::of(s, first);
    keep(sums);
    s.ring.wait_full(state);
    multiply_slot(sums, operands, state.slot, 0);
    int last = state.slot;
    state.advance();
#pragma unroll 1
    for (int block = w.k_begin + 1; block < w.k_end; ++block) {
        s.ring.wait_full(state);
        multiply_slot(sums, operands, state.slot, 1);
        ptx::wgmma_wait_group<1>();
        release(s, last);
        last = state.slot;
        state.advance();
    }
    issued();
    ptx::wgmma_wait_group<0>();
    keep(sums);
    release(s, last);
}

// Block scales (one per row of A and 128 of K; one per 128 columns of B and 128 of K): the products of a slot are
// scaled and added in f32 registers, as the tensor core's own sums keep fewer bits.
template <class Config, class Issued>
ZF_INLINE void multiply_scaled(const zf_tensor_gemm_params &p, Sums<Config> &sums, Slots<Config> &s, RingState<Config::STAGES> &state, const Work &w,
                               int first, const Issued &issued) {
    static_assert(Config::COLUMNS <= 128 && 128 % Config::COLUMNS == 0 && BLOCK_K<Config> == 128, "a slot has one scale of B");
    const int top = w.row + first * UNIT_ROWS + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    const int b1 = Config::GROUPED ? w.group : w.b1;
    const float *const b_scale = (const float *)p.b_scale.address + w.b0 * p.b_scale.stride[0] + b1 * p.b_scale.stride[1]
        + w.column_tile * Config::COLUMNS / 128 * p.b_scale.stride[2];
    const float *const a_scale = (const float *)p.a_scale.address + w.b0 * p.a_scale.stride[0] + w.b1 * p.a_scale.stride[1];
#pragma unroll
    for (int u = 0; u < UNITS<Config>; ++u)
#pragma unroll
        for (int i = 0; i < Config::COLUMNS / 2; ++i) sums.d[u][i] = 0;
    const Operands operands = Operands::of(s, first);
    Sums<Config> slot_sums;
#pragma unroll 1
    for (int block = w.k_begin; block < w.k_end; ++block) {
        s.ring.wait_full(state);
        keep(slot_sums);
        multiply_slot(slot_sums, operands, state.slot, 0);
        float scale[UNITS<Config>][2];
        const float of_b = __ldg(b_scale + block * p.b_scale.stride[3]);
#pragma unroll
        for (int u = 0; u < UNITS<Config>; ++u)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                // Rows beyond the last are not stored.
                const int row = min(top + u * UNIT_ROWS + 8 * half, w.row_end - 1);
                scale[u][half] = of_b * __ldg(a_scale + row * p.a_scale.stride[2] + block * p.a_scale.stride[3]);
            }
        if (block == w.k_end - 1) issued();
        ptx::wgmma_wait_group<0>();
        keep(slot_sums);
        release(s, state.slot);
        state.advance();
#pragma unroll
        for (int u = 0; u < UNITS<Config>; ++u)
#pragma unroll
            for (int i = 0; i < Config::COLUMNS / 2; ++i) sums.d[u][i] += scale[u][i / 2 % 2] * slot_sums.d[u][i];
    }
}

template <class Config, class Issued>
ZF_INLINE void multiply(const zf_tensor_gemm_params &p, Sums<Config> &sums, Slots<Config> &s, RingState<Config::STAGES> &state, const Work &w, int first,
                        const Issued &issued) {
    if constexpr (Config::BLOCK_SCALES) multiply_scaled(p, sums, s, state, w, first, issued);
    else multiply_plain(sums, s, state, w, first, issued);
}

// Skips the slots that another warpgroup takes.
template <int STAGES> ZF_INLINE void skip(RingState<STAGES> &state, int blocks) {
    const int to = state.slot + blocks;
    state.phase ^= to / STAGES & 1;
    state.slot = to % STAGES;
}

}  // namespace zf
