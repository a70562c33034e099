// Tiles of a KV cache by tensor copies: one thread starts them, and a barrier a slot counts their bytes.
//
// A tile is TILE / BOX_ROWS boxes of rows times panels of 64 columns. Boxes of which no row counts are copied from
// outside of the map, which reads nothing and leaves zeros, so that every tile brings as many bytes.
#pragma once

#include "attention/decode_cache.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tensor_copy.cuh"

namespace zf {

template <int PANELS, int TILE, int BOX_ROWS>
ZF_INLINE void copy_box(unsigned char *tile, const zf_tensor_map *map, uint64_t *barrier, int box, GroupPlace place, int head) {
#pragma unroll
    for (int panel = 0; panel < PANELS; ++panel) {
        ptx::tensor_load_4d(tile + (panel * TILE + box * BOX_ROWS) * SWIZZLE_BYTES, map, barrier, panel * 64, place.row, head, place.unit);
    }
}

// Starts the copies of a tile. Of a latent cache V_PANELS is 0 and `v` is not used.
template <bool PAGED, int K_PANELS, int V_PANELS, int TILE, int BOX_ROWS>
ZF_INLINE void copy_tile_boxes(unsigned char *slot, uint64_t *barrier, const zf_tensor_map *k, const zf_tensor_map *v,
                               const zf_kv_cache &cache, const CachedSequence &s, int head, int tile) {
    ptx::mbarrier_arrive_expect_tx(barrier, (K_PANELS + V_PANELS) * TILE * SWIZZLE_BYTES);
#pragma unroll
    for (int box = 0; box < TILE / BOX_ROWS; ++box) {
        const int row = tile * TILE + box * BOX_ROWS;
        GroupPlace place = group_place<PAGED>(cache, s, row);
        const bool counts = place.unit >= 0 && row < s.length && row + BOX_ROWS > s.begin;
        if (!counts) place.unit = (int)cache.units;
        copy_box<K_PANELS, TILE, BOX_ROWS>(slot, k, barrier, box, place, head);
        if constexpr (V_PANELS > 0) {
            copy_box<V_PANELS, TILE, BOX_ROWS>(slot + K_PANELS * TILE * SWIZZLE_BYTES, v, barrier, box, place, head);
        }
    }
}

// Clears the rows of a tile that are not the sequence's: what the cache holds there may be NaN, which a probability
// of zero would not hide. Only a sequence's first and last tile have such rows.
template <int PANELS, int TILE, int THREADS> ZF_INLINE void clear_rows(unsigned char *slot, const CachedSequence &s, int tile) {
    const int row0 = tile * TILE;
    if (row0 >= s.begin && row0 + TILE <= s.length) return;
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < PANELS * TILE * 8; i += THREADS) {
        const int place = row0 + i / 8 % TILE;
        if (place < s.begin || place >= s.length) *(uint4 *)(slot + i * 16) = {0, 0, 0, 0};
    }
}

}  // namespace zf
