// From accumulators to C.
//
// An instance spells what is computed as a functor. Its element is any type of memory, or float to be rounded:
//
//     struct Epilogue {
//         const zf_tensor_gemm_params &p;
//         // With GATED: Acc gate, Acc up. With RESIDUAL the residual's element as a float follows.
//         __device__ __forceinline__ float value(int64_t b0, int64_t b1, int64_t row, int64_t column, float acc) const;
//     };
//
// It is called for elements of C only, or, where copies clip, with other elements' coordinates for what is clipped.
// Two ways to memory: TENSOR_STORE rounds in registers, lays panels of 128 bytes by 64 rows into shared memory
// (stmatrix) and stores them by tensor copies; otherwise sums pass through shared memory so that lanes hold
// neighbouring columns, and any strides will do. RESIDUAL: panels of a tensor of C's shape and type are copied to where
// C's panels will lie, the first under the products, each next one under its predecessor.
#pragma once

#include "ptx/atomic.cuh"
#include "ptx/barrier.cuh"
#include "ptx/convert.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/stmatrix.cuh"
#include "ptx/tensor_copy.cuh"
#include "tile/shared.cuh"
#include "gemm/mainloop.cuh"

namespace zf {

// Named barriers of consumer warpgroups: one each for its epilogue, one each for its turn to multiply.
enum NamedBarrier { EPILOGUE = 1, TURN = 3 };

constexpr int PANEL_BYTES = UNIT_ROWS * SWIZZLE_BYTES;

// Two values as memory has them, the first in the low half.
template <class Out> struct Pair;
template <> struct Pair<zf_bf16> {
    using Bits = uint32_t;
    static __device__ __forceinline__ Bits of(float a, float b) { return ptx::cvt_rn_bf16x2_f32(b, a); }
    static __device__ __forceinline__ Bits of(zf_bf16 a, zf_bf16 b) { return a.bits | (uint32_t)b.bits << 16; }
};
template <> struct Pair<zf_f16> {
    using Bits = uint32_t;
    static __device__ __forceinline__ Bits of(float a, float b) { return ptx::cvt_rn_f16x2_f32(b, a); }
    static __device__ __forceinline__ Bits of(zf_f16 a, zf_f16 b) { return a.bits | (uint32_t)b.bits << 16; }
};
template <> struct Pair<float> {
    using Bits = uint64_t;
    static __device__ __forceinline__ Bits of(float a, float b) {
        return __float_as_uint(a) | (uint64_t)__float_as_uint(b) << 32;
    }
};
template <> struct Pair<int32_t> {
    using Bits = uint64_t;
    static __device__ __forceinline__ Bits of(int32_t a, int32_t b) { return (uint32_t)a | (uint64_t)(uint32_t)b << 32; }
};
template <> struct Pair<zf_e4m3> {
    using Bits = uint16_t;
    static __device__ __forceinline__ Bits of(float a, float b) { return ptx::cvt_rn_satfinite_e4m3x2_f32(b, a); }
    static __device__ __forceinline__ Bits of(zf_e4m3 a, zf_e4m3 b) { return a.bits | (uint32_t)b.bits << 8; }
};
template <> struct Pair<int8_t> {
    using Bits = uint16_t;
    static __device__ __forceinline__ Bits of(float a, float b) {
        return (uint8_t)ptx::cvt_rni_sat_s8_f32(a) | (uint32_t)(uint8_t)ptx::cvt_rni_sat_s8_f32(b) << 8;
    }
    static __device__ __forceinline__ Bits of(int8_t a, int8_t b) { return (uint8_t)a | (uint32_t)(uint8_t)b << 8; }
};

template <class Out, class Value> ZF_INLINE Out rounded(Value v) {
    union { typename Pair<Out>::Bits bits; Out out; } both;
    both.bits = Pair<Out>::of(v, v);
    return both.out;
}

// Rows of C that a unit of 64 rows stands for.
template <class Config> struct UnitRows {
    int row, row_end;
    int at[4], output[4];

    __device__ __forceinline__ UnitRows(const zf_tensor_gemm_params &p, const Work &w, int unit) {
        row = w.row + unit * UNIT_ROWS;
        row_end = w.row_end;
        if constexpr (Config::CONV) {
            const Patch<Config> patch(p, w.row_tile * (Config::ROWS / UNIT_ROWS) + unit);
#pragma unroll
            for (int i = 0; i < 4; ++i) at[i] = patch.at[i], output[i] = p.output[i];
        }
    }

    // Row of C of a row of the unit; -1 if there is none.
    __device__ __forceinline__ int operator()(int r) const {
        if constexpr (Config::CONV) {
            const int x = at[0] + r % Config::BOX[0], y = at[1] + r / Config::BOX[0] % Config::BOX[1];
            const int z = at[2] + r / (Config::BOX[0] * Config::BOX[1]) % Config::BOX[2];
            const int image = at[3] + r / (Config::BOX[0] * Config::BOX[1] * Config::BOX[2]);
            const bool inside = x < output[0] && y < output[1] && z < output[2] && image < output[3];
            return inside ? ((image * output[2] + z) * output[1] + y) * output[0] + x : -1;
        }
        return row + r < row_end ? row + r : -1;
    }
};

// A sum's bits as a float, which is what parts are kept as, and back.
ZF_INLINE float as_bits(float x) { return x; }
ZF_INLINE float as_bits(int32_t x) { return __int_as_float(x); }
template <class Acc> ZF_INLINE Acc bits_as(float x) {
    if constexpr (same<Acc, float>::value) return x;
    else return __float_as_int(x);
}

// Adds up the parts of a cut tile, in their order. False for all warpgroups but the last to arrive, which has the
// whole sum afterwards.
template <class Config> ZF_INLINE bool add_parts(const zf_tensor_gemm_params &p, Sums<Config> &sums, const Work &w, int rank, int warpgroup, int *last) {
    using Acc = typename Config::Acc;
    constexpr int PART = Config::ROWS * Config::COLUMNS;
    constexpr int REGISTERS = UNITS<Config> * Config::COLUMNS / 2;
    const int thread = threadIdx.x % 128;
    const int half = Config::PINGPONG ? 0 : warpgroup;
    const int tail = w.tail * Config::CLUSTER + rank;
    float4 *const parts = (float4 *)((float *)p.partials + (int64_t)tail * w.parts * PART + half * (PART / 2)) + thread;
#pragma unroll
    for (int i = 0; i < REGISTERS / 4; ++i) {
        const Acc *const d = &sums.d[i / (Config::COLUMNS / 8)][i % (Config::COLUMNS / 8) * 4];
        parts[w.part * (PART / 4) + i * 128] = make_float4(as_bits(d[0]), as_bits(d[1]), as_bits(d[2]), as_bits(d[3]));
    }
    ptx::bar_sync(EPILOGUE + warpgroup, 128);
    int *const counter = (int *)p.counters + tail * 2 + half;
    if (thread == 0) *last = ptx::atom_add_acq_rel_gpu(counter, 1) == w.parts - 1;
    ptx::bar_sync(EPILOGUE + warpgroup, 128);
    if (!*last) return false;
    if (thread == 0) *counter = 0;
#pragma unroll
    for (int i = 0; i < REGISTERS; ++i) sums.d[i / (Config::COLUMNS / 2)][i % (Config::COLUMNS / 2)] = 0;
#pragma unroll 1
    for (int part = 0; part < w.parts; ++part)
#pragma unroll
        for (int i = 0; i < REGISTERS / 4; ++i) {
            const float4 x = parts[part * (PART / 4) + i * 128];
            Acc *const sum = &sums.d[i / (Config::COLUMNS / 8)][i % (Config::COLUMNS / 8) * 4];
            sum[0] += bits_as<Acc>(x.x);
            sum[1] += bits_as<Acc>(x.y);
            sum[2] += bits_as<Acc>(x.z);
            sum[3] += bits_as<Acc>(x.w);
        }
    // `last` is written again for the next tile.
    ptx::bar_sync(EPILOGUE + warpgroup, 128);
    return true;
}

// A warpgroup's way to C.
template <class Config, class Epilogue> struct Store {
    using Out = typename Config::Out;
    using Acc = typename Config::Acc;
    static constexpr int THREADS = 128;
    static constexpr int HALF = Config::OUT_COLUMNS / 2;  // GATED: registers from a gate to its factor

    const zf_tensor_gemm_params &p;
    const Epilogue &epilogue;
    uint8_t *staging;  // two panels
    uint64_t *loaded;  // RESIDUAL: a barrier for each
    int warpgroup;
    int turn = 0;
    uint32_t phase = 0;   // of the barrier of `turn`, a bit each
    bool ahead = false;   // the tile's first panel is under way

    // Units that this warpgroup stores, and panels of each: 128 bytes of 64 rows; transposed, 64 rows of 64 columns.
    static constexpr int PANEL = Config::TRANSPOSED ? PANEL_COLUMNS : SWIZZLE_BYTES / (int)sizeof(Out);
    static constexpr int PANELS = Config::OUT_COLUMNS / PANEL;

    template <class Residual>
    __device__ __forceinline__ auto value(const Sums<Config> &sums, int u, int i, const Work &w, int row, int column, Residual residual) const {
        if constexpr (Config::GATED) {
            if constexpr (Config::RESIDUAL) return epilogue.value(w.b0, w.b1, row, column, sums.d[u][i], sums.d[u][i + HALF], load(residual));
            else return epilogue.value(w.b0, w.b1, row, column, sums.d[u][i], sums.d[u][i + HALF]);
        } else {
            if constexpr (Config::RESIDUAL) return epilogue.value(w.b0, w.b1, row, column, sums.d[u][i], load(residual));
            else return epilogue.value(w.b0, w.b1, row, column, sums.d[u][i]);
        }
    }

    __device__ __forceinline__ int first_unit() const { return Config::PINGPONG ? 0 : warpgroup * UNITS<Config>; }

    __device__ __forceinline__ void operator()(const Sums<Config> &sums, const Work &w) {
#pragma unroll
        for (int u = 0; u < UNITS<Config>; ++u) {
            const UnitRows<Config> rows(p, w, first_unit() + u);
            if constexpr (Config::TENSOR_STORE) by_copies(sums, u, w, rows);
            else by_lanes(sums, u, w, rows);
        }
    }

    // Copies a panel of the residual, by one thread; the place is free.
    __device__ __forceinline__ void load_panel(const Work &w, int panel, int place) const {
        if constexpr (Config::RESIDUAL) {
            const UnitRows<Config> rows(p, w, first_unit() + panel / PANELS);
            const int column = w.column_tile * Config::OUT_COLUMNS + panel % PANELS * PANEL;
            uint8_t *const to = staging + place * PANEL_BYTES;
            ptx::mbarrier_arrive_expect_tx(&loaded[place], PANEL_BYTES);
            if constexpr (Config::CONV)
                ptx::tensor_load_5d(to, &p.residual_map, &loaded[place], column, rows.at[0], rows.at[1], rows.at[2], rows.at[3]);
            else ptx::tensor_load_4d(to, &p.residual_map, &loaded[place], column, rows.row, w.b1, w.b0);
        }
    }

    // Copies the tile's first panel of the residual before the products are there.
    __device__ __forceinline__ void prefetch(const Work &w) {
        if constexpr (Config::RESIDUAL) {
            if (threadIdx.x % THREADS == 0) {
                ptx::bulk_wait_group_read<1>();
                load_panel(w, 0, turn);
            }
            ahead = true;
        }
    }

    // Sum of squares of a row's columns of this tile; 0 for what lies outside of C.
    __device__ __forceinline__ void store_squares(const Work &w, int row, float sum) const {
        if (row < 0) return;
        const int64_t at = ((int64_t)(w.b0 * p.batch[1] + w.b1) * p.m + row) * ceil_div(p.n, Config::OUT_COLUMNS) + w.column_tile;
        ((float *)p.row_squares)[at] = sum;
    }

    __device__ __forceinline__ void by_copies(const Sums<Config> &sums, int u, const Work &w, const UnitRows<Config> &rows) {
        const int thread = threadIdx.x % THREADS, warp = thread / 32, lane = thread % 32;
        const int top = 16 * warp + lane / 4;
        const int row[2] = {rows(top), rows(top + 8)};
        // Where a lane's row of four 8 x 8 matrices lies, 16 columns of 16 rows.
        const int line = lane % 8, below = 16 * warp + lane / 8 % 2 * 8, right = lane / 16 * 8;
        float squares[2] = {0, 0};
        if (Config::RESIDUAL && !ahead) prefetch(w);
#pragma unroll
        for (int panel = 0; panel < PANELS; ++panel) {
            uint8_t *const place = staging + turn * PANEL_BYTES;
            const uint32_t to = ptx::shared_address(place);
            if constexpr (Config::RESIDUAL) {
                const int next = u * PANELS + panel + 1;
                if (thread == 0 && next < UNITS<Config> * PANELS) {
                    ptx::bulk_wait_group_read<0>();
                    load_panel(w, next, turn ^ 1);
                }
                ptx::mbarrier_wait(&loaded[turn], phase >> turn & 1);
                phase ^= 1 << turn;
                ahead = next < UNITS<Config> * PANELS;
            } else {
                if (thread == 0) ptx::bulk_wait_group_read<1>();
                ptx::bar_sync(EPILOGUE + warpgroup, THREADS);
            }
            uint32_t matrices[4];
            union { uint32_t bits[4]; Out values[4][4 / sizeof(Out)]; } residual = {};
#pragma unroll
            for (int j = 0; j < PANEL / 8; ++j) {
                const int in_tile = panel * PANEL + 8 * j + 2 * (lane % 4);
                const int column = w.column_tile * Config::OUT_COLUMNS + in_tile;
                if constexpr (Config::RESIDUAL) {
                    if (j % 2 == 0) ptx::ldmatrix_x4(residual.bits, place + swizzled(below + line, (8 * j + right) * 2));
                }
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    // What the copy clips is computed at another place.
                    const int r = max(row[half], 0), i = (panel * PANEL / 8 + j) * 4 + half * 2;
                    const Out *const of = residual.values[j % 2 * 2 + half];
                    const auto a = value(sums, u, i, w, r, min(column, p.n - 1), of[0]);
                    const auto b = value(sums, u, i + 1, w, r, min(column + 1, p.n - 1), of[sizeof(Out) <= 2]);
                    const auto bits = Pair<Out>::of(a, b);
                    if constexpr (Config::ROW_SQUARES) {
                        if (column < p.n) squares[half] += (float)a * (float)a;
                        if (column + 1 < p.n) squares[half] += (float)b * (float)b;
                    }
                    if constexpr (sizeof(Out) == 2) matrices[j % 2 * 2 + half] = bits;
                    else *(typename Pair<Out>::Bits *)(place + swizzled(top + 8 * half, (8 * j + 2 * (lane % 4)) * sizeof(Out))) = bits;
                }
                if (sizeof(Out) == 2 && j % 2 == 1) {
                    if constexpr (Config::TRANSPOSED)
                        ptx::stmatrix_x4_trans(to + swizzled(8 * (j - 1) + right + line, below * 2), matrices[0], matrices[1], matrices[2], matrices[3]);
                    else
                        ptx::stmatrix_x4(to + swizzled(below + line, (8 * (j - 1) + right) * 2), matrices[0], matrices[1], matrices[2], matrices[3]);
                }
            }
            ptx::fence_proxy_async_shared();
            ptx::bar_sync(EPILOGUE + warpgroup, THREADS);
            if (thread == 0) {
                const int column = w.column_tile * Config::OUT_COLUMNS + panel * PANEL;
                if constexpr (Config::CONV) ptx::tensor_store_5d(&p.c_map, place, column, rows.at[0], rows.at[1], rows.at[2], rows.at[3]);
                else if constexpr (Config::TRANSPOSED) ptx::tensor_store_4d(&p.c_map, place, rows.row, column, w.b1, w.b0);
                else ptx::tensor_store_4d(&p.c_map, place, column, rows.row, w.b1, w.b0);
                ptx::bulk_commit_group();
            }
            turn ^= 1;
        }
        if constexpr (Config::ROW_SQUARES) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                squares[half] += __shfl_xor_sync(0xffffffff, squares[half], 1);
                squares[half] += __shfl_xor_sync(0xffffffff, squares[half], 2);
                if (lane % 4 == 0) store_squares(w, row[half], squares[half]);
            }
        }
    }

    // 32 columns at a time; a warp reads the 16 rows that it wrote.
    __device__ __forceinline__ void by_lanes(const Sums<Config> &sums, int u, const Work &w, const UnitRows<Config> &rows) const {
        constexpr int PANEL = 32;
        const int thread = threadIdx.x % THREADS, warp = thread / 32, lane = thread % 32;
        const int top = 16 * warp;
        float squares = 0;
#pragma unroll
        for (int panel = 0; panel < Config::OUT_COLUMNS / PANEL; ++panel) {
            __syncwarp();
#pragma unroll
            for (int j = 0; j < PANEL / 8; ++j)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int i = (panel * PANEL / 8 + j) * 4 + half * 2;
                    const uint32_t at = swizzled(top + 8 * half + lane / 4, (8 * j + 2 * (lane % 4)) * 4);
                    *(uint64_t *)(staging + at) = Pair<Acc>::of(sums.d[u][i], sums.d[u][i + 1]);
                    if constexpr (Config::GATED)
                        *(uint64_t *)(staging + PANEL_BYTES + at) = Pair<Acc>::of(sums.d[u][i + HALF], sums.d[u][i + 1 + HALF]);
                }
            __syncwarp();
            const int column = w.column_tile * Config::OUT_COLUMNS + panel * PANEL + lane;
#pragma unroll 1
            for (int r = 0; r < 16; ++r) {
                const int row = rows(top + r);
                float square = 0;
                if (row >= 0 && column < p.n) {
                    const uint32_t at = swizzled(top + r, 4 * lane);
                    Out *const c = (Out *)p.c.address + w.b0 * p.c.stride[0] + w.b1 * p.c.stride[1] + row * p.c.stride[2] + column * p.c.stride[3];
                    const Acc acc = *(const Acc *)(staging + at);
                    if constexpr (Config::GATED) {
                        const auto v = epilogue.value(w.b0, w.b1, row, column, acc, *(const Acc *)(staging + PANEL_BYTES + at));
                        *c = rounded<Out>(v);
                        if constexpr (Config::ROW_SQUARES) square = (float)v * (float)v;
                    } else {
                        const auto v = epilogue.value(w.b0, w.b1, row, column, acc);
                        *c = rounded<Out>(v);
                        if constexpr (Config::ROW_SQUARES) square = (float)v * (float)v;
                    }
                }
                if constexpr (Config::ROW_SQUARES) {
#pragma unroll
                    for (int i = 16; i > 0; i /= 2) square += __shfl_xor_sync(0xffffffff, square, i);
                    if (lane == r) squares += square;
                }
            }
        }
        if constexpr (Config::ROW_SQUARES) {
            if (lane < 16) store_squares(w, rows(top + lane), squares);
        }
    }

    // Before the block's end: copies have read shared memory.
    __device__ __forceinline__ void drain() const {
        if (Config::TENSOR_STORE && threadIdx.x % THREADS == 0) ptx::bulk_wait_group<0>();
    }
};

}  // namespace zf
