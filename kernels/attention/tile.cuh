// Shared memory of the attention kernel, and the products of its tiles.
#pragma once

#include "attention/mask.cuh"

#include "pipeline/ring.cuh"
#include "ptx/wgmma.cuh"
#include "tile/shared.cuh"

namespace zf {

// What follows from an instance's choices (`Choices` below stands for the struct that a source defines).
template <class Choices> struct AttentionConfig : Choices {
    using T = typename Choices::T;
    static constexpr int ELEMENT = sizeof(T);
    static constexpr int M = 64 * Choices::GROUPS;
    static constexpr int THREADS = 128 * (Choices::GROUPS + 1);
    // Columns of a 128-byte panel, and of one product.
    static constexpr int PANEL = SWIZZLE_BYTES / ELEMENT, STEP = 32 / ELEMENT;
    static constexpr int D_PANELS = (Choices::D + PANEL - 1) / PANEL, DV_PANELS = (Choices::DV + PANEL - 1) / PANEL;
    static constexpr int D_STEPS = (Choices::D + STEP - 1) / STEP, N_STEPS = Choices::N / STEP;
    static constexpr int Q_BYTES = D_PANELS * M * SWIZZLE_BYTES;
    static constexpr int K_BYTES = D_PANELS * Choices::N * SWIZZLE_BYTES;
    // 8-bit floats: V arrives as a row per key and is turned to a row per column (attention/transpose.cuh).
    static constexpr bool FP8 = ELEMENT == 1;
    static constexpr int V_COPIED_BYTES = DV_PANELS * Choices::N * SWIZZLE_BYTES;
    static constexpr int V_BYTES = FP8 ? (Choices::N + PANEL - 1) / PANEL * Choices::DV * SWIZZLE_BYTES : V_COPIED_BYTES;
    // Registers of a thread (65536 of an SM, 8 at a time): what the copying warpgroup does not need the others get.
    static constexpr int COPY_REGISTERS = Choices::GROUPS == 3 ? 32 : FP8 ? 40 : 24;
    static constexpr int MULTIPLY_REGISTERS = Choices::GROUPS == 3 ? 160 : FP8 ? 232 : 240;
    // Tiles have different numbers of keys.
    static constexpr bool UNEVEN = Choices::WINDOW_RIGHT || Choices::CHUNK;
    // Lengths differ from sequence to sequence, and queries are the last of the keys.
    static constexpr bool OWN_LENGTHS = Choices::RAGGED_QUERIES || Choices::RAGGED_KEYS || Choices::USED_QUERIES || Choices::USED_KEYS;
    // Rows of a tile of V after the sequence's end are another sequence's, or nobody's.
    static constexpr bool CLEAR_TAIL = Choices::RAGGED_KEYS || Choices::USED_KEYS;
    static constexpr bool MODIFY = Choices::SOFTCAP || Choices::SLOPES || Choices::MASK != ScoreMask::NONE;
    static_assert(Choices::N % STEP == 0, "a tile of keys is whole products");
    static_assert(64 % Choices::PACK == 0, "a warpgroup's rows are whole queries");
};

// V as it was copied, where that is not what products read.
template <class C, bool FP8 = C::FP8> struct CopiedValues {
    __device__ __forceinline__ void init() {}
};
template <class C> struct CopiedValues<C, true> {
    alignas(1024) unsigned char copied[C::STAGES][C::V_COPIED_BYTES];
    Ring<C::STAGES> copied_ring;

    __device__ __forceinline__ void init() { copied_ring.init(1, 3); }
};

template <class C> struct AttentionShared {
    alignas(1024) unsigned char q[C::Q_STAGES][C::Q_BYTES];
    alignas(1024) unsigned char k[C::STAGES][C::K_BYTES];
    alignas(1024) unsigned char v[C::STAGES][C::V_BYTES];
    Ring<C::Q_STAGES> q_ring;
    Ring<C::STAGES> k_ring, v_ring;
    CopiedValues<C> values;
    uint64_t tail;  // copies of the last tile of a sequence, before its tail is cleared

    __device__ __forceinline__ void init() {
        q_ring.init(1, 4 * C::GROUPS);
        k_ring.init(1, 4 * C::GROUPS);
        v_ring.init(C::FP8 ? 3 : 1, 4 * C::GROUPS);
        values.init();
        if (C::CLEAR_TAIL) ptx::mbarrier_init(&tail, 1);
    }
};

// score = Q * K^T. `q`: the warpgroup's 64 rows.
template <class C> ZF_INLINE void multiply_scores(float (&score)[C::N / 2], uint32_t q, uint32_t k) {
    const uint64_t a = k_major_descriptor(q), b = k_major_descriptor(k);
#pragma unroll
    for (int i = 0; i < C::D_STEPS; ++i) {
        const int panel = i / 4 * SWIZZLE_BYTES, byte = i % 4 * 32;
        const uint64_t rows = descriptor_plus(a, panel * C::M + byte), keys = descriptor_plus(b, panel * C::N + byte);
        if constexpr (C::FP8) ptx::Wgmma<typename C::T, C::N>::ss(score, rows, keys, i > 0);
        else ptx::Wgmma<typename C::T, C::N>::template ss<0, 0>(score, rows, keys, i > 0);
    }
}

// out += P * V.
template <class C>
ZF_INLINE void multiply_values(float (&out)[C::DV / 2], const uint32_t (&p)[C::N_STEPS][4], uint32_t v) {
#pragma unroll
    for (int i = 0; i < C::N_STEPS; ++i) {
        if constexpr (C::FP8) {
            const uint64_t b = descriptor_plus(k_major_descriptor(v), i / 4 * C::DV * SWIZZLE_BYTES + i % 4 * 32);
            ptx::Wgmma<typename C::T, C::DV>::rs(out, p[i], b, 1);
        } else {
            const uint64_t b = descriptor_plus(mn_major_descriptor(v, C::N * SWIZZLE_BYTES), i * C::STEP * SWIZZLE_BYTES);
            ptx::Wgmma<typename C::T, C::DV>::template rs<1>(out, p[i], b, 1);
        }
    }
}

}  // namespace zf
