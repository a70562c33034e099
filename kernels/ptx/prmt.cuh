// prmt (PTX ISA 9.7.9.7): four bytes out of eight.
#pragma once

namespace ptx {

// Nibble i of the selector is the number of byte i of the result: 0 to 3 of a, 4 to 7 of b.
static __device__ __forceinline__ uint32_t prmt_b32(uint32_t a, uint32_t b, uint32_t selector) {
    uint32_t r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
    return r;
}

}  // namespace ptx
