// Attention of a few queries per sequence over a long KV cache (decode).
//
// Rows of a block's 64 are pairs (query, query head) of one KV head, so that a cache row is read once for all of
// them; the keys are split over blocks, and combine.cuh adds the parts up (Dao et al., "Flash-Decoding", 2023). A
// block streams its keys through a ring of tiles, STAGES - 1 of them under way while one is multiplied: reading the
// cache is what takes the time, so rows that are padding cost nothing that counts.
//
// Every warpgroup takes its share of a tile's keys for the scores and its share of the value columns for the output.
// One warpgroup keeps probabilities in registers; two exchange maxima and probabilities through shared memory. With
// LATENT the values are the first DV columns of the keys, and a tile is copied once for both.
//
// An instance's Config says (crates/kernels/src/decode/): T, of queries and output; Cache, T or zf_e4m3, which is
// widened to T on its way; D, DV; TILE keys; STAGES; WARPGROUPS; LATENT; PAGED; BOX_ROWS of tensor copies, 0 where
// threads copy; PARTIAL, one of several splits; SOFTCAP; ALIBI; ROTARY, how many dimensions of the queries are rotated;
// INTERLEAVED.
#pragma once

#include "attention/decode_cache.cuh"
#include "attention/decode_rotary.cuh"
#include "attention/decode_softmax.cuh"
#include "attention/decode_tensor.cuh"
#include "ptx/barrier.cuh"
#include "ptx/wgmma.cuh"
#include "tile/shared.cuh"

