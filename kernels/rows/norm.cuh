// Layer norm and RMS norm of rows, a residual added before and the result quantised after: one read, one write.
//
// A row lies in the registers of the threads that share it: a warp, or a block. The variance is of the centred values.
#pragma once

#include "rows/row.cuh"

namespace zf {

struct NormParams {
    Rows x;
    Rows residual;
    Rows sum;  // x + residual, rounded to its type; may be x or residual itself
    Rows out;
    uint64_t weight;
    uint64_t bias;
    uint64_t scales;  // f32 [rows]: quantised values times this are the result
    int64_t rows;
    float eps;
    float reserved;
};

// Quantised types: largest magnitude, and V values as bytes.
struct e4m3 {
    static constexpr float LARGEST = 448.0f;
    uint8_t bits;
};
struct s8 {
    static constexpr float LARGEST = 127.0f;
    uint8_t bits;
};
template <class T> struct quantised { static constexpr bool value = false; };
template <> struct quantised<e4m3> { static constexpr bool value = true; };
template <> struct quantised<s8> { static constexpr bool value = true; };

template <int V> ZF_INLINE Packet<e4m3, V> quantise(e4m3, const float *v) {
    Packet<e4m3, V> packet;
#pragma unroll
    for (int e = 0; e < V; e += 2) {
        const uint16_t two = ptx::cvt_rn_satfinite_e4m3x2_f32(e + 1 < V ? v[e + 1] : 0.0f, v[e]);
        packet.element[e].bits = (uint8_t)two;
        if (e + 1 < V) packet.element[e + 1].bits = (uint8_t)(two >> 8);
    }
    return packet;
}
template <int V> ZF_INLINE Packet<s8, V> quantise(s8, const float *v) {
    Packet<s8, V> packet;
#pragma unroll
    for (int e = 0; e < V; ++e) {
        const int32_t nearest = zf_f32_to_i32(rintf(v[e]));
        packet.element[e].bits = (uint8_t)min(max(nearest, -127), 127);
    }
    return packet;
}

template <class T, class W, class Out, int V, int WIDTH, int THREADS, int LANES, bool LAYER, bool RESIDUAL, bool SUM,
          bool WEIGHT, bool BIAS>
ZF_INLINE void norm(const NormParams &p) {
    constexpr int TURNS = (WIDTH / V + LANES - 1) / LANES;
    __shared__ __align__(16) unsigned char scratch[LANES > 32 ? 16 * LANES / 32 : 16];
    const int lane = (int)threadIdx.x % LANES;
    const int64_t row = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const uint32_t members = LANES > 32 ? 0xffffffffu : __ballot_sync(0xffffffffu, row < p.rows);
    if (row >= p.rows) return;
    float v[TURNS * V];
    float sum = 0.0f;
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        const int at = (turn * LANES + lane) * V;
#pragma unroll
        for (int e = 0; e < V; ++e) v[turn * V + e] = 0.0f;
        if (at >= WIDTH) continue;
        const Packet<T, V> x = load_packet<T, V>(row_of<const T>(p.x, row) + at);
        Packet<T, V> r, s;
        if (RESIDUAL) r = load_packet<T, V>(row_of<const T>(p.residual, row) + at);
#pragma unroll
        for (int e = 0; e < V; ++e) {
            float value = load(x.element[e]);
            if (RESIDUAL) {
                s.element[e] = convert<T>::from(value + load(r.element[e]));
                value = load(s.element[e]);
            }
            v[turn * V + e] = value;
            sum += LAYER ? value : value * value;
        }
        if (SUM) store_packet<T, V>(row_of<T>(p.sum, row) + at, s);
    }
    sum = fold<LANES>(sum, Sum(), scratch, members);
    if (LAYER) {
        const float mean = sum / (float)WIDTH;
        sum = 0.0f;
#pragma unroll
        for (int turn = 0; turn < TURNS; ++turn) {
            if ((turn * LANES + lane) * V >= WIDTH) continue;
#pragma unroll
            for (int e = 0; e < V; ++e) {
                v[turn * V + e] -= mean;
                sum += v[turn * V + e] * v[turn * V + e];
            }
        }
        sum = fold<LANES>(sum, Sum(), scratch, members);
    }
    const float scale = 1.0f / sqrtf(sum / (float)WIDTH + p.eps);
    float largest = 0.0f;
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        const int at = (turn * LANES + lane) * V;
        if (at >= WIDTH) continue;
        Packet<W, V> w, b;
        if (WEIGHT) w = load_packet<W, V>((const W *)p.weight + at);
        if (BIAS) b = load_packet<W, V>((const W *)p.bias + at);
        float y[V];
#pragma unroll
        for (int e = 0; e < V; ++e) {
            y[e] = v[turn * V + e] * scale;
            if (WEIGHT) y[e] *= load(w.element[e]);
            if (BIAS) y[e] += load(b.element[e]);
            v[turn * V + e] = y[e];
            largest = Max()(largest, fabsf(y[e]));
        }
        if constexpr (!quantised<Out>::value) {
            Packet<Out, V> out;
#pragma unroll
            for (int e = 0; e < V; ++e) out.element[e] = convert<Out>::from(y[e]);
            store_packet<Out, V>(row_of<Out>(p.out, row) + at, out);
        }
    }
    if constexpr (quantised<Out>::value) {
        largest = fold<LANES>(largest, Max(), scratch, members);
        if (lane == 0) ((float *)p.scales)[row] = largest / Out::LARGEST;
        // A row of zeros has the scale 0 and zeros.
        const float inverse = largest == 0.0f ? 0.0f : fminf(Out::LARGEST / largest, 3.0e38f);
#pragma unroll
        for (int turn = 0; turn < TURNS; ++turn) {
            const int at = (turn * LANES + lane) * V;
            if (at >= WIDTH) continue;
            float scaled[V];
#pragma unroll
            for (int e = 0; e < V; ++e) scaled[e] = v[turn * V + e] * inverse;
            store_packet<Out, V>(row_of<Out>(p.out, row) + at, quantise<V>(Out(), scaled));
        }
    }
}

}  // namespace zf
