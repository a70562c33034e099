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
#[derive(Debug, Copy, Clone, PartialEq)]
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
#[doc = " A tensor map (CUtensorMap of the CUDA driver API): what tensor copies read and write by. Encoded by the\n driver; 64-byte aligned."]
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct zf_tensor_map {
    pub opaque: [u64; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_tensor_map"][::core::mem::size_of::<zf_tensor_map>() - 128usize];
    ["Alignment of zf_tensor_map"][::core::mem::align_of::<zf_tensor_map>() - 64usize];
    ["Offset of field: zf_tensor_map::opaque"]
        [::core::mem::offset_of!(zf_tensor_map, opaque) - 0usize];
};
#[doc = " C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n]).\n a.stride = {b0, b1, row, 1}; b.stride = {b0, b1, row, 1} where a row is a k (KN layout) or an n\n (NK layout), and {b0, b1, panel, 1} for packed panels; c.stride = {b0, b1, row, 1}."]
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
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
#[doc = " C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n]) by tensor copies and wgmma\n (kernels/gemm/). The maps' coordinates, innermost first: a {k, m, b1, b0} or {m, k, b1, b0}, b {k, n, b1, b0}\n or {n, k, b1, b0}, c {n, m, b1, b0} or, transposed, {m, n, b1, b0}. Convolutions: a {channel, x, y, z, image},\n b {channel, tap, filter}, c {filter, x, y, z, image}."]
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct zf_tensor_gemm_params {
    pub a_map: zf_tensor_map,
    pub b_map: zf_tensor_map,
    #[doc = " where the kernel stores by tensor copies"]
    pub c_map: zf_tensor_map,
    #[doc = " strides {b0, b1, row, column}"]
    pub c: zf_operand,
    pub extra: [zf_operand; 6usize],
    #[doc = " f32, strides {b0, b1, row, block of k}"]
    pub a_scale: zf_operand,
    #[doc = " f32, strides {b0, b1, block of columns, block of k}"]
    pub b_scale: zf_operand,
    #[doc = " f32 [b0, b1, row, tile of columns]"]
    pub row_squares: u64,
    #[doc = " int32 [groups]: rows of A up to the end of each group"]
    pub group_ends: u64,
    #[doc = " f32: sums of parts of K"]
    pub partials: u64,
    #[doc = " int32, zero before and after"]
    pub counters: u64,
    pub batch: [i32; 2usize],
    #[doc = " 1 where the operand has the batch axis, 0 where it is shared"]
    pub a_batch: [i32; 2usize],
    pub b_batch: [i32; 2usize],
    pub m: i32,
    #[doc = " columns of C"]
    pub n: i32,
    #[doc = " of a convolution: channels"]
    pub k: i32,
    pub groups: i32,
    #[doc = " row tiles that are walked together"]
    pub band: i32,
    #[doc = " of a convolution: x, y, z, images"]
    pub output: [i32; 4usize],
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_tensor_gemm_params"][::core::mem::size_of::<zf_tensor_gemm_params>() - 896usize];
    ["Alignment of zf_tensor_gemm_params"]
        [::core::mem::align_of::<zf_tensor_gemm_params>() - 64usize];
    ["Offset of field: zf_tensor_gemm_params::a_map"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, a_map) - 0usize];
    ["Offset of field: zf_tensor_gemm_params::b_map"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, b_map) - 128usize];
    ["Offset of field: zf_tensor_gemm_params::c_map"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, c_map) - 256usize];
    ["Offset of field: zf_tensor_gemm_params::c"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, c) - 384usize];
    ["Offset of field: zf_tensor_gemm_params::extra"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, extra) - 424usize];
    ["Offset of field: zf_tensor_gemm_params::a_scale"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, a_scale) - 664usize];
    ["Offset of field: zf_tensor_gemm_params::b_scale"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, b_scale) - 704usize];
    ["Offset of field: zf_tensor_gemm_params::row_squares"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, row_squares) - 744usize];
    ["Offset of field: zf_tensor_gemm_params::group_ends"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, group_ends) - 752usize];
    ["Offset of field: zf_tensor_gemm_params::partials"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, partials) - 760usize];
    ["Offset of field: zf_tensor_gemm_params::counters"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, counters) - 768usize];
    ["Offset of field: zf_tensor_gemm_params::batch"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, batch) - 776usize];
    ["Offset of field: zf_tensor_gemm_params::a_batch"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, a_batch) - 784usize];
    ["Offset of field: zf_tensor_gemm_params::b_batch"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, b_batch) - 792usize];
    ["Offset of field: zf_tensor_gemm_params::m"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, m) - 800usize];
    ["Offset of field: zf_tensor_gemm_params::n"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, n) - 804usize];
    ["Offset of field: zf_tensor_gemm_params::k"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, k) - 808usize];
    ["Offset of field: zf_tensor_gemm_params::groups"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, groups) - 812usize];
    ["Offset of field: zf_tensor_gemm_params::band"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, band) - 816usize];
    ["Offset of field: zf_tensor_gemm_params::output"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, output) - 820usize];
    ["Offset of field: zf_tensor_gemm_params::reserved"]
        [::core::mem::offset_of!(zf_tensor_gemm_params, reserved) - 836usize];
};
#[doc = " O = softmax(Q K^T * scale + mask) V. Strides of q, k, v, o are {batch, head, row, 1}; of mask\n {batch, head, query, key}, 0 where broadcast. With qpos = i + offset, key j is visible iff\n j <= qpos (causal kernels) and j > qpos - window (window kernels)."]
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
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
#[doc = " O = softmax(score(Q K^T)) V by tensor copies and warpgroup products (kernels/attention/forward.cuh). Strides of o and\n lse are {batch, head, row}; of mask {batch, head, query, key}; of slopes and sinks {batch, head}; of descales\n {batch, kv head}. Operands that an instance does not have are zero. Sequence b of a ragged batch is rows\n cu_queries[b] .. cu_queries[b + 1] of q, o and lse, whose batch strides are then not used, and likewise of k and v;\n of a padded one the first used_queries[b] and used_keys[b] rows. With position p = i + offset (offset = keys -\n queries of the sequence where either is an array), key j is visible to query i iff it exists and\n   j >= p - window_left, j <= p + window_right or j < prefix, floor(j / chunk) = floor(p / chunk),\n as far as the instance has these rules."]
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct zf_flash_attention_params {
    pub q: zf_tensor_map,
    pub k: zf_tensor_map,
    pub v: zf_tensor_map,
    pub o: zf_operand,
    pub lse: zf_operand,
    pub mask: zf_operand,
    pub slopes: zf_operand,
    pub sinks: zf_operand,
    pub q_descale: zf_operand,
    pub k_descale: zf_operand,
    pub v_descale: zf_operand,
    #[doc = " int32_t[batch + 1]"]
    pub cu_queries: u64,
    pub cu_keys: u64,
    #[doc = " int32_t[batch]"]
    pub used_queries: u64,
    pub used_keys: u64,
    pub batch: i64,
    pub heads: i64,
    pub kv_heads: i64,
    #[doc = " of the longest sequence"]
    pub queries: i64,
    pub keys: i64,
    pub offset: i64,
    pub window_left: i64,
    pub window_right: i64,
    pub prefix: i64,
    pub chunk: i64,
    pub scale: f32,
    pub softcap: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_flash_attention_params"]
        [::core::mem::size_of::<zf_flash_attention_params>() - 832usize];
    ["Alignment of zf_flash_attention_params"]
        [::core::mem::align_of::<zf_flash_attention_params>() - 64usize];
    ["Offset of field: zf_flash_attention_params::q"]
        [::core::mem::offset_of!(zf_flash_attention_params, q) - 0usize];
    ["Offset of field: zf_flash_attention_params::k"]
        [::core::mem::offset_of!(zf_flash_attention_params, k) - 128usize];
    ["Offset of field: zf_flash_attention_params::v"]
        [::core::mem::offset_of!(zf_flash_attention_params, v) - 256usize];
    ["Offset of field: zf_flash_attention_params::o"]
        [::core::mem::offset_of!(zf_flash_attention_params, o) - 384usize];
    ["Offset of field: zf_flash_attention_params::lse"]
        [::core::mem::offset_of!(zf_flash_attention_params, lse) - 424usize];
    ["Offset of field: zf_flash_attention_params::mask"]
        [::core::mem::offset_of!(zf_flash_attention_params, mask) - 464usize];
    ["Offset of field: zf_flash_attention_params::slopes"]
        [::core::mem::offset_of!(zf_flash_attention_params, slopes) - 504usize];
    ["Offset of field: zf_flash_attention_params::sinks"]
        [::core::mem::offset_of!(zf_flash_attention_params, sinks) - 544usize];
    ["Offset of field: zf_flash_attention_params::q_descale"]
        [::core::mem::offset_of!(zf_flash_attention_params, q_descale) - 584usize];
    ["Offset of field: zf_flash_attention_params::k_descale"]
        [::core::mem::offset_of!(zf_flash_attention_params, k_descale) - 624usize];
    ["Offset of field: zf_flash_attention_params::v_descale"]
        [::core::mem::offset_of!(zf_flash_attention_params, v_descale) - 664usize];
    ["Offset of field: zf_flash_attention_params::cu_queries"]
        [::core::mem::offset_of!(zf_flash_attention_params, cu_queries) - 704usize];
    ["Offset of field: zf_flash_attention_params::cu_keys"]
        [::core::mem::offset_of!(zf_flash_attention_params, cu_keys) - 712usize];
    ["Offset of field: zf_flash_attention_params::used_queries"]
        [::core::mem::offset_of!(zf_flash_attention_params, used_queries) - 720usize];
    ["Offset of field: zf_flash_attention_params::used_keys"]
        [::core::mem::offset_of!(zf_flash_attention_params, used_keys) - 728usize];
    ["Offset of field: zf_flash_attention_params::batch"]
        [::core::mem::offset_of!(zf_flash_attention_params, batch) - 736usize];
    ["Offset of field: zf_flash_attention_params::heads"]
        [::core::mem::offset_of!(zf_flash_attention_params, heads) - 744usize];
    ["Offset of field: zf_flash_attention_params::kv_heads"]
        [::core::mem::offset_of!(zf_flash_attention_params, kv_heads) - 752usize];
    ["Offset of field: zf_flash_attention_params::queries"]
        [::core::mem::offset_of!(zf_flash_attention_params, queries) - 760usize];
    ["Offset of field: zf_flash_attention_params::keys"]
        [::core::mem::offset_of!(zf_flash_attention_params, keys) - 768usize];
    ["Offset of field: zf_flash_attention_params::offset"]
        [::core::mem::offset_of!(zf_flash_attention_params, offset) - 776usize];
    ["Offset of field: zf_flash_attention_params::window_left"]
        [::core::mem::offset_of!(zf_flash_attention_params, window_left) - 784usize];
    ["Offset of field: zf_flash_attention_params::window_right"]
        [::core::mem::offset_of!(zf_flash_attention_params, window_right) - 792usize];
    ["Offset of field: zf_flash_attention_params::prefix"]
        [::core::mem::offset_of!(zf_flash_attention_params, prefix) - 800usize];
    ["Offset of field: zf_flash_attention_params::chunk"]
        [::core::mem::offset_of!(zf_flash_attention_params, chunk) - 808usize];
    ["Offset of field: zf_flash_attention_params::scale"]
        [::core::mem::offset_of!(zf_flash_attention_params, scale) - 816usize];
    ["Offset of field: zf_flash_attention_params::softcap"]
        [::core::mem::offset_of!(zf_flash_attention_params, softcap) - 820usize];
};
#[doc = " A KV cache that sequences of different lengths share. Strides of k and v are {unit, head, row, 1}, where a unit is\n a sequence of a dense cache or a page of a paged one. Addresses of tables are 0 where there is no table."]
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
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
#[derive(Debug, Copy, Clone, PartialEq)]
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
#[doc = " The same with maps of the cache for tensor copies: dimensions {column, row, head, unit}."]
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct zf_decode_tensor_params {
    pub k: zf_tensor_map,
    pub v: zf_tensor_map,
    pub decode: zf_decode_params,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of zf_decode_tensor_params"]
        [::core::mem::size_of::<zf_decode_tensor_params>() - 640usize];
    ["Alignment of zf_decode_tensor_params"]
        [::core::mem::align_of::<zf_decode_tensor_params>() - 64usize];
    ["Offset of field: zf_decode_tensor_params::k"]
        [::core::mem::offset_of!(zf_decode_tensor_params, k) - 0usize];
    ["Offset of field: zf_decode_tensor_params::v"]
        [::core::mem::offset_of!(zf_decode_tensor_params, v) - 128usize];
    ["Offset of field: zf_decode_tensor_params::decode"]
        [::core::mem::offset_of!(zf_decode_tensor_params, decode) - 256usize];
};
#[doc = " Partial results of splits into one: o as in zf_decode_params."]
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
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
#[derive(Debug, Copy, Clone, PartialEq)]
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
