//! What a call may be: checked before anything is compiled or launched.

use zeroforge_artifact::{DType, Expr};

use super::source::{BLOCK_ROWS, fits, tile_keys};
use super::{CacheType, Copies, DecodeCall, DecodeSpec, MAX_SPLITS, Place, Strided};
use crate::Refusal;

/// Rows that a sequence may have: places are 32-bit numbers.
const MAX_CAPACITY: i64 = 1 << 29;
/// Elements between rows of a cache.
const MAX_ROW_STRIDE: i64 = 1 << 24;
/// Queries of a sequence.
const MAX_QUERIES: i64 = 64;
/// Columns of keys and values whose products fit a warpgroup's registers.
const MAX_COLUMNS: u32 = 256;

fn refuse(argument: &str, rule: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::new("decode attention", argument, rule))
}

/// Whether a number of every binding is a multiple.
fn divides(by: i64, value: &Expr) -> bool {
    value.modulo(&Expr::constant(by)).is(0)
}

fn multiple(argument: &str, what: &str, value: &Expr, by: i64) -> Result<(), Refusal> {
    if divides(by, value) {
        return Ok(());
    }
    refuse(argument, format!("has {what} of {value}, which is not known to be a multiple of {by}"))
}

fn within(argument: &str, value: &Expr, low: i64, high: i64) -> Result<(), Refusal> {
    match value.as_const() {
        Some(n) if n < low || n > high => {
            refuse(argument, format!("is {n}, and has to be from {low} to {high}"))
        }
        _ => Ok(()),
    }
}

fn strided(name: &str, tensor: &Strided, elements: i64, bytes: i64) -> Result<(), Refusal> {
    multiple(name, "an offset", &tensor.at.offset, bytes)?;
    for (axis, stride) in ["sequences", "heads", "rows"].iter().zip(&tensor.strides) {
        multiple(name, &format!("a stride of {axis}"), stride, elements)?;
    }
    Ok(())
}

/// Rows of a cache are a 32-bit number of bytes apart.
fn row_stride(name: &str, tensor: &Strided) -> Result<(), Refusal> {
    let stride = &tensor.strides[2];
    match stride.as_const() {
        Some(elements) if (0..=MAX_ROW_STRIDE).contains(&elements) => Ok(()),
        _ => refuse(
            name,
            format!(
                "has a stride of rows of {stride}, and has to have one from 0 to {MAX_ROW_STRIDE}"
            ),
        ),
    }
}

fn aligned(name: &str, place: Option<&Place>, bytes: i64) -> Result<(), Refusal> {
    place.map_or(Ok(()), |p| multiple(name, "an offset", &p.offset, bytes))
}

/// An operand that has to be there exactly where the specification says so.
fn present(name: &str, given: bool, wanted: bool, why: &str) -> Result<(), Refusal> {
    match (given, wanted) {
        (false, true) => refuse(name, format!("is missing: {why}")),
        (true, false) => refuse(name, format!("is given, but {why} is not part of the kernel")),
        _ => Ok(()),
    }
}

