//! The launches of a call.

use std::mem::offset_of;

use zeroforge_artifact::abi::{
    zf_append_params, zf_combine_params, zf_decode_params, zf_decode_tensor_params, zf_kv_cache,
    zf_operand,
};
use zeroforge_artifact::program::{Param, ParamValue};
use zeroforge_artifact::tensor_map::{DataType, L2Promotion, Swizzle, TensorMap};
use zeroforge_artifact::{DType, Expr};

use super::contract::check;
use super::source::{
    APPEND_THREADS, BLOCK_ROWS, COMBINE_ROWS, append_instance, combine_instance, decode_instance,
};
use super::{Copies, DecodeCall, DecodeSpec, KvCache, NewRows, Place, RotaryTables, Strided};
use crate::{Instance, Plan, Refusal};

/// No limit to what a query sees: more than a sequence may have.
const UNLIMITED: i64 = 1 << 29;

/// An instance and how it is launched. Launches of a call run one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// What to compile.
    pub instance: Instance,
    /// Its grid and parameters.
    pub plan: Plan,
}

/// Bytes of scratch memory for a call's sizes: outputs and logarithms of every split. Zero for one split.
pub fn workspace_bytes(
    batch: &Expr,
    heads: i64,
    queries: i64,
    value_dim: u32,
    splits: u32,
) -> Expr {
    if splits <= 1 {
        return Expr::constant(0);
    }
    batch.clone()
        * Expr::constant(heads * queries * i64::from(splits) * (i64::from(value_dim) + 1) * 4)
}

/// A parameter block in the making.
#[derive(Default)]
struct Block(Vec<Param>);

impl Block {
    fn set(&mut self, at: usize, value: ParamValue) {
        self.0.push(Param { at: at as u32, value });
    }

    fn number(&mut self, at: usize, value: impl Into<Expr>) {
        self.set(at, ParamValue::I64(value.into()));
    }

    fn float(&mut self, at: usize, value: f32) {
        self.set(at, ParamValue::F32Bits(value.to_bits()));
    }

    fn place(&mut self, at: usize, place: &Place) {
        self.set(at, ParamValue::Address { buffer: place.buffer, offset: place.offset.clone() });
    }

    /// Addresses that are not there stay zero.
    fn optional(&mut self, at: usize, place: Option<&Place>) {
        if let Some(place) = place {
            self.place(at, place);
        }
    }

    fn strided(&mut self, at: usize, tensor: &Strided) {
        self.place(at + offset_of!(zf_operand, address), &tensor.at);
        for (axis, stride) in tensor.strides.iter().enumerate() {
            self.number(at + offset_of!(zf_operand, stride) + 8 * axis, stride.clone());
        }
        self.number(at + offset_of!(zf_operand, stride) + 24, 1);
    }

    fn cache(&mut self, at: usize, cache: &KvCache, appended: i64) {
        self.strided(at + offset_of!(zf_kv_cache, k), &cache.k);
        if let Some(v) = &cache.v {
            self.strided(at + offset_of!(zf_kv_cache, v), v);
        }
        self.optional(at + offset_of!(zf_kv_cache, lengths), cache.lengths.as_ref());
        self.optional(at + offset_of!(zf_kv_cache, left_padding), cache.left_padding.as_ref());
        self.optional(at + offset_of!(zf_kv_cache, batch_index), cache.batch_index.as_ref());
        if let Some(table) = &cache.page_table {
            self.place(at + offset_of!(zf_kv_cache, page_table), &table.at);
            self.number(at + offset_of!(zf_kv_cache, table_stride), table.stride.clone());
            self.number(at + offset_of!(zf_kv_cache, page_rows), table.page_rows);
        }
        self.number(at + offset_of!(zf_kv_cache, units), cache.units.clone());
        self.number(at + offset_of!(zf_kv_cache, capacity), cache.capacity.clone());
        self.number(at + offset_of!(zf_kv_cache, appended), appended);
    }
}

fn one(grid: Expr, block: Block) -> Plan {
    let one = || Expr::constant(1);
    Plan { grid: [grid, one(), one()], params: block.0, workspace: Expr::constant(0) }
}

