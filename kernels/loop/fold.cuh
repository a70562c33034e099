// Folds over the threads of a row: a warp, or a block of LANES threads. Every thread gets the result.
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

// Combines partial results of threads through shared memory; `scratch` has one T per warp.
template <int LANES, class T, class Op> ZF_INLINE T fold(T v, Op op, void *scratch) {
    for (int offset = 16; offset; offset >>= 1) v = op(v, __shfl_xor_sync(0xffffffffu, v, offset));
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

template <int LANES, bool MAX, class T> ZF_INLINE Extreme<T> fold_extreme(Extreme<T> v, void *scratch) {
    for (int offset = 16; offset; offset >>= 1) {
        Extreme<T> other;
        other.value = __shfl_xor_sync(0xffffffffu, v.value, offset);
        other.index = __shfl_xor_sync(0xffffffffu, v.index, offset);
        if (beats<MAX>(other, v)) v = other;
    }
    if (LANES > 32) {
        Extreme<T> *const parts = (Extreme<T> *)scratch;
        __syncthreads();
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
        __syncthreads();
        v = parts[0];
        for (int w = 1; w < LANES / 32; ++w) if (beats<MAX>(parts[w], v)) v = parts[w];
    }
    return v;
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
