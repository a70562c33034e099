// The K largest elements of every row, in order: one pass over the row.
//
// A block keeps a sorted list of the best elements seen and a threshold, the last of the K best. Elements above the
// threshold enter a buffer behind the list; when it is full, list and buffer are sorted together and the threshold
// rises. An element is a key of 64 bits, its value's order above its index (the lower index the greater key) above the
// sign of a zero, so that no two are equal, the result does not depend on the order in which threads come, and the
// key is all that is needed of the element.
#pragma once

#include "rows/row.cuh"

namespace zf {

struct TopKParams {
    Rows x;
    Rows values;
    Rows indices;  // i64
    int64_t length;
};

// Sorts N (a power of two) keys of shared memory, the greatest first (Batcher's bitonic network). The keys were
// written before a barrier; so is the result.
template <int N, int THREADS> ZF_INLINE void sort_descending(uint64_t *keys) {
    for (int size = 2; size <= N; size <<= 1) {
        for (int step = size / 2; step; step >>= 1) {
            for (int i = (int)threadIdx.x; i < N / 2; i += THREADS) {
                const int low = (i & ~(step - 1)) << 1 | (i & (step - 1)), high = low + step;
                const uint64_t a = keys[low], b = keys[high];
                if ((a < b) != ((low & size) != 0)) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            __syncthreads();
        }
    }
}

ZF_INLINE uint64_t key_of(float v, int64_t index) {
    return (uint64_t)ordered(v) << 32 | (0x7fffffffu - (uint32_t)index) << 1 | (__float_as_uint(v) == 0x80000000u ? 0 : 1);
}
ZF_INLINE int64_t index_of(uint64_t key) { return 0x7fffffff - ((uint32_t)key >> 1); }
ZF_INLINE float value_of(uint64_t key) {
    const uint32_t order = (uint32_t)(key >> 32);
    if (order == 0xffffffffu) return ZF_NAN;
    if (order == 0x80000000u) return key & 1 ? 0.0f : -0.0f;
    return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

// K <= LIST, a power of two; rows have at least K and fewer than 2^31 elements.
template <class T, int V, int K, int LIST, int THREADS> ZF_INLINE void top_k(const TopKParams &p) {
    __shared__ uint64_t keys[2 * LIST];  // The list, then the buffer.
    __shared__ int entered;
    const int64_t row = blockIdx.x;
    const T *const x = row_of<const T>(p.x, row);
    for (int i = (int)threadIdx.x; i < 2 * LIST; i += THREADS) keys[i] = 0;
    if (threadIdx.x == 0) entered = 0;
    __syncthreads();
    uint64_t threshold = 0;  // Below every key.
    for (int64_t first = 0; first < p.length; first += THREADS * V) {
        const int64_t at = first + (int64_t)threadIdx.x * V;
        float v[V];
        load_values<V>(x, at, p.length, 0.0f, v);
        uint64_t key[V];
#pragma unroll
        for (int e = 0; e < V; ++e)
            key[e] = at + e < p.length ? key_of(v[e], at + e) : 0;
        for (;;) {
            bool waits = false;
#pragma unroll
            for (int e = 0; e < V; ++e) {
                if (key[e] <= threshold) continue;
                const int slot = atomicAdd(&entered, 1);
                if (slot < LIST) {
                    keys[LIST + slot] = key[e];
                    key[e] = 0;
                } else {
                    waits = true;
                }
            }
            if (!__syncthreads_or(waits)) break;
            sort_descending<2 * LIST, THREADS>(keys);
            threshold = keys[K - 1];
            for (int i = (int)threadIdx.x; i < LIST; i += THREADS) keys[LIST + i] = 0;
            if (threadIdx.x == 0) entered = 0;
            __syncthreads();
        }
    }
    sort_descending<2 * LIST, THREADS>(keys);
    for (int i = (int)threadIdx.x; i < K; i += THREADS) {
        row_of<T>(p.values, row)[i] = convert<T>::from(value_of(keys[i]));
        row_of<int64_t>(p.indices, row)[i] = index_of(keys[i]);
    }
}

}  // namespace zf
