// The two halves of the attention kernel: the warp that copies, and the warpgroups that multiply.
//
// Keys are walked from the last tile to the first, so that the masked tiles of a causal block come first. A
// warpgroup has the next tile's Q K^T and this tile's P V in flight at once, and computes the next softmax while P V
// runs (FlashAttention-3: Shah et al., 2024, algorithm 2):
//
//     Q K(0) - softmax(0) - [ Q K(n), P(n-1) V(n-1) | softmax(n) under P V | rescale ] ... - P V(last)
#pragma once

#include "attention/epilogue.cuh"
#include "attention/mask.cuh"
#include "attention/tile.cuh"
#include "ptx/barrier.cuh"
#include "ptx/tensor_copy.cuh"

namespace zf {

// ---- the copying warp ---------------------------------------------------------------------------

template <class C> struct Producer {
    const zf_flash_attention_params &p;
    AttentionShared<C> &shared;
    RingState<C::Q_STAGES> q;
    RingState<C::STAGES> k, v;
    uint32_t tail_phase = 0;

    __device__ __forceinline__ Producer(const zf_flash_attention_params &p, AttentionShared<C> &shared) : p(p), shared(shared) {}

    __device__ __forceinline__ void run() {
        const bool leader = threadIdx.x == 0;
        TileCoordinates t;
#pragma unroll 1
        for (TileScheduler<C> scheduler(p); scheduler.tile(t); scheduler.next()) {
            const Sequence s = Sequence::of<C>(p, t.batch);
            if (t.block * C::M >= s.queries * C::PACK) continue;
            const KeyTiles<C> tiles(p, s, t.block);
            if (tiles.empty()) continue;
            const int kv_head = t.head / ((int)p.heads / C::PACK / (int)p.kv_heads);
            load_q(s, t, leader);
            load_k(s, t, kv_head, tiles.end - 1, leader);
#pragma unroll 1
            for (int n = tiles.end - 1; n > tiles.first; --n) {
                load_k(s, t, kv_head, n - 1, leader);
                load_v(s, t, kv_head, n, leader);
            }
            load_v(s, t, kv_head, tiles.first, leader);
        }
    }

    __device__ __forceinline__ void load_q(const Sequence &s, const TileCoordinates &t, bool leader) {
        shared.q_ring.wait_empty(q);
        if (leader) {
            uint64_t *const full = &shared.q_ring.full[q.slot];
            ptx::mbarrier_arrive_expect_tx(full, C::Q_BYTES);
            const int batch = C::RAGGED_QUERIES ? 0 : t.batch;
#pragma unroll
            for (int i = 0; i < C::D_PANELS; ++i) {
                unsigned char *const to = shared.q[q.slot] + i * C::M * SWIZZLE_BYTES;
                if (C::PACK > 1) {
                    // Rows are (query, head of the group): a box of both.
                    ptx::tensor_load_5d(to, &p.q, full, i * C::PANEL, 0, s.first_query + t.block * (C::M / C::PACK), t.head, batch);
                } else {
                    ptx::tensor_load_4d(to, &p.q, full, i * C::PANEL, s.first_query + t.block * C::M, t.head, batch);
                }
            }
        }
        q.advance();
    }

    __device__ __forceinline__ void load_k(const Sequence &s, const TileCoordinates &t, int kv_head, int tile, bool leader) {
        shared.k_ring.wait_empty(k);
        if (leader) {
            uint64_t *const full = &shared.k_ring.full[k.slot];
            ptx::mbarrier_arrive_expect_tx(full, C::K_BYTES);
#pragma unroll
            for (int i = 0; i < C::D_PANELS; ++i) {
                ptx::tensor_load_4d(shared.k[k.slot] + i * C::N * SWIZZLE_BYTES, &p.k, full, i * C::PANEL,
                                    s.first_key + tile * C::N, kv_head, C::RAGGED_KEYS ? 0 : t.batch);
            }
        }
        k.advance();
    }

    __device__ __forceinline__ void copy_v(unsigned char *slot, uint64_t *full, const Sequence &s, const TileCoordinates &t,
                                           int kv_head, int tile) {
        ptx::mbarrier_arrive_expect_tx(full, C::V_COPIED_BYTES);
#pragma unroll
        for (int i = 0; i < C::DV_PANELS; ++i) {
            ptx::tensor_load_4d(slot + i * C::N * SWIZZLE_BYTES, &p.v, full, i * C::PANEL, s.first_key + tile * C::N, kv_head,
                                C::RAGGED_KEYS ? 0 : t.batch);
        }
    }

    __device__ __forceinline__ void load_v(const Sequence &s, const TileCoordinates &t, int kv_head, int tile, bool leader) {
        if constexpr (C::FP8) {
            shared.values.copied_ring.wait_empty(v);
            if (leader) copy_v(shared.values.copied[v.slot], &shared.values.copied_ring.full[v.slot], s, t, kv_head, tile);
            v.advance();
            return;
        }
        shared.v_ring.wait_empty(v);
        // A probability of 0 times what lies after the sequence's end could still be NaN.
        const int rows = s.keys - tile * C::N;
        const bool clear = C::CLEAR_TAIL && rows < C::N;
        unsigned char *const slot = shared.v[v.slot];
        uint64_t *const full = &shared.v_ring.full[v.slot];
        if (leader) copy_v(slot, clear ? &shared.tail : full, s, t, kv_head, tile);
        if (clear) {
            ptx::mbarrier_wait(&shared.tail, tail_phase);
            tail_phase ^= 1;
            for (int i = rows * SWIZZLE_BYTES / 16 + threadIdx.x; i < C::N * SWIZZLE_BYTES / 16; i += 32) {
#pragma unroll
                for (int panel = 0; panel < C::DV_PANELS; ++panel) {
                    *(uint4 *)(slot + panel * C::N * SWIZZLE_BYTES + i * 16) = make_uint4(0, 0, 0, 0);
                }
            }
            ptx::fence_proxy_async_shared();
            __syncwarp();
            if (leader) ptx::mbarrier_arrive(full);
        }
        v.advance();
    }
};

// ---- the multiplying warpgroups -----------------------------------------------------------------

template <class C> struct Consumer {
    const zf_flash_attention_params &p;
    AttentionShared<C> &shared;
    const int group;  // of the block's multiplying warpgroups
    RingState<C::Q_STAGES> q;
    RingState<C::STAGES> k, v;

    float score[C::N / 2];
    uint32_t probability[C::N_STEPS][4];
    float out[C::DV / 2];
    Softmax<C> softmax;

    __device__ __forceinline__ Consumer(const zf_flash_attention_params &p, AttentionShared<C> &shared, int group)
        : p(p), shared(shared), group(group) {}

    __device__ __forceinline__ uint32_t q_address() const { return ptx::shared_address(shared.q[q.slot]) + group * 64 * SWIZZLE_BYTES; }
    __device__ __forceinline__ uint32_t k_address() const { return ptx::shared_address(shared.k[k.slot]); }
    __device__ __forceinline__ uint32_t v_address() const { return ptx::shared_address(shared.v[v.slot]); }

    template <int STAGES> __device__ __forceinline__ void release(Ring<STAGES> &ring, RingState<STAGES> &state) {
        if (threadIdx.x % 32 == 0) ring.release(state);
        state.advance();
    }

    // Warpgroups take turns on the tensor cores, so that one computes exponentials while another multiplies.
    __device__ __forceinline__ void take_turn() {
        if (C::PING_PONG) ptx::bar_sync(1 + group, 256);
    }
    __device__ __forceinline__ void pass_turn() {
        if (C::PING_PONG) ptx::bar_arrive(1 + (group + 1) % C::GROUPS, 256);
    }

    // Probabilities of 16-bit types lie as A wants them (register 4 * j + 2 * h + e of the scores: row h). Of 8-bit types
    // A wants four neighbours: keys 2q and 2q + 1 of two blocks of eight are taken for them (attention/transpose.cuh).
    __device__ __forceinline__ void pack() {
#pragma unroll
        for (int i = 0; i < C::N_STEPS; ++i)
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                if constexpr (C::FP8) {
                    const int at = 16 * i + 8 * (r / 2) + 2 * (r % 2);
                    probability[i][r] = Pair<zf_e4m3>::of(score[at], score[at + 1]) | Pair<zf_e4m3>::of(score[at + 4], score[at + 5]) << 16;
                } else {
                    probability[i][r] = Pair<typename C::T>::of(score[8 * i + 2 * r], score[8 * i + 2 * r + 1]);
                }
            }
    }