fn append(spec: &DecodeSpec, call: &DecodeCall, new: &NewRows) -> Launch {
    let mut block = Block::default();
    block.strided(offset_of!(zf_append_params, k), &new.k);
    if let Some(v) = &new.v {
        block.strided(offset_of!(zf_append_params, v), v);
    }
    block.cache(offset_of!(zf_append_params, cache), &call.cache, new.rows);
    block.optional(offset_of!(zf_append_params, k_descale), call.k_descale.as_ref());
    block.optional(offset_of!(zf_append_params, v_descale), call.v_descale.as_ref());
    if let Some(RotaryTables { cos, sin, positions }) = &call.rotary {
        block.place(offset_of!(zf_append_params, cos), cos);
        block.place(offset_of!(zf_append_params, sin), sin);
        block.number(offset_of!(zf_append_params, rotary_positions), positions.clone());
    }
    block.number(offset_of!(zf_append_params, batch), call.batch.clone());
    block.number(offset_of!(zf_append_params, kv_heads), call.kv_heads);
    let values = if spec.latent { 0 } else { spec.value_dim };
    let pieces = i64::from((spec.head_dim + values) / 8) * call.kv_heads * new.rows;
    let threads = call.batch.clone() * Expr::constant(pieces);
    Launch {
        instance: append_instance(spec),
        plan: one(threads.ceil_div(&Expr::constant(APPEND_THREADS)), block),
    }
}

/// Where partial logarithms begin behind partial outputs.
fn partial_lse(workspace: &Place, rows: &Expr, value_dim: u32) -> Place {
    let outputs = rows.clone() * Expr::constant(i64::from(value_dim) * 4);
    Place { buffer: workspace.buffer, offset: workspace.offset.clone() + outputs }
}

/// A map of the cache's keys or values: {column, row, head, unit} in boxes of one panel.
fn cache_map(
    spec: &DecodeSpec,
    call: &DecodeCall,
    tensor: &Strided,
    columns: u32,
    box_rows: u32,
) -> TensorMap {
    let cache = &call.cache;
    let rows = match &cache.page_table {
        Some(table) => Expr::constant(table.page_rows),
        None => cache.capacity.clone(),
    };
    let one = Expr::constant(1);
    let [unit, head, row] = &tensor.strides;
    let heads = Expr::constant(call.kv_heads);
    // A map has no empty dimension; nothing is read where the cache has none.
    let axes = [(rows, row), (heads, head), (cache.units.clone(), unit)];
    let mut dims = vec![Expr::constant(i64::from(columns))];
    dims.extend(axes.iter().map(|(extent, _)| extent.maximum(&one)));
    let strides = axes.iter().map(|(extent, stride)| {
        // An axis of one element is not walked: any stride will do, and one that maps do not take may be there.
        if extent.is(1) { Expr::constant(16) } else { (*stride).clone() * Expr::constant(2) }
    });
    TensorMap {
        buffer: tensor.at.buffer,
        offset: tensor.at.offset.clone(),
        data_type: if spec.dtype == DType::F16 { DataType::F16 } else { DataType::Bf16 },
        dims,
        strides: strides.collect(),
        box_dims: vec![64, box_rows, 1, 1],
        element_strides: vec![1; 4],
        swizzle: Swizzle::Bytes128,
        l2_promotion: L2Promotion::Bytes256,
    }
}

