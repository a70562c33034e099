// Folds over the threads of a row. Every thread gets the result.
// The order of the fold is fixed, so results do not vary from run to run.
#pragma once

namespace zf {

struct Sum { template <class T> __device__ T operator()(T a, T b) const { return a + b; } };
struct Prod { template <class T> __device__ T operator()(T a, T b) const { return a * b; } };
struct Or { template <class T> __device__ T operator()(T a, T b) const { return a | b; } };
struct And { template <class T> __device__ T operator()(T a, T b) const { return a & b; } };
// NaN wins: it is unequal to itself, and nothing is larger than it.
struct Max { template <class T> __device__ T operator()(T a, T b) const { return b > a || b != b ? b : a; } };
struct Min { template <class T> __device__ T operator()(T a, T b) const { return b < a || b != b ? b : a; } };

// Position of the first extreme value; index -1 is nothing yet.
template <class T> struct Extreme { T value; int64_t index; };

// Whether b comes before a: more extreme, NaN first, then the lower index.
template <bool MAX, class T> ZF_INLINE bool beats(Extreme<T> b, Extreme<T> a) {
    if (b.index < 0 || a.index < 0) return b.index >= 0;
    const bool nan_a = a.value != a.value, nan_b = b.value != b.value;
    if (nan_a || nan_b) return nan_b && (!nan_a || b.index < a.index);
    if (a.value == b.value) return b.index < a.index;
    return MAX ? b.value > a.value : b.value < a.value;
}

// The first of two.
template <bool MAX> struct First {
    template <class T> __device__ Extreme<T> operator()(Extreme<T> a, Extreme<T> b) const {
        return beats<MAX>(b, a) ? b : a;
    }
};

template <class T> ZF_INLINE T shuffle_xor(T v, int offset, uint32_t members) {
    return __shfl_xor_sync(members, v, offset);
}
template <class T> ZF_INLINE Extreme<T> shuffle_xor(Extreme<T> v, int offset, uint32_t members) {
    return {__shfl_xor_sync(members, v.value, offset), (int64_t)__shfl_xor_sync(members, v.index, offset)};
}

// Combines the partial results of LANES neighbouring threads: a power of two within a warp, of which `members` are
// there, or all of a block of whole fours of warps (whose results are read at once). `scratch` has 16 bytes per warp of a block.
template <int LANES, class T, class Op> ZF_INLINE T fold(T v, Op op, void *scratch, uint32_t members) {
    for (int offset = (LANES < 32 ? LANES : 32) / 2; offset; offset >>= 1) v = op(v, shuffle_xor(v, offset, members));
    if (LANES > 32) {
        T *const parts = (T *)scratch;
        __syncthreads();  // An earlier fold may still be read.
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
        __syncthreads();
        v = parts[0];
        for (int w = 1; w < LANES / 32; ++w) v = op(v, parts[w]);
    }
    return v;
}

// A slot of `count` in shared memory. The parts of an extreme lie apart, so that neighbours touch neighbouring words.
template <class T> ZF_INLINE void put(void *scratch, int, int slot, T v) { ((T *)scratch)[slot] = v; }
template <class T> ZF_INLINE void put(void *scratch, int count, int slot, Extreme<T> v) {
    ((int64_t *)scratch)[slot] = v.index;
    ((T *)((int64_t *)scratch + count))[slot] = v.value;
}
template <class T> ZF_INLINE void get(const void *scratch, int, int slot, T &v) { v = ((const T *)scratch)[slot]; }
template <class T> ZF_INLINE void get(const void *scratch, int count, int slot, Extreme<T> &v) {
    v.index = ((const int64_t *)scratch)[slot];
    v.value = ((const T *)((const int64_t *)scratch + count))[slot];
}

// Combines, for each of N columns of a thread, the partial results of the WARPS warps of the block. `scratch` has 16
// bytes per column and thread.
template <int WARPS, int N, class T, class Op> ZF_INLINE void fold_columns(T (&v)[N], Op op, void *scratch) {
    constexpr int COUNT = WARPS * N * 32;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    __syncthreads();  // An earlier fold may still be read.
#pragma unroll
    for (int e = 0; e < N; ++e) put(scratch, COUNT, (warp * N + e) * 32 + lane, v[e]);
    __syncthreads();
#pragma unroll
    for (int e = 0; e < N; ++e) {
        get(scratch, COUNT, e * 32 + lane, v[e]);
        for (int w = 1; w < WARPS; ++w) {
            T other;
            get(scratch, COUNT, (w * N + e) * 32 + lane, other);
            v[e] = op(v[e], other);
        }
    }
}

// Inclusive running sum over a warp.
template <class T> ZF_INLINE T scan(T v) {
    for (int offset = 1; offset < 32; offset <<= 1) {
        const T other = __shfl_up_sync(0xffffffffu, v, offset);
        if ((int)(threadIdx.x % 32) >= offset) v = v + other;
    }
    return v;
}

}  // namespace zf
