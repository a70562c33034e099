//! Rotary position embedding.

use zeroforge_artifact::{DType, Expr};

use super::{Array, Block, Contract, Rows, instance, multiple, packet, rows_multiple, type_name};
use crate::{Instance, Plan, Refusal};

/// What [`rotary`] is instantiated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotary {
    /// Element type.
    pub dtype: DType,
    /// Elements of a head.
    pub dim: i64,
    /// Of those the first that are turned, an even number; the rest keep their values.
    pub rotary_dim: i64,
    /// Pairs are (2i, 2i + 1) instead of (i, i + rotary_dim / 2).
    pub interleaved: bool,
}

/// Operands of [`rotary`].
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryArgs {
    /// Tokens.
    pub tokens: Expr,
    /// Heads.
    pub heads: Expr,
    /// The first element of `[tokens, heads, dim]`.
    pub x: Array,
    /// Elements from one token, and from one head, to the next.
    pub x_strides: [Expr; 2],
    /// The result: elsewhere, or `x` itself with its strides.
    pub out: Array,
    /// Elements from one token, and from one head, of the result to the next.
    pub out_strides: [Expr; 2],
    /// f32 `[table_rows, rotary_dim / 2]`: cosine of pair i's angle at a position.
    pub cosine: Rows,
    /// The same of the sine.
    pub sine: Rows,
    /// Positions that the tables hold. Tokens at others are not turned.
    pub table_rows: Expr,
    /// i64 `[tokens]`; without them a token's position is its index plus `first`.
    pub positions: Option<Array>,
    /// See `positions`.
    pub first: Expr,
}

/// Turns pairs of elements of every head by their token's position.
///
/// # Errors
/// Arguments outside of the contract.
pub fn rotary(spec: Rotary, args: &RotaryArgs) -> Result<(Instance, Plan), Refusal> {
    let Rotary { dtype, dim, rotary_dim, interleaved } = spec;
    let contract = Contract { kernel: "rotary" };
    let variant = contract.variant(dtype)?;
    contract.rule((2..=variant.most).contains(&dim), "dim", || {
        format!("is {dim}; it must be between 2 and {}", variant.most)
    })?;
    contract.rule(rotary_dim % 2 == 0 && (2..=dim).contains(&rotary_dim), "rotary_dim", || {
        format!("is {rotary_dim}; it must be even and between 2 and the {dim} of a head")
    })?;
    contract.size("tokens", &args.tokens, 0, i32::MAX.into())?;
    contract.size("heads", &args.heads, 1, i32::MAX.into())?;
    contract.size("table_rows", &args.table_rows, 1, i64::MAX)?;
    let size = dtype.size();
    contract.elements("x", &args.x.offset, size)?;
    contract.elements("out", &args.out.offset, size)?;
    if let Some(positions) = &args.positions {
        contract.elements("positions", &positions.offset, 8)?;
    }
    let half = Expr::constant(rotary_dim / 2);
    contract.rows("cosine", &args.cosine, 4, (&args.table_rows, &half), false)?;
    contract.rows("sine", &args.sine, 4, (&args.table_rows, &half), false)?;
    let in_place = args.x == args.out;
    contract.rule(!in_place || args.x_strides == args.out_strides, "out", || {
        "is x with other strides; in place both are the same".to_owned()
    })?;
    contract.rule(in_place || args.x.buffer != args.out.buffer, "out", || {
        "shares the buffer of x at another offset; use another buffer, or x itself".to_owned()
    })?;
    let mut multiples = vec![
        multiple(size, &args.x.offset, None),
        multiple(size, &args.out.offset, None),
        1 << (dim - rotary_dim).trailing_zeros().min(8),
    ];
    for (argument, strides) in [("x_strides", &args.x_strides), ("out_strides", &args.out_strides)]
    {
        for (stride, count) in strides.iter().zip([&args.tokens, &args.heads]) {
            contract.size(argument, stride, 0, i64::MAX)?;
            let (written, several) = (argument == "out_strides", count.as_const() > Some(1));
            let apart = stride.as_const().is_none_or(|s| s >= dim);
            contract.rule(!(written && several) || apart, argument, || {
                format!(
                    "has {stride}, less than the {dim} elements of a head; heads must not overlap"
                )
            })?;
            if !count.is(1) {
                multiples.push(i64::from(stride.power_of_two_divisor(256)));
            }
        }
    }
    let pairs = 1 << (rotary_dim / 2).trailing_zeros().min(8);
    let table = rows_multiple(4, &args.cosine, &args.table_rows).min(rows_multiple(
        4,
        &args.sine,
        &args.table_rows,
    ));
    // A packet of pairs reads as many values of the tables, at most 16 bytes at once.
    let table = if table >= 4 { 256 } else { table };
    let points = match interleaved {
        true => packet(size, &multiples).min(2 * pairs).min(2 * table),
        false => packet(size, &multiples).min(pairs).min(table),
    };
    contract.rule(!interleaved || points >= 2, "x", || {
        "has pairs at odd elements; interleaved pairs must begin at multiples of their two elements"
            .to_owned()
    })?;
    let mut block = Block::default();
    block.array(&args.x);
    block.array(&args.out);
    for stride in args.x_strides.iter().chain(&args.out_strides) {
        block.int(stride);
    }
    block.rows(&args.cosine);
    block.rows(&args.sine);
    block.optional_array(args.positions.as_ref());
    for size in [&args.first, &args.table_rows, &args.tokens, &args.heads] {
        block.int(size);
    }
    let turned = if interleaved { rotary_dim / points } else { rotary_dim / 2 / points };
    let items = turned + if in_place { 0 } else { (dim - rotary_dim) / points };
    let work = args.tokens.clone() * args.heads.clone() * Expr::constant(items);
    let (bytes, plan) = block.finish(work.ceil_div(&Expr::constant(variant.threads)));
    let ty = type_name(dtype);
    let positions = args.positions.is_some();
    let call = format!(
        "zf::rotary<{ty}, {points}, {dim}, {rotary_dim}, {interleaved}, {in_place}, {positions}>"
    );
    let order = if interleaved { "interleaved" } else { "half split" };
    let doc = format!("rotary {dtype} {rotary_dim} of {dim} {order} packets of {points}");
    Ok((instance(variant, ("rotary", "RotaryParams", call), variant.threads, bytes, doc), plan))
}
