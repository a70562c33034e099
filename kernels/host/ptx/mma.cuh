#pragma once

namespace ptx {

struct MmaOperands { uint32_t a[4], b[2]; };

static inline float half_of(zf_bf16, uint32_t pair, unsigned e) { return zf_host::bits<float>((pair >> (16 * e)) << 16); }
static inline float half_of(zf_f16, uint32_t pair, unsigned e) { return cvt_f32_f16({(uint16_t)(pair >> (16 * e))}); }

// Publishes the operands, then `product(lane_a, lane_b)` adds one lane's share of the contraction.
template <class Share>
static inline void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Share &share) {
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    MmaOperands own;
    std::memcpy(own.a, a, sizeof a);
    std::memcpy(own.b, b, sizeof b);
    std::memcpy(zf_host::exchange(lane), &own, sizeof own);
    zf_host::warp_barrier();
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = g, high = i / 2, column = 2 * t + i % 2;
        for (unsigned q = 0; q < 4; ++q) {
            MmaOperands of_row, of_column;
            std::memcpy(&of_row, zf_host::exchange(row * 4 + q), sizeof of_row);
            std::memcpy(&of_column, zf_host::exchange(column * 4 + q), sizeof of_column);
            d[i] += share(of_row, of_column, high);
        }
    }
    zf_host::warp_barrier();
}

template <class T> static inline void mma_m16n8k16(T type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma(d, a, b, [&](const MmaOperands &r, const MmaOperands &c, unsigned high) {
        float sum = 0.0f;
        for (unsigned k = 0; k < 2; ++k)
            for (unsigned e = 0; e < 2; ++e) sum += half_of(type, r.a[high + 2 * k], e) * half_of(type, c.b[k], e);
        return sum;
    });
}

// The tensor core ignores the low 13 bits of a tf32 operand.
static inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma(d, a, b, [](const MmaOperands &r, const MmaOperands &c, unsigned high) {
        float sum = 0.0f;
        for (unsigned k = 0; k < 2; ++k)
            sum += zf_host::bits<float>(r.a[high + 2 * k] & ~0x1fffu) * zf_host::bits<float>(c.b[k] & ~0x1fffu);
        return sum;
    });
}

}  // namespace ptx
