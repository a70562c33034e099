//! Lookup of rows.

use zeroforge_artifact::{DType, Expr};

use super::{Array, Block, Contract, Rows, instance, packet, rows_multiple, type_name};
use crate::{Instance, Plan, Refusal};

/// What [`embedding`] is instantiated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// Element type.
    pub dtype: DType,
    /// Type of the indices: i32 or i64.
    pub index: DType,
    /// Elements of a row.
    pub width: i64,
}

/// Operands of [`embedding`].
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingArgs {
    /// `[table_rows, width]`.
    pub table: Rows,
    /// Rows of the table.
    pub table_rows: Expr,
    /// `[count]`. Below zero or beyond the table gives zeros, not an error: the host does not see them.
    pub indices: Array,
    /// Indices.
    pub count: Expr,
    /// `[count, width]`, written.
    pub out: Rows,
}

/// Copies rows of a table by index.
///
/// # Errors
/// Arguments outside of the contract.
pub fn embedding(spec: Embedding, args: &EmbeddingArgs) -> Result<(Instance, Plan), Refusal> {
    let Embedding { dtype, index, width } = spec;
    let contract = Contract { kernel: "embedding" };
    let variant = contract.variant(dtype)?;
    contract.rule(matches!(index, DType::I32 | DType::I64), "indices", || {
        format!("are {index}; they must be i32 or i64")
    })?;
    contract.rule((1..=variant.most).contains(&width), "width", || {
        format!("is {width}; it must be between 1 and {}", variant.most)
    })?;
    contract.size("count", &args.count, 0, i32::MAX.into())?;
    contract.size("table_rows", &args.table_rows, 0, i64::MAX)?;
    let (size, length) = (dtype.size(), Expr::constant(width));
    contract.rows("table", &args.table, size, (&args.table_rows, &length), false)?;
    contract.rows("out", &args.out, size, (&args.count, &length), true)?;
    contract.elements("indices", &args.indices.offset, index.size())?;
    let points = packet(
        size,
        &[
            rows_multiple(size, &args.table, &args.table_rows),
            rows_multiple(size, &args.out, &args.count),
            1 << width.trailing_zeros().min(8),
        ],
    );
    let mut block = Block::default();
    block.rows(&args.table);
    block.array(&args.indices);
    block.rows(&args.out);
    block.int(&args.table_rows);
    block.int(&args.count);
    let work = args.count.clone() * Expr::constant(width / points);
    let (bytes, plan) = block.finish(work.ceil_div(&Expr::constant(variant.threads)));
    let call =
        format!("zf::embedding<{}, {}, {points}, {width}>", type_name(dtype), type_name(index));
    let doc = format!("embedding {dtype} width {width} packets of {points}");
    Ok((
        instance(variant, ("embedding", "EmbeddingParams", call), variant.threads, bytes, doc),
        plan,
    ))
}
