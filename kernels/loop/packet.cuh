// Neighbouring elements that are read and written together, 16 bytes at a time where there are as many.
#pragma once

#include "ptx/global.cuh"

namespace zf {

template <bool FIRST, class A, class B> struct pick { using type = A; };
template <class A, class B> struct pick<false, A, B> { using type = B; };

template <class T, int N> struct Packet {
    static constexpr int BYTES = N * (int)sizeof(T);
    static constexpr int ACCESS = BYTES < 16 ? BYTES : 16;
    using Word = typename pick<sizeof(T) == 8, uint64_t, uint32_t>::type;
    alignas(ACCESS) T element[N];
};

// `from` is a multiple of the packet's size, or of 16 if that is less.
template <class T, int N> ZF_INLINE Packet<T, N> load_packet(const T *from) {
    using P = Packet<T, N>;
    P packet;
    if constexpr (P::BYTES < 4) {
#pragma unroll
        for (int e = 0; e < N; ++e) packet.element[e] = from[e];
    } else {
#pragma unroll
        for (int at = 0; at < P::BYTES; at += P::ACCESS) {
            typename P::Word words[P::ACCESS / sizeof(typename P::Word)];
            const unsigned char *const piece = (const unsigned char *)from + at;
            if constexpr (sizeof(T) == 8) ptx::ld_global_v2(words, piece);
            else if constexpr (P::ACCESS == 16) ptx::ld_global_v4(words, piece);
            else if constexpr (P::ACCESS == 8) ptx::ld_global_v2(words, piece);
            else ptx::ld_global(words, piece);
            memcpy((unsigned char *)packet.element + at, words, P::ACCESS);
        }
    }
    return packet;
}

template <class T, int N> ZF_INLINE void store_packet(T *to, const Packet<T, N> &packet) {
    using P = Packet<T, N>;
    if constexpr (P::BYTES < 4) {
#pragma unroll
        for (int e = 0; e < N; ++e) to[e] = packet.element[e];
    } else {
#pragma unroll
        for (int at = 0; at < P::BYTES; at += P::ACCESS) {
            typename P::Word words[P::ACCESS / sizeof(typename P::Word)];
            unsigned char *const piece = (unsigned char *)to + at;
            memcpy(words, (const unsigned char *)packet.element + at, P::ACCESS);
            if constexpr (sizeof(T) == 8) ptx::st_global_v2(piece, words);
            else if constexpr (P::ACCESS == 16) ptx::st_global_v4(piece, words);
            else if constexpr (P::ACCESS == 8) ptx::st_global_v2(piece, words);
            else ptx::st_global(piece, words);
        }
    }
}

}  // namespace zf
