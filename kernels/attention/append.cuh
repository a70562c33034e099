// New keys and values into a KV cache, dense or paged: keys rotated by their position, both narrowed where the cache
// is e4m3.
#pragma once

#include "attention/decode_cache.cuh"
#include "attention/decode_rotary.cuh"
#include "ptx/wgmma.cuh"

namespace zf {

constexpr int APPEND_THREADS = 256;

template <class T, class Cache> ZF_INLINE void store_piece(Cache *to, const float (&x)[8], float inverse_scale) {
    if constexpr (same<T, Cache>::value) {
        *(uint4 *)to = pack8<T>(x);
    } else {
        uint32_t words[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const uint32_t low = ptx::cvt_rn_satfinite_e4m3x2_f32(x[4 * i + 1] * inverse_scale, x[4 * i] * inverse_scale);
            const uint32_t high = ptx::cvt_rn_satfinite_e4m3x2_f32(x[4 * i + 3] * inverse_scale, x[4 * i + 2] * inverse_scale);
            words[i] = low | high << 16;
        }
        *(uint2 *)to = {words[0], words[1]};
    }
}

// A thread eight elements of a row; keys' pieces come before values'. Config as of decode.cuh.
template <class C> ZF_INLINE void append(const zf_append_params &p) {
    using T = typename C::T;
    using Cache = typename C::Cache;
    constexpr int K_PIECES = C::D / 8, PIECES = K_PIECES + (C::LATENT ? 0 : C::DV / 8);
    const int64_t index = (int64_t)blockIdx.x * APPEND_THREADS + threadIdx.x;
    const int piece = (int)(index % PIECES);
    const int64_t rows = index / PIECES;
    const int head = (int)(rows % p.kv_heads), token = (int)(rows / p.kv_heads % p.cache.appended);
    const int64_t batch = rows / p.kv_heads / p.cache.appended;
    if (batch >= p.batch) return;

    const CachedSequence s = cached_sequence<C::PAGED>(p.cache, (int)batch);
    const int row = s.filled + token;
    // What does not fit is dropped, as attention's length says.
    if (row >= s.length) return;
    const GroupPlace place = group_place<C::PAGED>(p.cache, s, row);
    if (place.unit < 0) return;

    const bool key = piece < K_PIECES;
    const zf_operand &source = key ? p.k : p.v, &cache = key ? p.cache.k : p.cache.v;
    const int column = 8 * (key ? piece : piece - K_PIECES);
    const T *const from = (const T *)source.address + batch * source.stride[0] + head * source.stride[1] + token * source.stride[2];
    float x[8];
    if (C::ROTARY > 0 && key) {
        const int64_t position = min((int64_t)row, p.rotary_positions - 1);
        load_rotated<T, C::ROTARY, C::INTERLEAVED>(x, from, piece, (const T *)p.cos + position * (C::ROTARY / 2),
                                                   (const T *)p.sin + position * (C::ROTARY / 2));
    } else {
        unpack8<T>(x, load_piece(from + column));
    }
    const uint64_t scales = key ? p.k_descale : p.v_descale;
    const float scale = scales ? ((const float *)scales)[batch * p.kv_heads + head] : 1.0f;
    Cache *const to = (Cache *)cache.address + (int64_t)place.unit * cache.stride[0] + head * cache.stride[1] +
                      (int64_t)place.row * cache.stride[2] + column;
    store_piece<T, Cache>(to, x, 1.0f / scale);
}

}  // namespace zf
