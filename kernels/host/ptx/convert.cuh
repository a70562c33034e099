#pragma once

struct zf_bf16 { uint16_t bits; };
struct zf_f16 { uint16_t bits; };

namespace ptx {

static inline zf_bf16 cvt_rn_bf16_f32(float x) {
    const uint32_t u = zf_host::bits<uint32_t>(x);
    if (x != x) return {0x7fff};
    return {(uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

static inline zf_f16 cvt_rn_f16_f32(float x) { return {zf_host::bits<uint16_t>((_Float16)x)}; }

static inline float cvt_f32_f16(zf_f16 x) { return (float)zf_host::bits<_Float16>(x.bits); }

static inline uint32_t cvt_rna_tf32_f32(float x) {
    const uint32_t u = zf_host::bits<uint32_t>(x);
    if (x - x != 0.0f) return u;
    return (u + 0x1000u) & ~0x1fffu;
}

}  // namespace ptx
