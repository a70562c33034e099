// Draws an index per row from softmax(logits / temperature), of the most likely only if so asked.
//
// The draw is the largest of logits / temperature plus a Gumbel variable of the index (Gumbel-max): it needs no sum over
// the row, and with no filter one pass. Random words are Philox's of counter {index / 4, row, offset} and key seed: the
// same for any number of threads.
//
// Kept are: with TOP_K, those above which fewer than top_k lie; with TOP_P, of these those above which less than top_p of
// their sum of probabilities lies; with MIN_P, of these those at least min_p times as likely as the likeliest. What is
// equal is kept or dropped together. The thresholds are found by four passes each over 8 bits of the ordered values, with
// counts or probabilities (as multiples of 2^-32 of the largest, whose sums do not depend on their order) per digit.
//
// A row whose largest element is not finite gives the index of that element, as arg_max.
#pragma once

#include "rows/philox.cuh"
#include "rows/row.cuh"

namespace zf {

struct SampleParams {
    Rows logits;
    uint64_t tokens;  // i64 [rows]
    int64_t length;
    uint64_t seed;
    uint64_t offset;
    int64_t top_k;
    float temperature;
    float top_p;
    float min_p;
    float reserved;
};

// Standard Gumbel of 23 random bits; finite.
ZF_INLINE float gumbel(uint32_t bits) {
    const float u = ((float)(bits >> 9) + 0.5f) * 1.1920928955078125e-7f;
    return -logf(-logf(u));
}

// A sum per value of 8 bits, one word left free after every eight: lanes that read eight each meet no bank twice.
constexpr int BINS = 256 + 32;
ZF_INLINE int bin_place(int bin) { return bin + bin / 8; }

// The largest ordered value above which lies less than `limit` of the weights, and at or above which at least `limit`.
// `bins` are BINS words of shared memory.
template <int THREADS, int V, class T, class Weight>
ZF_INLINE uint32_t threshold(const T *row, int64_t length, uint64_t limit, unsigned long long *bins, Weight weight) {
    uint32_t prefix = 0;
    uint64_t above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = (int)threadIdx.x; i < BINS; i += THREADS) bins[i] = 0;
        __syncthreads();
        each<THREADS, V>(row, length, [&](int64_t, float v) {
            const uint32_t key = ordered(v);
            if (shift == 24 || key >> (shift + 8) == prefix) {
                const unsigned long long w = weight(key, v);
                if (w) atomicAdd(&bins[bin_place(key >> shift & 255)], w);
            }
        });
        __syncthreads();
        // Every warp finds the bin in which the sum from the top reaches the limit: first the eight, then the one.
        const int lane = (int)threadIdx.x % 32;
        uint64_t mine[8], sum = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += mine[i] = bins[bin_place(255 - 8 * lane - i)];
        const uint64_t upto = scan(sum);
        const uint32_t reaching = __ballot_sync(0xffffffffu, above + upto >= limit);
        const int chosen = reaching ? __ffs((int)reaching) - 1 : 31;
        uint64_t over = above + upto - sum;
        int bin = 255 - 8 * lane;
        bool below = true;
#pragma unroll
        for (int i = 0; i < 7; ++i) {
            below = below && over + mine[i] < limit;
            if (below) {
                over += mine[i];
                --bin;
            }
        }
        above = __shfl_sync(0xffffffffu, over, chosen);
        prefix = prefix << 8 | (uint32_t)__shfl_sync(0xffffffffu, bin, chosen);
        __syncthreads();  // The bins are cleared next.
    }
    return prefix;
}

template <class T, int V, int THREADS, bool TOP_K, bool TOP_P, bool MIN_P> ZF_INLINE void sample(const SampleParams &p) {
    constexpr bool FILTERS = TOP_K || TOP_P || MIN_P;
    __shared__ __align__(16) unsigned char scratch[16 * THREADS / 32];
    __shared__ unsigned long long bins[TOP_K || TOP_P ? BINS : 1];
    const int64_t row = blockIdx.x;
    const T *const x = row_of<const T>(p.logits, row);
    Extreme<float> largest = {0.0f, -1};
    uint32_t kept = 0;
    const float inverse = 1.0f / p.temperature;
    if (FILTERS) {
        largest = first_maximum<THREADS, V>(x, p.length, scratch);
        const float top = largest.value;
        if (top - top != 0.0f) {
            if (threadIdx.x == 0) ((int64_t *)p.tokens)[row] = largest.index;
            return;
        }
        if (TOP_K) {
            kept = threshold<THREADS, V>(x, p.length, (uint64_t)p.top_k, bins, [&](uint32_t, float) { return 1ull; });
        }
        if (TOP_P) {
            auto mass = [&](uint32_t key, float v) {
                return key < kept ? 0ull : (unsigned long long)(expf((v - top) * inverse) * 4294967296.0f);
            };
            unsigned long long sum = 0;
            each<THREADS, V>(x, p.length, [&](int64_t, float v) { sum += mass(ordered(v), v); });
            sum = fold<THREADS>(sum, Sum(), scratch, 0xffffffffu);
            const uint64_t limit = (uint64_t)ceil((double)p.top_p * (double)sum);
            kept = max(kept, threshold<THREADS, V>(x, p.length, limit, bins, mass));
        }
    }
    Extreme<float> best = {0.0f, -1};
    for (int64_t at = (int64_t)threadIdx.x * V; at < p.length; at += THREADS * V) {
        float v[V];
        load_values<V>(x, at, p.length, 0.0f, v);
        Words4 words;
#pragma unroll
        for (int e = 0; e < V; ++e) {
            const int64_t i = at + e;
            if (e % 4 == 0) words = philox({{(uint32_t)(i / 4), (uint32_t)row, (uint32_t)p.offset, (uint32_t)(p.offset >> 32)}}, p.seed);
            if (i >= p.length) continue;
            const int of = V % 4 == 0 ? e % 4 : (int)(i % 4);
            const uint32_t bits = of == 0 ? words.word[0] : of == 1 ? words.word[1] : of == 2 ? words.word[2] : words.word[3];
            if (!FILTERS) largest = First<true>()(largest, Extreme<float>{v[e], i});
            const float score = (FILTERS ? v[e] - largest.value : v[e]) * inverse;
            if (TOP_K || TOP_P) {
                if (ordered(v[e]) < kept) continue;
            }
            if (MIN_P) {
                if (!(expf(score) >= p.min_p)) continue;
            }
            best = First<true>()(best, Extreme<float>{score + gumbel(bits), i});
        }
    }
    best = fold<THREADS>(best, First<true>(), scratch, 0xffffffffu);
    if (!FILTERS) {
        largest = fold<THREADS>(largest, First<true>(), scratch, 0xffffffffu);
        if (largest.value - largest.value != 0.0f) best = largest;
    }
    if (threadIdx.x == 0) ((int64_t *)p.tokens)[row] = best.index;
}

}  // namespace zf
