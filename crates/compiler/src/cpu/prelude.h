/* Shared by every generated CPU kernel: freestanding C11 with GNU extensions, no libc, no libm.
 * Scalar functions are branch free so that the compiler vectorises the loops they are used in.
 * Error bounds are against the correctly rounded result, measured over all finite inputs. */
#include <stdint.h>

typedef uint16_t zf_bf16;
typedef _Float16 zf_f16;

#define ZF_INLINE static inline __attribute__((always_inline))
#define ZF_ENTRY __attribute__((visibility("default")))
#define ZF_INF __builtin_inff()
#define ZF_NAN __builtin_nanf("")

/* ---- bits ------------------------------------------------------------------------------------ */
ZF_INLINE uint32_t zf_bits(float x) { union { float f; uint32_t u; } v = { x }; return v.u; }
ZF_INLINE float zf_float(uint32_t u) { union { uint32_t u; float f; } v = { u }; return v.f; }
ZF_INLINE uint64_t zf_bits64(double x) { union { double f; uint64_t u; } v = { x }; return v.u; }
ZF_INLINE double zf_double(uint64_t u) { union { uint64_t u; double f; } v = { u }; return v.f; }

ZF_INLINE float zf_from_bf16(zf_bf16 x) { return zf_float((uint32_t)x << 16); }
/* Round to nearest even; NaN stays NaN. */
ZF_INLINE zf_bf16 zf_to_bf16(float x) {
    uint32_t u = zf_bits(x);
    uint32_t r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (zf_bf16)(x != x ? ((u >> 16) | 0x40u) : r);
}
ZF_INLINE float zf_from_f16(zf_f16 x) { return (float)x; }
ZF_INLINE zf_f16 zf_to_f16(float x) { return (zf_f16)x; }
ZF_INLINE float zf_round_bf16(float x) { return zf_from_bf16(zf_to_bf16(x)); }
ZF_INLINE float zf_round_f16(float x) { return zf_from_f16(zf_to_f16(x)); }

/* ---- rounding -------------------------------------------------------------------------------- */
ZF_INLINE float zf_fabsf(float x) { return __builtin_fabsf(x); }
ZF_INLINE double zf_fabs(double x) { return __builtin_fabs(x); }
ZF_INLINE float zf_floorf(float x) { return __builtin_floorf(x); }
ZF_INLINE float zf_ceilf(float x) { return __builtin_ceilf(x); }
ZF_INLINE float zf_truncf(float x) { return __builtin_truncf(x); }
ZF_INLINE float zf_roundf(float x) { return __builtin_rintf(x); }
ZF_INLINE double zf_floor(double x) { return __builtin_floor(x); }
ZF_INLINE double zf_ceil(double x) { return __builtin_ceil(x); }
ZF_INLINE double zf_trunc(double x) { return __builtin_trunc(x); }
ZF_INLINE double zf_round(double x) { return __builtin_rint(x); }

/* ---- exponential and logarithm (f32) --------------------------------------------------------- */
/* exp: argument reduced by ln 2 in two parts, degree-6 polynomial; below 1.5 ulp. */
ZF_INLINE float zf_expf(float x) {
    float c = x < -104.0f ? -104.0f : x;
    c = c > 89.0f ? 89.0f : c;
    float n = zf_roundf(c * 1.44269504088896341f);
    float r = c - n * 0.693145751953125f;
    r = r - n * 1.42860682030941723212e-6f;
    float p = 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    /* Scaled in two steps so that subnormal results round once and 2^128 is reached. */
    int32_t k = (int32_t)n, half = k >> 1;
    float y = p * zf_float((uint32_t)(half + 127) << 23) * zf_float((uint32_t)(k - half + 127) << 23);
    return x != x ? x : y;
}
/* log: mantissa in [sqrt(1/2), sqrt 2), degree-8 polynomial; below 2 ulp. */
ZF_INLINE float zf_logf(float x) {
    float scaled = x < 1.17549435e-38f ? x * 8388608.0f : x;
    float bias = x < 1.17549435e-38f ? -23.0f : 0.0f;
    uint32_t u = zf_bits(scaled);
    int32_t e = (int32_t)(u - 0x3f3504f3u) >> 23;
    float m = zf_float(u - ((uint32_t)e << 23)) - 1.0f;
    float z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float f = (float)e + bias;
    float y = p * m * z + f * -2.12194440e-4f - 0.5f * z;
    y = m + y + f * 0.693359375f;
    y = x == ZF_INF ? ZF_INF : y;
    y = x == 0.0f ? -ZF_INF : y;
    return x < 0.0f ? ZF_NAN : (x != x ? x : y);
}
ZF_INLINE float zf_expm1f(float x) {
    /* Small arguments by series, the rest by exp. */
    float small = x * (1.0f + x * (0.5f + x * (1.6666667e-1f + x * (4.1666668e-2f + x * 8.3333333e-3f))));
    float a = x < 0.0f ? -x : x;
    return a < 0.25f ? small : zf_expf(x) - 1.0f;
}
ZF_INLINE float zf_log1pf(float x) {
    float u = 1.0f + x;
    float y = zf_logf(u);
    /* Kahan's correction for the rounding of 1 + x. */
    float d = u - 1.0f;
    float corrected = d == 0.0f ? x : y * (x / d);
    return u == ZF_INF || x <= -1.0f ? y : corrected;
}
ZF_INLINE float zf_sqrtf(float x) { return __builtin_sqrtf(x); }
ZF_INLINE float zf_rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }

/* ---- activations (f32) ----------------------------------------------------------------------- */
ZF_INLINE float zf_sigmoidf(float x) { return 1.0f / (1.0f + zf_expf(-x)); }
/* tanh: odd polynomial below 0.625, exponential above; below 2 ulp. */
ZF_INLINE float zf_tanhf(float x) {
    float a = x < 0.0f ? -x : x;
    float z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    float small = p * z * x + x;
    float t = 1.0f - 2.0f / (zf_expf(2.0f * a) + 1.0f);
    float large = x < 0.0f ? -t : t;
    float y = a < 0.625f ? small : large;
    return x != x ? x : y;
}
/* erf: odd polynomial below 1, 1 - exp(-x^2) P(1/x^2) / x above; below 3 ulp. */
ZF_INLINE float zf_erff(float x) {
    float a = x < 0.0f ? -x : x;
    float z = x * x;
    float q = 7.853861353153693e-5f;
    q = q * z - 8.010193625184903e-4f;
    q = q * z + 5.188327685732524e-3f;
    q = q * z - 2.685381193529856e-2f;
    q = q * z + 1.128358514861418e-1f;
    q = q * z - 3.761262582423300e-1f;
    q = q * z + 1.128379165726710f;
    float small = q * x;
    /* erfc(a) = exp(-a^2) * P(1/a); two ranges of a. */
    float c = a > 10.0f ? 10.0f : a;
    float i = 1.0f / (c < 0.5f ? 0.5f : c);
    float w = i * i;
    float l = 2.326819970068386e-2f;
    l = l * w - 1.387039388740657e-1f;
    l = l * w + 3.687424674597105e-1f;
    l = l * w - 5.824733027278666e-1f;
    l = l * w + 6.210004621745983e-1f;
    l = l * w - 4.944515323274145e-1f;
    l = l * w + 3.404879937665872e-1f;
    l = l * w - 2.741127028184656e-1f;
    l = l * w + 5.638259427386472e-1f;
    float h = -1.047766399936249e1f;
    h = h * w + 1.297719955372516e1f;
    h = h * w - 7.495518717768503e0f;
    h = h * w + 2.921019019210786e0f;
    h = h * w - 1.015265279202700e0f;
    h = h * w + 4.218463358204948e-1f;
    h = h * w - 2.820767439740514e-1f;
    h = h * w + 5.641895067754075e-1f;
    float tail = zf_expf(-c * c) * i * (c < 2.0f ? l : h);
    float t = 1.0f - tail;
    float large = x < 0.0f ? -t : t;
    float y = a < 1.0f ? small : large;
    return x != x ? x : y;
}
ZF_INLINE float zf_geluf(float x) { return 0.5f * x * (1.0f + zf_erff(x * 0.70710678118654752f)); }
ZF_INLINE float zf_gelu_tanhf(float x) {
    return 0.5f * x * (1.0f + zf_tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}
ZF_INLINE float zf_siluf(float x) { return x / (1.0f + zf_expf(-x)); }

/* ---- trigonometry (f32) ---------------------------------------------------------------------- */
/* Reduction by pi/2 in f64: exact enough for |x| < 2^28; larger arguments lose accuracy. */
ZF_INLINE float zf_sincosf(float x, int32_t shift) {
    double d = (double)x;
    double n = __builtin_rint(d * 0.63661977236758134308);
    double r = d - n * 1.57079632679489661923;
    r = r - n * 6.123233995736766e-17;
    int64_t q = (int64_t)n + shift;
    float y = (float)r, z = y * y;
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * y + y;
    float c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z
        - 0.5f * z + 1.0f;
    float v = (q & 1) ? c : s;
    v = (q & 2) ? -v : v;
    return x - x == 0.0f ? v : ZF_NAN;
}
ZF_INLINE float zf_sinf(float x) { return zf_sincosf(x, 0); }
ZF_INLINE float zf_cosf(float x) { return zf_sincosf(x, 1); }
ZF_INLINE float zf_atan_unit(float t) {
    float z = t * t;
    float p = 2.78569828e-3f;
    p = p * z - 1.58660226e-2f;
    p = p * z + 4.24722321e-2f;
    p = p * z - 7.49753043e-2f;
    p = p * z + 1.06448799e-1f;
    p = p * z - 1.42070308e-1f;
    p = p * z + 1.99934542e-1f;
    p = p * z - 3.33331466e-1f;
    return p * z * t + t;
}
ZF_INLINE float zf_atan2f(float y, float x) {
    float ax = x < 0.0f ? -x : x, ay = y < 0.0f ? -y : y;
    float lo = ax < ay ? ax : ay, hi = ax < ay ? ay : ax;
    float t = hi == 0.0f ? 0.0f : (lo == hi ? 1.0f : lo / hi);
    float a = zf_atan_unit(t);
    a = ay > ax ? 1.57079632679489662f - a : a;
    a = (zf_bits(x) >> 31) ? 3.14159265358979324f - a : a;
    a = (zf_bits(y) >> 31) ? -a : a;
    return x != x ? x : (y != y ? y : a);
}
/* pow: exp(y log x) with log in f64, so that large exponents keep their digits. */
ZF_INLINE double zf_log(double x);
ZF_INLINE double zf_exp(double x);
ZF_INLINE double zf_pow(double x, double y);
ZF_INLINE float zf_powf(float x, float y) { return (float)zf_pow((double)x, (double)y); }

/* ---- f64 ------------------------------------------------------------------------------------- */
ZF_INLINE double zf_exp(double x) {
    double c = x < -745.2 ? -745.2 : x;
    c = c > 709.8 ? 709.8 : c;
    double n = zf_round(c * 1.4426950408889634074);
    double r = c - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    int64_t k = (int64_t)n, half = k >> 1;
    double y = p * zf_double((uint64_t)(half + 1023) << 52) * zf_double((uint64_t)(k - half + 1023) << 52);
    y = x > 709.79 ? (double)ZF_INF : y;
    return x != x ? x : y;
}
ZF_INLINE double zf_log(double x) {
    double scaled = x < 2.2250738585072014e-308 ? x * 18014398509481984.0 : x;
    double bias = x < 2.2250738585072014e-308 ? -54.0 : 0.0;
    uint64_t u = zf_bits64(scaled);
    int64_t e = (int64_t)(u - 0x3fe6a09e667f3bcdull) >> 52;
    double m = zf_double(u - ((uint64_t)e << 52));
    /* log m = 2 atanh((m - 1) / (m + 1)). */
    double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 21.0;
    p = p * z + 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    double f = (double)e + bias;
    double y = f * 6.93147180369123816490e-01 + (2.0 * s + (2.0 * s * z * p + f * 1.90821492927058770002e-10));
    y = x == (double)ZF_INF ? (double)ZF_INF : y;
    y = x == 0.0 ? -(double)ZF_INF : y;
    return x < 0.0 ? (double)ZF_NAN : (x != x ? x : y);
}
ZF_INLINE double zf_pow(double x, double y) {
    double a = x < 0.0 ? -x : x;
    double whole = zf_trunc(y);
    double odd = whole - 2.0 * zf_floor(whole * 0.5);
    double r = zf_exp(y * zf_log(a));
    r = (x < 0.0 && odd != 0.0) ? -r : r;
    r = (x < 0.0 && whole != y) ? (double)ZF_NAN : r;
    r = a == 1.0 && x > 0.0 ? 1.0 : r;
    r = a == 0.0 ? (y > 0.0 ? 0.0 : (double)ZF_INF) : r;
    r = (x != x || y != y) ? (double)ZF_NAN : r;
    return (y == 0.0 || x == 1.0) ? 1.0 : r;
}
ZF_INLINE double zf_expm1(double x) {
    double a = x < 0.0 ? -x : x;
    double s = x * (1.0 + x * (0.5 + x * (1.0 / 6 + x * (1.0 / 24 + x * (1.0 / 120 + x * (1.0 / 720 + x / 5040))))));
    return a < 0.01 ? s : zf_exp(x) - 1.0;
}
ZF_INLINE double zf_log1p(double x) {
    double u = 1.0 + x, d = u - 1.0, y = zf_log(u);
    return (u == (double)ZF_INF || x <= -1.0) ? y : (d == 0.0 ? x : y * (x / d));
}
ZF_INLINE double zf_sqrt(double x) { return __builtin_sqrt(x); }
ZF_INLINE double zf_rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
ZF_INLINE double zf_sigmoid(double x) { return 1.0 / (1.0 + zf_exp(-x)); }
ZF_INLINE double zf_silu(double x) { return x / (1.0 + zf_exp(-x)); }
ZF_INLINE double zf_tanh(double x) {
    double a = x < 0.0 ? -x : x;
    double e = zf_expm1(-2.0 * (a > 40.0 ? 40.0 : a));
    double t = -e / (2.0 + e);
    return x != x ? x : (x < 0.0 ? -t : t);
}
/* erf by its Taylor series below 3 and the continued fraction of erfc above. */
ZF_INLINE double zf_erf(double x) {
    double a = x < 0.0 ? -x : x, z = a * a;
    double term = a, sum = a;
    for (int n = 1; n < 60; ++n) { term = -term * z / (double)n; sum = sum + term / (double)(2 * n + 1); }
    double small = sum * 1.1283791670955125739;
    double c = a > 27.0 ? 27.0 : (a < 1.0 ? 1.0 : a), f = c;
    for (int n = 60; n > 0; --n) { f = c + 0.5 * (double)n / f; }
    double t = 1.0 - zf_exp(-c * c) / (f * 1.7724538509055160273);
    double y = a < 2.5 ? small : t;
    return x != x ? x : (x < 0.0 ? -y : y);
}
ZF_INLINE double zf_gelu(double x) { return 0.5 * x * (1.0 + zf_erf(x * 0.70710678118654752440)); }
ZF_INLINE double zf_gelu_tanh(double x) {
    return 0.5 * x * (1.0 + zf_tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}
ZF_INLINE double zf_sincos(double x, int64_t shift) {
    double n = zf_round(x * 0.63661977236758134308);
    double r = x - n * 1.57079632679489655800;
    r = r - n * 6.12323399573676603587e-17;
    double z = r * r, s = 1.0, c = 1.0;
    for (int i = 13; i >= 1; --i) {
        s = 1.0 - s * z / (double)((2 * i) * (2 * i + 1));
        c = 1.0 - c * z / (double)((2 * i - 1) * (2 * i));
    }
    int64_t q = (int64_t)n + shift;
    double v = (q & 1) ? c : s * r;
    return x - x == 0.0 ? ((q & 2) ? -v : v) : (double)ZF_NAN;
}
ZF_INLINE double zf_sin(double x) { return zf_sincos(x, 0); }
ZF_INLINE double zf_cos(double x) { return zf_sincos(x, 1); }
ZF_INLINE double zf_atan2(double y, double x) {
    /* Newton steps on the f32 result: t' = t + (y cos t - x sin t) / r. */
    double t = (double)zf_atan2f((float)y, (float)x);
    double r = zf_sqrt(x * x + y * y);
    for (int i = 0; i < 2; ++i) { t = r == 0.0 ? t : t + (y * zf_cos(t) - x * zf_sin(t)) / r; }
    return t;
}
