/* Integer arithmetic with the graph's exact meaning, for every target. Needs ZF_INLINE and the fixed-width
 * types. Division by zero gives 0, overflow wraps, float to integer saturates. */
#ifndef ZEROFORGE_INTEGER_H
#define ZEROFORGE_INTEGER_H

#define ZF_INT_OPS(T, U, S)                                                                         \
    ZF_INLINE T zf_floordiv_##S(T a, T b) {                                                         \
        if (b == 0) return 0;                                                                       \
        if (b == -1) return (T)(0 - (U)a);                                                          \
        T q = a / b;                                                                                \
        return q - ((a % b != 0) & ((a < 0) != (b < 0)));                                           \
    }                                                                                               \
    ZF_INLINE T zf_truncdiv_##S(T a, T b) {                                                         \
        return b == 0 ? 0 : (b == -1 ? (T)(0 - (U)a) : a / b);                                      \
    }                                                                                               \
    ZF_INLINE T zf_fmod_##S(T a, T b) { return b == 0 || b == -1 ? 0 : a % b; }                     \
    ZF_INLINE T zf_rem_##S(T a, T b) {                                                              \
        T r = zf_fmod_##S(a, b);                                                                    \
        return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;                                          \
    }                                                                                               \
    ZF_INLINE T zf_pow_##S(T a, T e) {                                                              \
        if (e < 0) return a == 1 ? 1 : (a == -1 ? (e & 1 ? -1 : 1) : 0);                            \
        U r = 1, x = (U)a;                                                                          \
        for (; e; e >>= 1) { if (e & 1) r *= x; x *= x; }                                           \
        return (T)r;                                                                                \
    }                                                                                               \
    ZF_INLINE T zf_shl_##S(T a, T b) { return b < 0 || b >= (T)(8 * sizeof(T)) ? 0 : (T)((U)a << b); } \
    ZF_INLINE T zf_shr_##S(T a, T b) {                                                              \
        return b < 0 || b >= (T)(8 * sizeof(T)) ? (a < 0 ? -1 : 0) : a >> b;                        \
    }
ZF_INT_OPS(int32_t, uint32_t, i32)
ZF_INT_OPS(int64_t, uint64_t, i64)

/* Float to integer: truncates and saturates, NaN gives 0. */
ZF_INLINE int32_t zf_f32_to_i32(float x) {
    return x != x ? 0 : (x >= 2147483648.0f ? INT32_MAX : (x <= -2147483648.0f ? INT32_MIN : (int32_t)x));
}
ZF_INLINE int64_t zf_f32_to_i64(float x) {
    return x != x ? 0 : (x >= 9223372036854775808.0f ? INT64_MAX
        : (x <= -9223372036854775808.0f ? INT64_MIN : (int64_t)x));
}
ZF_INLINE int32_t zf_f64_to_i32(double x) {
    return x != x ? 0 : (x >= 2147483647.0 ? INT32_MAX : (x <= -2147483648.0 ? INT32_MIN : (int32_t)x));
}
ZF_INLINE int64_t zf_f64_to_i64(double x) {
    return x != x ? 0 : (x >= 9223372036854775808.0 ? INT64_MAX
        : (x <= -9223372036854775808.0 ? INT64_MIN : (int64_t)x));
}

#endif