    template <bool MASKED>
    __device__ __forceinline__ void edit_scores(const Sequence &s, const TileCoordinates &t, const Rows<C> &rows, int tile, float scale) {
        if (C::MODIFY) modify_scores<C>(score, p, s, rows, t.batch, tile, scale);
        if (MASKED) mask_range<C>(score, rows, tile);
    }

    // One tile of keys after the first: its scores, and the product of the tile before it.
    template <bool MASKED>
    __device__ __forceinline__ void step(const Sequence &s, const TileCoordinates &t, const Rows<C> &rows, int tile, float scale) {
        shared.k_ring.wait_full(k);
        take_turn();
        ptx::wgmma_fence();
        multiply_scores<C>(score, q_address(), k_address());
        ptx::wgmma_commit_group();
        shared.v_ring.wait_full(v);
        multiply_values<C>(out, probability, v_address());
        ptx::wgmma_commit_group();
        pass_turn();
        ptx::wgmma_wait_group<1>();
        ptx::keep(score);
        release(shared.k_ring, k);

        edit_scores<MASKED>(s, t, rows, tile, scale);
        float factor[2];
        const bool moved = softmax.move_base(score, factor);
        softmax.exponentials(score);
        softmax.end_of_block();

        ptx::wgmma_wait_group<0>();
        ptx::keep(out);
        release(shared.v_ring, v);
        if (moved) {
#pragma unroll
            for (int i = 0; i < C::DV / 2; ++i) out[i] *= factor[i / 2 % 2];
        }
        pack();
    }

