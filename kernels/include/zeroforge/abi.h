/* Parameter blocks that generated programs pass to kernels, by value on CUDA and by pointer on the
 * CPU. Plain C99, no headers but stdint.h: this is the only input of the Rust bindings (cargo xtask
 * codegen). Every field is 8-byte aligned except where said; layouts never change without a new
 * ZF_ABI_VERSION, which is written into every artifact. */
#ifndef ZEROFORGE_ABI_H
#define ZEROFORGE_ABI_H

#if !defined(__CUDACC_RTC__)
#include <stdint.h>
#else
typedef int int32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#endif

#define ZF_ABI_VERSION 1
#define ZF_MAX_EPILOGUE_OPERANDS 6

/* A strided view: address of the first element and strides in elements. */
typedef struct zf_operand {
    uint64_t address;
    int64_t stride[4];
} zf_operand;

/* A tensor map (CUtensorMap of the CUDA driver API): what tensor copies read and write by. Encoded by the
 * driver; 64-byte aligned. */
typedef struct __attribute__((aligned(64))) zf_tensor_map {
    uint64_t opaque[16];
} zf_tensor_map;

/* C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n]).
 * a.stride = {b0, b1, row, 1}; b.stride = {b0, b1, row, 1} where a row is a k (KN layout) or an n
 * (NK layout), and {b0, b1, panel, 1} for packed panels; c.stride = {b0, b1, row, 1}. */
typedef struct zf_gemm_params {
    zf_operand a;
    zf_operand b;
    zf_operand c;
    int64_t batch[2];
    int64_t m;
    int64_t n;
    int64_t k;
    zf_operand extra[ZF_MAX_EPILOGUE_OPERANDS];
} zf_gemm_params;

/* C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n]) by tensor copies and wgmma
 * (kernels/gemm/). The maps' coordinates, innermost first: a {k, m, b1, b0} or {m, k, b1, b0}, b {k, n, b1, b0}
 * or {n, k, b1, b0}, c {n, m, b1, b0} or, transposed, {m, n, b1, b0}. Convolutions: a {channel, x, y, z, image},
 * b {channel, tap, filter}, c {filter, x, y, z, image}. */
typedef struct zf_tensor_gemm_params {
    zf_tensor_map a_map;
    zf_tensor_map b_map;
    zf_tensor_map c_map; /* where the kernel stores by tensor copies */
    zf_operand c;        /* strides {b0, b1, row, column} */
    zf_operand extra[ZF_MAX_EPILOGUE_OPERANDS];
    zf_operand a_scale; /* f32, strides {b0, b1, row, block of k} */
    zf_operand b_scale; /* f32, strides {b0, b1, block of columns, block of k} */
    uint64_t row_squares; /* f32 [b0, b1, row, tile of columns] */
    uint64_t group_ends;  /* int32 [groups]: rows of A up to the end of each group */
    uint64_t partials;    /* f32: sums of parts of K */
    uint64_t counters;    /* int32, zero before and after */
    int32_t batch[2];
    int32_t a_batch[2]; /* 1 where the operand has the batch axis, 0 where it is shared */
    int32_t b_batch[2];
    int32_t m;
    int32_t n; /* columns of C */
    int32_t k; /* of a convolution: channels */
    int32_t groups;
    int32_t band;      /* row tiles that are walked together */
    int32_t output[4]; /* of a convolution: x, y, z, images */
    int32_t reserved;
} zf_tensor_gemm_params;

/* O = softmax(Q K^T * scale + mask) V. Strides of q, k, v, o are {batch, head, row, 1}; of mask
 * {batch, head, query, key}, 0 where broadcast. With qpos = i + offset, key j is visible iff
 * j <= qpos (causal kernels) and j > qpos - window (window kernels). */
typedef struct zf_attention_params {
    zf_operand q;
    zf_operand k;
    zf_operand v;
    zf_operand o;
    zf_operand mask;
    int64_t batch;
    int64_t heads;
    int64_t kv_heads;
    int64_t queries;
    int64_t keys;
    int64_t offset;
    int64_t window;
    float scale; /* 4-byte aligned, followed by 4 bytes of padding */
    int32_t reserved;
} zf_attention_params;

/* O = softmax(score(Q K^T)) V by tensor copies and warpgroup products (kernels/attention/forward.cuh). Strides of o and
 * lse are {batch, head, row}; of mask {batch, head, query, key}; of slopes and sinks {batch, head}; of descales
 * {batch, kv head}. Operands that an instance does not have are zero. Sequence b of a ragged batch is rows
 * cu_queries[b] .. cu_queries[b + 1] of q, o and lse, whose batch strides are then not used, and likewise of k and v;
 * of a padded one the first used_queries[b] and used_keys[b] rows. With position p = i + offset (offset = keys -
 * queries of the sequence where either is an array), key j is visible to query i iff it exists and
 *   j >= p - window_left, j <= p + window_right or j < prefix, floor(j / chunk) = floor(p / chunk),
 * as far as the instance has these rules. */
