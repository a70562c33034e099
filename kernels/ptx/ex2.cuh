// ex2, rcp, lg2 (PTX ISA 9.7.3): the exponential unit's own precision.
#pragma once

namespace ptx {

static __device__ __forceinline__ float ex2_approx_ftz_f32(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

static __device__ __forceinline__ float lg2_approx_f32(float x) {
    float r;
    asm("lg2.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

static __device__ __forceinline__ float rcp_approx_ftz_f32(float x) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

}  // namespace ptx
