// Rows of matrices: a block's threads take the elements of a row in turn, V neighbours at a time.
#pragma once

#include "scalar/device.cuh"
#include "loop/fold.cuh"
#include "loop/packet.cuh"
#include "ptx/launch.cuh"

namespace zf {

// A matrix in a parameter block: its first element, and elements from one row to the next.
struct Rows {
    uint64_t address;
    int64_t stride;
};

template <class T> ZF_INLINE T *row_of(const Rows &m, int64_t row) { return (T *)m.address + row * m.stride; }

// The V elements from `at` on as arithmetic values; `fill` past the end of the row. Rows are aligned for packets of V.
template <int V, class T> ZF_INLINE void load_values(const T *row, int64_t at, int64_t length, float fill, float (&v)[V]) {
    if (at + V <= length) {
        const Packet<T, V> packet = load_packet<T, V>(row + at);
#pragma unroll
        for (int e = 0; e < V; ++e) v[e] = load(packet.element[e]);
    } else {
#pragma unroll
        for (int e = 0; e < V; ++e) v[e] = at + e < length ? load(row[at + e]) : fill;
    }
}

// Calls f(index, value) for this thread's elements of a row that THREADS threads share.
template <int THREADS, int V, class T, class F> ZF_INLINE void each(const T *row, int64_t length, F f) {
    for (int64_t at = (int64_t)threadIdx.x * V; at < length; at += THREADS * V) {
        float v[V];
        load_values<V>(row, at, length, 0.0f, v);
#pragma unroll
        for (int e = 0; e < V; ++e)
            if (at + e < length) f(at + e, v[e]);
    }
}

// Floats as unsigned integers in the same order: NaN above everything, both zeros alike.
ZF_INLINE uint32_t ordered(float v) {
    if (v != v) return 0xffffffffu;
    const uint32_t bits = __float_as_uint(v == 0.0f ? 0.0f : v);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The first largest element of a row and its index, NaN above everything; every thread of the block gets it.
template <int THREADS, int V, class T> ZF_INLINE Extreme<float> first_maximum(const T *row, int64_t length, void *scratch) {
    Extreme<float> best = {0.0f, -1};
    each<THREADS, V>(row, length, [&](int64_t i, float v) { best = First<true>()(best, Extreme<float>{v, i}); });
    return fold<THREADS>(best, First<true>(), scratch, 0xffffffffu);
}

struct ArgMaxParams {
    Rows x;
    uint64_t indices;  // i64 [rows]
    int64_t length;
};

// indices[row] = index of the first largest element.
template <class T, int V, int THREADS> ZF_INLINE void arg_max(const ArgMaxParams &p) {
    __shared__ __align__(16) unsigned char scratch[16 * THREADS / 32];
    const int64_t row = blockIdx.x;
    const Extreme<float> best = first_maximum<THREADS, V>(row_of<const T>(p.x, row), p.length, scratch);
    if (threadIdx.x == 0) ((int64_t *)p.indices)[row] = best.index;
}

}  // namespace zf
