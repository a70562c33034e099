//! The plan of a launch of the forward kernel.

use std::mem::offset_of;

use zeroforge_artifact::Expr;
use zeroforge_artifact::abi::{zf_flash_attention_params as Block, zf_operand};
use zeroforge_artifact::program::{Param, ParamValue};
use zeroforge_artifact::tensor_map::{DataType, L2Promotion, Swizzle, TensorMap};

use super::forward::KERNEL;
use super::{Element, Forward, Lengths, Mask};
use crate::{Plan, Refusal};

/// Bytes of a panel's row.
const PANEL_BYTES: u32 = 128;

/// A strided view of a buffer, four axes.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The buffer's number.
    pub buffer: u32,
    /// Bytes from its start to element 0.
    pub offset: Expr,
    /// Strides in elements. Of Q, K, V and O `{batch, head, row, column}`; of a mask `{batch, head, query, key}`; of
    /// sums `{batch, head, row, -}`; of slopes and sinks `{batch, head, -, -}`. Ragged tensors have no batch axis.
    pub strides: [Expr; 4],
}

/// An array of `int32_t`.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The buffer's number.
    pub buffer: u32,
    /// Bytes from its start.
    pub offset: Expr,
}

/// The operands of a launch; those that the instance has must be given.
#[derive(Clone, Debug, PartialEq)]
pub struct Operands {
    /// Queries.
    pub q: View,
    /// Keys: a buffer of at least one row.
    pub k: View,
    /// Values: a buffer of at least one row.
    pub v: View,
    /// Result.
    pub o: View,
    /// Logarithms of sums, f32.
    pub lse: Option<View>,
    /// Mask.
    pub mask: Option<View>,
    /// Slopes, f32.
    pub slopes: Option<View>,
    /// Logits without a value, f32.
    pub sinks: Option<View>,
    /// What Q, K and V are multiplied by, f32 `{batch, KV head, -, -}`: of 8-bit floats.
    pub descales: Option<[View; 3]>,
    /// Lengths, or cuts of a ragged tensor.
    pub queries: Option<Array>,
    /// Lengths, or cuts of a ragged tensor.
    pub keys: Option<Array>,
}

/// Sizes and numbers of a launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Sequences.
    pub batch: Expr,
    /// Query heads: a multiple of `kv_heads`.
    pub heads: Expr,
    /// Key and value heads.
    pub kv_heads: Expr,
    /// Queries of the longest sequence.
    pub queries: Expr,
    /// Keys of the longest sequence.
    pub keys: Expr,
    /// Rows of a ragged Q.
    pub total_queries: Expr,
    /// Rows of a ragged K and V.
    pub total_keys: Expr,
    /// Position of query 0 among the keys, where all lengths are fixed.
    pub offset: Expr,
    /// Keys before a query's position that it sees.
    pub window_left: Expr,
    /// Keys after it.
    pub window_right: Expr,
    /// Keys that all see.
    pub prefix: Expr,
    /// Keys of a chunk, at least 1.
    pub chunk: Expr,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Bound of scores.
    pub softcap: f32,
}

impl Sizes {
    /// Of a batch of equal sequences: nothing hidden by numbers, queries the last of the keys (`offset`).
    pub fn dense(
        batch: Expr,
        heads: Expr,
        kv_heads: Expr,
        queries: Expr,
        keys: Expr,
        scale: f32,
    ) -> Sizes {
        let zero = || Expr::constant(0);
        Sizes {
            batch,
            heads,
            kv_heads,
            offset: keys.clone() - queries.clone(),
            queries,
            keys,
            total_queries: zero(),
            total_keys: zero(),
            window_left: zero(),
            window_right: zero(),
            prefix: zero(),
            chunk: Expr::constant(1),
            scale,
            softcap: 0.0,
        }
    }
}

