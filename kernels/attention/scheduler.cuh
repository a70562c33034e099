// Which tile a block takes next: blocks of a persistent kernel walk one list of all tiles.
//
// A tile is M rows of one (batch, head). The list keeps what shares K and V together, so that they stay in the L2
// cache: sections of as many heads as fit it, and inside a section the same rows of every head in turn. Where a mask
// makes tiles of different lengths, the longest come first and every other round runs backwards, so that a block
// that had a long tile gets a short one.
#pragma once

namespace zf {

struct TileCoordinates {
    int block;  // of rows
    int head, batch;
};

template <class C> struct TileScheduler {
    // Half of the L2 cache of a full card, in rows of K and V: they share it with what streams through.
    static constexpr int SECTION_ROWS = (20 << 20) / ((C::D + C::DV) * C::ELEMENT);

    int blocks, heads, tiles, section;
    int round = 0;

    __device__ __forceinline__ explicit TileScheduler(const zf_flash_attention_params &p) {
        blocks = ((int)p.queries * C::PACK + C::M - 1) / C::M;
        heads = (int)p.heads / C::PACK;
        const int units = heads * (int)p.batch;
        tiles = blocks * units;
        const int sharing = heads / (int)p.kv_heads;
        section = max(1, min(units, SECTION_ROWS / max((int)p.keys, 1) * sharing));
    }

    // The tile of this round; false when none is left.
    __device__ __forceinline__ bool tile(TileCoordinates &t) const {
        const int turn = C::UNEVEN && round % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
        const int index = round * gridDim.x + turn;
        if (index >= tiles) return false;
        const int in_section = section * blocks;
        const int s = index / in_section, r = index % in_section;
        const int rest = tiles / blocks - s * section;
        const int width = rest < section ? rest : section;
        const int block = r / width, unit = s * section + r % width;
        t.block = C::UNEVEN ? blocks - 1 - block : block;
        t.head = unit % heads;
        t.batch = unit / heads;
        return true;
    }

    __device__ __forceinline__ void next() { ++round; }
};

}  // namespace zf