namespace zf {

constexpr int DECODE_ROWS = 64;

static __device__ constexpr int panels(int columns) { return (columns + 63) / 64; }

// Sizes and places in shared memory.
template <class C> struct DecodeShape {
    static constexpr int THREADS = 128 * C::WARPGROUPS;
    static constexpr int KEYS = C::TILE / C::WARPGROUPS, COLUMNS = C::DV / C::WARPGROUPS;
    static constexpr bool WIDEN = !same<typename C::T, typename C::Cache>::value;
    static constexpr bool TENSOR = C::BOX_ROWS > 0;
    static constexpr int ELEMENT = WIDEN ? 1 : 2;
    static constexpr int K_UNITS = C::D * ELEMENT / 16, V_UNITS = C::DV * ELEMENT / 16;

    static constexpr int PANEL_BYTES = C::TILE * SWIZZLE_BYTES;
    static constexpr int QUERY_PANEL_BYTES = DECODE_ROWS * SWIZZLE_BYTES;
    static constexpr int K_BYTES = panels(C::D) * PANEL_BYTES;
    static constexpr int TILE_BYTES = K_BYTES + (C::LATENT ? 0 : panels(C::DV) * PANEL_BYTES);
    static constexpr int RAW_K_BYTES = C::TILE * K_UNITS * 16;
    static constexpr int SLOT_BYTES = WIDEN ? RAW_K_BYTES + (C::LATENT ? 0 : C::TILE * V_UNITS * 16) : TILE_BYTES;

    static constexpr int QUERIES = 0;
    static constexpr int PROBABILITIES = QUERIES + panels(C::D) * QUERY_PANEL_BYTES;
    static constexpr int WIDENED = PROBABILITIES + (C::WARPGROUPS > 1 ? QUERY_PANEL_BYTES : 0);
    static constexpr int RING = WIDENED + (WIDEN ? TILE_BYTES : 0);
    static constexpr int EXCHANGE = RING + C::STAGES * SLOT_BYTES;
    static constexpr int BARRIERS = EXCHANGE + (C::WARPGROUPS > 1 ? C::WARPGROUPS * DECODE_ROWS * (int)sizeof(float) : 0);
    static constexpr int BYTES = BARRIERS + (C::BOX_ROWS > 0 ? C::STAGES * 8 : 0);

    static_assert(C::TILE % GROUP_ROWS == 0 && KEYS % 16 == 0, "tiles are whole groups, products 16 keys deep");
    static_assert(C::D % 16 == 0 && C::DV % 16 == 0, "products are 16 columns deep");
    static_assert(!TENSOR || (!WIDEN && C::TILE % C::BOX_ROWS == 0), "boxes are of the type that is multiplied");
    static_assert(C::WARPGROUPS == 1 || (C::TILE == 64 && COLUMNS % 64 == 0), "a panel of probabilities, whole panels of values");
};

// The block's part of the work.
struct DecodeWork {
    int batch, kv_head, split;
    int row0, rows;          // First row of the block, rows of the KV head.
    int group;               // Query heads of the KV head.
    int tile, tiles;         // This split's tiles: tile .. tiles.
    int all_from, all_to;    // What every row of the block sees.
};

// Blocks that read the same keys are neighbours: of (batch, KV head, split, 64 rows) the last counts fastest.
ZF_INLINE DecodeWork decode_work(const zf_decode_params &p) {
    DecodeWork w;
    const int kv_heads = (int)p.kv_heads, splits = (int)p.splits;
    w.group = (int)p.heads / kv_heads;
    w.rows = (int)p.queries * w.group;
    const int blocks = (w.rows + DECODE_ROWS - 1) / DECODE_ROWS;
    int index = (int)blockIdx.x;
    w.row0 = index % blocks * DECODE_ROWS;
    index /= blocks;
    w.split = index % splits;
    index /= splits;
    w.kv_head = index % kv_heads;
    w.batch = index / kv_heads;
    return w;
}

// The tiles of the block's split, and what all of its rows see.
template <int TILE> ZF_INLINE void share_tiles(DecodeWork &w, const zf_decode_params &p, const CachedSequence &s) {
    const int queries = (int)p.queries, splits = (int)p.splits, left = (int)p.left, right = (int)p.right;
    const int first = s.length - queries + w.row0 / w.group;
    const int last = s.length - queries + (min(w.row0 + DECODE_ROWS, w.rows) - 1) / w.group;
    const int from = max(s.begin, first - left), to = min(s.length, last + right + 1);
    w.all_from = max(s.begin, last - left);
    w.all_to = min(s.length, first + right + 1);
    const int begin = from / TILE, end = to > from ? (to + TILE - 1) / TILE : begin;
    const int share = (end - begin + splits - 1) / splits;
    w.tile = begin + w.split * share;
    w.tiles = min(w.tile + share, end);
}

// The block's queries in panels of 64 columns; rows that are padding are zero.
template <class C> ZF_INLINE void load_queries(unsigned char *tile, const zf_decode_params &p, const DecodeWork &w, int filled) {
    using T = typename C::T;
    constexpr int UNITS = C::D / 8, THREADS = DecodeShape<C>::THREADS;
    static_assert(DECODE_ROWS * UNITS % THREADS == 0, "every thread loads as many pieces");
#pragma unroll 4
    for (int j = 0; j < DECODE_ROWS * UNITS / THREADS; ++j) {
        const int i = j * THREADS + (int)threadIdx.x, row = i / UNITS, unit = i % UNITS, r = w.row0 + row;
        uint4 piece = {0, 0, 0, 0};
        if (r < w.rows) {
            const int query = r / w.group, head = w.kv_head * w.group + r % w.group;
            const T *const from = (const T *)p.q.address + w.batch * p.q.stride[0] + head * p.q.stride[1] + query * p.q.stride[2];
            if constexpr (C::ROTARY > 0) {
                const int64_t position = min((int64_t)filled + (p.rotary_advances ? query : 0), p.rotary_positions - 1);
                const T *const cos = (const T *)p.cos + position * (C::ROTARY / 2);
                const T *const sin = (const T *)p.sin + position * (C::ROTARY / 2);
                float x[8];
                load_rotated<T, C::ROTARY, C::INTERLEAVED>(x, from, unit, cos, sin);
                piece = pack8<T>(x);
            } else {
                piece = load_piece(from + 8 * unit);
            }
        }
        *(uint4 *)(tile + unit / 8 * DecodeShape<C>::QUERY_PANEL_BYTES + swizzled(row, unit % 8 * 16)) = piece;
    }
}

// Starts the copies of a tile.
template <class C>
ZF_INLINE void copy_tile(unsigned char *slot, const zf_kv_cache &cache, const HeadRows &keys, const HeadRows &values,
                         const CachedSequence &s, int tile) {
    using S = DecodeShape<C>;
    const int row = tile * C::TILE;
    GroupPlace places[C::TILE / GROUP_ROWS];
#pragma unroll
    for (int g = 0; g < C::TILE / GROUP_ROWS; ++g) places[g] = group_place<C::PAGED>(cache, s, row + g * GROUP_ROWS);
    copy_rows<C::PAGED, C::TILE, S::K_UNITS, S::THREADS, !S::WIDEN>(slot, keys, s, row, places);
    if constexpr (!C::LATENT) {
        unsigned char *const to = slot + (S::WIDEN ? S::RAW_K_BYTES : S::K_BYTES);
        copy_rows<C::PAGED, C::TILE, S::V_UNITS, S::THREADS, !S::WIDEN>(to, values, s, row, places);
    }
}

template <class C> ZF_INLINE void widen_tile(unsigned char *tile, const unsigned char *raw) {
    using S = DecodeShape<C>;
    widen_rows<typename C::T, C::TILE, S::K_UNITS, S::THREADS>(tile, raw);
    if constexpr (!C::LATENT) {
        widen_rows<typename C::T, C::TILE, S::V_UNITS, S::THREADS>(tile + S::K_BYTES, raw + S::RAW_K_BYTES);
    }
}

// Scores of the warpgroup's keys: Q K^T.
template <class C>
ZF_INLINE void multiply_keys(float (&s)[DecodeShape<C>::KEYS / 2], uint32_t queries, uint32_t keys) {
    using S = DecodeShape<C>;
    ptx::keep(s);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < C::D / 16; ++k) {
        const uint32_t at = k % 4 * 32;
        ptx::Wgmma<typename C::T, S::KEYS>::template ss<0, 0>(s, k_major_descriptor(queries + k / 4 * S::QUERY_PANEL_BYTES + at),
                                                              k_major_descriptor(keys + k / 4 * S::PANEL_BYTES + at), k > 0);
    }
    ptx::wgmma_commit_group();
    ptx::wgmma_wait_group<0>();
    ptx::keep(s);
}