/// Checks what is compiled in.
pub(super) fn check_spec(spec: &DecodeSpec) -> Result<(), Refusal> {
    if !matches!(spec.dtype, DType::Bf16 | DType::F16) {
        return refuse("dtype", format!("is {}, and has to be bf16 or f16", spec.dtype));
    }
    if spec.latent {
        if (spec.head_dim, spec.value_dim) != (576, 512) {
            return refuse(
                "head_dim",
                format!(
                    "and value_dim are {} and {}; latent attention is compiled for 576 and 512",
                    spec.head_dim, spec.value_dim
                ),
            );
        }
        if spec.rotary.is_some() {
            return refuse(
                "rotary",
                "of a latent cache is the caller's: only its last 64 columns are rotated",
            );
        }
    } else {
        for (name, columns) in [("head_dim", spec.head_dim), ("value_dim", spec.value_dim)] {
            if columns == 0 || !columns.is_multiple_of(16) || columns > MAX_COLUMNS {
                return refuse(
                    name,
                    format!(
                        "is {columns}, and has to be a multiple of 16 from 16 to {MAX_COLUMNS}; \
                         576 with 512 is for latent caches"
                    ),
                );
            }
        }
    }
    if let Some(rotary) = spec.rotary
        && (rotary.dim == 0 || !rotary.dim.is_multiple_of(16) || rotary.dim > spec.head_dim)
    {
        return refuse(
            "rotary.dim",
            format!(
                "is {}, and has to be a multiple of 16 from 16 to head_dim ({})",
                rotary.dim, spec.head_dim
            ),
        );
    }
    if let Copies::Tensor(rows) = spec.copies {
        let tile = tile_keys(spec);
        if rows == 0 || !rows.is_multiple_of(16) || !tile.is_multiple_of(rows) {
            return refuse(
                "copies",
                format!(
                    "are of {rows} rows, and have to be of a multiple of 16 that divides {tile}"
                ),
            );
        }
        if spec.cache == CacheType::E4m3 {
            return refuse("copies", "of an e4m3 cache have to be made by threads, which widen it");
        }
    }
    if !fits(spec) {
        return refuse(
            "head_dim",
            format!(
                "and value_dim are {} and {}: their tiles do not fit shared memory",
                spec.head_dim, spec.value_dim
            ),
        );
    }
    Ok(())
}

fn check_sizes(call: &DecodeCall) -> Result<(), Refusal> {
    within("batch", &call.batch, 0, 1 << 24)?;
    within("queries", &Expr::constant(call.queries), 1, MAX_QUERIES)?;
    within("kv_heads", &Expr::constant(call.kv_heads), 1, 1 << 16)?;
    within("heads", &Expr::constant(call.heads), 1, 1 << 16)?;
    if call.heads % call.kv_heads != 0 {
        return refuse(
            "heads",
            format!("is {}, which is not a multiple of kv_heads ({})", call.heads, call.kv_heads),
        );
    }
    within("cache.capacity", &call.cache.capacity, 0, MAX_CAPACITY)?;
    within("cache.units", &call.cache.units, 0, i64::from(i32::MAX))?;
    if call.splits == 0 || call.splits > MAX_SPLITS {
        return refuse(
            "splits",
            format!("is {}, and has to be from 1 to {MAX_SPLITS}", call.splits),
        );
    }
    for (name, window) in [("window_left", call.window_left), ("window_right", call.window_right)] {
        if let Some(rows) = window.filter(|rows| *rows < 0) {
            return refuse(name, format!("is {rows}; leave it out for no limit"));
        }
    }
    if !call.scale.is_finite() {
        return refuse("scale", format!("is {}, and has to be finite", call.scale));
    }
    let rows = call.queries * (call.heads / call.kv_heads);
    let blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS * call.kv_heads * i64::from(call.splits);
    if let Some(batch) = call.batch.as_const()
        && batch.saturating_mul(blocks) > i64::from(i32::MAX)
    {
        return refuse("batch", format!("is {batch}: more than 2^31 - 1 blocks"));
    }
    Ok(())
}

