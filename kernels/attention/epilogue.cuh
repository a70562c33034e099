// O and the logarithms of the sums go out, from registers.
#pragma once

#include "attention/mask.cuh"
#include "ptx/wgmma.cuh"

namespace zf {

// Packs two results.
template <class T> struct Pair;
template <> struct Pair<zf_bf16> {
    static __device__ __forceinline__ uint32_t of(float low, float high) { return ptx::cvt_rn_bf16x2_f32(high, low); }
};
template <> struct Pair<zf_f16> {
    static __device__ __forceinline__ uint32_t of(float low, float high) { return ptx::cvt_rn_f16x2_f32(high, low); }
};
template <> struct Pair<zf_e4m3> {
    static __device__ __forceinline__ uint32_t of(float low, float high) { return ptx::cvt_rn_satfinite_e4m3x2_f32(high, low); }
};

// Four lanes have four words each; word s of lane q comes from lane s, which had it as word q.
ZF_INLINE void transpose_quad(uint32_t (&w)[4]) {
    const int lane = threadIdx.x % 4;
#pragma unroll
    for (int step = 1; step <= 2; step *= 2)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & step) continue;
            const bool upper = lane & step;
            const uint32_t got = __shfl_xor_sync(0xffffffffu, upper ? w[i] : w[i | step], step);
            if (upper) w[i] = got;
            else w[i | step] = got;
        }
}

template <class C>
ZF_INLINE void store_tile(const zf_flash_attention_params &p, const Sequence &s, const Rows<C> &rows, int batch,
                          const float (&out)[C::DV / 2], const Softmax<C> &softmax, float descale) {
    using Out = typename C::Out;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const bool exists = rows.query[h] < s.queries;
        const float inverse = softmax.inverse(h) * descale;
        // A row that sees nothing is 0, whatever hidden values a probability of 0 was multiplied with.
        const bool sees = softmax.sum[h] != 0.0f;
        const int64_t row = s.first_query + rows.query[h];
        const int64_t in_batch = C::RAGGED_QUERIES ? 0 : batch;
        Out *const o = (Out *)p.o.address + in_batch * p.o.stride[0] + rows.head[h] * p.o.stride[1] + row * p.o.stride[2];
        // Of 32 columns lane q of four has 2q and 2q + 1 of each eight; exchanged, all eight of one.
#pragma unroll
        for (int j = 0; j < C::DV / 8; j += 4) {
            uint32_t w[4] = {};
#pragma unroll
            for (int b = 0; b < 4 && j + b < C::DV / 8; ++b) {
                const int i = 4 * (j + b) + 2 * h;
                w[b] = sees ? Pair<Out>::of(out[i] * inverse, out[i + 1] * inverse) : 0;
            }
            transpose_quad(w);
            const int column = 8 * (j + threadIdx.x % 4);
            if (exists && column < C::DV) *(uint4 *)(o + column) = make_uint4(w[0], w[1], w[2], w[3]);
        }
        if (C::LSE && exists && threadIdx.x % 4 == 0) {
            float *const lse = (float *)p.lse.address + in_batch * p.lse.stride[0] + rows.head[h] * p.lse.stride[1];
            lse[row * p.lse.stride[2]] = softmax.log_sum(h);
        }
    }
}

}  // namespace zf
