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