fn check_cache(spec: &DecodeSpec, call: &DecodeCall) -> Result<(), Refusal> {
    let cache = &call.cache;
    // Rows are copied in pieces of 16 bytes.
    let elements = if spec.cache == CacheType::E4m3 { 16 } else { 8 };
    strided("cache.k", &cache.k, elements, 16)?;
    row_stride("cache.k", &cache.k)?;
    let values = "values that are not part of the keys";
    present("cache.v", cache.v.is_some(), !spec.latent, values)?;
    if let Some(v) = &cache.v {
        strided("cache.v", v, elements, 16)?;
        row_stride("cache.v", v)?;
    }
    if spec.latent && call.kv_heads != 1 {
        return refuse("kv_heads", format!("is {}; a latent cache has one head", call.kv_heads));
    }
    present("cache.page_table", cache.page_table.is_some(), spec.paged, "a paged cache")?;
    if let Some(table) = &cache.page_table {
        if table.page_rows <= 0 || table.page_rows % 16 != 0 || table.page_rows > 1 << 20 {
            return refuse(
                "cache.page_table.page_rows",
                format!("is {}, and has to be a multiple of 16 up to 2^20", table.page_rows),
            );
        }
        if let Copies::Tensor(rows) = spec.copies
            && table.page_rows % i64::from(rows) != 0
        {
            return refuse(
                "cache.page_table.page_rows",
                format!("is {}, and copies are of {rows} rows", table.page_rows),
            );
        }
        aligned("cache.page_table", Some(&table.at), 4)?;
        if cache.batch_index.is_some() {
            return refuse(
                "cache.batch_index",
                "is of dense caches; in a paged one reorder the rows of the page table",
            );
        }
        // A table row has an entry for every row of the capacity.
        let entries = cache.capacity.ceil_div(&Expr::constant(table.page_rows));
        if let (Some(entries), Some(stride)) = (entries.as_const(), table.stride.as_const())
            && entries > stride
        {
            return refuse(
                "cache.capacity",
                format!("takes {entries} pages, and a row of the page table has {stride}"),
            );
        }
    }
    aligned("cache.lengths", cache.lengths.as_ref(), 4)?;
    aligned("cache.left_padding", cache.left_padding.as_ref(), 4)?;
    aligned("cache.batch_index", cache.batch_index.as_ref(), 4)
}

/// Checks a call of a specification.
pub(super) fn check(spec: &DecodeSpec, call: &DecodeCall) -> Result<(), Refusal> {
    check_spec(spec)?;
    check_sizes(call)?;
    strided("q", &call.q, 8, 16)?;
    strided("o", &call.o, 4, 8)?;
    check_cache(spec, call)?;
    if let Some(new) = &call.new {
        within("new.rows", &Expr::constant(new.rows), 1, 1 << 20)?;
        strided("new.k", &new.k, 8, 16)?;
        present("new.v", new.v.is_some(), !spec.latent, "values that are not part of the keys")?;
        if let Some(v) = &new.v {
            strided("new.v", v, 8, 16)?;
        }
        if call.cache.lengths.is_none() {
            return refuse("cache.lengths", "is missing: new rows go behind it");
        }
    }
    present("rotary", call.rotary.is_some(), spec.rotary.is_some(), "a rotary embedding")?;
    if let Some(tables) = &call.rotary {
        if call.new.is_none() {
            return refuse("new", "is missing: keys that are in the cache are rotated already");
        }
        within("rotary.positions", &tables.positions, 1, MAX_CAPACITY)?;
        aligned("rotary.cos", Some(&tables.cos), 16)?;
        aligned("rotary.sin", Some(&tables.sin), 16)?;
    }
    if spec.softcap && !(call.softcap.is_finite() && call.softcap > 0.0) {
        return refuse("softcap", format!("is {}, and has to be finite and above 0", call.softcap));
    }
    present("slopes", call.slopes.is_some(), spec.alibi, "ALiBi")?;
    let quantised = spec.cache == CacheType::E4m3;
    if !quantised {
        present("k_descale", call.k_descale.is_some(), false, "a quantised cache")?;
        present("v_descale", call.v_descale.is_some(), false, "a quantised cache")?;
    }
    if spec.latent {
        let own = "a descale of values, which are part of the keys,";
        present("v_descale", call.v_descale.is_some(), false, own)?;
    }
    for (name, place) in [
        ("sinks", &call.sinks),
        ("slopes", &call.slopes),
        ("k_descale", &call.k_descale),
        ("v_descale", &call.v_descale),
        ("lse", &call.lse),
    ] {
        aligned(name, place.as_ref(), 4)?;
    }
    if call.splits > 1 {
        let why = "results of several splits are kept there";
        present("workspace", call.workspace.is_some(), true, why)?;
        aligned("workspace", call.workspace.as_ref(), 16)?;
    }
    Ok(())
}