// O += P V with P in registers: the layout of a product is the layout of an operand.
template <class C>
ZF_INLINE void multiply_values(float (&o)[DecodeShape<C>::COLUMNS / 2], const float (&p)[DecodeShape<C>::KEYS / 2], uint32_t values) {
    using S = DecodeShape<C>;
    using T = typename C::T;
    uint32_t a[S::KEYS / 16][4];
#pragma unroll
    for (int i = 0; i < S::KEYS / 4; ++i) a[i / 4][i % 4] = pack2<T>(p[2 * i], p[2 * i + 1]);
    ptx::keep(o);
#pragma unroll
    for (int k = 0; k < S::KEYS / 16; ++k) ptx::keep(a[k]);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < S::KEYS / 16; ++k) {
        ptx::Wgmma<T, S::COLUMNS>::template rs<1>(o, a[k], mn_major_descriptor(values + k * 16 * SWIZZLE_BYTES, S::PANEL_BYTES), 1);
    }
    ptx::wgmma_commit_group();
    ptx::wgmma_wait_group<0>();
    ptx::keep(o);
}

// The same with P, of all warpgroups' keys, in shared memory.
template <class C>
ZF_INLINE void multiply_values_shared(float (&o)[DecodeShape<C>::COLUMNS / 2], uint32_t probabilities, uint32_t values) {
    using S = DecodeShape<C>;
    ptx::keep(o);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < C::TILE / 16; ++k) {
        ptx::Wgmma<typename C::T, S::COLUMNS>::template ss<0, 1>(
            o, k_major_descriptor(probabilities + k * 32), mn_major_descriptor(values + k * 16 * SWIZZLE_BYTES, S::PANEL_BYTES), 1);
    }
    ptx::wgmma_commit_group();
    ptx::wgmma_wait_group<0>();
    ptx::keep(o);
}

// The thread's two rows of the block's 64.
ZF_INLINE int block_row(int h) { return (int)threadIdx.x % 128 / 32 * 16 + (int)threadIdx.x % 32 / 4 + 8 * h; }

