// Skinny products of f32 in FFMA.
#pragma once

#include "gemm/skinny.cuh"

namespace zf {

// Pieces that a thread has in flight while it multiplies as many.
constexpr int SKINNY_AHEAD = 4;

// A chunk of A's rows as [k][ROWS]: a thread that has a k needs all rows of it. Zeros where there is no row.
template <class Config> ZF_INLINE void skinny_load_k_rows(float *to, const float *a, int64_t stride, int64_t m, int count) {
    __syncthreads();
#pragma unroll 1
    for (int k = threadIdx.x; k < count; k += Config::THREADS)
#pragma unroll
        for (int row = 0; row < Config::ROWS; ++row) to[k * Config::ROWS + row] = row < m ? a[row * stride + k] : 0.0f;
    __syncthreads();
}

// KN and PANELS: a thread has four neighbouring columns and every KL-th k.
template <class Config, class Store>
ZF_INLINE void skinny_f32_columns(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, unsigned char *shared, const Store &store) {
    constexpr int R = Config::ROWS, LANES = Config::COLUMNS / 4, KL = Config::THREADS / LANES;
    static_assert(Config::COLUMNS % 4 == 0 && Config::THREADS % LANES == 0, "lanes share a row of the tile");
    const SkinnyWork w = SkinnyWork::of(p, n, k, Config());
    float *const chunk = (float *)shared;
    float *const partial = chunk + R * Config::CHUNK;
    const int lane = threadIdx.x % LANES, lane_k = threadIdx.x / LANES;
    const float *const a = (const float *)p.a.address + w.b0 * p.a.stride[0] + w.b1 * p.a.stride[1];
    const float *b = (const float *)p.b.address + w.b0 * p.b.stride[0] + w.b1 * p.b.stride[1] + 4 * lane;
    int64_t row_stride = p.b.stride[2], valid = n - w.column - 4 * lane;
    if constexpr (Config::LAYOUT == BLayout::PANELS) {
        static_assert(Config::PANEL == Config::COLUMNS, "a tile is a panel");
        b += w.column / Config::PANEL * p.b.stride[2];
        row_stride = Config::PANEL;
        valid = 4;  // The padding is there.
    } else {
        b += w.column;
    }
    float acc[R][4];
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[r][e] = 0;
#pragma unroll 1
    for (int64_t k0 = w.k_begin; k0 < w.k_end; k0 += Config::CHUNK) {
        const int count = (int)min((int64_t)Config::CHUNK, w.k_end - k0);
        const float *const rows = b + k0 * row_stride;
        auto load = [&](int at) { return at < count ? skinny_piece(rows + at * row_stride, valid) : make_uint4(0, 0, 0, 0); };
        uint4 pieces[SKINNY_AHEAD];
#pragma unroll
        for (int i = 0; i < SKINNY_AHEAD; ++i) pieces[i] = load(lane_k + i * KL);
        skinny_load_k_rows<Config>(chunk, a + k0, p.a.stride[2], m, count);
#pragma unroll 1
        for (int first = lane_k; first < count; first += SKINNY_AHEAD * KL) {
            uint4 now[SKINNY_AHEAD];
#pragma unroll
            for (int i = 0; i < SKINNY_AHEAD; ++i) {
                now[i] = pieces[i];
                pieces[i] = load(first + (SKINNY_AHEAD + i) * KL);
            }
#pragma unroll
            for (int i = 0; i < SKINNY_AHEAD; ++i) {
                const int at = first + i * KL;
                if (at >= count) break;
                const float *const x = chunk + at * R;
                const float y[4] = {__uint_as_float(now[i].x), __uint_as_float(now[i].y), __uint_as_float(now[i].z), __uint_as_float(now[i].w)};
                float v[R];
                if constexpr (R % 4 == 0) {
#pragma unroll
                    for (int r = 0; r < R; r += 4) {
                        const float4 four = *(const float4 *)(x + r);
                        v[r] = four.x, v[r + 1] = four.y, v[r + 2] = four.z, v[r + 3] = four.w;
                    }
                } else {
#pragma unroll
                    for (int r = 0; r < R; ++r) v[r] = x[r];
                }
#pragma unroll
                for (int r = 0; r < R; ++r)
#pragma unroll
                    for (int e = 0; e < 4; ++e) acc[r][e] = fmaf(v[r], y[e], acc[r][e]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < R; ++r)
        *(float4 *)(partial + (lane_k * R + r) * Config::COLUMNS + 4 * lane) = make_float4(acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
    skinny_store<Config>(partial, chunk, KL, w, m, n, store);
}

// Sums of V values over the lanes of a warp; each lane keeps those of its number: on return v[i] is the sum of value
// skinny_kept<V>(lane) + i.
template <int V, int OFFSET = 16> ZF_INLINE void skinny_reduce(float *v) {
    if constexpr (OFFSET > 0) {
        if constexpr (V > 1) {
            const bool upper = threadIdx.x & OFFSET;
#pragma unroll
            for (int i = 0; i < V / 2; ++i) {
                const float send = upper ? v[i] : v[i + V / 2], keep = upper ? v[i + V / 2] : v[i];
                v[i] = keep + __shfl_xor_sync(0xffffffff, send, OFFSET);
            }
            skinny_reduce<V / 2, OFFSET / 2>(v);
        } else {
            v[0] += __shfl_xor_sync(0xffffffff, v[0], OFFSET);
            skinny_reduce<1, OFFSET / 2>(v);
        }
    }
}

// NK: a warp has four columns, whose k's are along its lanes.
template <class Config, class Store>
ZF_INLINE void skinny_f32_rows(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, unsigned char *shared, const Store &store) {
    constexpr int R = Config::ROWS, NR = 4, VALUES = NR * R;
    static_assert(Config::COLUMNS == NR * Config::THREADS / 32, "four columns a warp");
    const SkinnyWork w = SkinnyWork::of(p, n, k, Config());
    float *const chunk = (float *)shared;
    float *const partial = chunk + R * Config::CHUNK;
    const int lane = threadIdx.x % 32, of_tile = threadIdx.x / 32 * NR;
    const float *const a = (const float *)p.a.address + w.b0 * p.a.stride[0] + w.b1 * p.a.stride[1];
    const float *const b = (const float *)p.b.address + w.b0 * p.b.stride[0] + w.b1 * p.b.stride[1] + (w.column + of_tile) * p.b.stride[2];
    const int columns = (int)max((int64_t)0, min((int64_t)NR, n - w.column - of_tile));
    float acc[VALUES];
#pragma unroll
    for (int i = 0; i < VALUES; ++i) acc[i] = 0;
#pragma unroll 1
    for (int64_t k0 = w.k_begin; k0 < w.k_end; k0 += Config::CHUNK) {
        const int count = (int)min((int64_t)Config::CHUNK, w.k_end - k0);
        auto load = [&](int c, int at) {
            return c < columns && at < count ? skinny_piece(b + c * p.b.stride[2] + k0 + at, count - at) : make_uint4(0, 0, 0, 0);
        };
        uint4 pieces[NR];
#pragma unroll
        for (int c = 0; c < NR; ++c) pieces[c] = load(c, 4 * lane);
        // [row][k], zeros up to a whole piece.
        __syncthreads();
        const int padded = (count + 3) & ~3;
#pragma unroll 1
        for (int at = threadIdx.x; at < padded; at += Config::THREADS)
#pragma unroll
            for (int row = 0; row < R; ++row)
                chunk[row * Config::CHUNK + at] = row < m && at < count ? a[row * p.a.stride[2] + k0 + at] : 0.0f;
        __syncthreads();
#pragma unroll 1
        for (int at = 4 * lane; at < count; at += 128) {
            float y[NR][4];
#pragma unroll
            for (int c = 0; c < NR; ++c) {
                y[c][0] = __uint_as_float(pieces[c].x), y[c][1] = __uint_as_float(pieces[c].y);
                y[c][2] = __uint_as_float(pieces[c].z), y[c][3] = __uint_as_float(pieces[c].w);
                pieces[c] = load(c, at + 128);
            }
#pragma unroll
            for (int r = 0; r < R; ++r) {
                const float4 x = *(const float4 *)(chunk + r * Config::CHUNK + at);
#pragma unroll
                for (int c = 0; c < NR; ++c)
                    acc[c * R + r] = fmaf(x.w, y[c][3], fmaf(x.z, y[c][2], fmaf(x.y, y[c][1], fmaf(x.x, y[c][0], acc[c * R + r]))));
            }
        }
    }
    skinny_reduce<VALUES>(acc);
    // With fewer than 32 values several lanes have the same one.
    constexpr int KEPT = VALUES > 32 ? VALUES / 32 : 1, LANES = VALUES > 32 ? 1 : 32 / VALUES;
    if (lane % LANES == 0) {
#pragma unroll
        for (int i = 0; i < KEPT; ++i) {
            const int value = lane / LANES * KEPT + i;
            partial[value % R * Config::COLUMNS + of_tile + value / R] = acc[i];
        }
    }
    skinny_store<Config>(partial, chunk, 1, w, m, n, store);
}

template <class Config, class Store>
ZF_INLINE void skinny_f32(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, unsigned char *shared, const Store &store) {
    if constexpr (Config::LAYOUT == BLayout::NK) skinny_f32_rows<Config>(p, m, n, k, shared, store);
    else skinny_f32_columns<Config>(p, m, n, k, shared, store);
}

}  // namespace zf
