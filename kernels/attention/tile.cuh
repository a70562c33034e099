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
    static constexpr int V_BYTES = DV_PANELS * Choices::N * SWIZZLE_BYTES;
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

template <class C> struct AttentionShared {
    alignas(1024) unsigned char q[C::Q_STAGES][C::Q_BYTES];
    alignas(1024) unsigned char k[C::STAGES][C::K_BYTES];
    alignas(1024) unsigned char v[C::STAGES][C::V_BYTES];
    Ring<C::Q_STAGES> q_ring;
    Ring<C::STAGES> k_ring, v_ring;
    uint64_t tail;  // copies of the last tile of a sequence, before its tail is cleared

    __device__ __forceinline__ void init() {
        q_ring.init(1, 4 * C::GROUPS);
        k_ring.init(1, 4 * C::GROUPS);
        v_ring.init(1, 4 * C::GROUPS);
        if (C::CLEAR_TAIL) ptx::mbarrier_init(&tail, 1);
    }
};

// score = Q * K^T. `q`: the warpgroup's 64 rows.
template <class C> ZF_INLINE void multiply_scores(float (&score)[C::N / 2], uint32_t q, uint32_t k) {
    const uint64_t a = k_major_descriptor(q), b = k_major_descriptor(k);
#pragma unroll
    for (int i = 0; i < C::D_STEPS; ++i) {
        const int panel = i / 4 * SWIZZLE_BYTES, byte = i % 4 * 32;
        ptx::Wgmma<typename C::T, C::N>::template ss<0, 0>(score, descriptor_plus(a, panel * C::M + byte),
                                                           descriptor_plus(b, panel * C::N + byte), i > 0);
    }
}

// out += P * V.
template <class C>
ZF_INLINE void multiply_values(float (&out)[C::DV / 2], const uint32_t (&p)[C::N_STEPS][4], uint32_t v) {
    const uint64_t b = mn_major_descriptor(v, C::N * SWIZZLE_BYTES);
#pragma unroll
    for (int i = 0; i < C::N_STEPS; ++i) {
        ptx::Wgmma<typename C::T, C::DV>::template rs<1>(out, p[i], descriptor_plus(b, i * C::STEP * SWIZZLE_BYTES), 1);
    }
}

}  // namespace zf
