// Which keys a query sees, and what is done to a score before the softmax.
//
// What depends on positions is a range [low, high) per query, both ends growing with the query: a tile of keys that
// lies inside the ranges of all its queries needs no mask. Everything else (softcap, bias, slopes, mask operand) is
// applied to every score.
#pragma once

#include "attention/scheduler.cuh"
#include "attention/softmax.cuh"

namespace zf {

enum class ScoreMask { NONE, BOOL, ADDITIVE };

// One sequence of a batch.
struct Sequence {
    int queries, keys;
    int first_query, first_key;  // rows of a packed tensor
    int offset;                  // position of query 0

    template <class C> static __device__ __forceinline__ Sequence of(const zf_flash_attention_params &p, int batch) {
        Sequence s = {(int)p.queries, (int)p.keys, 0, 0, (int)p.offset};
        if (C::RAGGED_QUERIES) {
            const int32_t *const cu = (const int32_t *)p.cu_queries + batch;
            s.first_query = cu[0];
            s.queries = cu[1] - cu[0];
        }
        if (C::RAGGED_KEYS) {
            const int32_t *const cu = (const int32_t *)p.cu_keys + batch;
            s.first_key = cu[0];
            s.keys = cu[1] - cu[0];
        }
        if (C::USED_QUERIES) s.queries = min(s.queries, ((const int32_t *)p.used_queries)[batch]);
        if (C::USED_KEYS) s.keys = min(s.keys, ((const int32_t *)p.used_keys)[batch]);
        if (C::OWN_LENGTHS) s.offset = s.keys - s.queries;
        return s;
    }
};

struct KeyRange {
    int low, high;
};

// What a query of a sequence sees.
template <class C> ZF_INLINE KeyRange visible_keys(const zf_flash_attention_params &p, const Sequence &s, int query) {
    const int position = query + s.offset;
    int low = 0, high = s.keys;
    // Widths are cut off at more than any sequence has, so that sums of positions do not overflow.
    if (C::WINDOW_LEFT) low = max(low, position - (int)min(p.window_left, (int64_t)1 << 29));
    if (C::WINDOW_RIGHT) {
        int end = position + (int)min(p.window_right, (int64_t)1 << 29) + 1;
        if (C::PREFIX) end = max(end, (int)min(p.prefix, p.keys));
        high = min(high, end);
    }
    if (C::CHUNK) {
        const int64_t first = position < 0 ? -p.chunk : position / (int)p.chunk * p.chunk;
        low = max(low, (int)max(first, (int64_t)-1 << 29));
        high = min(high, (int)min(first + p.chunk, (int64_t)1 << 30));
    }
    return {low, max(high, 0)};
}

// The tiles of N keys that the rows of a block see: [first, end), of which those outside [whole_first, whole_end)
// need a mask.
template <class C> struct KeyTiles {
    int first, end, whole_first, whole_end;

    __device__ __forceinline__ KeyTiles(const zf_flash_attention_params &p, const Sequence &s, int block) {
        const int top = block * C::M / C::PACK;
        const int bottom = min(s.queries, (block * C::M + C::M + C::PACK - 1) / C::PACK) - 1;
        const KeyRange a = visible_keys<C>(p, s, top), b = visible_keys<C>(p, s, bottom);
        first = a.low / C::N;
        end = (b.high + C::N - 1) / C::N;
        whole_first = (b.low + C::N - 1) / C::N;
        whole_end = a.high / C::N;
    }

    __device__ __forceinline__ bool empty() const { return first >= end; }
};

// The two rows of a thread (g and g + 8 of its warp's 16).
template <class C> struct Rows {
    int query[2], head[2];
    KeyRange keys[2];

    __device__ __forceinline__ Rows(const zf_flash_attention_params &p, const Sequence &s, const TileCoordinates &t, int row) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int packed = t.block * C::M + row + 8 * h;
            query[h] = packed / C::PACK;
            head[h] = t.head * C::PACK + packed % C::PACK;
            keys[h] = visible_keys<C>(p, s, query[h]);
        }
    }
};

// Hides what lies outside of the rows' ranges. Register 4 * j + 2 * h + e is column 8 * j + 2 * (lane % 4) + e.
template <class C> ZF_INLINE void mask_range(float (&score)[C::N / 2], const Rows<C> &rows, int tile) {
    const int column = tile * C::N + threadIdx.x % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int low = rows.keys[h].low - column, high = rows.keys[h].high - column;
#pragma unroll
        for (int j = 0; j < C::N / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float &x = score[4 * j + 2 * h + e];
                bool seen = 8 * j + e < high;
                if (C::WINDOW_LEFT || C::CHUNK) seen = seen && 8 * j + e >= low;
                x = seen ? x : -ZF_INF;
            }
    }
}

// cap * tanh(x / cap), by an exponential: tanh.approx would cost more than bf16 does.
ZF_INLINE float soft_cap(float x, float cap, float inverse) {
    const float e = ptx::ex2_approx_ftz_f32(x * inverse * (2.0f * LOG2_E));
    return cap - 2.0f * cap * ptx::rcp_approx_ftz_f32(1.0f + e);
}

template <class M> struct MaskValue;
template <> struct MaskValue<float> { static __device__ __forceinline__ float of(float x) { return x; } };
template <> struct MaskValue<zf_bf16> { static __device__ __forceinline__ float of(zf_bf16 x) { return zf_from_bf16(x); } };
template <> struct MaskValue<zf_f16> { static __device__ __forceinline__ float of(zf_f16 x) { return zf_from_f16(x); } };

// Scores as logarithms to base 2 with everything that is added to them.
template <class C>
ZF_INLINE void modify_scores(float (&score)[C::N / 2], const zf_flash_attention_params &p, const Sequence &s, const Rows<C> &rows,
                             int batch, int tile, float scale) {
    const int column = tile * C::N + threadIdx.x % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float slope = 0.0f;
        if (C::SLOPES) {
            slope = LOG2_E * ((const float *)p.slopes.address)[batch * p.slopes.stride[0] + rows.head[h] * p.slopes.stride[1]];
        }
        const bool exists = rows.query[h] < s.queries;
        const typename C::MaskType *mask = nullptr;
        if (C::MASK != ScoreMask::NONE) {
            mask = (const typename C::MaskType *)p.mask.address + batch * p.mask.stride[0] +
                   rows.head[h] * p.mask.stride[1] + rows.query[h] * p.mask.stride[2];
        }
#pragma unroll
        for (int j = 0; j < C::N / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float &x = score[4 * j + 2 * h + e];
                const int key = column + 8 * j + e;
                x *= scale;
                if (C::SOFTCAP) x = soft_cap(x, p.softcap, 1.0f / p.softcap);
                x *= LOG2_E;
                // How far the key lies from the query.
                if (C::SLOPES) x -= slope * fabsf((float)(rows.query[h] + s.offset - key));
                if (C::MASK != ScoreMask::NONE) {
                    const bool inside = exists && key < s.keys;
                    if constexpr (C::MASK == ScoreMask::BOOL) {
                        x = inside && mask[key * p.mask.stride[3]] != 0 ? x : -ZF_INF;
                    } else if constexpr (C::MASK == ScoreMask::ADDITIVE) {
                        if (inside) x += MaskValue<typename C::MaskType>::of(mask[key * p.mask.stride[3]]) * LOG2_E;
                    }
                }
            }
    }
}

}  // namespace zf
