// Which output tiles a block computes, and in which order.
//
// The grid is persistent: any number of clusters, each taking every gridDim-th unit of work. A unit is one tile of
// every block of a cluster: CLUSTER row tiles that share their columns. Units walk bands of row tiles, inside a
// band row tiles first, so that the tiles which run together read few rows of A and few columns of B (L2).
//
// SPLIT: the units of the last, incomplete wave are cut into parts of K so that the wave fills the grid; epilogue's
// counterpart adds the parts up in their order. The cut depends on nothing but sizes and grid: results repeat.
#pragma once

namespace zf {

// Blocks that may take parts of tiles: workspace and counters are made for so many.
constexpr int MAX_SPLIT_BLOCKS = 144;
// Least depth of a part, in blocks of K.
constexpr int MIN_PART_BLOCKS = 2;

ZF_INLINE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// A tile, or a part of its sum.
struct Work {
    int b0, b1;          // batch
    int row_tile;        // of the batch or group
    int row, row_end;    // rows [row, row_end) of C belong to the tile, as far as ROWS goes
    int column_tile;
    int group;
    int k_begin, k_end;  // blocks of K
    int part, parts;     // parts 1: the whole sum
    int tail;            // number of the unit among those that were cut
};

template <class Config> struct Scheduler {
    int at, step;        // unit, and clusters of the grid
    int rank;            // block of the cluster
    int row_units, column_tiles, k_blocks;
    int whole, parts, total;
    int group, group_at, group_row;  // grouped: the group that `at` is in, its first unit and row
    const zf_tensor_gemm_params &p;

    __device__ __forceinline__ Scheduler(const zf_tensor_gemm_params &p, int row_tiles, int k_blocks)
        : at(blockIdx.x / Config::CLUSTER), step(gridDim.x / Config::CLUSTER), rank(blockIdx.x % Config::CLUSTER),
          row_units(ceil_div(row_tiles, Config::CLUSTER)), column_tiles(ceil_div(p.n, Config::OUT_COLUMNS)),
          k_blocks(k_blocks), parts(1), group(0), group_at(0), group_row(0), p(p) {
        total = whole = p.batch[0] * p.batch[1] * row_units * column_tiles;
        if constexpr (Config::SPLIT) {
            const int rest = whole % step;
            const int most = rest == 0 ? 1 : min(step / rest, k_blocks / MIN_PART_BLOCKS);
            if (most > 1 && gridDim.x <= MAX_SPLIT_BLOCKS) {
                parts = most;
                whole -= rest;
                total = whole + rest * parts;
            }
        }
    }

    // The next unit of this block; false at the end.
    __device__ __forceinline__ bool next(Work &w) {
        if constexpr (Config::GROUPED) return next_of_groups(w);
        if (at >= total) return false;
        int unit = at;
        w.part = 0;
        w.parts = 1;
        w.tail = 0;
        w.k_begin = 0;
        w.k_end = k_blocks;
        if (Config::SPLIT && unit >= whole) {
            w.tail = (unit - whole) / parts;
            w.part = (unit - whole) % parts;
            w.parts = parts;
            w.k_begin = w.part * k_blocks / parts;
            w.k_end = (w.part + 1) * k_blocks / parts;
            unit = whole + w.tail;
        }
        const int tiles = row_units * column_tiles;
        const int batch = unit / tiles;
        place(w, unit % tiles, row_units);
        w.b0 = batch / p.batch[1];
        w.b1 = batch % p.batch[1];
        w.group = 0;
        w.row = w.row_tile * Config::ROWS;
        w.row_end = p.m;
        at += step;
        return true;
    }

private:
    // Row and column tile of a unit in bands of `p.band` row units.
    __device__ __forceinline__ void place(Work &w, int unit, int rows) {
        const int of_band = p.band * column_tiles;
        const int first = unit / of_band * p.band;
        const int height = min(p.band, rows - first);
        w.row_tile = (first + unit % of_band % height) * Config::CLUSTER + rank;
        w.column_tile = unit % of_band / height;
    }

    // Groups one after the other; their sizes are on the device.
    __device__ __forceinline__ bool next_of_groups(Work &w) {
        const int *const ends = (const int *)p.group_ends;
        for (; group < p.groups; ++group) {
            const int end = __ldg(ends + group);
            const int rows = ceil_div(ceil_div(end - group_row, Config::ROWS), Config::CLUSTER);
            if (at < group_at + rows * column_tiles) {
                place(w, at - group_at, rows);
                w.b0 = w.b1 = 0;
                w.group = group;
                w.row = group_row + w.row_tile * Config::ROWS;
                w.row_end = end;
                w.k_begin = 0;
                w.k_end = k_blocks;
                w.part = w.tail = 0;
                w.parts = 1;
                at += step;
                return true;
            }
            group_at += rows * column_tiles;
            group_row = end;
        }
        return false;
    }
};

}  // namespace zf
