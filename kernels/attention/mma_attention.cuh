// Attention on mma.sync: softmax(Q K^T * scale + mask) V without storing scores.
//
// A block takes 64 queries of one head, 16 per warp, and walks the keys in blocks; rows keep a running
// maximum and sum (FlashAttention-2: Dao, 2023, algorithm 1). K of the next block arrives while the
// softmax runs, V while the scores are computed.
#pragma once

namespace zf {

enum class MaskKind { NONE, BOOL, ADDITIVE };

template <class T_, class S_, int D_, int DV_, int KEYS_, MaskKind MASK_, class MaskType_, bool CAUSAL_, bool WINDOW_>
struct AttentionTile {
    using T = T_;
    using S = S_;
    using MaskType = MaskType_;
    static constexpr int D = D_, DV = DV_, KEYS = KEYS_;
    static constexpr MaskKind MASK = MASK_;
    static constexpr bool CAUSAL = CAUSAL_, WINDOW = WINDOW_;
    static constexpr int QUERIES = 64, THREADS = 128;
    // Padded with zeros to whole fragments.
    static constexpr int DP = (D + 15) / 16 * 16, DVP = (DV + 15) / 16 * 16;
    static constexpr int PAD = 16 / (int)sizeof(S);
    static constexpr int K_PITCH = DP + PAD, V_PITCH = DVP + PAD;
    static constexpr int SHARED_BYTES = ((QUERIES + KEYS) * K_PITCH + KEYS * V_PITCH) * (int)sizeof(S);
};

// The scores of 16 keys of a warp as the A operand of the second product.
template <class S> struct Probabilities {
    // 16-bit: the layout of the result is the layout of A.
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        return (uint32_t)convert<S>::from(low).bits | (uint32_t)convert<S>::from(high).bits << 16;
    }
    template <int NI>
    static __device__ __forceinline__ void multiply(float (&out)[4], float (&second)[4], const float (&p)[NI][4], int step,
                                                    const S *v, int pitch) {
        typename Mma<S>::A a;
        a.r[0] = pack(p[2 * step][0], p[2 * step][1]);
        a.r[1] = pack(p[2 * step][2], p[2 * step][3]);
        a.r[2] = pack(p[2 * step + 1][0], p[2 * step + 1][1]);
        a.r[3] = pack(p[2 * step + 1][2], p[2 * step + 1][3]);
        typename Mma<S>::B b[2];
        Mma<S>::load_b2_kn(b, v + step * 16 * pitch, pitch);
        Mma<S>::mma(out, a, b[0]);
        Mma<S>::mma(second, a, b[1]);
    }
};

template <> struct Probabilities<float> {
    // tf32: lane t holds keys 2t and 2t + 1 where A wants t and t + 4. The order of a contraction is
    // free, so V's rows are taken in the same order instead.
    template <int NI>
    static __device__ __forceinline__ void multiply(float (&out)[4], float (&second)[4], const float (&p)[NI][4], int step,
                                                    const float *v, int pitch) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int j = 2 * step + half;
            Mma<float>::A a;
            Mma<float>::put(a.big[0], a.small[0], p[j][0]);
            Mma<float>::put(a.big[1], a.small[1], p[j][2]);
            Mma<float>::put(a.big[2], a.small[2], p[j][1]);
            Mma<float>::put(a.big[3], a.small[3], p[j][3]);
            const float *const row = v + (j * 8 + 2 * (lane % 4)) * pitch + lane / 4;
            Mma<float>::B b;
            Mma<float>::put(b.big[0], b.small[0], row[0]);
            Mma<float>::put(b.big[1], b.small[1], row[pitch]);
            Mma<float>::mma(out, a, b);
            Mma<float>::put(b.big[0], b.small[0], row[8]);
            Mma<float>::put(b.big[1], b.small[1], row[pitch + 8]);
            Mma<float>::mma(second, a, b);
        }
    }
};

