// A loop in the manner of attention, small: a product of a warpgroup, work on the one before, its wait. What tests plant:
// SPILL (more live values than registers), LATE (the work comes after the wait), EXTRA (more instructions).

typedef unsigned long long uint64;

__device__ __forceinline__ float exp2_(float x) {
    float y;
    asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ void product(float (&d)[4], uint64 a, uint64 b) {
    asm volatile("wgmma.fence.sync.aligned;\n"
                 "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;\n"
                 "wgmma.commit_group.sync.aligned;"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "l"(a), "l"(b)
                 : "memory");
}

__device__ __forceinline__ void wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

template <int N> __device__ __forceinline__ void work(float (&p)[N]) {
    #pragma unroll
    for (int i = 0; i < N; i++) p[i] = exp2_(p[i]);
}

#ifdef SPILL
constexpr int VALUES = 96;
#else
constexpr int VALUES = 8;
#endif

extern "C" __global__ void
#ifdef SPILL
__launch_bounds__(128, 10)
#else
__launch_bounds__(128)
#endif
looped(float *out, uint64 a, uint64 b, int n) {
    float d[4] = {0, 0, 0, 0};
    float p[VALUES];
    #pragma unroll
    for (int i = 0; i < VALUES; i++) p[i] = out[i * 128 + threadIdx.x];
    #pragma unroll 1
    for (int t = 0; t < n; t++) {
        product(d, a, b);
#ifndef LATE
        work(p);
        // A vote over all of it ends what the compiler may move behind the wait.
        float sum = 0;
        #pragma unroll
        for (int i = 0; i < VALUES; i++) sum += p[i];
        if (__any_sync(~0u, sum > 1e30f)) asm volatile("trap;");
#endif
        wait();
#ifdef LATE
        // Needs the product, so that the compiler can't move it before the wait either.
        #pragma unroll
        for (int i = 0; i < VALUES; i++) p[i] += d[i % 4];
        work(p);
#endif
#ifdef EXTRA
        #pragma unroll
        for (int i = 0; i < 40; i++) asm volatile("add.ftz.f32 %0, %0, %1;" : "+f"(p[i % 8]) : "f"(d[i % 4]));
#endif
    }
    #pragma unroll
    for (int i = 0; i < VALUES; i++) out[i * 128 + threadIdx.x] = p[i] + d[i % 4];
}
