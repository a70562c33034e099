// Tiles from global to shared memory.
#pragma once

namespace zf {

// Whether rows can be copied in 16-byte pieces: same type on both sides, aligned start and stride.
template <class From, class To> ZF_INLINE bool copies_whole(const From *base, int64_t row_stride) {
    return same<From, To>::value && ((uint64_t)base | (uint64_t)(row_stride * (int64_t)sizeof(From))) % 16 == 0;
}

// Copies ROWS x COLUMNS elements into a tile of row length PITCH; what lies outside the valid rows and
// columns becomes zero. `whole` as `copies_whole` said; then the copies are asynchronous and the caller
// commits and waits, else they are done on return of the block's next barrier.
template <int THREADS, int ROWS, int COLUMNS, int PITCH, class From, class To>
ZF_INLINE void load_tile(To *tile, const From *base, int64_t row_stride, int64_t valid_rows, int64_t valid_columns,
                         bool whole) {
    constexpr int PIECE = 16 / (int)sizeof(To);
    constexpr int PIECES = COLUMNS / PIECE;
    static_assert(COLUMNS % PIECE == 0 && PITCH % PIECE == 0, "rows are cut into 16-byte pieces");
    for (int i = (int)threadIdx.x; i < ROWS * PIECES; i += THREADS) {
        const int row = i / PIECES, column = i % PIECES * PIECE;
        To *const to = tile + row * PITCH + column;
        const int64_t left = row < valid_rows ? valid_columns - column : 0;
        const From *const from = base + row * row_stride + column;
        if (whole) {
            const int count = left < 0 ? 0 : (left < PIECE ? (int)left : PIECE);
            // Nothing is read where nothing is valid; the address still has to be one.
            ptx::cp_async_16(to, count ? from : base, count * (int)sizeof(To));
        } else {
            for (int e = 0; e < PIECE; ++e) to[e] = convert<To>::from(e < left ? load(from[e]) : 0);
        }
    }
}

// The same from a matrix in panels of PANEL columns, `panel_stride` elements apart: rows k0.. and columns
// n0.. of a k x n matrix. A piece never crosses a panel, and a panel's padding is zero already.
template <int THREADS, int ROWS, int COLUMNS, int PITCH, int PANEL, class From, class To>
ZF_INLINE void load_panels(To *tile, const From *base, int64_t panel_stride, int64_t k0, int64_t n0, int64_t k, int64_t n,
                           bool whole) {
    constexpr int PIECE = 16 / (int)sizeof(To);
    constexpr int PIECES = COLUMNS / PIECE;
    constexpr int WIDTH = PANEL ? PANEL : COLUMNS;  // Zero where the layout is not used.
    static_assert(WIDTH % PIECE == 0 && PITCH % PIECE == 0, "panels are cut into 16-byte pieces");
    for (int i = (int)threadIdx.x; i < ROWS * PIECES; i += THREADS) {
        const int row = i / PIECES, column = i % PIECES * PIECE;
        To *const to = tile + row * PITCH + column;
        const bool valid = k0 + row < k && n0 + column < n;
        const From *const from = base + (n0 + column) / WIDTH * panel_stride + (k0 + row) * WIDTH + (n0 + column) % WIDTH;
        if (whole) {
            ptx::cp_async_16(to, valid ? from : base, valid ? 16 : 0);
        } else {
            for (int e = 0; e < PIECE; ++e) to[e] = convert<To>::from(valid ? load(from[e]) : 0);
        }
    }
}

}  // namespace zf
