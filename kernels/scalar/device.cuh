// Types, conversions and functions that generated expressions use, on the device. The host's kernels
// have the same names in their own prelude; what both must agree on to the bit is in
// zeroforge/integer.h.
#pragma once

#if defined(__CUDACC_RTC__)
typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef short int16_t;
typedef unsigned int uint32_t;
#define INT32_MIN (-2147483647 - 1)
#define INT32_MAX 2147483647
#define INT64_C(x) x##LL
#define INT64_MIN (-9223372036854775807LL - 1)
#define INT64_MAX 9223372036854775807LL
#endif

#include "zeroforge/abi.h"
#include "ptx/convert.cuh"

#define ZF_INLINE static __device__ __forceinline__
#define ZF_INF __int_as_float(0x7f800000)
#define ZF_NAN __int_as_float(0x7fc00000)

#include "zeroforge/integer.h"

// ---- 16-bit floats ------------------------------------------------------------------------------
ZF_INLINE float zf_from_bf16(zf_bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }
ZF_INLINE zf_bf16 zf_to_bf16(float x) { return ptx::cvt_rn_bf16_f32(x); }
ZF_INLINE float zf_from_f16(zf_f16 x) { return ptx::cvt_f32_f16(x); }
ZF_INLINE zf_f16 zf_to_f16(float x) { return ptx::cvt_rn_f16_f32(x); }
ZF_INLINE float zf_round_bf16(float x) { return zf_from_bf16(zf_to_bf16(x)); }
ZF_INLINE float zf_round_f16(float x) { return zf_from_f16(zf_to_f16(x)); }

// ---- f32 ----------------------------------------------------------------------------------------
ZF_INLINE float zf_fabsf(float x) { return fabsf(x); }
ZF_INLINE float zf_floorf(float x) { return floorf(x); }
ZF_INLINE float zf_ceilf(float x) { return ceilf(x); }
ZF_INLINE float zf_truncf(float x) { return truncf(x); }
ZF_INLINE float zf_roundf(float x) { return rintf(x); }
ZF_INLINE float zf_expf(float x) { return expf(x); }
ZF_INLINE float zf_expm1f(float x) { return expm1f(x); }
ZF_INLINE float zf_logf(float x) { return logf(x); }
ZF_INLINE float zf_log1pf(float x) { return log1pf(x); }
ZF_INLINE float zf_sqrtf(float x) { return sqrtf(x); }
ZF_INLINE float zf_rsqrtf(float x) { return 1.0f / sqrtf(x); }
ZF_INLINE float zf_sinf(float x) { return sinf(x); }
ZF_INLINE float zf_cosf(float x) { return cosf(x); }
ZF_INLINE float zf_tanhf(float x) { return tanhf(x); }
ZF_INLINE float zf_erff(float x) { return erff(x); }
ZF_INLINE float zf_powf(float x, float y) { return powf(x, y); }
ZF_INLINE float zf_atan2f(float y, float x) { return atan2f(y, x); }
ZF_INLINE float zf_sigmoidf(float x) { return 1.0f / (1.0f + expf(-x)); }
ZF_INLINE float zf_siluf(float x) { return x / (1.0f + expf(-x)); }
ZF_INLINE float zf_geluf(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
ZF_INLINE float zf_gelu_tanhf(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

// ---- f64 ----------------------------------------------------------------------------------------
ZF_INLINE double zf_fabs(double x) { return fabs(x); }
ZF_INLINE double zf_floor(double x) { return floor(x); }
ZF_INLINE double zf_ceil(double x) { return ceil(x); }
ZF_INLINE double zf_trunc(double x) { return trunc(x); }
ZF_INLINE double zf_round(double x) { return rint(x); }
ZF_INLINE double zf_exp(double x) { return exp(x); }
ZF_INLINE double zf_expm1(double x) { return expm1(x); }
ZF_INLINE double zf_log(double x) { return log(x); }
ZF_INLINE double zf_log1p(double x) { return log1p(x); }
ZF_INLINE double zf_sqrt(double x) { return sqrt(x); }
ZF_INLINE double zf_rsqrt(double x) { return 1.0 / sqrt(x); }
ZF_INLINE double zf_sin(double x) { return sin(x); }
ZF_INLINE double zf_cos(double x) { return cos(x); }
ZF_INLINE double zf_tanh(double x) { return tanh(x); }
ZF_INLINE double zf_erf(double x) { return erf(x); }
ZF_INLINE double zf_pow(double x, double y) { return pow(x, y); }
ZF_INLINE double zf_atan2(double y, double x) { return atan2(y, x); }
ZF_INLINE double zf_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
ZF_INLINE double zf_silu(double x) { return x / (1.0 + exp(-x)); }
ZF_INLINE double zf_gelu(double x) { return 0.5 * x * (1.0 + erf(x * 0.70710678118654752440)); }
ZF_INLINE double zf_gelu_tanh(double x) {
    return 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

// ---- memory types to arithmetic types -----------------------------------------------------------
namespace zf {
ZF_INLINE float load(zf_bf16 x) { return zf_from_bf16(x); }
ZF_INLINE float load(zf_f16 x) { return zf_from_f16(x); }
ZF_INLINE float load(float x) { return x; }
ZF_INLINE double load(double x) { return x; }

template <class T> struct convert;
template <> struct convert<zf_bf16> { static __device__ zf_bf16 from(float x) { return zf_to_bf16(x); } };
template <> struct convert<zf_f16> { static __device__ zf_f16 from(float x) { return zf_to_f16(x); } };
template <> struct convert<float> { static __device__ float from(double x) { return (float)x; } };
template <> struct convert<double> { static __device__ double from(double x) { return x; } };

template <class A, class B> struct same { static constexpr bool value = false; };
template <class A> struct same<A, A> { static constexpr bool value = true; };
}  // namespace zf
