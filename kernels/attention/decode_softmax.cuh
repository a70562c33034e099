// Scores of a warpgroup's 64 rows to probabilities: scale, softcap, ALiBi, what a row may see, running maximum and sum.
//
// Scores are kept in base 2 (multiplied by log2 e). A thread has rows g and g + 8 of its warp's 16 (ptx/wgmma.cuh):
// register i of a product belongs to row i / 2 % 2 of the two.
#pragma once

#include "ptx/math.cuh"

namespace zf {

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

ZF_INLINE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

ZF_INLINE float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

// What differs between a thread's two rows.
struct DecodeRows {
    int from[2], to[2];  // Places that the row sees: from .. to.
    int center[2];       // Its own place.
    float slope[2];      // ALiBi, base 2.
};

// tanh by the exponential: exact at both ends, its error that of the exponential.
ZF_INLINE float tanh_ex2(float x) {
    return 1.0f - 2.0f * ptx::rcp_approx_ftz_f32(1.0f + ptx::ex2_approx_ftz_f32(2.0f * LOG2_E * x));
}

// Products of queries and keys to scores. `column` is the place of the first key that this thread holds. `scale` is
// in base 2, or, with SOFTCAP, per cap, and `cap` in base 2.
template <bool SOFTCAP, bool ALIBI, int N>
ZF_INLINE void scores(float (&s)[N], float scale, float cap, const DecodeRows &rows, int column, bool masked) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
        s[i] *= scale;
        if constexpr (SOFTCAP) s[i] = cap * tanh_ex2(s[i]);
        if constexpr (ALIBI) {
            const int distance = rows.center[i / 2 % 2] - (column + i / 4 * 8 + i % 2);
            s[i] -= rows.slope[i / 2 % 2] * (float)abs(distance);
        }
    }
    if (!masked) return;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const int place = column + i / 4 * 8 + i % 2;
        if (place < rows.from[i / 2 % 2] || place >= rows.to[i / 2 % 2]) s[i] = -ZF_INF;
    }
}

// Largest score of each row, over the four lanes that share it.
template <int N> ZF_INLINE void row_max(float (&most)[2], const float (&s)[N]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float x = s[2 * h];
#pragma unroll
        for (int i = 0; i < N; ++i) {
            if (i / 2 % 2 == h) x = fmaxf(x, s[i]);
        }
        most[h] = quad_max(x);
    }
}

struct RunningSoftmax {
    float most[2] = {-ZF_INF, -ZF_INF};
    float sum[2] = {0.0f, 0.0f};  // Of this thread's columns only.

    // Takes a tile's scores of which the rows' maxima are `tile_most`; leaves probabilities. `rescale` is what earlier
    // results are to be multiplied by.
    template <int N> __device__ __forceinline__ void step(float (&s)[N], const float (&tile_most)[2], float (&rescale)[2]) {
        float base[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const float next = fmaxf(most[h], tile_most[h]);
            // A row that has seen nothing yet: -inf minus -inf would be NaN.
            base[h] = next == -ZF_INF ? 0.0f : next;
            rescale[h] = ptx::ex2_approx_ftz_f32(most[h] - base[h]);
            sum[h] *= rescale[h];
            most[h] = next;
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
            s[i] = ptx::ex2_approx_ftz_f32(s[i] - base[i / 2 % 2]);
            sum[i / 2 % 2] += s[i];
        }
    }
};

}  // namespace zf
