//! How many parts the keys of a sequence are split into.

/// Most parts: a lane of the combining warp keeps one of every 32.
pub const MAX_SPLITS: u32 = 128;

/// Tiles' worth of time that a block takes besides its tiles: its queries, filling the ring, its results.
const BLOCK_OVERHEAD: u64 = 2;
/// The same for adding up, once.
const COMBINE_OVERHEAD: u64 = 3;

/// Parts for `blocks` blocks (sequences * KV heads * blocks of query rows) of `tiles` tiles of keys each, on a device
/// of `sms` SMs. One block an SM keeps the memory busy, so time goes in waves of `sms` blocks; the fewest parts of
/// those that take the least.
pub fn num_splits(sms: u32, blocks: u64, tiles: u64) -> u32 {
    let cost = |splits: u64| {
        let waves = (blocks.max(1).saturating_mul(splits)).div_ceil(u64::from(sms.max(1)));
        let combine = if splits > 1 { COMBINE_OVERHEAD + splits / 16 } else { 0 };
        waves.saturating_mul(tiles.div_ceil(splits) + BLOCK_OVERHEAD).saturating_add(combine)
    };
    let most = tiles.clamp(1, u64::from(MAX_SPLITS));
    (1..=most).min_by_key(|&splits| (cost(splits), splits)).unwrap_or(1) as u32
}

#[cfg(test)]
mod tests {
    use super::{MAX_SPLITS, num_splits};

    /// SMs, batch * KV heads, keys (tiles of 64), parts. A change of the heuristic is a change of this table.
    const GOLDEN: &str = include_str!("num_splits.txt");

    fn table() -> String {
        let mut text = String::new();
        for sms in [60, 132] {
            for blocks in [1, 4, 8, 16, 32, 64, 128, 256] {
                for keys in [64, 512, 1024, 4096, 16384, 131072] {
                    let splits = num_splits(sms, blocks, keys / 64);
                    text += &format!("{sms:>3} {blocks:>4} {keys:>7} {splits:>4}\n");
                }
            }
        }
        text
    }

    #[test]
    fn choices_are_the_golden_ones() {
        let table = table();
        for (now, golden) in table.lines().zip(GOLDEN.lines()) {
            assert_eq!(now, golden, "SMs, blocks, keys, splits");
        }
        assert_eq!(table.lines().count(), GOLDEN.lines().count());
    }

    #[test]
    fn limits_hold() {
        assert_eq!(num_splits(132, 1, 0), 1);
        assert_eq!(num_splits(0, 0, 0), 1);
        assert!(num_splits(132, 1, u64::MAX / 4) <= MAX_SPLITS);
        // Work for every SM already.
        assert_eq!(num_splits(132, 132, 4096), 1);
    }
}
