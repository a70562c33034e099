// Rotary position embedding (Su et al., "RoFormer", 2021): pairs of elements of a head turned by an angle of the token's
// position.
//
// A pair is (i, i + ROTARY / 2) (half split, as GPT-NeoX and Llama) or (2i, 2i + 1) (interleaved, as GPT-J); elements
// from ROTARY on keep their values. cosine and sine of pair i at a position are table[position][i], f32. A position
// outside of the table turns nothing.
#pragma once

#include "rows/row.cuh"

namespace zf {

struct RotaryParams {
    uint64_t x;
    uint64_t out;  // x itself in place
    int64_t x_stride[2];    // token, head
    int64_t out_stride[2];
    Rows cosine;
    Rows sine;
    uint64_t positions;  // i64 [tokens]; without them token + first
    int64_t first;
    int64_t table_rows;
    int64_t tokens;
    int64_t heads;
};

template <class T> ZF_INLINE T rounded(float v) { return convert<T>::from(v); }

template <class T, int V, int DIM, int ROTARY, bool INTERLEAVED, bool IN_PLACE, bool POSITIONS>
ZF_INLINE void rotary(const RotaryParams &p) {
    // Work of a head: packets of pairs (two packets half split), then packets that are copied.
    constexpr int TURNED = INTERLEAVED ? ROTARY / V : ROTARY / 2 / V;
    constexpr int ITEMS = TURNED + (IN_PLACE ? 0 : (DIM - ROTARY) / V);
    constexpr int PAIRS = INTERLEAVED ? V / 2 : V;
    const int64_t item = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= p.tokens * p.heads * ITEMS) return;
    const int part = (int)(item % ITEMS);
    const int64_t head = item / ITEMS % p.heads, token = item / ITEMS / p.heads;
    const T *const x = (const T *)p.x + token * p.x_stride[0] + head * p.x_stride[1];
    T *const out = (T *)p.out + token * p.out_stride[0] + head * p.out_stride[1];
    if (part >= TURNED) {
        const int at = ROTARY + (part - TURNED) * V;
        store_packet<T, V>(out + at, load_packet<T, V>(x + at));
        return;
    }
    const int64_t position = POSITIONS ? ((const int64_t *)p.positions)[token] : token + p.first;
    const bool known = position >= 0 && position < p.table_rows;
    const int pair = part * PAIRS;
    Packet<float, PAIRS> c, s;
    if (known) {
        c = load_packet<float, PAIRS>(row_of<const float>(p.cosine, position) + pair);
        s = load_packet<float, PAIRS>(row_of<const float>(p.sine, position) + pair);
    } else {
#pragma unroll
        for (int e = 0; e < PAIRS; ++e) {
            c.element[e] = 1.0f;
            s.element[e] = 0.0f;
        }
    }
    if constexpr (INTERLEAVED) {
        Packet<T, V> both = load_packet<T, V>(x + part * V);
#pragma unroll
        for (int e = 0; e < PAIRS; ++e) {
            const float a = load(both.element[2 * e]), b = load(both.element[2 * e + 1]);
            if (!known) continue;
            both.element[2 * e] = rounded<T>(a * c.element[e] - b * s.element[e]);
            both.element[2 * e + 1] = rounded<T>(b * c.element[e] + a * s.element[e]);
        }
        store_packet<T, V>(out + part * V, both);
    } else {
        Packet<T, V> low = load_packet<T, V>(x + pair), high = load_packet<T, V>(x + ROTARY / 2 + pair);
#pragma unroll
        for (int e = 0; e < PAIRS; ++e) {
            const float a = load(low.element[e]), b = load(high.element[e]);
            if (!known) continue;
            low.element[e] = rounded<T>(a * c.element[e] - b * s.element[e]);
            high.element[e] = rounded<T>(b * c.element[e] + a * s.element[e]);
        }
        store_packet<T, V>(out + pair, low);
        store_packet<T, V>(out + ROTARY / 2 + pair, high);
    }
}

}  // namespace zf
