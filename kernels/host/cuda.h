// Runs device kernels as C++ on the host, for checking what they compute where there is no GPU. Every
// thread of a block is a fibre; warp-wide instructions (kernels/host/ptx) meet at a barrier of the
// warp's fibres. It checks results and barriers, not memory ordering or speed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)
// One block runs at a time on an OS thread.
#define __shared__ static thread_local

namespace zf_host {

struct Index { unsigned x; };

// What a fibre sees of its block.
struct Thread {
    Index thread, block, dim;
    void *shared;
};
extern thread_local Thread current;

// Runs blocks [begin, end) of `threads` fibres each.
void run(void (*body)(const void *), const void *params, int64_t begin, int64_t end, unsigned threads, unsigned shared_bytes);

void block_barrier();
void warp_barrier();
// Bytes through which the lanes of the calling fibre's warp exchange values; 64 per lane.
unsigned char *exchange(unsigned lane);

// Asynchronous copies are done as late as the waits allow.
void copy_later(void *to, const void *from, int bytes);
void commit_copies();
void finish_copies(int pending_groups);

template <class T> inline T shuffle(T v, unsigned from) {
    static_assert(sizeof(T) <= 64, "an exchange slot is 64 bytes");
    std::memcpy(exchange(current.thread.x % 32), &v, sizeof(T));
    warp_barrier();
    T result;
    std::memcpy(&result, exchange(from), sizeof(T));
    warp_barrier();
    return result;
}

template <class To, class From> inline To bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "equal sizes");
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

}  // namespace zf_host

#define threadIdx zf_host::current.thread
#define blockIdx zf_host::current.block
#define blockDim zf_host::current.dim

static inline void __syncthreads() { zf_host::block_barrier(); }
template <class T> static inline T __shfl_xor_sync(unsigned, T v, int mask) {
    return zf_host::shuffle(v, (threadIdx.x % 32) ^ (unsigned)mask);
}
template <class T> static inline T __shfl_up_sync(unsigned, T v, int delta) {
    const unsigned lane = threadIdx.x % 32;
    return zf_host::shuffle(v, lane >= (unsigned)delta ? lane - (unsigned)delta : lane);
}
template <class T> static inline T __shfl_sync(unsigned, T v, int from) { return zf_host::shuffle(v, (unsigned)from % 32); }
static inline float __int_as_float(int32_t x) { return zf_host::bits<float>(x); }
static inline float __uint_as_float(uint32_t x) { return zf_host::bits<float>(x); }
static inline uint32_t __float_as_uint(float x) { return zf_host::bits<uint32_t>(x); }
