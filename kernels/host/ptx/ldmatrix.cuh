#pragma once

namespace ptx {

template <bool TRANS> static inline void load_matrices(uint32_t (&r)[4], const void *row) {
    const unsigned lane = threadIdx.x % 32;
    std::memcpy(zf_host::exchange(lane), &row, sizeof row);
    zf_host::warp_barrier();
    for (unsigned i = 0; i < 4; ++i) {
        uint16_t pair[2];
        for (unsigned e = 0; e < 2; ++e) {
            const unsigned from = TRANS ? 2 * (lane % 4) + e : lane / 4;
            const unsigned column = TRANS ? lane / 4 : 2 * (lane % 4) + e;
            const uint16_t *p;
            std::memcpy(&p, zf_host::exchange(i * 8 + from), sizeof p);
            if ((uintptr_t)p % 16) __builtin_trap();  // A row is 16-byte aligned.
            pair[e] = p[column];
        }
        r[i] = (uint32_t)pair[0] | (uint32_t)pair[1] << 16;
    }
    zf_host::warp_barrier();
}

static inline void ldmatrix_x4(uint32_t (&r)[4], const void *row) { load_matrices<false>(r, row); }
static inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) { load_matrices<true>(r, row); }

}  // namespace ptx