impl Forward {
    /// How the instance is launched on operands.
    ///
    /// # Errors
    /// If an operand or number is outside of the contract.
    pub fn plan(&self, sizes: &Sizes, operands: &Operands) -> Result<Plan, Refusal> {
        let tile = self.tile()?;
        if !(sizes.scale > 0.0 && sizes.scale.is_finite()) {
            return Err(refuse(
                "scale",
                format!("is {}; it must be positive and finite", sizes.scale),
            ));
        }
        if self.softcap && !(sizes.softcap > 0.0 && sizes.softcap.is_finite()) {
            return Err(refuse(
                "softcap",
                format!("is {}; it must be positive and finite", sizes.softcap),
            ));
        }
        let group = match (sizes.heads.as_const(), sizes.kv_heads.as_const()) {
            (Some(heads), Some(kv)) if kv > 0 && heads > 0 && heads % kv == 0 => Some(heads / kv),
            (Some(heads), Some(kv)) => {
                return Err(refuse(
                    "heads",
                    format!("is {heads}; it must be a positive multiple of the {kv} KV heads"),
                ));
            }
            _ => None,
        };
        if self.pack > 1 && group != Some(i64::from(self.pack)) {
            return Err(refuse(
                "pack",
                format!("is {}; it must be the query heads per KV head, or 1", self.pack),
            ));
        }
        if self.chunk && sizes.chunk.as_const().is_some_and(|n| n < 1) {
            return Err(refuse("chunk", format!("is {}; it must be at least 1", sizes.chunk)));
        }

        let rows = |lengths, total: &Expr, longest: &Expr| {
            let rows = if lengths == Lengths::Ragged { total } else { longest };
            rows.maximum(&Expr::constant(1))
        };
        let query_rows = rows(self.queries, &sizes.total_queries, &sizes.queries);
        let key_rows = rows(self.keys, &sizes.total_keys, &sizes.keys);
        let one = Expr::constant(1);
        let query_batch = if self.queries == Lengths::Ragged { &one } else { &sizes.batch };
        let key_batch = if self.keys == Lengths::Ragged { &one } else { &sizes.batch };

        let mut block = ParamBlock(Vec::new());
        let q = self.query_map(&operands.q, tile.rows(), &query_rows, &sizes.heads, query_batch)?;
        block.map(offset_of!(Block, q), q);
        for (at, name, view, dim) in [
            (offset_of!(Block, k), "k", &operands.k, self.head_dim),
            (offset_of!(Block, v), "v", &operands.v, self.value_dim),
        ] {
            let map = self.map(
                name,
                view,
                dim,
                &[
                    (key_rows.clone(), view.strides[2].clone(), tile.keys),
                    (sizes.kv_heads.clone(), view.strides[1].clone(), 1),
                    (key_batch.clone(), view.strides[0].clone(), 1),
                ],
            )?;
            block.map(at, map);
        }

        Self::check_rows("o", &operands.o, 2)?;
        block.operand(offset_of!(Block, o), &operands.o);
        for (at, name, wanted, view) in [
            (offset_of!(Block, lse), "lse", self.lse, &operands.lse),
            (offset_of!(Block, mask), "mask", self.mask != Mask::None, &operands.mask),
            (offset_of!(Block, slopes), "slopes", self.slopes, &operands.slopes),
            (offset_of!(Block, sinks), "sinks", self.sinks, &operands.sinks),
        ] {
            if let Some(view) = given(name, wanted, view.as_ref())? {
                block.operand(at, view);
            }
        }
        let scaled = self.element == Element::E4m3;
        if let Some(descales) = given("descales", scaled, operands.descales.as_ref())? {
            for (at, view) in [
                offset_of!(Block, q_descale),
                offset_of!(Block, k_descale),
                offset_of!(Block, v_descale),
            ]
            .into_iter()
            .zip(descales)
            {
                block.operand(at, view);
            }
        }
        for (cu, used, name, lengths, array) in [
            (
                offset_of!(Block, cu_queries),
                offset_of!(Block, used_queries),
                "queries",
                self.queries,
                &operands.queries,
            ),
            (
                offset_of!(Block, cu_keys),
                offset_of!(Block, used_keys),
                "keys",
                self.keys,
                &operands.keys,
            ),
        ] {
            if let Some(array) = given(name, lengths != Lengths::Fixed, array.as_ref())? {
                let at = if lengths == Lengths::Ragged { cu } else { used };
                block.put(
                    at,
                    ParamValue::Address { buffer: array.buffer, offset: array.offset.clone() },
                );
            }
        }
        for (at, value) in [
            (offset_of!(Block, batch), &sizes.batch),
            (offset_of!(Block, heads), &sizes.heads),
            (offset_of!(Block, kv_heads), &sizes.kv_heads),
            (offset_of!(Block, queries), &sizes.queries),
            (offset_of!(Block, keys), &sizes.keys),
            (offset_of!(Block, offset), &sizes.offset),
            (offset_of!(Block, window_left), &sizes.window_left),
            (offset_of!(Block, window_right), &sizes.window_right),
            (offset_of!(Block, prefix), &sizes.prefix),
            (offset_of!(Block, chunk), &sizes.chunk),
        ] {
            block.put(at, ParamValue::I64(value.clone()));
        }
        block.put(offset_of!(Block, scale), ParamValue::F32Bits(sizes.scale.to_bits()));
        block.put(offset_of!(Block, softcap), ParamValue::F32Bits(sizes.softcap.to_bits()));

        let packed = Expr::constant(i64::from(self.pack));
        let tiles_of_head = (sizes.queries.clone() * packed.clone())
            .ceil_div(&Expr::constant(i64::from(tile.rows())));
        let heads = if self.pack > 1 { sizes.kv_heads.clone() } else { sizes.heads.clone() };
        Ok(Plan {
            grid: [
                tiles_of_head * heads * sizes.batch.clone(),
                Expr::constant(1),
                Expr::constant(1),
            ],
            params: block.0,
            workspace: Expr::constant(0),
        })
    }