typedef struct zf_flash_attention_params {
    zf_tensor_map q;
    zf_tensor_map k;
    zf_tensor_map v;
    zf_operand o;
    zf_operand lse;
    zf_operand mask;
    zf_operand slopes;
    zf_operand sinks;
    zf_operand q_descale;
    zf_operand k_descale;
    zf_operand v_descale;
    uint64_t cu_queries; /* int32_t[batch + 1] */
    uint64_t cu_keys;
    uint64_t used_queries; /* int32_t[batch] */
    uint64_t used_keys;
    int64_t batch;
    int64_t heads;
    int64_t kv_heads;
    int64_t queries; /* of the longest sequence */
    int64_t keys;
    int64_t offset;
    int64_t window_left;
    int64_t window_right;
    int64_t prefix;
    int64_t chunk;
    float scale;
    float softcap;
} zf_flash_attention_params;

/* A KV cache that sequences of different lengths share. Strides of k and v are {unit, head, row, 1}, where a unit is
 * a sequence of a dense cache or a page of a paged one. Addresses of tables are 0 where there is no table. */
typedef struct zf_kv_cache {
    zf_operand k;
    zf_operand v;
    uint64_t lengths;      /* int32 [batch]: rows that are filled; without it, `capacity` */
    uint64_t left_padding; /* int32 [batch]: rows at the start that do not count */
    uint64_t batch_index;  /* int32 [batch]: the sequence's unit in a dense cache; without it, its number */
    uint64_t page_table;   /* int32 [batch, table_stride]: the page of rows page_rows * i .. */
    int64_t table_stride;
    int64_t page_rows;
    int64_t units;    /* units that there are */
    int64_t capacity; /* rows that a sequence may have */
    int64_t appended; /* rows that are added behind `lengths` before attention reads */
} zf_kv_cache;

/* Attention of a few queries over a KV cache. Strides of q and o are {batch, head, query, 1}. Query i stands at row
 * c = length - queries + i and sees rows max(padding, c - left) .. min(length, c + right + 1). */
typedef struct zf_decode_params {
    zf_operand q;
    zf_operand o;
    zf_kv_cache cache;
    uint64_t lse;         /* f32 [batch, heads, queries], base e, or 0 */
    uint64_t partial_o;   /* f32 [splits, batch, queries, heads, value dim] */
    uint64_t partial_lse; /* f32 [splits, batch, queries, heads], base 2 */
    uint64_t sinks;       /* f32 [heads]: a logit without a value, or 0 */
    uint64_t slopes;      /* f32 [heads]: of ALiBi */
    uint64_t k_descale;   /* f32 [batch, kv_heads], or 0 */
    uint64_t v_descale;
    uint64_t cos; /* [rotary_positions, rotary dim / 2], type of q */
    uint64_t sin;
    int64_t rotary_positions;
    int64_t rotary_advances; /* 1: query i is rotated by position lengths + i; 0: all by lengths */
    int64_t batch;
    int64_t heads;
    int64_t kv_heads;
    int64_t queries;
    int64_t splits;
    int64_t left;  /* rows before c that are seen */
    int64_t right; /* and behind it */
    float scale;   /* 4-byte aligned, as the next */
    float softcap;
} zf_decode_params;

/* The same with maps of the cache for tensor copies: dimensions {column, row, head, unit}. */
typedef struct zf_decode_tensor_params {
    zf_tensor_map k;
    zf_tensor_map v;
    zf_decode_params decode;
} zf_decode_tensor_params;

/* Partial results of splits into one: o as in zf_decode_params. */
typedef struct zf_combine_params {
    zf_operand o;
    uint64_t partial_o;
    uint64_t partial_lse;
    uint64_t lse;
    uint64_t sinks;
    int64_t batch;
    int64_t heads;
    int64_t queries;
    int64_t splits;
} zf_combine_params;

/* New rows into a KV cache. Strides of k and v are {batch, head, row, 1}. */
typedef struct zf_append_params {
    zf_operand k;
    zf_operand v;
    zf_kv_cache cache;
    uint64_t k_descale;
    uint64_t v_descale;
    uint64_t cos;
    uint64_t sin;
    int64_t rotary_positions;
    int64_t batch;
    int64_t kv_heads;
} zf_append_params;

/* A CPU entry point: tasks [begin, end) of the step, on worker `worker`, with that worker's scratch
 * memory (64-byte aligned, of the size that the kernel declares). */
typedef void (*zf_cpu_entry)(const void *params, int64_t begin, int64_t end, int64_t worker, void *scratch);

#endif