template <class C>
ZF_INLINE void store_rows(const zf_decode_params &p, const DecodeWork &w, const float (&o)[DecodeShape<C>::COLUMNS / 2],
                          const RunningSoftmax &softmax, const float (&sums)[2], float v_scale) {
    using S = DecodeShape<C>;
    using T = typename C::T;
    const int column = (int)threadIdx.x / 128 * S::COLUMNS + (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int r = w.row0 + block_row(h);
        if (r >= w.rows) continue;
        const int query = r / w.group, head = w.kv_head * w.group + r % w.group;
        float most = softmax.most[h], sum = sums[h], scale = v_scale;
        if (!C::PARTIAL && p.sinks) {
            const float sink = ((const float *)p.sinks)[head] * LOG2_E, next = fmaxf(most, sink);
            const float shrink = next == -ZF_INF ? 0.0f : ptx::ex2_approx_ftz_f32(most - next);
            sum = next == -ZF_INF ? 0.0f : sum * shrink + ptx::ex2_approx_ftz_f32(sink - next);
            scale *= shrink;
            most = next;
        }
        // A row that sees nothing: zero, and minus infinity as its logarithm.
        const bool nothing = sum == 0.0f;
        const float lse = nothing ? -ZF_INF : most + ptx::lg2_approx_ftz_f32(sum);
        scale = nothing ? 0.0f : scale / sum;
        const bool first = threadIdx.x / 128 == 0 && threadIdx.x % 4 == 0;
        if constexpr (C::PARTIAL) {
            const int64_t row = ((w.split * p.batch + w.batch) * p.queries + query) * p.heads + head;
            if (first) ((float *)p.partial_lse)[row] = lse;
            if (nothing) continue;
            float *const to = (float *)p.partial_o + row * C::DV + column;
#pragma unroll
            for (int j = 0; j < S::COLUMNS / 8; ++j) *(float2 *)(to + 8 * j) = {o[4 * j + 2 * h] * scale, o[4 * j + 2 * h + 1] * scale};
        } else {
            if (first && p.lse) ((float *)p.lse)[(w.batch * p.heads + head) * p.queries + query] = lse * LN_2;
            T *const to = (T *)p.o.address + w.batch * p.o.stride[0] + head * p.o.stride[1] + query * p.o.stride[2] + column;
#pragma unroll
            for (int j = 0; j < S::COLUMNS / 8; ++j) *(uint32_t *)(to + 8 * j) = pack2<T>(o[4 * j + 2 * h] * scale, o[4 * j + 2 * h + 1] * scale);
        }
    }
}

