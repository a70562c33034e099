// Operands of mma.sync out of shared memory, for 16-bit floats and for f32 as three tf32 products.
#pragma once

namespace zf {

// What one 16 x 8 product step of a type takes: K elements, registers of A and B.
template <class S> struct Mma {  // 16-bit
    static constexpr int K = 16;
    struct A { uint32_t r[4]; };
    struct B { uint32_t r[2]; };

    // 16 rows x K of a row-major tile.
    static __device__ __forceinline__ void load_a(A &a, const S *tile, int pitch) {
        const int lane = threadIdx.x % 32;
        ptx::ldmatrix_x4(a.r, tile + lane % 16 * pitch + lane / 16 * 8);
    }

    // Two neighbouring 8-column operands from [n][k] rows.
    static __device__ __forceinline__ void load_b2_nk(B (&b)[2], const S *tile, int pitch) {
        const int lane = threadIdx.x % 32;
        uint32_t r[4];
        ptx::ldmatrix_x4(r, tile + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8);
        b[0].r[0] = r[0]; b[0].r[1] = r[1]; b[1].r[0] = r[2]; b[1].r[1] = r[3];
    }

    // The same from [k][n] rows.
    static __device__ __forceinline__ void load_b2_kn(B (&b)[2], const S *tile, int pitch) {
        const int lane = threadIdx.x % 32;
        uint32_t r[4];
        ptx::ldmatrix_x4_trans(r, tile + lane % 16 * pitch + lane / 16 * 8);
        b[0].r[0] = r[0]; b[0].r[1] = r[1]; b[1].r[0] = r[2]; b[1].r[1] = r[3];
    }

    static __device__ __forceinline__ void mma(float (&d)[4], const A &a, const B &b) {
        ptx::mma_m16n8k16(S{}, d, a.r, b.r);
    }
};

// f32: x = big + small with both in tf32; the product of the smalls is below f32's last bit.
// (The 3xTF32 scheme of Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores", 2022.)
struct Split { uint32_t big, small; };
ZF_INLINE Split split(float x) {
    Split s;
    s.big = ptx::cvt_rna_tf32_f32(x);
    const float rest = x - __uint_as_float(s.big);
    // Infinity minus itself would spoil the product.
    s.small = ptx::cvt_rna_tf32_f32(rest == rest ? rest : 0.0f);
    return s;
}

template <> struct Mma<float> {
    static constexpr int K = 8;
    struct A { uint32_t big[4], small[4]; };
    struct B { uint32_t big[2], small[2]; };

    static __device__ __forceinline__ void put(uint32_t &big, uint32_t &small, float x) {
        const Split s = split(x);
        big = s.big;
        small = s.small;
    }

    static __device__ __forceinline__ void load_a(A &a, const float *tile, int pitch) {
        const int lane = threadIdx.x % 32;
        const float *const p = tile + lane / 4 * pitch + lane % 4;
        put(a.big[0], a.small[0], p[0]);
        put(a.big[1], a.small[1], p[8 * pitch]);
        put(a.big[2], a.small[2], p[4]);
        put(a.big[3], a.small[3], p[8 * pitch + 4]);
    }

    static __device__ __forceinline__ void load_b2_nk(B (&b)[2], const float *tile, int pitch) {
        const int lane = threadIdx.x % 32;
        for (int i = 0; i < 2; ++i) {
            const float *const p = tile + (i * 8 + lane / 4) * pitch + lane % 4;
            put(b[i].big[0], b[i].small[0], p[0]);
            put(b[i].big[1], b[i].small[1], p[4]);
        }
    }

    static __device__ __forceinline__ void load_b2_kn(B (&b)[2], const float *tile, int pitch) {
        const int lane = threadIdx.x % 32;
        for (int i = 0; i < 2; ++i) {
            const float *const p = tile + lane % 4 * pitch + i * 8 + lane / 4;
            put(b[i].big[0], b[i].small[0], p[0]);
            put(b[i].big[1], b[i].small[1], p[4 * pitch]);
        }
    }

    static __device__ __forceinline__ void mma(float (&d)[4], const A &a, const B &b) {
        ptx::mma_m16n8k8_tf32(d, a.small, b.big);
        ptx::mma_m16n8k8_tf32(d, a.big, b.small);
        ptx::mma_m16n8k8_tf32(d, a.big, b.big);
    }
};

}  // namespace zf
