// f32 numbers as sums of tf32 terms.
//
// The tensor core reads the upper 19 bits of an f32 and ignores the rest (PTX ISA 9.7.16.5.2), so the first term of
// x is x itself, and the next term is what the tensor core did not see. Products of terms i and j are 2^-10(i + j) of
// the whole; those with i + j < TERMS are added:
//
//     TERMS 1    1 product     tf32: 10 bits of fraction
//     TERMS 2    3 products    f32's accuracy for sums of some hundred products (Ootomo and Yokota, "Recovering single
//                              precision accuracy from Tensor Cores", 2022)
//     TERMS 3    6 products    every bit of f32
//
// Terms have the sign of x and are zero only if x is: all products of an infinity are then the same infinity, and
// infinity minus infinity comes from the data alone.
#pragma once

namespace zf {

// What is left of x after the term that the tensor core sees in it. 2^-30 of x more keep it from being zero; that is
// below the last bit of f32.
ZF_INLINE float tf32_rest(float x) {
    const float seen = __uint_as_float(__float_as_uint(x) & 0xffffe000u);
    const float rest = fmaf(x, 0x1p-30f, x - seen);
    return fabsf(x) == ZF_INF ? x : rest;
}

// Term 1 is the last of two: rounded, where the tensor core would cut. It has 13 bits and keeps 11.
template <int TERMS> ZF_INLINE float tf32_term1(float x) {
    const float rest = tf32_rest(x);
    return TERMS == 2 ? __uint_as_float(ptx::cvt_rna_tf32_f32(rest)) : rest;
}

}  // namespace zf
