// Tiles in shared memory as wgmma reads them and tensor copies write them: rows of 128 bytes whose 16-byte units
// are exchanged by the row's number (swizzle; PTX ISA 9.7.16.5.1.1, "Shared Memory Matrix Layout").
//
// A tile is COLUMNS bytes / 128 panels, each ROWS rows of 128 bytes, 1024-byte aligned: one box of a tensor map
// with 128-byte swizzle is one panel.
#pragma once

#include "ptx/address.cuh"

namespace zf {

constexpr int SWIZZLE_BYTES = 128;

// Descriptor of a 128-byte swizzled operand: address, leading and stride offsets in bytes.
ZF_INLINE uint64_t shared_descriptor(uint32_t address, uint32_t leading, uint32_t stride) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(leading >> 4) << 16 | (uint64_t)(stride >> 4) << 32 | 1ull << 62;
}

// Operand whose rows (of M or N) are contiguous along K: `panel` is a panel's address plus the byte offset of the
// first k in the row (a multiple of 32). Groups of 8 rows are 1024 bytes apart; the leading offset is not used.
ZF_INLINE uint64_t k_major_descriptor(uint32_t panel) { return shared_descriptor(panel, 16, 1024); }

// Operand that is contiguous along M or N: rows are k. `panel` is the address of the first k row (a multiple of 8
// rows); `panel_bytes` from one 64-column panel to the next.
ZF_INLINE uint64_t mn_major_descriptor(uint32_t panel, uint32_t panel_bytes) {
    return shared_descriptor(panel, panel_bytes, 1024);
}

// The descriptor of an operand `bytes` further on (a multiple of 16): what a loop over products adds to one
// descriptor, so that the rest of it is made once.
ZF_INLINE uint64_t descriptor_plus(uint64_t descriptor, uint32_t bytes) {
    return descriptor & 0xffffffff00000000ull | (uint32_t)descriptor + bytes / 16;
}

// Byte offset of a byte of a panel after the swizzle.
ZF_INLINE uint32_t swizzled(uint32_t row, uint32_t byte) {
    return row * SWIZZLE_BYTES + (byte ^ (row % 8) * 16);
}

}  // namespace zf
