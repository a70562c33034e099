//! The variants of the family: records of `kernels/variants.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

/// How the two multiplying warpgroups of a block share work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Each has half of a tile's rows.
    Cooperative,
    /// Each has tiles of its own: one stores while the other multiplies.
    Pingpong,
}

/// How a kernel works: tile, ring, schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The record's name.
    pub name: String,
    /// Rows of a tile.
    pub rows: u32,
    /// Columns of a tile, as products have them (a gated kernel's tile of C has half).
    pub columns: u32,
    /// Slots of the ring.
    pub stages: u32,
    /// How warpgroups share work.
    pub schedule: Schedule,
    /// Blocks of a cluster: 1, or 2 that share B.
    pub cluster: u32,
    /// Whether the tiles of the last, incomplete wave are cut along K.
    pub split: bool,
}

#[derive(Deserialize)]
struct Records {
    gemm: Vec<Variant>,
}

/// Every variant, in the order of the file.
pub fn variants() -> &'static [Variant] {
    static VARIANTS: LazyLock<Vec<Variant>> = LazyLock::new(|| {
        let text = include_str!("../../../../kernels/variants.toml");
        toml::from_str::<Records>(text).expect("the crate's own records, see the test").gemm
    });
    &VARIANTS
}

impl Variant {
    /// The variant of a name.
    pub fn named(name: &str) -> Option<&'static Variant> {
        variants().iter().find(|v| v.name == name)
    }

    /// Dynamic shared memory in bytes: the ring, two panels of 64 x 128 bytes per warpgroup for the epilogue.
    pub fn shared_bytes(&self) -> u32 {
        let ring = self.stages * (self.rows + self.columns) * 128;
        ring + (self.stages * 16).next_multiple_of(1024) + 4 * 8192 + 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_fit_an_sm() {
        assert!(!variants().is_empty());
        for v in variants() {
            assert!(v.shared_bytes() <= 227 * 1024, "{}: {} bytes", v.name, v.shared_bytes());
            let warpgroups = if v.schedule == Schedule::Pingpong { 1 } else { 2 };
            assert!(v.rows.is_multiple_of(64 * warpgroups), "{}", v.name);
            assert!(v.rows / 64 / warpgroups * v.columns / 2 <= 128, "{}: registers", v.name);
            assert_eq!(variants().iter().filter(|o| o.name == v.name).count(), 1, "{}", v.name);
        }
    }
}
