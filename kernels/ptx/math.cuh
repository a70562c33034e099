// Approximate functions (PTX ISA 9.7.3): one instruction of the exponential unit each.
#pragma once

namespace ptx {

// 2^x; subnormal results are 0.
static __device__ __forceinline__ float ex2_approx_ftz_f32(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

static __device__ __forceinline__ float lg2_approx_ftz_f32(float x) {
    float r;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

static __device__ __forceinline__ float rcp_approx_ftz_f32(float x) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// The larger; NaN if either is.
static __device__ __forceinline__ float max_nan_f32(float x, float y) {
    float r;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
    return r;
}

}  // namespace ptx
