// stmatrix (PTX ISA 9.7.15.5.16): four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of
// matrix l / 8, and holds elements 2 * (l % 4) and the next of row l / 4 of each. `trans`: addresses are of columns.
#pragma once

#include "ptx/address.cuh"

namespace ptx {

static __device__ __forceinline__ void stmatrix_x4(uint32_t row, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
                 :: "r"(row), "r"(r0), "r"(r1), "r"(r2), "r"(r3) : "memory");
}

static __device__ __forceinline__ void stmatrix_x4_trans(uint32_t column, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                 :: "r"(column), "r"(r0), "r"(r1), "r"(r2), "r"(r3) : "memory");
}

}  // namespace ptx