    static __device__ __forceinline__ float descale(const zf_operand &of, int batch, int kv_head) {
        return ((const float *)of.address)[batch * of.stride[0] + kv_head * of.stride[1]];
    }

    __device__ __forceinline__ void tile(const Sequence &s, const TileCoordinates &t) {
        const int row = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        const Rows<C> rows(p, s, t, row);
        const KeyTiles<C> tiles(p, s, t.block);
        float scale = p.scale, value_scale = 1.0f;
        if (C::FP8) {
            const int kv_head = t.head / ((int)p.heads / C::PACK / (int)p.kv_heads);
            scale *= descale(p.q_descale, t.batch, kv_head) * descale(p.k_descale, t.batch, kv_head);
            value_scale = descale(p.v_descale, t.batch, kv_head);
        }
        softmax.begin(C::MODIFY ? 1.0f : scale * LOG2_E);
        if (C::SINK) {
#pragma unroll
            for (int h = 0; h < 2; ++h)
                softmax.sink(h, ((const float *)p.sinks.address)[t.batch * p.sinks.stride[0] + rows.head[h] * p.sinks.stride[1]]);
        }
#pragma unroll
        for (int i = 0; i < C::DV / 2; ++i) out[i] = 0.0f;
        if (!tiles.empty()) {
            shared.q_ring.wait_full(q);
            shared.k_ring.wait_full(k);
            ptx::wgmma_fence();
            multiply_scores<C>(score, q_address(), k_address());
            ptx::wgmma_commit_group();
            ptx::wgmma_wait_group<0>();
            ptx::keep(score);
            release(shared.k_ring, k);
            int n = tiles.end - 1;
            edit_scores<true>(s, t, rows, n, scale);
            float factor[2];
            softmax.move_base(score, factor);
            softmax.exponentials(score);
            pack();

            if (C::UNEVEN) {
#pragma unroll 1
                for (--n; n >= max(tiles.first, tiles.whole_end); --n) step<true>(s, t, rows, n, scale);
                ++n;
            }
            const int whole = C::WINDOW_LEFT || C::CHUNK ? max(tiles.first, tiles.whole_first) : tiles.first;
#pragma unroll 1
            for (--n; n >= whole; --n) step<false>(s, t, rows, n, scale);
            if (C::WINDOW_LEFT || C::CHUNK) {
#pragma unroll 1
                for (; n >= tiles.first; --n) step<true>(s, t, rows, n, scale);
            }
            release(shared.q_ring, q);

            shared.v_ring.wait_full(v);
            ptx::wgmma_fence();
            multiply_values<C>(out, probability, v_address());
            ptx::wgmma_commit_group();
            ptx::wgmma_wait_group<0>();
            ptx::keep(out);
            release(shared.v_ring, v);
        }
        softmax.finish();
        store_tile<C>(p, s, rows, t.batch, out, softmax, value_scale);
    }

    __device__ __forceinline__ void run() {
        if (C::PING_PONG && group == C::GROUPS - 1) ptx::bar_arrive(1, 256);
        TileCoordinates t;
#pragma unroll 1
        for (TileScheduler<C> scheduler(p); scheduler.tile(t); scheduler.next()) {
            const Sequence s = Sequence::of<C>(p, t.batch);
            if (t.block * C::M >= s.queries * C::PACK) continue;
            tile(s, t);
        }
        // The last warpgroup's last turn is passed to nobody.
        if (C::PING_PONG && group == 0) ptx::bar_sync(1, 256);
    }
};

}  // namespace zf
