// Rotary embedding of 16-byte pieces of rows, for queries on their way into shared memory and keys on theirs into a
// cache.
#pragma once

#include "ptx/convert.cuh"

namespace zf {

// Eight 16-bit floats.
template <class T> ZF_INLINE void unpack8(float (&x)[8], const uint4 &piece) {
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        x[2 * i] = load(T{(uint16_t)words[i]});
        x[2 * i + 1] = load(T{(uint16_t)(words[i] >> 16)});
    }
}

template <class T> ZF_INLINE uint32_t pack2(float low, float high) {
    if constexpr (same<T, zf_bf16>::value) return ptx::cvt_rn_bf16x2_f32(high, low);
    else return ptx::cvt_rn_f16x2_f32(high, low);
}

template <class T> ZF_INLINE uint4 pack8(const float (&x)[8]) {
    return {pack2<T>(x[0], x[1]), pack2<T>(x[2], x[3]), pack2<T>(x[4], x[5]), pack2<T>(x[6], x[7])};
}

ZF_INLINE uint4 load_piece(const void *p) { return *(const uint4 *)p; }

// Elements 8 * piece .. of `row`, of which the first DIM are rotated. `cos` and `sin` are the position's rows of
// DIM / 2. Pairs are neighbours (INTERLEAVED) or DIM / 2 apart. `cos` is null where nothing is rotated.
template <class T, int DIM, bool INTERLEAVED>
ZF_INLINE void load_rotated(float (&x)[8], const T *row, int piece, const T *cos, const T *sin) {
    unpack8<T>(x, load_piece(row + 8 * piece));
    if (!cos || 8 * piece >= DIM) return;
    float c[8], s[8], y[8];
    if constexpr (INTERLEAVED) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            c[i] = load(cos[4 * piece + i]);
            s[i] = load(sin[4 * piece + i]);
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            y[2 * i] = x[2 * i] * c[i] - x[2 * i + 1] * s[i];
            y[2 * i + 1] = x[2 * i + 1] * c[i] + x[2 * i] * s[i];
        }
    } else {
        constexpr int HALF = DIM / 16;  // Pieces of half of the rotated part.
        const bool second = piece >= HALF;
        float partner[8];
        unpack8<T>(partner, load_piece(row + 8 * (second ? piece - HALF : piece + HALF)));
        const int at = 8 * (second ? piece - HALF : piece);
        unpack8<T>(c, load_piece(cos + at));
        unpack8<T>(s, load_piece(sin + at));
#pragma unroll
        for (int i = 0; i < 8; ++i) y[i] = second ? x[i] * c[i] + partner[i] * s[i] : x[i] * c[i] - partner[i] * s[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = y[i];
}

}  // namespace zf
