//! The largest elements of rows: `arg_max` and `top_k`.

use zeroforge_artifact::{DType, Expr};

use super::{Array, Block, Contract, Rows, instance, packet, rows_multiple, type_name};
use crate::{Instance, Plan, Refusal};

/// Operands of [`arg_max`].
#[derive(Clone, Debug, PartialEq)]
pub struct ArgMaxArgs {
    /// Rows.
    pub rows: Expr,
    /// Elements of a row, at least one.
    pub length: Expr,
    /// `[rows, length]`.
    pub x: Rows,
    /// i64 `[rows]`, written: the index of the first largest element; NaN is above everything.
    pub indices: Array,
}

/// The index of the first largest element of every row, NaN above everything, one read of it.
///
/// # Errors
/// Arguments outside of the contract.
pub fn arg_max(dtype: DType, args: &ArgMaxArgs) -> Result<(Instance, Plan), Refusal> {
    let contract = Contract { kernel: "arg_max" };
    let variant = contract.variant(dtype)?;
    let shape = (&args.rows, &args.length);
    contract.size("rows", &args.rows, 0, i32::MAX.into())?;
    contract.size("length", &args.length, 1, variant.most)?;
    contract.rows("x", &args.x, dtype.size(), shape, false)?;
    contract.elements("indices", &args.indices.offset, 8)?;
    let points = packet(dtype.size(), &[rows_multiple(dtype.size(), &args.x, &args.rows)]);
    let mut block = Block::default();
    block.rows(&args.x);
    block.array(&args.indices);
    block.int(&args.length);
    let (bytes, plan) = block.finish(args.rows.clone());
    let (ty, threads) = (type_name(dtype), variant.threads);
    let call = format!("zf::arg_max<{ty}, {points}, {threads}>");
    let doc = format!("arg_max {dtype} packets of {points}");
    Ok((instance(variant, ("row", "ArgMaxParams", call), threads, bytes, doc), plan))
}

/// What [`top_k`] is instantiated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    /// Element type.
    pub dtype: DType,
    /// How many, 1 to 1024.
    pub k: i64,
}

/// Operands of [`top_k`].
#[derive(Clone, Debug, PartialEq)]
pub struct TopKArgs {
    /// Rows.
    pub rows: Expr,
    /// Elements of a row, at least k and fewer than 2^31.
    pub length: Expr,
    /// `[rows, length]`.
    pub x: Rows,
    /// `[rows, k]` of the same type, written: the largest first; NaN, of which all become one, is above everything.
    pub values: Rows,
    /// i64 `[rows, k]`, written: where they are; of equal ones the lower index first.
    pub indices: Rows,
}

/// The k largest elements of every row in order, one read of it.
///
/// # Errors
/// Arguments outside of the contract.
pub fn top_k(spec: TopK, args: &TopKArgs) -> Result<(Instance, Plan), Refusal> {
    let TopK { dtype, k } = spec;
    let contract = Contract { kernel: "top_k" };
    let variant = contract.variant(dtype)?;
    contract.rule((1..=variant.most).contains(&k), "k", || {
        format!("is {k}; it must be between 1 and {}", variant.most)
    })?;
    contract.size("rows", &args.rows, 0, i32::MAX.into())?;
    contract.size("length", &args.length, k, i32::MAX.into())?;
    let (size, count) = (dtype.size(), Expr::constant(k));
    contract.rows("x", &args.x, size, (&args.rows, &args.length), false)?;
    contract.rows("values", &args.values, size, (&args.rows, &count), true)?;
    contract.rows("indices", &args.indices, 8, (&args.rows, &count), true)?;
    let points = packet(size, &[rows_multiple(size, &args.x, &args.rows)]);
    let mut block = Block::default();
    block.rows(&args.x);
    block.rows(&args.values);
    block.rows(&args.indices);
    block.int(&args.length);
    let (bytes, plan) = block.finish(args.rows.clone());
    // A long buffer is sorted seldom: a list of 512 even for the smallest k.
    let list = (k as u64).next_power_of_two().max(512);
    let (ty, threads) = (type_name(dtype), variant.threads);
    let call = format!("zf::top_k<{ty}, {points}, {k}, {list}, {threads}>");
    let doc = format!("top_k {dtype} k {k} packets of {points}");
    Ok((instance(variant, ("top_k", "TopKParams", call), threads, bytes, doc), plan))
}
