// Skinny products of bf16 and f16 on mma.sync.
//
// Which k a fragment's places stand for is free, as long as A and B agree, and so are B's columns. They are chosen so
// that a thread's 16 bytes of B are whole fragments. NK: 8 neighbouring k's of a column are the k's of two products, with
// B's columns as the 16 rows and A's rows as the 8 columns (the product is computed transposed). KN and PANELS: 8
// neighbouring columns are columns of eight products, with k's 4q .. 4q + 3 in lane q.
#pragma once

#include "gemm/skinny.cuh"

namespace zf {

// A chunk of A's rows as [row][k]; rows are PITCH elements apart. Zeros where there is no row, and up to 64 k's.
template <class Config, int PITCH> ZF_INLINE void skinny_load_rows(uint16_t *to, const uint16_t *a, int64_t stride, int64_t m, int count) {
    __syncthreads();
    const int padded = (count + 63) & ~63;
#pragma unroll 1
    for (int k = threadIdx.x; k < padded; k += Config::THREADS)
#pragma unroll
        for (int row = 0; row < Config::ROWS; ++row) to[row * PITCH + k] = row < m && k < count ? a[row * stride + k] : (uint16_t)0;
    __syncthreads();
}

// The halves of two registers: of each the low, of each the high.
ZF_INLINE uint32_t skinny_low(uint32_t x, uint32_t y) { return __byte_perm(x, y, 0x5410); }
ZF_INLINE uint32_t skinny_high(uint32_t x, uint32_t y) { return __byte_perm(x, y, 0x7632); }

// NK: a warp has 16 columns and every WK-th 32 of k.
template <class Config, class Store>
ZF_INLINE void skinny_16bit_rows(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, unsigned char *shared, const Store &store) {
    using T = typename Config::T;
    constexpr int R = Config::ROWS, WN = Config::COLUMNS / 16, WK = Config::THREADS / 32 / WN, AHEAD = 4;
    // Rows that fragments read together lie 64 bytes apart, counted in banks.
    constexpr int PITCH = Config::CHUNK + 32;
    const SkinnyWork w = SkinnyWork::of(p, n, k, Config());
    uint16_t *const chunk = (uint16_t *)shared;
    float *const partial = (float *)(shared + R * PITCH * 2);
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, wn = threadIdx.x / 32 % WN, wk = threadIdx.x / 32 / WN;
    const uint16_t *const a = (const uint16_t *)p.a.address + w.b0 * p.a.stride[0] + w.b1 * p.a.stride[1];
    const int64_t column = w.column + 16 * wn + g;
    const T *const b = (const T *)p.b.address + w.b0 * p.b.stride[0] + w.b1 * p.b.stride[1] + column * p.b.stride[2];
    float acc[R / 8][4];
#pragma unroll
    for (int j = 0; j < R / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[j][e] = 0;
#pragma unroll 1
    for (int64_t k0 = w.k_begin; k0 < w.k_end; k0 += Config::CHUNK) {
        const int count = (int)min((int64_t)Config::CHUNK, w.k_end - k0);
        auto load = [&](int half, int at) {
            const int64_t valid = column + 8 * half < n ? count - at - 8 * q : 0;
            return valid > 0 ? skinny_piece(b + 8 * half * p.b.stride[2] + k0 + at + 8 * q, valid) : make_uint4(0, 0, 0, 0);
        };
        uint4 pieces[AHEAD][2];
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) pieces[i][0] = load(0, 32 * (wk + i * WK)), pieces[i][1] = load(1, 32 * (wk + i * WK));
        skinny_load_rows<Config, PITCH>(chunk, a + k0, p.a.stride[2], m, count);
#pragma unroll 1
        for (int first = 32 * wk; first < count; first += 32 * AHEAD * WK) {
#pragma unroll
            for (int i = 0; i < AHEAD; ++i) {
                const int at = first + 32 * i * WK;
                const uint4 x = pieces[i][0], y = pieces[i][1];
                pieces[i][0] = load(0, at + 32 * AHEAD * WK);
                pieces[i][1] = load(1, at + 32 * AHEAD * WK);
                if (at >= count) continue;
                const uint32_t low[4] = {x.x, y.x, x.y, y.y}, high[4] = {x.z, y.z, x.w, y.w};
#pragma unroll
                for (int j = 0; j < R / 8; ++j) {
                    const uint4 v = *(const uint4 *)(chunk + (8 * j + g) * PITCH + at + 8 * q);
                    const uint32_t v_low[2] = {v.x, v.y}, v_high[2] = {v.z, v.w};
                    ptx::mma_m16n8k16(T{}, acc[j], low, v_low);
                    ptx::mma_m16n8k16(T{}, acc[j], high, v_high);
                }
            }
        }
    }
    // Row g + 8 (e / 2) of the transposed product is a column of C.
#pragma unroll
    for (int j = 0; j < R / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
            partial[(wk * R + 8 * j + 2 * q + e % 2) * Config::COLUMNS + 16 * wn + g + e / 2 * 8] = acc[j][e];
    skinny_store<Config>(partial, (float *)chunk, WK, w, m, n, store);
}

// KN and PANELS: a warp has 64 columns, eight of each g, and every WK-th 16 of k.
template <class Config, class Store>
ZF_INLINE void skinny_16bit_columns(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, unsigned char *shared, const Store &store) {
    using T = typename Config::T;
    constexpr int R = Config::ROWS, WN = Config::COLUMNS / 64, WK = Config::THREADS / 32 / WN, AHEAD = 2;
    // Rows that fragments read together lie 32 bytes apart, counted in banks.
    constexpr int PITCH = Config::CHUNK + 16;
    const SkinnyWork w = SkinnyWork::of(p, n, k, Config());
    uint16_t *const chunk = (uint16_t *)shared;
    float *const partial = (float *)(shared + R * PITCH * 2);
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, wn = threadIdx.x / 32 % WN, wk = threadIdx.x / 32 / WN;
    const uint16_t *const a = (const uint16_t *)p.a.address + w.b0 * p.a.stride[0] + w.b1 * p.a.stride[1];
    const int64_t column = w.column + 64 * wn + 8 * g;
    const T *b = (const T *)p.b.address + w.b0 * p.b.stride[0] + w.b1 * p.b.stride[1];
    int64_t row_stride = p.b.stride[2], valid = n - column;
    if constexpr (Config::LAYOUT == BLayout::PANELS) {
        static_assert(Config::PANEL % 8 == 0, "a piece lies in a panel");
        b += column / Config::PANEL * p.b.stride[2] + column % Config::PANEL;
        row_stride = Config::PANEL;
        if (valid > 0) valid = 8;  // The padding is there.
    } else {
        b += column;
    }
    float acc[8][4];
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[j][e] = 0;
#pragma unroll 1
    for (int64_t k0 = w.k_begin; k0 < w.k_end; k0 += Config::CHUNK) {
        const int count = (int)min((int64_t)Config::CHUNK, w.k_end - k0);
        auto load = [&](int at) {
            return valid > 0 && at < count ? skinny_piece(b + (k0 + at) * row_stride, valid) : make_uint4(0, 0, 0, 0);
        };
        uint4 pieces[AHEAD][4];
#pragma unroll
        for (int i = 0; i < AHEAD; ++i)
#pragma unroll
            for (int r = 0; r < 4; ++r) pieces[i][r] = load(16 * (wk + i * WK) + 4 * q + r);
        skinny_load_rows<Config, PITCH>(chunk, a + k0, p.a.stride[2], m, count);
#pragma unroll 1
        for (int first = 16 * wk; first < count; first += 16 * AHEAD * WK) {
#pragma unroll
            for (int i = 0; i < AHEAD; ++i) {
                const int at = first + 16 * i * WK;
                const uint4 x0 = pieces[i][0], x1 = pieces[i][1], x2 = pieces[i][2], x3 = pieces[i][3];
#pragma unroll
                for (int r = 0; r < 4; ++r) pieces[i][r] = load(at + 16 * AHEAD * WK + 4 * q + r);
                if (at >= count) continue;
                const uint2 top = *(const uint2 *)(chunk + g * PITCH + at + 4 * q);
                uint2 below = make_uint2(0, 0);
                if constexpr (R > 8) below = *(const uint2 *)(chunk + (g + 8) * PITCH + at + 4 * q);
                const uint32_t rows[4] = {top.x, below.x, top.y, below.y};
                const uint32_t l0[4] = {x0.x, x0.y, x0.z, x0.w}, l1[4] = {x1.x, x1.y, x1.z, x1.w};
                const uint32_t l2[4] = {x2.x, x2.y, x2.z, x2.w}, l3[4] = {x3.x, x3.y, x3.z, x3.w};
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const uint32_t even[2] = {skinny_low(l0[j], l1[j]), skinny_low(l2[j], l3[j])};
                    const uint32_t odd[2] = {skinny_high(l0[j], l1[j]), skinny_high(l2[j], l3[j])};
                    ptx::mma_m16n8k16(T{}, acc[2 * j], rows, even);
                    ptx::mma_m16n8k16(T{}, acc[2 * j + 1], rows, odd);
                }
            }
        }
    }
    // Column c of product j is column 8 c + j of the warp's 64; this lane has c = 2q and 2q + 1.
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
        for (int half = 0; half < R / 8; ++half)
#pragma unroll
            for (int j = 0; j < 8; j += 4)
                *(float4 *)(partial + (wk * R + g + 8 * half) * Config::COLUMNS + 64 * wn + 8 * (2 * q + c) + j) =
                    make_float4(acc[j][2 * half + c], acc[j + 1][2 * half + c], acc[j + 2][2 * half + c], acc[j + 3][2 * half + c]);
    skinny_store<Config>(partial, (float *)chunk, WK, w, m, n, store);
}

template <class Config, class Store>
ZF_INLINE void skinny_16bit(const zf_gemm_params &p, int64_t m, int64_t n, int64_t k, unsigned char *shared, const Store &store) {
    if constexpr (Config::LAYOUT == BLayout::NK) skinny_16bit_rows<Config>(p, m, n, k, shared, store);
    else skinny_16bit_columns<Config>(p, m, n, k, shared, store);
}

}  // namespace zf