template <class C> ZF_INLINE void mma_attention(const zf_attention_params &p, void *shared) {
    using T = typename C::T;
    using S = typename C::S;
    using M = Mma<S>;
    constexpr int NI = C::KEYS / 8, OI = C::DVP / 8;
    const float LOG2_E = 1.44269504088896341f;
    S *const tile_q = (S *)shared;
    S *const tile_k = tile_q + C::QUERIES * C::K_PITCH;
    S *const tile_v = tile_k + C::KEYS * C::K_PITCH;

    const int64_t blocks = (p.queries + C::QUERIES - 1) / C::QUERIES;
    int64_t rest = blockIdx.x;
    // Causal: later queries see more keys, so they start first.
    const int64_t block = blocks - 1 - rest % blocks; rest /= blocks;
    const int64_t head = rest % p.heads, batch = rest / p.heads;
    const int64_t i0 = block * C::QUERIES;
    const int64_t kv_head = head / (p.heads / p.kv_heads);
    const T *const q = (const T *)p.q.address + batch * p.q.stride[0] + head * p.q.stride[1] + i0 * p.q.stride[2];
    const T *const k = (const T *)p.k.address + batch * p.k.stride[0] + kv_head * p.k.stride[1];
    const T *const v = (const T *)p.v.address + batch * p.v.stride[0] + kv_head * p.v.stride[1];
    T *const o = (T *)p.o.address + batch * p.o.stride[0] + head * p.o.stride[1];
    using MaskType = typename C::MaskType;
    const MaskType *const mask = (const MaskType *)p.mask.address + batch * p.mask.stride[0] + head * p.mask.stride[1];

    // Keys that some query of the block sees.
    int64_t low = 0, high = p.keys;
    if (C::CAUSAL) {
        const int64_t last = i0 + C::QUERIES + p.offset;
        high = last < high ? (last < 0 ? 0 : last) : high;
    }
    if (C::WINDOW) {
        const int64_t first = i0 + p.offset - p.window + 1;
        low = first > 0 ? first / C::KEYS * C::KEYS : 0;
    }

    const bool whole_q = copies_whole<T, S>(q, p.q.stride[2]);
    const bool whole_k = copies_whole<T, S>(k, p.k.stride[2]);
    const bool whole_v = copies_whole<T, S>(v, p.v.stride[2]);
    auto load_k = [&](int64_t j0) {
        load_tile<C::THREADS, C::KEYS, C::DP, C::K_PITCH>(tile_k, k + j0 * p.k.stride[2], p.k.stride[2], p.keys - j0, C::D,
                                                          whole_k);
    };
    load_tile<C::THREADS, C::QUERIES, C::DP, C::K_PITCH>(tile_q, q, p.q.stride[2], p.queries - i0, C::D, whole_q);
    if (low < high) load_k(low);
    ptx::cp_async_commit_group();

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t row0 = i0 + warp * 16 + lane / 4;  // and row0 + 8
    float out[OI][4];
#pragma unroll
    for (int x = 0; x < OI; ++x)
#pragma unroll
        for (int e = 0; e < 4; ++e) out[x][e] = 0.0f;
    float top[2] = {-ZF_INF, -ZF_INF}, sum[2] = {0.0f, 0.0f};
    const float scale = p.scale * LOG2_E;

    for (int64_t j0 = low; j0 < high; j0 += C::KEYS) {
        load_tile<C::THREADS, C::KEYS, C::DVP, C::V_PITCH>(tile_v, v + j0 * p.v.stride[2], p.v.stride[2], p.keys - j0, C::DV,
                                                           whole_v);
        ptx::cp_async_commit_group();
        ptx::cp_async_wait_group<1>();
        __syncthreads();  // K is here.
        float s[NI][4];
#pragma unroll
        for (int j = 0; j < NI; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) s[j][e] = 0.0f;
#pragma unroll
        for (int kk = 0; kk < C::DP; kk += M::K) {
            typename M::A a;
            M::load_a(a, tile_q + warp * 16 * C::K_PITCH + kk, C::K_PITCH);
#pragma unroll
            for (int j = 0; j < NI; j += 2) {
                typename M::B b[2];
                M::load_b2_nk(b, tile_k + j * 8 * C::K_PITCH + kk, C::K_PITCH);
                M::mma(s[j], a, b[0]);
                M::mma(s[j + 1], a, b[1]);
            }
        }
        __syncthreads();  // Everybody has read K.
        if (j0 + C::KEYS < high) load_k(j0 + C::KEYS);
        ptx::cp_async_commit_group();

#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int64_t row = row0 + half * 8;
            const int64_t position = row + p.offset;
            float m = top[half];
#pragma unroll
            for (int j = 0; j < NI; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const int64_t key = j0 + j * 8 + lane % 4 * 2 + e;
                    float &x = s[j][half * 2 + e];
                    x *= scale;
                    bool visible = key < p.keys;
                    if (C::CAUSAL) visible = visible && key <= position;
                    if (C::WINDOW) visible = visible && key > position - p.window;
                    if (C::MASK != MaskKind::NONE && visible && row < p.queries) {
                        const MaskType w = mask[row * p.mask.stride[2] + key * p.mask.stride[3]];
                        if constexpr (C::MASK == MaskKind::BOOL) visible = w != 0;
                        else if constexpr (C::MASK == MaskKind::ADDITIVE) x += (float)load(w) * LOG2_E;
                    }
                    x = visible ? x : -ZF_INF;
                    m = x > m ? x : m;
                }
            m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
            m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
            // A row that sees nothing yet subtracts 0 so that exp2(-inf) is 0, not NaN.
            const float base = m == -ZF_INF ? 0.0f : m;
            const float rescale = exp2f(top[half] - base);
            float total = 0.0f;
#pragma unroll
            for (int j = 0; j < NI; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    float &x = s[j][half * 2 + e];
                    x = exp2f(x - base);
                    total += x;
                }
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            sum[half] = sum[half] * rescale + total;
            top[half] = m;
#pragma unroll
            for (int x = 0; x < OI; ++x) {
                out[x][half * 2] *= rescale;
                out[x][half * 2 + 1] *= rescale;
            }
        }

        ptx::cp_async_wait_group<1>();
        __syncthreads();  // V is here.
#pragma unroll
        for (int step = 0; step < C::KEYS / 16; ++step)
#pragma unroll
            for (int x = 0; x < OI; x += 2)
                Probabilities<S>::template multiply<NI>(out[x], out[x + 1], s, step, tile_v + x * 8, C::V_PITCH);
        __syncthreads();  // Everybody has read V.
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int64_t row = row0 + half * 8;
        if (row >= p.queries) continue;
        const float inverse = sum[half] == 0.0f ? 0.0f : 1.0f / sum[half];
        T *const to = o + row * p.o.stride[2];
#pragma unroll
        for (int x = 0; x < OI; ++x)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int column = x * 8 + lane % 4 * 2 + e;
                if (column < C::DV) to[column] = convert<T>::from(out[x][half * 2 + e] * inverse);
            }
    }
}

}  // namespace zf
