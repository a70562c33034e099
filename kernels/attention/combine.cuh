// Partial outputs of splits (decode.cuh) into one: each weighs by the sum of exponentials behind it.
#pragma once

#include "attention/decode_rotary.cuh"
#include "attention/decode_softmax.cuh"

namespace zf {

constexpr int COMBINE_THREADS = 128;

ZF_INLINE float warp_max(float x) {
#pragma unroll
    for (int i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, i));
    return x;
}

ZF_INLINE float warp_sum(float x) {
#pragma unroll
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(0xffffffff, x, i);
    return x;
}

// A warp a row (batch, query, head); a lane 4 columns of every 128. Lane l keeps the weights of splits l, l + 32, ...:
// up to MAX_SPLITS.
template <class T, int DV, int MAX_SPLITS> ZF_INLINE void combine(const zf_combine_params &p) {
    constexpr int WEIGHTS = (MAX_SPLITS + 31) / 32, PIECES = (DV + 127) / 128;
    const int lane = (int)threadIdx.x % 32;
    const int64_t rows = p.batch * p.queries * p.heads;
    const int64_t row = (int64_t)blockIdx.x * (COMBINE_THREADS / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const int splits = (int)p.splits, head = (int)(row % p.heads), query = (int)(row / p.heads % p.queries);
    const int64_t batch = row / p.heads / p.queries;

    float weight[WEIGHTS], most = -ZF_INF;
#pragma unroll
    for (int i = 0; i < WEIGHTS; ++i) {
        const int split = lane + 32 * i;
        weight[i] = split < splits ? ((const float *)p.partial_lse)[split * rows + row] : -ZF_INF;
        most = fmaxf(most, weight[i]);
    }
    most = warp_max(most);
    float sink = -ZF_INF;
    if (p.sinks) {
        sink = ((const float *)p.sinks)[head] * LOG2_E;
        most = fmaxf(most, sink);
    }
    const float base = most == -ZF_INF ? 0.0f : most;
    float sum = 0.0f;
    uint32_t used[WEIGHTS];
#pragma unroll
    for (int i = 0; i < WEIGHTS; ++i) {
        // A split that saw nothing has written no output.
        used[i] = __ballot_sync(0xffffffff, weight[i] != -ZF_INF);
        weight[i] = ptx::ex2_approx_ftz_f32(weight[i] - base);
        sum += weight[i];
    }
    sum = warp_sum(sum) + ptx::ex2_approx_ftz_f32(sink - base);
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;

    float o[PIECES][4] = {};
#pragma unroll
    for (int i = 0; i < WEIGHTS; ++i) {
        const float *from = (const float *)p.partial_o + (32 * i * rows + row) * DV + 4 * lane;
        const int count = min(32, splits - 32 * i);
#pragma unroll 4
        for (int split = 0; split < count; ++split, from += rows * DV) {
            const float w = __shfl_sync(0xffffffff, weight[i], split);
            if (!(used[i] >> split & 1)) continue;
#pragma unroll
            for (int j = 0; j < PIECES; ++j) {
                if (128 * j + 4 * lane >= DV) continue;
                const float4 x = *(const float4 *)(from + 128 * j);
                o[j][0] += w * x.x;
                o[j][1] += w * x.y;
                o[j][2] += w * x.z;
                o[j][3] += w * x.w;
            }
        }
    }
    if (p.lse && lane == 0) {
        const float lse = sum == 0.0f ? -ZF_INF : (base + ptx::lg2_approx_ftz_f32(sum)) * LN_2;
        ((float *)p.lse)[(batch * p.heads + head) * p.queries + query] = lse;
    }
    T *const to = (T *)p.o.address + batch * p.o.stride[0] + head * p.o.stride[1] + query * p.o.stride[2] + 4 * lane;
#pragma unroll
    for (int j = 0; j < PIECES; ++j) {
        if (128 * j + 4 * lane >= DV) continue;
        *(uint2 *)(to + 128 * j) = {pack2<T>(o[j][0] * inverse, o[j][1] * inverse), pack2<T>(o[j][2] * inverse, o[j][3] * inverse)};
    }
}

}  // namespace zf