    /// Q as boxes of a tile's rows: queries, or queries times the heads that share a KV head.
    fn query_map(
        &self,
        q: &View,
        rows: u32,
        queries: &Expr,
        heads: &Expr,
        batch: &Expr,
    ) -> Result<TensorMap, Refusal> {
        let [sb, sh, sr, _] = &q.strides;
        let head = (heads.clone(), sh.clone(), 1);
        let batch = (batch.clone(), sb.clone(), 1);
        if self.pack == 1 {
            return self.map(
                "q",
                q,
                self.head_dim,
                &[(queries.clone(), sr.clone(), rows), head, batch],
            );
        }
        let pack = Expr::constant(i64::from(self.pack));
        self.map(
            "q",
            q,
            self.head_dim,
            &[
                (pack.clone(), sh.clone(), self.pack),
                (queries.clone(), sr.clone(), rows / self.pack),
                (heads.floor_div(&pack), sh.clone() * pack, 1),
                batch,
            ],
        )
    }

    /// A tensor of rows of `columns`, whose other axes are (extent, stride in elements, box).
    fn map(
        &self,
        name: &str,
        view: &View,
        columns: u32,
        axes: &[(Expr, Expr, u32)],
    ) -> Result<TensorMap, Refusal> {
        Self::check_rows(name, view, self.element.bytes())?;
        let bytes = i64::from(self.element.bytes());
        let mut dims = vec![Expr::constant(i64::from(columns))];
        let mut box_dims = vec![PANEL_BYTES / self.element.bytes()];
        let mut strides = Vec::new();
        for (extent, stride, size) in axes {
            dims.push(extent.clone());
            // An axis of one element is not walked: any stride will do, and one too large for a map may be there.
            strides.push(if extent.is(1) {
                Expr::constant(16)
            } else {
                stride.clone() * Expr::constant(bytes)
            });
            box_dims.push(*size);
        }
        Ok(TensorMap {
            buffer: view.buffer,
            offset: view.offset.clone(),
            data_type: match self.element {
                Element::Bf16 => DataType::Bf16,
                Element::F16 => DataType::F16,
                Element::E4m3 => DataType::U8,
            },
            element_strides: vec![1; dims.len()],
            dims,
            strides,
            box_dims,
            swizzle: Swizzle::Bytes128,
            l2_promotion: L2Promotion::Bytes256,
        })
    }

    /// What tensor copies and 16-byte stores need.
    fn check_rows(name: &str, view: &View, bytes: u32) -> Result<(), Refusal> {
        let elements = u64::from(16 / bytes);
        if !view.strides[3].is(1) {
            return Err(refuse(
                name,
                format!(
                    "has the column stride {}; columns must be contiguous (or take mma_attention)",
                    view.strides[3]
                ),
            ));
        }
        for (axis, stride) in ["batch", "head", "row"].iter().zip(&view.strides) {
            if !stride.is_multiple_of(elements) {
                return Err(refuse(
                    name,
                    format!(
                        "has the {axis} stride {stride}; it must be a multiple of {elements} elements (or take mma_attention)"
                    ),
                ));
            }
        }
        if !view.offset.is_multiple_of(16) {
            return Err(refuse(
                name,
                format!("starts at byte {}; it must be a multiple of 16", view.offset),
            ));
        }
        Ok(())
    }
}

fn refuse(argument: &str, rule: impl Into<String>) -> Refusal {
    Refusal::new(KERNEL, argument, rule)
}

fn given<'a, T>(
    name: &str,
    wanted: bool,
    operand: Option<&'a T>,
) -> Result<Option<&'a T>, Refusal> {
    match (wanted, operand) {
        (true, None) => Err(refuse(name, "is missing: the instance reads it")),
        (false, Some(_)) => Err(refuse(name, "is given: the instance does not read it")),
        _ => Ok(operand),
    }
}

struct ParamBlock(Vec<Param>);

impl ParamBlock {
    fn put(&mut self, at: usize, value: ParamValue) {
        self.0.push(Param { at: at as u32, value });
    }

    fn map(&mut self, at: usize, map: TensorMap) {
        self.put(at, ParamValue::TensorMap(Box::new(map)));
    }

    fn operand(&mut self, at: usize, view: &View) {
        let address = ParamValue::Address { buffer: view.buffer, offset: view.offset.clone() };
        self.put(at + offset_of!(zf_operand, address), address);
        for (axis, stride) in view.strides.iter().enumerate() {
            let at = at + offset_of!(zf_operand, stride) + 8 * axis;
            self.put(at, ParamValue::I64(stride.clone()));
        }
    }
}
