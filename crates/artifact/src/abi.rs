//! Parameter blocks of hand-written kernels. Written by `cargo xtask codegen` from
//! `kernels/include/zeroforge/abi.h`, where the fields are explained; do not edit.
#![allow(missing_docs, reason = "documented in the header")]
#![allow(non_camel_case_types, reason = "the names of the header")]
#![allow(rustdoc::broken_intra_doc_links, reason = "brackets are C's")]
#![allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]

pub const ZF_ABI_VERSION: u32 = 1;
pub const ZF_MAX_EPILOGUE_OPERANDS: u32 = 6;
#[doc = " A strided view: address of the first element and strides in elements."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct zf_operand {
    pub address: u64,
    pub stride: [i64; 4usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_operand"][::core::mem::size_of::<zf_operand>() - 40usize];
    ["Alignment of zf_operand"][::core::mem::align_of::<zf_operand>() - 8usize];
    ["Offset of field: zf_operand::address"][::core::mem::offset_of!(zf_operand, address) - 0usize];
    ["Offset of field: zf_operand::stride"][::core::mem::offset_of!(zf_operand, stride) - 8usize];
};
#[doc = " C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n]).\n a.stride = {b0, b1, row, 1}; b.stride = {b0, b1, row, 1} where a row is a k (KN layout) or an n\n (NK layout), and {b0, b1, panel, 1} for packed panels; c.stride = {b0, b1, row, 1}."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct zf_gemm_params {
    pub a: zf_operand,
    pub b: zf_operand,
    pub c: zf_operand,
    pub batch: [i64; 2usize],
    pub m: i64,
    pub n: i64,
    pub k: i64,
    pub extra: [zf_operand; 6usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_gemm_params"][::core::mem::size_of::<zf_gemm_params>() - 400usize];
    ["Alignment of zf_gemm_params"][::core::mem::align_of::<zf_gemm_params>() - 8usize];
    ["Offset of field: zf_gemm_params::a"][::core::mem::offset_of!(zf_gemm_params, a) - 0usize];
    ["Offset of field: zf_gemm_params::b"][::core::mem::offset_of!(zf_gemm_params, b) - 40usize];
    ["Offset of field: zf_gemm_params::c"][::core::mem::offset_of!(zf_gemm_params, c) - 80usize];
    ["Offset of field: zf_gemm_params::batch"]
        [::core::mem::offset_of!(zf_gemm_params, batch) - 120usize];
    ["Offset of field: zf_gemm_params::m"][::core::mem::offset_of!(zf_gemm_params, m) - 136usize];
    ["Offset of field: zf_gemm_params::n"][::core::mem::offset_of!(zf_gemm_params, n) - 144usize];
    ["Offset of field: zf_gemm_params::k"][::core::mem::offset_of!(zf_gemm_params, k) - 152usize];
    ["Offset of field: zf_gemm_params::extra"]
        [::core::mem::offset_of!(zf_gemm_params, extra) - 160usize];
};
#[doc = " O = softmax(Q K^T * scale + mask) V. Strides of q, k, v, o are {batch, head, row, 1}; of mask\n {batch, head, query, key}, 0 where broadcast. With qpos = i + offset, key j is visible iff\n j <= qpos (causal kernels) and j > qpos - window (window kernels)."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct zf_attention_params {
    pub q: zf_operand,
    pub k: zf_operand,
    pub v: zf_operand,
    pub o: zf_operand,
    pub mask: zf_operand,
    pub batch: i64,
    pub heads: i64,
    pub kv_heads: i64,
    pub queries: i64,
    pub keys: i64,
    pub offset: i64,
    pub window: i64,
    #[doc = " 4-byte aligned, followed by 4 bytes of padding"]
    pub scale: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_attention_params"][::core::mem::size_of::<zf_attention_params>() - 264usize];
    ["Alignment of zf_attention_params"][::core::mem::align_of::<zf_attention_params>() - 8usize];
    ["Offset of field: zf_attention_params::q"]
        [::core::mem::offset_of!(zf_attention_params, q) - 0usize];
    ["Offset of field: zf_attention_params::k"]
        [::core::mem::offset_of!(zf_attention_params, k) - 40usize];
    ["Offset of field: zf_attention_params::v"]
        [::core::mem::offset_of!(zf_attention_params, v) - 80usize];
    ["Offset of field: zf_attention_params::o"]
        [::core::mem::offset_of!(zf_attention_params, o) - 120usize];
    ["Offset of field: zf_attention_params::mask"]
        [::core::mem::offset_of!(zf_attention_params, mask) - 160usize];
    ["Offset of field: zf_attention_params::batch"]
        [::core::mem::offset_of!(zf_attention_params, batch) - 200usize];
    ["Offset of field: zf_attention_params::heads"]
        [::core::mem::offset_of!(zf_attention_params, heads) - 208usize];
    ["Offset of field: zf_attention_params::kv_heads"]
        [::core::mem::offset_of!(zf_attention_params, kv_heads) - 216usize];
    ["Offset of field: zf_attention_params::queries"]
        [::core::mem::offset_of!(zf_attention_params, queries) - 224usize];
    ["Offset of field: zf_attention_params::keys"]
        [::core::mem::offset_of!(zf_attention_params, keys) - 232usize];
    ["Offset of field: zf_attention_params::offset"]
        [::core::mem::offset_of!(zf_attention_params, offset) - 240usize];
    ["Offset of field: zf_attention_params::window"]
        [::core::mem::offset_of!(zf_attention_params, window) - 248usize];
    ["Offset of field: zf_attention_params::scale"]
        [::core::mem::offset_of!(zf_attention_params, scale) - 256usize];
    ["Offset of field: zf_attention_params::reserved"]
        [::core::mem::offset_of!(zf_attention_params, reserved) - 260usize];
};
#[doc = " A KV cache that sequences of different lengths share. Strides of k and v are {unit, head, row, 1}, where a unit is\n a sequence of a dense cache or a page of a paged one. Addresses of tables are 0 where there is no table."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct zf_kv_cache {
    pub k: zf_operand,
    pub v: zf_operand,
    #[doc = " int32 [batch]: rows that are filled; without it, `capacity`"]
    pub lengths: u64,
    #[doc = " int32 [batch]: rows at the start that do not count"]
    pub left_padding: u64,
    #[doc = " int32 [batch]: the sequence's unit in a dense cache; without it, its number"]
    pub batch_index: u64,
    #[doc = " int32 [batch, table_stride]: the page of rows page_rows * i .."]
    pub page_table: u64,
    pub table_stride: i64,
    pub page_rows: i64,
    #[doc = " units that there are"]
    pub units: i64,
    #[doc = " rows that a sequence may have"]
    pub capacity: i64,
    #[doc = " rows that are added behind `lengths` before attention reads"]
    pub appended: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_kv_cache"][::core::mem::size_of::<zf_kv_cache>() - 152usize];
    ["Alignment of zf_kv_cache"][::core::mem::align_of::<zf_kv_cache>() - 8usize];
    ["Offset of field: zf_kv_cache::k"][::core::mem::offset_of!(zf_kv_cache, k) - 0usize];
    ["Offset of field: zf_kv_cache::v"][::core::mem::offset_of!(zf_kv_cache, v) - 40usize];
    ["Offset of field: zf_kv_cache::lengths"]
        [::core::mem::offset_of!(zf_kv_cache, lengths) - 80usize];
    ["Offset of field: zf_kv_cache::left_padding"]
        [::core::mem::offset_of!(zf_kv_cache, left_padding) - 88usize];
    ["Offset of field: zf_kv_cache::batch_index"]
        [::core::mem::offset_of!(zf_kv_cache, batch_index) - 96usize];
    ["Offset of field: zf_kv_cache::page_table"]
        [::core::mem::offset_of!(zf_kv_cache, page_table) - 104usize];
    ["Offset of field: zf_kv_cache::table_stride"]
        [::core::mem::offset_of!(zf_kv_cache, table_stride) - 112usize];
    ["Offset of field: zf_kv_cache::page_rows"]
        [::core::mem::offset_of!(zf_kv_cache, page_rows) - 120usize];
    ["Offset of field: zf_kv_cache::units"][::core::mem::offset_of!(zf_kv_cache, units) - 128usize];
    ["Offset of field: zf_kv_cache::capacity"]
        [::core::mem::offset_of!(zf_kv_cache, capacity) - 136usize];
    ["Offset of field: zf_kv_cache::appended"]
        [::core::mem::offset_of!(zf_kv_cache, appended) - 144usize];
};
#[doc = " Attention of a few queries over a KV cache. Strides of q and o are {batch, head, query, 1}. Query i stands at row\n c = length - queries + i and sees rows max(padding, c - left) .. min(length, c + right + 1)."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct zf_decode_params {
    pub q: zf_operand,
    pub o: zf_operand,
    pub cache: zf_kv_cache,
    #[doc = " f32 [batch, heads, queries], base e, or 0"]
    pub lse: u64,
    #[doc = " f32 [splits, batch, queries, heads, value dim]"]
    pub partial_o: u64,
    #[doc = " f32 [splits, batch, queries, heads], base 2"]
    pub partial_lse: u64,
    #[doc = " f32 [heads]: a logit without a value, or 0"]
    pub sinks: u64,
    #[doc = " f32 [heads]: of ALiBi"]
    pub slopes: u64,
    #[doc = " f32 [batch, kv_heads], or 0"]
    pub k_descale: u64,
    pub v_descale: u64,
    #[doc = " [rotary_positions, rotary dim / 2], type of q"]
    pub cos: u64,
    pub sin: u64,
    pub rotary_positions: i64,
    #[doc = " 1: query i is rotated by position lengths + i; 0: all by lengths"]
    pub rotary_advances: i64,
    pub batch: i64,
    pub heads: i64,
    pub kv_heads: i64,
    pub queries: i64,
    pub splits: i64,
    #[doc = " rows before c that are seen"]
    pub left: i64,
    #[doc = " and behind it"]
    pub right: i64,
    #[doc = " 4-byte aligned, as the next"]
    pub scale: f32,
    pub softcap: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_decode_params"][::core::mem::size_of::<zf_decode_params>() - 384usize];
    ["Alignment of zf_decode_params"][::core::mem::align_of::<zf_decode_params>() - 8usize];
    ["Offset of field: zf_decode_params::q"][::core::mem::offset_of!(zf_decode_params, q) - 0usize];
    ["Offset of field: zf_decode_params::o"]
        [::core::mem::offset_of!(zf_decode_params, o) - 40usize];
    ["Offset of field: zf_decode_params::cache"]
        [::core::mem::offset_of!(zf_decode_params, cache) - 80usize];
    ["Offset of field: zf_decode_params::lse"]
        [::core::mem::offset_of!(zf_decode_params, lse) - 232usize];
    ["Offset of field: zf_decode_params::partial_o"]
        [::core::mem::offset_of!(zf_decode_params, partial_o) - 240usize];
    ["Offset of field: zf_decode_params::partial_lse"]
        [::core::mem::offset_of!(zf_decode_params, partial_lse) - 248usize];
    ["Offset of field: zf_decode_params::sinks"]
        [::core::mem::offset_of!(zf_decode_params, sinks) - 256usize];
    ["Offset of field: zf_decode_params::slopes"]
        [::core::mem::offset_of!(zf_decode_params, slopes) - 264usize];
    ["Offset of field: zf_decode_params::k_descale"]
        [::core::mem::offset_of!(zf_decode_params, k_descale) - 272usize];
    ["Offset of field: zf_decode_params::v_descale"]
        [::core::mem::offset_of!(zf_decode_params, v_descale) - 280usize];
    ["Offset of field: zf_decode_params::cos"]
        [::core::mem::offset_of!(zf_decode_params, cos) - 288usize];
    ["Offset of field: zf_decode_params::sin"]
        [::core::mem::offset_of!(zf_decode_params, sin) - 296usize];
    ["Offset of field: zf_decode_params::rotary_positions"]
        [::core::mem::offset_of!(zf_decode_params, rotary_positions) - 304usize];
    ["Offset of field: zf_decode_params::rotary_advances"]
        [::core::mem::offset_of!(zf_decode_params, rotary_advances) - 312usize];
    ["Offset of field: zf_decode_params::batch"]
        [::core::mem::offset_of!(zf_decode_params, batch) - 320usize];
    ["Offset of field: zf_decode_params::heads"]
        [::core::mem::offset_of!(zf_decode_params, heads) - 328usize];
    ["Offset of field: zf_decode_params::kv_heads"]
        [::core::mem::offset_of!(zf_decode_params, kv_heads) - 336usize];
    ["Offset of field: zf_decode_params::queries"]
        [::core::mem::offset_of!(zf_decode_params, queries) - 344usize];
    ["Offset of field: zf_decode_params::splits"]
        [::core::mem::offset_of!(zf_decode_params, splits) - 352usize];
    ["Offset of field: zf_decode_params::left"]
        [::core::mem::offset_of!(zf_decode_params, left) - 360usize];
    ["Offset of field: zf_decode_params::right"]
        [::core::mem::offset_of!(zf_decode_params, right) - 368usize];
    ["Offset of field: zf_decode_params::scale"]
        [::core::mem::offset_of!(zf_decode_params, scale) - 376usize];
    ["Offset of field: zf_decode_params::softcap"]
        [::core::mem::offset_of!(zf_decode_params, softcap) - 380usize];
};
#[doc = " Partial results of splits into one: o as in zf_decode_params."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct zf_combine_params {
    pub o: zf_operand,
    pub partial_o: u64,
    pub partial_lse: u64,
    pub lse: u64,
    pub sinks: u64,
    pub batch: i64,
    pub heads: i64,
    pub queries: i64,
    pub splits: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_combine_params"][::core::mem::size_of::<zf_combine_params>() - 104usize];
    ["Alignment of zf_combine_params"][::core::mem::align_of::<zf_combine_params>() - 8usize];
    ["Offset of field: zf_combine_params::o"]
        [::core::mem::offset_of!(zf_combine_params, o) - 0usize];
    ["Offset of field: zf_combine_params::partial_o"]
        [::core::mem::offset_of!(zf_combine_params, partial_o) - 40usize];
    ["Offset of field: zf_combine_params::partial_lse"]
        [::core::mem::offset_of!(zf_combine_params, partial_lse) - 48usize];
    ["Offset of field: zf_combine_params::lse"]
        [::core::mem::offset_of!(zf_combine_params, lse) - 56usize];
    ["Offset of field: zf_combine_params::sinks"]
        [::core::mem::offset_of!(zf_combine_params, sinks) - 64usize];
    ["Offset of field: zf_combine_params::batch"]
        [::core::mem::offset_of!(zf_combine_params, batch) - 72usize];
    ["Offset of field: zf_combine_params::heads"]
        [::core::mem::offset_of!(zf_combine_params, heads) - 80usize];
    ["Offset of field: zf_combine_params::queries"]
        [::core::mem::offset_of!(zf_combine_params, queries) - 88usize];
    ["Offset of field: zf_combine_params::splits"]
        [::core::mem::offset_of!(zf_combine_params, splits) - 96usize];
};
#[doc = " New rows into a KV cache. Strides of k and v are {batch, head, row, 1}."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct zf_append_params {
    pub k: zf_operand,
    pub v: zf_operand,
    pub cache: zf_kv_cache,
    pub k_descale: u64,
    pub v_descale: u64,
    pub cos: u64,
    pub sin: u64,
    pub rotary_positions: i64,
    pub batch: i64,
    pub kv_heads: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_append_params"][::core::mem::size_of::<zf_append_params>() - 288usize];
    ["Alignment of zf_append_params"][::core::mem::align_of::<zf_append_params>() - 8usize];
    ["Offset of field: zf_append_params::k"][::core::mem::offset_of!(zf_append_params, k) - 0usize];
    ["Offset of field: zf_append_params::v"]
        [::core::mem::offset_of!(zf_append_params, v) - 40usize];
    ["Offset of field: zf_append_params::cache"]
        [::core::mem::offset_of!(zf_append_params, cache) - 80usize];
    ["Offset of field: zf_append_params::k_descale"]
        [::core::mem::offset_of!(zf_append_params, k_descale) - 232usize];
    ["Offset of field: zf_append_params::v_descale"]
        [::core::mem::offset_of!(zf_append_params, v_descale) - 240usize];
    ["Offset of field: zf_append_params::cos"]
        [::core::mem::offset_of!(zf_append_params, cos) - 248usize];
    ["Offset of field: zf_append_params::sin"]
        [::core::mem::offset_of!(zf_append_params, sin) - 256usize];
    ["Offset of field: zf_append_params::rotary_positions"]
        [::core::mem::offset_of!(zf_append_params, rotary_positions) - 264usize];
    ["Offset of field: zf_append_params::batch"]
        [::core::mem::offset_of!(zf_append_params, batch) - 272usize];
    ["Offset of field: zf_append_params::kv_heads"]
        [::core::mem::offset_of!(zf_append_params, kv_heads) - 280usize];
};
