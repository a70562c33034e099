//! One launch of a kernel spec: its operands and sizes, before memory has addresses.
//!
//! A launch has one form whatever kernel a target takes for it. [`Launch::block`] is the parameter block of the
//! spec (`abi.h`), in which many kernels take it and in which references always do; a kernel with a block of its
//! own (tensor maps) is given the same launch by its backend.

use std::mem::{offset_of, size_of};

use zeroforge_artifact::Expr;
use zeroforge_artifact::abi::{zf_attention_params, zf_gemm_params, zf_operand};

use crate::loop_ir::LoopSizes;
use crate::lower::StorageId;

/// A strided view of a storage: `zf_operand` of `abi.h`.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The memory.
    pub storage: StorageId,
    /// Where its first element is, in elements.
    pub offset: Expr,
    /// Element strides; unused ones are zero.
    pub strides: [Expr; 4],
}

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub enum Launch {
    /// Of a [`crate::kernel_spec::KernelSpec::Loop`].
    Loop(LoopLaunch),
    /// Of a [`crate::kernel_spec::KernelSpec::Gemm`].
    Gemm(Box<GemmLaunch>),
    /// Of a [`crate::kernel_spec::KernelSpec::Attention`].
    Attention(Box<AttentionLaunch>),
}

/// A launch of a loop nest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopLaunch {
    /// First element of each operand: storage, and elements from its start.
    pub operands: Vec<(StorageId, Expr)>,
    /// Its integers.
    pub ints: Vec<Expr>,
    /// Its index spaces.
    pub sizes: LoopSizes,
}

/// A launch of a contraction.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmLaunch {
    /// Strides over (b0, b1, m, k).
    pub a: View,
    /// Strides over (b0, b1, row or panel); which, the spec's layout says.
    pub b: View,
    /// Strides over (b0, b1, m, n).
    pub c: View,
    /// What the epilogue loads; strides over (b0, b1, m, n).
    pub extra: Vec<View>,
    /// Batch extents.
    pub batch: [Expr; 2],
    /// Rows.
    pub m: Expr,
    /// Columns.
    pub n: Expr,
    /// Contraction length.
    pub k: Expr,
}

/// A launch of attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionLaunch {
    /// Strides over (batch, head, row, element), as of `k`, `v` and `o`.
    pub q: View,
    /// Keys.
    pub k: View,
    /// Values.
    pub v: View,
    /// The result.
    pub o: View,
    /// Strides over (batch, head, query, key), zero where it is broadcast.
    pub mask: Option<View>,
    /// Batch.
    pub batch: Expr,
    /// Query heads.
    pub heads: Expr,
    /// Heads of keys and values.
    pub kv_heads: Expr,
    /// Queries.
    pub queries: Expr,
    /// Keys.
    pub keys: Expr,
    /// Position of query 0 among the keys.
    pub offset: Expr,
    /// Keys that a query sees, of window kernels.
    pub window: Expr,
    /// Factor of scores.
    pub scale: f32,
}

/// A value of a parameter block, before storages have addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// Address of an element of a storage.
    Address {
        /// The memory.
        storage: StorageId,
        /// Elements from its start.
        offset: Expr,
    },
    /// A 64-bit integer.
    I64(Expr),
    /// A 32-bit float.
    F32(f32),
}

/// A parameter block under construction: byte offsets and values.
#[derive(Default)]
struct Block(Vec<(u32, Arg)>);

impl Block {
    fn view(&mut self, at: usize, view: &View) {
        self.address(at + offset_of!(zf_operand, address), view.storage, &view.offset);
        for (i, stride) in view.strides.iter().enumerate() {
            self.int(at + offset_of!(zf_operand, stride) + 8 * i, stride);
        }
    }

    fn address(&mut self, at: usize, storage: StorageId, offset: &Expr) {
        self.0.push((at as u32, Arg::Address { storage, offset: offset.clone() }));
    }

    fn int(&mut self, at: usize, value: &Expr) {
        self.0.push((at as u32, Arg::I64(value.clone())));
    }
}

impl Launch {
    /// The parameter block of the spec; bytes not covered are zero.
    pub fn block(&self) -> Vec<(u32, Arg)> {
        let mut block = Block::default();
        match self {
            Launch::Loop(launch) => {
                for (i, (storage, offset)) in launch.operands.iter().enumerate() {
                    block.address(8 * i, *storage, offset);
                }
                for (i, value) in launch.ints.iter().enumerate() {
                    block.int(8 * (launch.operands.len() + i), value);
                }
            }
            Launch::Gemm(launch) => {
                block.view(offset_of!(zf_gemm_params, a), &launch.a);
                block.view(offset_of!(zf_gemm_params, b), &launch.b);
                block.view(offset_of!(zf_gemm_params, c), &launch.c);
                for (i, view) in launch.extra.iter().enumerate() {
                    block.view(
                        offset_of!(zf_gemm_params, extra) + i * size_of::<zf_operand>(),
                        view,
                    );
                }
                for (at, value) in [
                    (offset_of!(zf_gemm_params, batch), &launch.batch[0]),
                    (offset_of!(zf_gemm_params, batch) + 8, &launch.batch[1]),
                    (offset_of!(zf_gemm_params, m), &launch.m),
                    (offset_of!(zf_gemm_params, n), &launch.n),
                    (offset_of!(zf_gemm_params, k), &launch.k),
                ] {
                    block.int(at, value);
                }
            }
            Launch::Attention(launch) => {
                block.view(offset_of!(zf_attention_params, q), &launch.q);
                block.view(offset_of!(zf_attention_params, k), &launch.k);
                block.view(offset_of!(zf_attention_params, v), &launch.v);
                block.view(offset_of!(zf_attention_params, o), &launch.o);
                if let Some(mask) = &launch.mask {
                    block.view(offset_of!(zf_attention_params, mask), mask);
                }
                for (at, value) in [
                    (offset_of!(zf_attention_params, batch), &launch.batch),
                    (offset_of!(zf_attention_params, heads), &launch.heads),
                    (offset_of!(zf_attention_params, kv_heads), &launch.kv_heads),
                    (offset_of!(zf_attention_params, queries), &launch.queries),
                    (offset_of!(zf_attention_params, keys), &launch.keys),
                    (offset_of!(zf_attention_params, offset), &launch.offset),
                    (offset_of!(zf_attention_params, window), &launch.window),
                ] {
                    block.int(at, value);
                }
                let scale = offset_of!(zf_attention_params, scale) as u32;
                block.0.push((scale, Arg::F32(launch.scale)));
            }
        }
        block.0.sort_by_key(|(at, _)| *at);
        block.0
    }
}
