// wgmma (PTX ISA 9.7.16): D = A * B + D by a warpgroup, asynchronous.
//
// D is 64 x N. Of thread t of the warpgroup, with w = t / 32, g = t % 32 / 4, q = t % 4, register 4 * j + e is
// D[16 * w + g + (e / 2) * 8][8 * j + 2 * q + e % 2]. A comes from shared memory (`ss`) or registers (`rs`), B
// from shared memory. An instance declares the products that it uses, once each, at file scope:
//
//     ZF_WGMMA_16BIT(bf16, 128)   // ptx::Wgmma<zf_bf16, 128>
//     ZF_WGMMA_TF32(64)           // ptx::Wgmma<zf_tf32, 64>
//     ZF_WGMMA_FP8(e4m3, 224)     // ptx::Wgmma<zf_e4m3, 224>
//     ZF_WGMMA_S8(128)            // ptx::Wgmma<int8_t, 128>
//
// so that a kernel is compiled with these and no others.
#pragma once

#include "ptx/wgmma_operands.cuh"

struct zf_tf32 { float value; };
struct zf_e4m3 { uint8_t bits; };
struct zf_e5m2 { uint8_t bits; };

namespace ptx {

// A warpgroup's registers and shared memory are in order for the products that follow.
static __device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

static __device__ __forceinline__ void wgmma_commit_group() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most N of the latest groups are pending.
template <int N> static __device__ __forceinline__ void wgmma_wait_group() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(N) : "memory");
}

// Keeps the compiler from moving accesses to registers of a product past this point.
template <int N> static __device__ __forceinline__ void keep(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i]) :: "memory");
}
template <int N> static __device__ __forceinline__ void keep(int32_t (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+r"(d[i]) :: "memory");
}
template <int N> static __device__ __forceinline__ void keep(uint32_t (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+r"(d[i]) :: "memory");
}

// `ss`: a and b are descriptors (tile/shared.cuh). `rs`: a is registers; a[2 * i + h] holds columns of K from
// 8 * i (16-bit types; 4 of tf32, 16 of 8-bit types), row g + 8 * h: the layout of D. `scale_d` 0 clears D
// first. TRANS_A, TRANS_B 1: the operand lies MN-major (16-bit types only).
template <class T, int N> struct Wgmma;

}  // namespace ptx

#define ZF_WGMMA_F(x) "+f"(x)
#define ZF_WGMMA_R(x) "+r"(x)
#define ZF_WGMMA_CALL(MACRO, ...) MACRO(__VA_ARGS__)

// 16-bit floats: K = 16, either operand in either order.
#define ZF_WGMMA_16BIT(T, N) ZF_WGMMA_CALL(ZF_WGMMA_16BIT_, T, N, ZF_WGMMA_D_##N, ZF_WGMMA_REGISTERS_##N, ZF_WGMMA_INPUTS_##N)
#define ZF_WGMMA_16BIT_(T, N, D, REGISTERS, I0, I1, I2, I3, I4, I5, I6)                                                  \
    template <> struct ptx::Wgmma<zf_##T, N> {                                                                           \
        static constexpr int K = 16;                                                                                     \
        template <int TRANS_A, int TRANS_B>                                                                              \
        static __device__ __forceinline__ void ss(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d) {              \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " I2 ", 0;\n"                                                 \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #T "." #T " {" D "}, " I0 ", " I1             \
                         ", p, 1, 1, " I3 ", " I4 ";\n}"                                                                 \
                         : REGISTERS(ZF_WGMMA_F, d)                                                                      \
                         : "l"(a), "l"(b), "r"(scale_d), "n"(TRANS_A), "n"(TRANS_B));                                    \
        }                                                                                                                \
        template <int TRANS_B>                                                                                           \
        static __device__ __forceinline__ void rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d) {  \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " I5 ", 0;\n"                                                 \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #T "." #T " {" D "}, {" I0 ", " I1 ", " I2    \
                         ", " I3 "}, " I4 ", p, 1, 1, " I6 ";\n}"                                                        \
                         : REGISTERS(ZF_WGMMA_F, d)                                                                      \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d), "n"(TRANS_B));              \
        }                                                                                                                \
    };

// Everything else: both operands K-major.
#define ZF_WGMMA_K_MAJOR_(T, DEPTH, SHAPE, TYPES, ACC, CONSTRAINT, SCALES, N, D, REGISTERS, I0, I1, I2, I3, I4, I5, I6)  \
    template <> struct ptx::Wgmma<T, N> {                                                                                \
        static constexpr int K = DEPTH;                                                                                  \
        static __device__ __forceinline__ void ss(ACC (&d)[N / 2], uint64_t a, uint64_t b, int scale_d) {                \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " I2 ", 0;\n"                                                 \
                         "wgmma.mma_async.sync.aligned." SHAPE TYPES " {" D "}, " I0 ", " I1 ", p" SCALES ";\n}"         \
                         : REGISTERS(CONSTRAINT, d)                                                                      \
                         : "l"(a), "l"(b), "r"(scale_d));                                                                \
        }                                                                                                                \
        static __device__ __forceinline__ void rs(ACC (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d) {    \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " I5 ", 0;\n"                                                 \
                         "wgmma.mma_async.sync.aligned." SHAPE TYPES " {" D "}, {" I0 ", " I1 ", " I2 ", " I3 "}, " I4   \
                         ", p" SCALES ";\n}"                                                                             \
                         : REGISTERS(CONSTRAINT, d)                                                                      \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d));                            \
        }                                                                                                                \
    };

// tf32: the low 13 bits of an f32 in shared memory or a register are not looked at.
#define ZF_WGMMA_TF32(N)                                                                                                 \
    ZF_WGMMA_CALL(ZF_WGMMA_K_MAJOR_, zf_tf32, 8, "m64n" #N "k8", ".f32.tf32.tf32", float, ZF_WGMMA_F, ", 1, 1", N,       \
                  ZF_WGMMA_D_##N, ZF_WGMMA_REGISTERS_##N, ZF_WGMMA_INPUTS_##N)
// 8-bit floats.
#define ZF_WGMMA_FP8(T, N)                                                                                               \
    ZF_WGMMA_CALL(ZF_WGMMA_K_MAJOR_, zf_##T, 32, "m64n" #N "k32", ".f32." #T "." #T, float, ZF_WGMMA_F, ", 1, 1", N,     \
                  ZF_WGMMA_D_##N, ZF_WGMMA_REGISTERS_##N, ZF_WGMMA_INPUTS_##N)
// 8-bit integers; N is a multiple of 16 or 8 or 24.
#define ZF_WGMMA_S8(N)                                                                                                   \
    ZF_WGMMA_CALL(ZF_WGMMA_K_MAJOR_, int8_t, 32, "m64n" #N "k32", ".s32.s8.s8", int32_t, ZF_WGMMA_R, "", N,              \
                  ZF_WGMMA_D_##N, ZF_WGMMA_REGISTERS_##N, ZF_WGMMA_INPUTS_##N)
