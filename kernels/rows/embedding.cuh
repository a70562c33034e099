// Rows of a table by index; an index outside of the table gives a row of zeros.
#pragma once

#include "rows/row.cuh"

namespace zf {

struct EmbeddingParams {
    Rows table;
    uint64_t indices;
    Rows out;
    int64_t table_rows;
    int64_t count;
};

template <class T, class Index, int V, int WIDTH> ZF_INLINE void embedding(const EmbeddingParams &p) {
    constexpr int PACKETS = WIDTH / V;
    const int64_t item = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= p.count * PACKETS) return;
    const int64_t row = item / PACKETS, at = item % PACKETS * V;
    const int64_t index = ((const Index *)p.indices)[row];
    Packet<T, V> packet = {};
    if (index >= 0 && index < p.table_rows) packet = load_packet<T, V>(row_of<const T>(p.table, index) + at);
    store_packet<T, V>(row_of<T>(p.out, row) + at, packet);
}

}  // namespace zf