// Grid: batch * KV heads * splits * blocks of 64 rows. `k` and `v` are the cache's maps where tensor copies read it.
template <class C>
ZF_INLINE void decode(const zf_decode_params &p, const zf_tensor_map *k, const zf_tensor_map *v, unsigned char *shared) {
    using S = DecodeShape<C>;
    const int warpgroup = (int)threadIdx.x / 128;
    DecodeWork work = decode_work(p);
    const CachedSequence sequence = cached_sequence<C::PAGED>(p.cache, work.batch);
    share_tiles<C::TILE>(work, p, sequence);

    float o[S::COLUMNS / 2] = {};
    RunningSoftmax softmax;
    float sums[2] = {0.0f, 0.0f};
    const int64_t scales_at = work.batch * p.kv_heads + work.kv_head;
    if (work.tile < work.tiles) {
        DecodeRows rows;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            // Padding rows see what the last row does; their results go nowhere.
            const int r = min(work.row0 + block_row(h), work.rows - 1);
            rows.center[h] = sequence.length - (int)p.queries + r / work.group;
            rows.from[h] = max(sequence.begin, rows.center[h] - (int)p.left);
            rows.to[h] = min(sequence.length, rows.center[h] + (int)p.right + 1);
            rows.slope[h] = C::ALIBI ? ((const float *)p.slopes)[work.kv_head * work.group + r % work.group] * LOG2_E : 0.0f;
        }
        const float k_scale = p.scale * (p.k_descale ? ((const float *)p.k_descale)[scales_at] : 1.0f);
        const float scale = C::SOFTCAP ? k_scale / p.softcap : k_scale * LOG2_E;
        const float cap = p.softcap * LOG2_E;

        const HeadRows key_rows = head_rows<typename C::Cache, C::PAGED>(p.cache.k, work.kv_head, sequence);
        const HeadRows value_rows = head_rows<typename C::Cache, C::PAGED>(p.cache.v, work.kv_head, sequence);
        const uint32_t base = ptx::shared_address(shared);
        uint64_t *const full = (uint64_t *)(shared + S::BARRIERS);
        if constexpr (S::TENSOR) {
            if (threadIdx.x == 0) {
                ptx::prefetch_tensormap(k);
                if constexpr (!C::LATENT) ptx::prefetch_tensormap(v);
#pragma unroll
                for (int i = 0; i < C::STAGES; ++i) ptx::mbarrier_init(&full[i], 1);
                ptx::fence_mbarrier_init();
            }
            __syncthreads();
        }
        uint32_t phase = 0;
        int slot = 1;
        // The first rounds only start copies: one place in the code does it for all tiles.
#pragma unroll 1
        for (int tile = work.tile - (C::STAGES - 1); tile < work.tiles; ++tile) {
            const int current = S::RING + slot * S::SLOT_BYTES, next = tile + C::STAGES - 1;
            if (tile >= work.tile) {
                if constexpr (S::TENSOR) {
                    ptx::mbarrier_wait(&full[slot], phase);
                    clear_rows<panels(C::D) + (C::LATENT ? 0 : panels(C::DV)), C::TILE, S::THREADS>(shared + current, sequence, tile);
                    if (slot == C::STAGES - 1) phase ^= 1;
                } else {
                    ptx::cp_async_wait_group<C::STAGES - 2>();
                }
                if constexpr (S::WIDEN) {
                    // The widened tile is free when everyone has multiplied.
                    __syncthreads();
                    widen_tile<C>(shared + S::WIDENED, shared + current);
                }
                ptx::fence_proxy_async_shared();
                __syncthreads();
            }
            // The slot before, which everyone is done with.
            const int free = slot == 0 ? C::STAGES - 1 : slot - 1;
            unsigned char *const to = shared + S::RING + free * S::SLOT_BYTES;
            if constexpr (S::TENSOR) {
                if (next < work.tiles && threadIdx.x == 0) {
                    copy_tile_boxes<C::PAGED, panels(C::D), C::LATENT ? 0 : panels(C::DV), C::TILE, C::BOX_ROWS>(
                        to, &full[free], k, v, p.cache, sequence, work.kv_head, next);
                }
            } else {
                if (next < work.tiles) copy_tile<C>(to, p.cache, key_rows, value_rows, sequence, next);
                ptx::cp_async_commit_group();
            }
            slot = slot + 1 == C::STAGES ? 0 : slot + 1;
            if (tile < work.tile) {
                if (tile == work.tile - 1) load_queries<C>(shared + S::QUERIES, p, work, sequence.filled);
                continue;
            }

            const uint32_t keys = base + (S::WIDEN ? S::WIDENED : current);
            const uint32_t values = (C::LATENT ? keys : keys + S::K_BYTES) + warpgroup * (S::COLUMNS / 64) * S::PANEL_BYTES;
            const int first_key = warpgroup * S::KEYS, row = tile * C::TILE;
            float s[S::KEYS / 2] = {};
            multiply_keys<C>(s, base + S::QUERIES, keys + first_key * SWIZZLE_BYTES);
            const bool masked = row < work.all_from || row + C::TILE > work.all_to;
            scores<C::SOFTCAP, C::ALIBI>(s, scale, cap, rows, row + first_key + (int)threadIdx.x % 4 * 2, masked);

            float most[2], rescale[2];
            row_max(most, s);
            if constexpr (C::WARPGROUPS > 1) {
                float *const exchange = (float *)(shared + S::EXCHANGE);
                if (threadIdx.x % 4 == 0) {
                    exchange[warpgroup * DECODE_ROWS + block_row(0)] = most[0];
                    exchange[warpgroup * DECODE_ROWS + block_row(1)] = most[1];
                }
                __syncthreads();
                most[0] = fmaxf(most[0], exchange[(warpgroup ^ 1) * DECODE_ROWS + block_row(0)]);
                most[1] = fmaxf(most[1], exchange[(warpgroup ^ 1) * DECODE_ROWS + block_row(1)]);
            }
            softmax.step(s, most, rescale);
#pragma unroll
            for (int i = 0; i < S::COLUMNS / 2; ++i) o[i] *= rescale[i / 2 % 2];
            if constexpr (C::WARPGROUPS > 1) {
                unsigned char *const panel = shared + S::PROBABILITIES;
#pragma unroll
                for (int i = 0; i < S::KEYS / 4; ++i) {
                    const int byte = (first_key + i / 2 * 8 + (int)threadIdx.x % 4 * 2) * 2;
                    *(uint32_t *)(panel + swizzled(block_row(i % 2), byte)) = pack2<typename C::T>(s[2 * i], s[2 * i + 1]);
                }
                ptx::fence_proxy_async_shared();
                __syncthreads();
                multiply_values_shared<C>(o, base + S::PROBABILITIES, values);
            } else {
                multiply_values<C>(o, s, values);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) sums[h] = quad_sum(softmax.sum[h]);
        if constexpr (C::WARPGROUPS > 1) {
            // The maxima are read by now: everyone has passed the barrier behind them.
            float *const exchange = (float *)(shared + S::EXCHANGE);
            if (threadIdx.x % 4 == 0) {
                exchange[warpgroup * DECODE_ROWS + block_row(0)] = sums[0];
                exchange[warpgroup * DECODE_ROWS + block_row(1)] = sums[1];
            }
            __syncthreads();
            sums[0] += exchange[(warpgroup ^ 1) * DECODE_ROWS + block_row(0)];
            sums[1] += exchange[(warpgroup ^ 1) * DECODE_ROWS + block_row(1)];
        }
    }
    const float v_scale = p.v_descale ? ((const float *)p.v_descale)[scales_at] : 1.0f;
    store_rows<C>(p, work, o, softmax, sums, v_scale);
}

}  // namespace zf
