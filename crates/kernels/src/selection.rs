//! Which kernel a product of a size takes on a slice: tables of `kernels/selection/`, one per slice.
//!
//! A table is the functions that choose ([`gemm::select`], [`gemm::tf32::select`], [`gemm::skinny::select`]), written
//! down for buckets of sizes, so that a change of theirs is a visible difference. `cargo xtask selection` writes the
//! files, a test compares, and compiled models follow what is written. A size belongs to the first bucket that is at
//! least as large, or to the last. What the functions estimate is predicted by unit rates, not measured.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::gemm::{self, Element, Spec, Store, Variant, Weights, skinny, tf32};

/// Slices that have a table: MIG 3g.71gb of an H200, and the whole card.
pub const SLICES: [u32; 2] = [60, 132];
/// Products of a batch.
const BATCHES: [i64; 3] = [1, 8, 64];
/// Rows, of other products than skinny ones.
const ROWS: [i64; 8] = [64, 128, 256, 512, 1024, 2048, 4096, 16384];
/// Columns.
const COLUMNS: [i64; 9] = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 32768];
/// Lengths of sums.
const LENGTHS: [i64; 4] = [256, 1024, 4096, 16384];
/// What an unknown number of rows counts as.
const UNKNOWN_ROWS: i64 = 512;
/// What an unknown number of columns, or length of sums, counts as.
const UNKNOWN: i64 = 1024;

/// The size of a product; `None` where it is symbolic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Products.
    pub batch: Option<i64>,
    /// Rows.
    pub m: Option<i64>,
    /// Columns.
    pub n: Option<i64>,
    /// Length of sums.
    pub k: Option<i64>,
}

/// What is written for a slice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// SMs of the slice.
    sms: u32,
    /// `batch rows columns`: names of variants, by length.
    wgmma: BTreeMap<String, Vec<String>>,
    /// `batch rows columns`: warpgroups and parts of K, by length.
    tf32: BTreeMap<String, Vec<[u32; 2]>>,
    /// `type batch columns`: parts of K, by length.
    skinny: BTreeMap<String, Vec<u32>>,
}

fn bucket(buckets: &[i64], size: i64) -> usize {
    buckets.iter().position(|&most| size <= most).unwrap_or(buckets.len() - 1)
}

fn bound(buckets: &[i64], size: Option<i64>, unknown: i64) -> i64 {
    buckets[bucket(buckets, size.unwrap_or(unknown))]
}

impl Size {
    fn key(&self) -> String {
        format!(
            "{} {} {}",
            bound(&BATCHES, self.batch, 1),
            bound(&ROWS, self.m, UNKNOWN_ROWS),
            bound(&COLUMNS, self.n, UNKNOWN)
        )
    }

    fn length(&self) -> usize {
        bucket(&LENGTHS, self.k.unwrap_or(UNKNOWN))
    }
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    [
        include_str!("../../../kernels/selection/60.toml"),
        include_str!("../../../kernels/selection/132.toml"),
    ]
    .map(|text| toml::from_str(text).expect("the crate's own tables, see the test"))
    .into()
});

impl Table {
    /// The table of the largest slice that has no more SMs, or of the smallest.
    pub fn of(sms: u32) -> &'static Table {
        let fits = TABLES.iter().filter(|t| t.sms <= sms).max_by_key(|t| t.sms);
        fits.unwrap_or(&TABLES[0])
    }

    /// The variant for 16-bit operands. Where the one that is written cannot compute the spec (its store, its layout),
    /// the best that can; `None` if there is none.
    pub fn wgmma(&self, spec: &Spec, size: Size) -> Option<&'static Variant> {
        let name = self.wgmma.get(&size.key()).and_then(|names| names.get(size.length()));
        let written = name.and_then(|name| Variant::named(name));
        written.filter(|v| gemm::instance(spec, v).is_ok()).or_else(|| {
            let [batch, m, n] = [
                bound(&BATCHES, size.batch, 1),
                bound(&ROWS, size.m, UNKNOWN_ROWS),
                bound(&COLUMNS, size.n, UNKNOWN),
            ];
            gemm::select(spec, batch, m, n, LENGTHS[size.length()], i64::from(self.sms))
        })
    }

    /// The tile for f32 operands: rows without waste, the rest as written.
    pub fn tf32(&self, size: Size) -> tf32::Tile {
        let rows = tf32::select(None, size.m, None, None, i64::from(self.sms)).rows;
        let written = self.tf32.get(&size.key()).and_then(|list| list.get(size.length()));
        let [warpgroups, split] = written.copied().unwrap_or([2, 1]);
        tf32::Tile { rows, warpgroups, split }
    }

    /// The tile for a product of `m` rows, at most [`skinny::MAX_ROWS`]; `None` if it is none for these kernels.
    pub fn skinny(&self, spec: &skinny::Spec, m: i64, size: Size) -> Option<skinny::Tile> {
        let key = format!(
            "{} {} {}",
            if spec.operands == Element::F32 { "f32" } else { "16bit" },
            bound(&BATCHES, size.batch, 1),
            bound(&COLUMNS, size.n, UNKNOWN)
        );
        let split = *self.skinny.get(&key)?.get(size.length())?;
        skinny::Tile::of(spec, m, size.k, split).ok()
    }
}

