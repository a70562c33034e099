//! Which variant computes a product of a size on a slice of a card: a pure function of sizes.
//!
//! The estimate counts what a block does for a tile in cycles of the tensor core (4096 multiply-adds of 16-bit types
//! per four cycles and SM, by the documented rate) and waves of tiles over the SMs. It is a prediction by unit
//! rates, not a measurement.

use super::{Schedule, Spec, Store, Variant, contract, variants};

/// The variant with the least estimate for `batch` products of m x n x k on `sms` SMs; `None` if no variant can
/// compute the spec.
pub fn select(
    spec: &Spec,
    batch: i64,
    m: i64,
    n: i64,
    k: i64,
    sms: i64,
) -> Option<&'static Variant> {
    variants()
        .iter()
        .filter(|v| contract::check(spec, v).is_ok())
        .min_by_key(|v| estimate(spec, v, batch, m, n, k, sms))
}

/// Cycles, by unit rates: products at N / 2 cycles per 64 x N x 16 (16-bit), the epilogue's bytes at 32 per cycle
/// where nothing runs beside it, and a fixed start of a sum.
fn estimate(spec: &Spec, v: &Variant, batch: i64, m: i64, n: i64, k: i64, sms: i64) -> i64 {
    const START: i64 = 1000;
    let (rows, columns) = (i64::from(v.rows), spec.tile_columns(v));
    let ceil = |a: i64, b: i64| (a + b - 1) / b;
    let blocks = ceil(k, spec.block_k());
    let row_tiles = ceil(ceil(m, rows), i64::from(v.cluster)) * i64::from(v.cluster);
    let tiles = batch * row_tiles * ceil(n, columns);
    // Four products per slot and 64 rows, N / 2 cycles each.
    let block_cycles = rows / 64 * i64::from(v.columns) * 2;
    // A slot's bytes from L2 at 64 per cycle; a cluster reads B once.
    let bytes = (rows + i64::from(v.columns) / i64::from(v.cluster)) * 128;
    let per_block = block_cycles.max(bytes / 64);
    let store =
        rows * columns * spec.out.bytes() / if spec.store == Store::Lanes { 16 } else { 32 };
    // Ping-pong stores one tile under the products of the other.
    let alone = if v.schedule == Schedule::Pingpong { store / 4 } else { store };
    let whole = tiles / sms * (blocks * per_block + alone);
    let rest = tiles % sms;
    if rest == 0 {
        return START + whole;
    }
    let parts = if v.split { (sms / rest).min(blocks / super::MIN_PART_BLOCKS).max(1) } else { 1 };
    // Parts are written, read again and added.
    let fix = if parts > 1 { rows * columns * 4 * (parts + 1) / 64 } else { 0 };
    START + whole + ceil(blocks, parts) * per_block + store + fix
}
