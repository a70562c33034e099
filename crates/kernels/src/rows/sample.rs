//! Sampling a token per row.

use zeroforge_artifact::{DType, Expr};

use super::{
    ArgMaxArgs, Array, Block, Contract, Rows, arg_max, instance, packet, rows_multiple, type_name,
};
use crate::{Instance, Plan, Refusal};

/// What [`sample`] is instantiated for and with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Element type of the logits.
    pub dtype: DType,
    /// Logits are divided by it; 0 takes the likeliest, whatever the filters.
    pub temperature: f32,
    /// Keeps the tokens above which fewer than this many lie (as many, and what equals the last); 0 keeps all.
    pub top_k: i64,
    /// Of those, keeps the tokens above which less than this share of the probability lies; 1 keeps all.
    pub top_p: f32,
    /// Of those, keeps the tokens at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
}

/// Operands of [`sample`].
#[derive(Clone, Debug, PartialEq)]
pub struct SampleArgs {
    /// Rows, each with a random stream of its own.
    pub rows: Expr,
    /// Elements of a row, at least one.
    pub length: Expr,
    /// `[rows, length]`. A row whose largest element is NaN or infinite gives that element's index.
    pub logits: Rows,
    /// i64 `[rows]`, written.
    pub tokens: Array,
    /// Key of the random numbers.
    pub seed: Expr,
    /// Which numbers of the key: another offset for every draw.
    pub offset: Expr,
}

/// Draws an index per row from softmax(logits / temperature), filtered. The same seed and offset give the same
/// indices, on every device. Without filters the logits are read once; a filter reads them again (four times for
/// `top_k`, five for `top_p`, out of the L2 cache for any vocabulary).
///
/// # Errors
/// Arguments outside of the contract.
pub fn sample(spec: Sample, args: &SampleArgs) -> Result<(Instance, Plan), Refusal> {
    let contract = Contract { kernel: "sample" };
    let dtype = spec.dtype;
    let variant = contract.variant(dtype)?;
    contract.rule(
        spec.temperature >= 0.0 && spec.temperature.is_finite(),
        "temperature",
        || format!("is {}; it must be finite and not negative", spec.temperature),
    )?;
    contract.rule(spec.top_k >= 0, "top_k", || {
        format!("is {}; it must be 0, for no limit, or more", spec.top_k)
    })?;
    contract.rule(spec.top_p > 0.0 && spec.top_p <= 1.0, "top_p", || {
        format!("is {}; it must be above 0 and at most 1", spec.top_p)
    })?;
    contract.rule((0.0..=1.0).contains(&spec.min_p), "min_p", || {
        format!("is {}; it must be between 0 and 1", spec.min_p)
    })?;
    contract.size("rows", &args.rows, 0, i32::MAX.into())?;
    contract.size("length", &args.length, 1, variant.most)?;
    contract.rows("logits", &args.logits, dtype.size(), (&args.rows, &args.length), false)?;
    contract.elements("tokens", &args.tokens.offset, 8)?;
    let inverse = spec.temperature.recip();
    if spec.temperature == 0.0 {
        let args = ArgMaxArgs {
            rows: args.rows.clone(),
            length: args.length.clone(),
            x: args.logits.clone(),
            indices: args.tokens.clone(),
        };
        return arg_max(dtype, &args);
    }
    contract.rule(inverse.is_finite(), "temperature", || {
        format!("is {}; its inverse is infinite, use 0 for the likeliest", spec.temperature)
    })?;
    let points = packet(dtype.size(), &[rows_multiple(dtype.size(), &args.logits, &args.rows)]);
    let mut block = Block::default();
    block.rows(&args.logits);
    block.array(&args.tokens);
    block.int(&args.length);
    block.int(&args.seed);
    block.int(&args.offset);
    block.int(&Expr::constant(spec.top_k));
    block.float(spec.temperature);
    block.float(spec.top_p);
    block.float(spec.min_p);
    let (bytes, plan) = block.finish(args.rows.clone());
    let (ty, threads) = (type_name(dtype), variant.threads);
    let (k, p, m) = (spec.top_k > 0, spec.top_p < 1.0, spec.min_p > 0.0);
    let call = format!("zf::sample<{ty}, {points}, {threads}, {k}, {p}, {m}>");
    let filters: String = [(k, " top_k"), (p, " top_p"), (m, " min_p")]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| *name)
        .collect();
    let doc = format!("sample {dtype}{filters} packets of {points}");
    Ok((instance(variant, ("sample", "SampleParams", call), threads, bytes, doc), plan))
}
