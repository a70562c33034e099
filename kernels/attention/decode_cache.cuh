// Rows of a KV cache, dense or paged, and their way into shared memory.
//
// Rows are named by their place in the sequence. Pages hold multiples of 16 rows and tiles begin at multiples of 16,
// so 16 rows from such a place lie in one page ("a group").
#pragma once

#include "ptx/convert.cuh"
#include "ptx/cp_async.cuh"
#include "tile/shared.cuh"

namespace zf {

constexpr int GROUP_ROWS = 16;

// A sequence of the batch as its block sees it. Every number is within the cache, whatever the tables say.
struct CachedSequence {
    int begin, length;     // Rows that count: begin .. length, those of this step included.
    int filled;            // Rows before this step's.
    int unit;              // In a dense cache.
    const int32_t *pages;  // Of a paged one.
};

ZF_INLINE int clamped(int x, int low, int high) { return min(max(x, low), high); }

template <bool PAGED> ZF_INLINE CachedSequence cached_sequence(const zf_kv_cache &cache, int batch) {
    CachedSequence s;
    const int capacity = (int)cache.capacity;
    s.filled = cache.lengths ? clamped(((const int32_t *)cache.lengths)[batch], 0, capacity) : capacity;
    s.length = min(s.filled + (int)cache.appended, capacity);
    s.unit = batch;
    s.pages = nullptr;
    if constexpr (PAGED) {
        s.pages = (const int32_t *)cache.page_table + batch * cache.table_stride;
    } else if (cache.batch_index) {
        s.unit = ((const int32_t *)cache.batch_index)[batch];
        // A sequence that is nowhere has no rows.
        if ((uint32_t)s.unit >= (uint32_t)cache.units) s.unit = s.length = s.filled = 0;
    }
    s.begin = cache.left_padding ? clamped(((const int32_t *)cache.left_padding)[batch], 0, s.length) : 0;
    return s;
}

// Where a group lies: unit of the cache and row in it. `unit` is negative where the page table names no page.
struct GroupPlace {
    int unit, row;
};

template <bool PAGED> ZF_INLINE GroupPlace group_place(const zf_kv_cache &cache, const CachedSequence &s, int row) {
    if constexpr (PAGED) {
        const uint32_t page_rows = (uint32_t)cache.page_rows;
        const uint32_t index = (uint32_t)row / page_rows;
        // Entries behind the sequence's end may be anything.
        const int unit = row < s.length ? s.pages[index] : -1;
        return {(uint32_t)unit < (uint32_t)cache.units ? unit : -1, (int)((uint32_t)row - index * page_rows)};
    } else {
        return {s.unit, row};
    }
}

// The rows of one head: of a dense cache those of the sequence, of a paged one those of all pages.
struct HeadRows {
    const unsigned char *base;
    int64_t unit_bytes;
    int row_bytes;
};

template <class E, bool PAGED> ZF_INLINE HeadRows head_rows(const zf_operand &operand, int head, const CachedSequence &s) {
    const int64_t first = head * operand.stride[1] + (PAGED ? 0 : s.unit * operand.stride[0]);
    return {(const unsigned char *)operand.address + first * (int)sizeof(E), operand.stride[0] * (int)sizeof(E),
            (int)operand.stride[2] * (int)sizeof(E)};
}

// Copies rows tile_row .., UNITS pieces of 16 bytes each, as one tile in panels (SWIZZLED) or row by row. What lies
// outside of the sequence is zero in the tile and not read. `places` of the tile's groups.
template <bool PAGED, int ROWS, int UNITS, int THREADS, bool SWIZZLED>
ZF_INLINE void copy_rows(unsigned char *tile, const HeadRows &head, const CachedSequence &s, int tile_row,
                         const GroupPlace (&places)[ROWS / GROUP_ROWS]) {
#pragma unroll
    for (int g = 0; g < ROWS / GROUP_ROWS; ++g) {
        const int64_t unit_bytes = PAGED ? max(places[g].unit, 0) * head.unit_bytes : 0;
        const unsigned char *const group = head.base + unit_bytes + (int64_t)places[g].row * head.row_bytes;
        // Rows begin .. begin + count are read.
        const uint32_t count = places[g].unit < 0 ? 0 : (uint32_t)(s.length - s.begin);
        const int first = tile_row + GROUP_ROWS * g - s.begin;
#pragma unroll
        for (int j = 0; j < (GROUP_ROWS * UNITS + THREADS - 1) / THREADS; ++j) {
            const int i = j * THREADS + (int)threadIdx.x, row = i / UNITS, unit = i % UNITS;
            if (GROUP_ROWS * UNITS % THREADS != 0 && i >= GROUP_ROWS * UNITS) break;
            unsigned char *const to =
                SWIZZLED ? tile + unit / 8 * ROWS * SWIZZLE_BYTES + swizzled(GROUP_ROWS * g + row, unit % 8 * 16)
                         : tile + ((GROUP_ROWS * g + row) * UNITS + unit) * 16;
            ptx::cp_async_16(to, group + (row * head.row_bytes + unit * 16), (uint32_t)(first + row) < count ? 16 : 0);
        }
    }
}

// Two e4m3 as two of T.
template <class T> ZF_INLINE uint32_t widen2(uint32_t pair) {
    const uint32_t halves = ptx::cvt_rn_f16x2_e4m3x2((uint16_t)pair);
    if constexpr (same<T, zf_f16>::value) return halves;
    else return ptx::cvt_rn_bf16x2_f32(load(zf_f16{(uint16_t)(halves >> 16)}), load(zf_f16{(uint16_t)halves}));
}

// A tile of e4m3 rows (not swizzled) as panels of T. A thread converts the pieces that it copied (copy_rows).
template <class T, int ROWS, int UNITS, int THREADS> ZF_INLINE void widen_rows(unsigned char *tile, const unsigned char *raw) {
#pragma unroll
    for (int g = 0; g < ROWS / GROUP_ROWS; ++g) {
#pragma unroll
        for (int j = 0; j < (GROUP_ROWS * UNITS + THREADS - 1) / THREADS; ++j) {
            const int i = j * THREADS + (int)threadIdx.x;
            if (GROUP_ROWS * UNITS % THREADS != 0 && i >= GROUP_ROWS * UNITS) break;
            const int row = GROUP_ROWS * g + i / UNITS, unit = i % UNITS * 2;
            const uint4 x = *(const uint4 *)(raw + (GROUP_ROWS * g * UNITS + i) * 16);
            const uint4 low = {widen2<T>(x.x), widen2<T>(x.x >> 16), widen2<T>(x.y), widen2<T>(x.y >> 16)};
            const uint4 high = {widen2<T>(x.z), widen2<T>(x.z >> 16), widen2<T>(x.w), widen2<T>(x.w >> 16)};
            unsigned char *const panel = tile + unit / 8 * ROWS * SWIZZLE_BYTES;
            *(uint4 *)(panel + swizzled(row, unit % 8 * 16)) = low;
            *(uint4 *)(panel + swizzled(row, unit % 8 * 16 + 16)) = high;
        }
    }
}

}  // namespace zf
