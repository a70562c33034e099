// Philox 4x32 with 10 rounds: four random words of a counter and a key (Salmon, Moraes, Dror, Shaw: "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include "scalar/device.cuh"

namespace zf {

struct Words4 {
    uint32_t word[4];
};

ZF_INLINE Words4 philox(Words4 c, uint64_t key) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint32_t high0 = __umulhi(0xd2511f53u, c.word[0]), low0 = 0xd2511f53u * c.word[0];
        const uint32_t high1 = __umulhi(0xcd9e8d57u, c.word[2]), low1 = 0xcd9e8d57u * c.word[2];
        c = {{high1 ^ c.word[1] ^ k0, low1, high0 ^ c.word[3] ^ k1, low0}};
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return c;
}

}  // namespace zf
