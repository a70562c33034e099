// f32 numbers as sums of tf32 terms.
//
// The tensor core reads the upper 19 bits of an f32 and ignores the rest (PTX ISA 9.7.16.5.2). Terms go on where those
// before them end; products of terms i and j are about 2^-11(i + j) of the whole, and those with i + j < TERMS are added:
//
//     TERMS 1    1 product     tf32: 10 bits of fraction
//     TERMS 2    3 products    f32's accuracy for sums of some hundred products (Ootomo and Yokota, "Recovering single
//                              precision accuracy from Tensor Cores", 2022)
//     TERMS 3    6 products    every bit of f32
//
// Infinities come out as they do without terms. A's terms, in shared memory, have A's sign and are not zero unless it
// is: times an infinity of B, all terms of which are infinite, they are that infinity. Of an infinity of A only the last
// term is infinite, the others are 1: it meets B's first term only, which is B's sign and size, and never a further
// one, which is a correction of either sign or zero.
//
// The numbers must be above 2^-102: below, the last terms are subnormal and lose bits.
#pragma once

namespace zf {

// What the tensor core sees of x.
ZF_INLINE float tf32_seen(float x) { return __uint_as_float(__float_as_uint(x) & 0xffffe000u); }

// What is left of a finite x of A after what is seen of it. 2^-30 of x more keep it from being zero, which is below
// the last bit of f32.
ZF_INLINE float tf32_rest_of_a(float x) { return fmaf(x, 0x1p-30f, x - tf32_seen(x)); }

// Terms of an element of A from `first`, the element as it was copied. True if `first` changes too.
template <int TERMS> ZF_INLINE bool tf32_terms_of_a(float &first, float (&further)[TERMS - 1]) {
    if (fabsf(first) == ZF_INF) {
        const float sign = copysignf(1.0f, first);
        if constexpr (TERMS == 3) further[0] = sign;
        further[TERMS - 2] = first;
        first = sign;
        return true;
    }
    const float rest = tf32_rest_of_a(first);
    if constexpr (TERMS == 2) {
        // 13 bits, of which the tensor core would cut two: rounded.
        further[0] = __uint_as_float(ptx::cvt_rna_tf32_f32(rest));
    } else {
        further[0] = rest;
        further[1] = tf32_rest_of_a(rest);
    }
    return false;
}

// Terms of an element of B. The first is rounded, so that the second is a correction of either sign: the products
// left out then have no bias.
template <int TERMS> ZF_INLINE void tf32_terms_of_b(float x, float (&term)[TERMS]) {
    term[0] = x;
    if constexpr (TERMS > 1) {
        const float rounded = __uint_as_float(ptx::cvt_rna_tf32_f32(x));
        // The largest numbers would become infinite.
        term[0] = fabsf(rounded) == ZF_INF ? tf32_seen(x) : rounded;
        const bool infinite = fabsf(x) == ZF_INF;
        const float rest = x - term[0];
        // At most one bit more than the tensor core sees, to either side: nothing is gained by rounding.
        term[1] = infinite ? x : rest;
        if constexpr (TERMS == 3) term[2] = infinite ? x : rest - tf32_seen(rest);
    }
}

}  // namespace zf