fn attend(spec: &DecodeSpec, call: &DecodeCall, rows: &Expr) -> Launch {
    let mut block = Block::default();
    block.strided(offset_of!(zf_decode_params, q), &call.q);
    block.strided(offset_of!(zf_decode_params, o), &call.o);
    let appended = call.new.as_ref().map_or(0, |n| n.rows);
    block.cache(offset_of!(zf_decode_params, cache), &call.cache, appended);
    let partial = call.splits > 1;
    if let (true, Some(workspace)) = (partial, &call.workspace) {
        let lse = partial_lse(workspace, rows, spec.value_dim);
        block.place(offset_of!(zf_decode_params, partial_o), workspace);
        block.place(offset_of!(zf_decode_params, partial_lse), &lse);
    } else {
        block.optional(offset_of!(zf_decode_params, lse), call.lse.as_ref());
        block.optional(offset_of!(zf_decode_params, sinks), call.sinks.as_ref());
    }
    block.optional(offset_of!(zf_decode_params, slopes), call.slopes.as_ref());
    block.optional(offset_of!(zf_decode_params, k_descale), call.k_descale.as_ref());
    let v_descale = if spec.latent { &call.k_descale } else { &call.v_descale };
    block.optional(offset_of!(zf_decode_params, v_descale), v_descale.as_ref());
    if let Some(RotaryTables { cos, sin, positions }) = &call.rotary {
        block.place(offset_of!(zf_decode_params, cos), cos);
        block.place(offset_of!(zf_decode_params, sin), sin);
        block.number(offset_of!(zf_decode_params, rotary_positions), positions.clone());
        // Queries that see all keys alike have one position, as in FlashAttention.
        let ordered = call.window_left.is_some() || call.window_right.is_some();
        block.number(offset_of!(zf_decode_params, rotary_advances), i64::from(ordered));
    }
    block.number(offset_of!(zf_decode_params, batch), call.batch.clone());
    block.number(offset_of!(zf_decode_params, heads), call.heads);
    block.number(offset_of!(zf_decode_params, kv_heads), call.kv_heads);
    block.number(offset_of!(zf_decode_params, queries), call.queries);
    block.number(offset_of!(zf_decode_params, splits), i64::from(call.splits));
    let limit = |window: Option<i64>| window.map_or(UNLIMITED, |rows| rows.min(UNLIMITED));
    block.number(offset_of!(zf_decode_params, left), limit(call.window_left));
    block.number(offset_of!(zf_decode_params, right), limit(call.window_right));
    block.float(offset_of!(zf_decode_params, scale), call.scale);
    block.float(offset_of!(zf_decode_params, softcap), call.softcap);
    let block_rows = call.queries * (call.heads / call.kv_heads);
    let blocks =
        (block_rows + BLOCK_ROWS - 1) / BLOCK_ROWS * call.kv_heads * i64::from(call.splits);
    if let Copies::Tensor(box_rows) = spec.copies {
        for param in &mut block.0 {
            param.at += offset_of!(zf_decode_tensor_params, decode) as u32;
        }
        let mut map = |at: usize, tensor: &Strided, columns: u32| {
            let map = cache_map(spec, call, tensor, columns, box_rows);
            block.set(at, ParamValue::TensorMap(Box::new(map)));
        };
        map(offset_of!(zf_decode_tensor_params, k), &call.cache.k, spec.head_dim);
        if let Some(v) = &call.cache.v {
            map(offset_of!(zf_decode_tensor_params, v), v, spec.value_dim);
        }
    }
    Launch {
        instance: decode_instance(spec, partial),
        plan: one(call.batch.clone() * Expr::constant(blocks), block),
    }
}

fn combine(spec: &DecodeSpec, call: &DecodeCall, workspace: &Place, rows: &Expr) -> Launch {
    let mut block = Block::default();
    block.strided(offset_of!(zf_combine_params, o), &call.o);
    block.place(offset_of!(zf_combine_params, partial_o), workspace);
    let lse = partial_lse(workspace, rows, spec.value_dim);
    block.place(offset_of!(zf_combine_params, partial_lse), &lse);
    block.optional(offset_of!(zf_combine_params, lse), call.lse.as_ref());
    block.optional(offset_of!(zf_combine_params, sinks), call.sinks.as_ref());
    block.number(offset_of!(zf_combine_params, batch), call.batch.clone());
    block.number(offset_of!(zf_combine_params, heads), call.heads);
    block.number(offset_of!(zf_combine_params, queries), call.queries);
    block.number(offset_of!(zf_combine_params, splits), i64::from(call.splits));
    let outputs = call.batch.clone() * Expr::constant(call.heads * call.queries);
    Launch {
        instance: combine_instance(spec.dtype, spec.value_dim),
        plan: one(outputs.ceil_div(&Expr::constant(COMBINE_ROWS)), block),
    }
}

/// The launches of a call, in order.
///
/// # Errors
/// If the call is outside of the contract, by argument and rule.
pub fn plan(spec: &DecodeSpec, call: &DecodeCall) -> Result<Vec<Launch>, Refusal> {
    check(spec, call)?;
    // Rows of the partial results.
    let rows =
        call.batch.clone() * Expr::constant(call.heads * call.queries * i64::from(call.splits));
    let mut launches = Vec::new();
    if let Some(new) = &call.new {
        launches.push(append(spec, call, new));
    }
    launches.push(attend(spec, call, &rows));
    if let (true, Some(workspace)) = (call.splits > 1, &call.workspace) {
        launches.push(combine(spec, call, workspace, &rows));
    }
    Ok(launches)
}