/// The text of a slice's file.
pub fn text(sms: u32) -> String {
    let mut c = String::new();
    write_table(&mut c, sms).expect("writing to a string");
    c
}

fn write_table(c: &mut String, sms: u32) -> std::fmt::Result {
    let slice = i64::from(sms);
    writeln!(
        c,
        "# Kernels by size on a slice of {sms} SMs, written by `cargo xtask selection`. A list is by length of sums: at most\n# {LENGTHS:?}, the last for all longer. A change here is a change of what models are compiled to."
    )?;
    writeln!(c, "sms = {sms}")?;
    writeln!(
        c,
        "\n# 16-bit operands. Products, rows, columns (at most): variants of variants.toml.\n[wgmma]"
    )?;
    let spec = Spec { store: Store::Copies, ..Spec::new(Element::Bf16, Element::Bf16) };
    for (batch, m, n) in sizes() {
        let names = LENGTHS.map(|k| {
            let variant = gemm::select(&spec, batch, m, n, k, slice);
            variant.map_or(String::new(), |v| v.name.clone())
        });
        writeln!(c, "\"{batch} {m} {n}\" = {names:?}")?;
    }
    writeln!(c, "\n# f32 operands. Products, rows, columns: warpgroups, parts of K.\n[tf32]")?;
    for (batch, m, n) in sizes() {
        let tiles = LENGTHS.map(|k| {
            let tile = tf32::select(Some(batch), Some(m), Some(n), Some(k), slice);
            [tile.warpgroups, tile.split]
        });
        writeln!(c, "\"{batch} {m} {n}\" = {tiles:?}")?;
    }
    writeln!(
        c,
        "\n# At most {} rows. Type, products, columns: parts of K.\n[skinny]",
        skinny::MAX_ROWS
    )?;
    for (name, operands) in [("16bit", Element::Bf16), ("f32", Element::F32)] {
        let spec = skinny::Spec {
            operands,
            out: operands,
            weights: Weights::Nk,
            epilogue: gemm::Epilogue::default(),
        };
        for batch in BATCHES {
            for n in COLUMNS {
                let splits = LENGTHS.map(|k| {
                    let tile = skinny::select(
                        &spec,
                        Some(batch),
                        skinny::MAX_ROWS,
                        Some(n),
                        Some(k),
                        slice,
                    );
                    tile.map_or(1, |t| t.split)
                });
                writeln!(c, "\"{name} {batch} {n}\" = {splits:?}")?;
            }
        }
    }
    Ok(())
}

fn sizes() -> impl Iterator<Item = (i64, i64, i64)> {
    let pairs = BATCHES.into_iter().flat_map(|b| ROWS.into_iter().map(move |m| (b, m)));
    pairs.flat_map(|(b, m)| COLUMNS.into_iter().map(move |n| (b, m, n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_functions_choose() {
        for (sms, written) in SLICES.into_iter().zip([
            include_str!("../../../kernels/selection/60.toml"),
            include_str!("../../../kernels/selection/132.toml"),
        ]) {
            assert!(
                text(sms) == written,
                "kernels/selection/{sms}.toml is not what the functions choose; run `cargo xtask selection` and look at the difference"
            );
        }
    }

    #[test]
    fn every_entry_names_a_kernel() {
        let spec = Spec { store: Store::Copies, ..Spec::new(Element::Bf16, Element::Bf16) };
        for table in TABLES.iter() {
            for (batch, m, n) in sizes() {
                for k in LENGTHS {
                    let size = Size { batch: Some(batch), m: Some(m), n: Some(n), k: Some(k) };
                    let variant = table.wgmma(&spec, size).expect("a variant");
                    let names = &table.wgmma[&size.key()];
                    assert_eq!(variant.name, names[size.length()], "{size:?}");
                    let tile = table.tf32(size);
                    assert!(tile.rows <= 128 && i64::from(tile.rows) <= m.max(8), "{size:?}");
                }
            }
        }
    }

    #[test]
    fn sizes_between_and_beyond_buckets_have_one() {
        assert_eq!(Table::of(60).sms, 60);
        assert_eq!(Table::of(114).sms, 60);
        assert_eq!(Table::of(132).sms, 132);
        assert_eq!(Table::of(1).sms, 60);
        let size = Size { batch: Some(9), m: Some(1 << 40), n: Some(65), k: None };
        assert_eq!((size.key().as_str(), size.length()), ("64 16384 128", 1));
        let unknown = Size { batch: None, m: None, n: None, k: Some(1 << 30) };
        assert_eq!((unknown.key().as_str(), unknown.length()), ("1 512 1024", 3));
    }
}
