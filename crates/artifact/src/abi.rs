//! Parameter blocks of hand-written kernels, as `kernels/include/zeroforge/abi.h` lays them out.

/// Version of the layouts below, written into every artifact.
pub const ZF_ABI_VERSION: u32 = 1;
/// Most extra operands of a contraction's epilogue.
pub const ZF_MAX_EPILOGUE_OPERANDS: usize = 6;

/// A strided view: address of the first element and strides in elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct zf_operand {
    /// Address of the first element.
    pub address: u64,
    /// Elements between neighbours per axis.
    pub stride: [i64; 4],
}

/// See `zf_gemm_params` in the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "documented in the header")]
pub struct zf_gemm_params {
    pub a: zf_operand,
    pub b: zf_operand,
    pub c: zf_operand,
    pub batch: [i64; 2],
    pub m: i64,
    pub n: i64,
    pub k: i64,
    pub extra: [zf_operand; ZF_MAX_EPILOGUE_OPERANDS],
}

/// See `zf_attention_params` in the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "documented in the header")]
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
    pub scale: f32,
    pub reserved: i32,
}
