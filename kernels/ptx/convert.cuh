// cvt (PTX ISA 9.7.9.21).
#pragma once

struct zf_bf16 { uint16_t bits; };
struct zf_f16 { uint16_t bits; };

namespace ptx {

static __device__ __forceinline__ zf_bf16 cvt_rn_bf16_f32(float x) {
    zf_bf16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
    return r;
}

static __device__ __forceinline__ zf_f16 cvt_rn_f16_f32(float x) {
    zf_f16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
    return r;
}

static __device__ __forceinline__ float cvt_f32_f16(zf_f16 x) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits));
    return r;
}

// Rounds to the nearest integer, ties to even; values beyond the range become its ends, NaN zero.
static __device__ __forceinline__ int8_t cvt_rni_sat_s8_f32(float x) {
    int32_t r;
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(r) : "f"(x));
    return (int8_t)r;
}

// Rounds to tf32 (10 bits of fraction), ties away from zero; the low 13 bits of the result are zero
// in value.
static __device__ __forceinline__ uint32_t cvt_rna_tf32_f32(float x) {
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}

// Two values in a register: `low` in the low half.
static __device__ __forceinline__ uint32_t cvt_rn_bf16x2_f32(float high, float low) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

static __device__ __forceinline__ uint32_t cvt_rn_f16x2_f32(float high, float low) {
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// Values beyond the largest become it.
static __device__ __forceinline__ uint16_t cvt_rn_satfinite_e4m3x2_f32(float high, float low) {
    uint16_t r;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(high), "f"(low));
    return r;
}

// Two e4m3 values, each of which is an f16; NaN stays NaN.
static __device__ __forceinline__ uint32_t cvt_rn_f16x2_e4m3x2(uint16_t pair) {
    uint32_t r;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(pair));
    return r;
}

}  // namespace ptx
