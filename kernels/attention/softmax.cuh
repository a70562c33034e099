// The softmax of rows that arrive tile by tile (Milakov and Gimelshein, 2018; FlashAttention-2, algorithm 1).
//
// A thread has parts of two rows, four neighbouring lanes one row. Probabilities are 2^(score * scale - base). The
// base is the row's maximum when it was last set: any base gives the same quotient, so it is moved, and what was
// summed rescaled, only when a score exceeds it by 2^RESCALE_AT. Then no maximum has to be exchanged between lanes
// for most tiles: each lane compares its own with the limit.
#pragma once

#include "ptx/math.cuh"

namespace zf {

constexpr float LOG2_E = 1.44269504088896341f, LN_2 = 0.69314718055994531f;

template <class C> struct Softmax {
    float base[2];   // subtracted, in powers of two; 0 while nothing was seen
    float limit[2];  // a score above it moves the base; -inf while nothing was seen
    float sum[2];    // of this lane's columns
    float scale;     // of scores, to powers of two

    __device__ __forceinline__ void begin(float score_scale) {
        scale = score_scale;
#pragma unroll
        for (int h = 0; h < 2; ++h) base[h] = 0.0f, limit[h] = -ZF_INF, sum[h] = 0.0f;
    }

    // A score (of natural logarithm) that has no value: it only adds to the sum.
    __device__ __forceinline__ void sink(int h, float score) {
        if (score == -ZF_INF) return;
        base[h] = score * LOG2_E - C::OFFSET;
        limit[h] = (score * LOG2_E + C::RESCALE_AT) / scale;
        sum[h] = threadIdx.x % 4 == 0 ? ptx::ex2_approx_ftz_f32(C::OFFSET) : 0.0f;
    }

    // Moves bases to a tile's maxima where they exceed the limits. True if any row of the warp did; `factor` is then
    // what earlier sums are multiplied by.
    __device__ __forceinline__ bool move_base(const float (&score)[C::N / 2], float (&factor)[2]) {
        float top[2] = {score[0], score[2]};
#pragma unroll
        for (int i = 0; i < C::N / 2; ++i) top[i / 2 % 2] = fmaxf(top[i / 2 % 2], score[i]);
        factor[0] = factor[1] = 1.0f;
        const bool moved = __any_sync(0xffffffffu, top[0] > limit[0] || top[1] > limit[1]);
        if (moved) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 1));
                top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 2));
                if (top[h] > limit[h]) {
                    const float moved_to = top[h] * scale - C::OFFSET;
                    factor[h] = limit[h] == -ZF_INF ? 0.0f : ptx::ex2_approx_ftz_f32(base[h] - moved_to);
                    base[h] = moved_to;
                    limit[h] = top[h] + C::RESCALE_AT / scale;
                    sum[h] *= factor[h];
                }
            }
        }
        return moved;
    }

    // Scores become probabilities.
    __device__ __forceinline__ void exponentials(float (&score)[C::N / 2]) {
#pragma unroll
        for (int i = 0; i < C::N / 2; ++i) {
            const int h = i / 2 % 2;
            score[i] = ptx::ex2_approx_ftz_f32(score[i] * scale - base[h]);
            sum[h] += score[i];
        }
    }

    // Keeps ptxas from moving exponentials and sums behind the wait for P V that follows: a block of instructions ends
    // at the branch on a vote over them. It is never taken.
    __device__ __forceinline__ void end_of_block() const {
        if (__any_sync(0xffffffffu, sum[0] < 0.0f || sum[1] < 0.0f)) __syncwarp();
    }

    // Sums of whole rows.
    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        }
    }

    __device__ __forceinline__ float inverse(int h) const { return sum[h] == 0.0f ? 0.0f : 1.0f / sum[h]; }

    // Logarithm of the sum of exponentials; -inf for a row that saw nothing.
    __device__ __forceinline__ float log_sum(int h) const { return fmaf(base[h], LN_2, logf(sum[h])); }
};

}  // namespace zf
