//! Operands of a wgmma in shared memory: matrix descriptors, canonical layouts, swizzles, elements.
//!
//! PTX ISA 9.7.15.5.1.2: memory is read in units of 16 bytes. With rows (of M or N) `mn` and columns `k`, T
//! elements in a unit and W units in a row of the swizzle (1 without one), the unit of an element is at
//! - K-major, swizzled: `(mn % 8) 16 W + (mn / 8) SBO + 16 (k / T)`
//! - K-major, plain: `(mn % 8) 16 + (mn / 8) SBO + (k / T) LBO`
//! - MN-major, swizzled: `16 (mn / T % W) + (mn / (T W)) LBO + (k % 8) 16 W + (k / 8) SBO`
//! - MN-major, plain: `(mn / T) SBO + (k % 8) 16 + (k / 8) LBO`
//!
//! behind the start address; the swizzle then changes bits of the whole shared address (5.5.7).

use crate::ops::half::{f32_of_bf16, f32_of_f16};
use crate::ops::soft::{f32_of_e4m3, f32_of_e5m2};

/// What the elements of an operand are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
}

impl Element {
    /// Elements in a unit of 16 bytes.
    pub(crate) fn per_unit(self) -> u32 {
        match self {
            Element::F16 | Element::Bf16 => 8,
            Element::Tf32 => 4,
            _ => 16,
        }
    }

    /// Calls `f` with the value of each element of some bytes and its position. Values of integers are
    /// given by their bits.
    #[inline(always)]
    pub(crate) fn each(self, bytes: &[u8], negate: bool, mut f: impl FnMut(usize, f32)) {
        let sign = if negate { 0x8000_0000 } else { 0 };
        let mut give = |i, x: f32| f(i, f32::from_bits(x.to_bits() ^ sign));
        let half = |c: &[u8]| u32::from(u16::from_le_bytes([c[0], c[1]]));
        match self {
            Element::F16 => {
                bytes.chunks_exact(2).enumerate().for_each(|(i, c)| give(i, f32_of_f16(half(c))));
            }
            Element::Bf16 => {
                bytes.chunks_exact(2).enumerate().for_each(|(i, c)| give(i, f32_of_bf16(half(c))));
            }
            // The low 13 bits are not looked at.
            Element::Tf32 => bytes.chunks_exact(4).enumerate().for_each(|(i, c)| {
                let bits = u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
                give(i, f32::from_bits(bits & !0x1fff));
            }),
            Element::E4m3 => {
                bytes.iter().enumerate().for_each(|(i, &b)| give(i, f32_of_e4m3(u32::from(b))));
            }
            Element::E5m2 => {
                bytes.iter().enumerate().for_each(|(i, &b)| give(i, f32_of_e5m2(u32::from(b))));
            }
            Element::S8 => {
                bytes.iter().enumerate().for_each(|(i, &b)| f(i, f32::from_bits(b as i8 as u32)));
            }
            Element::U8 => {
                bytes.iter().enumerate().for_each(|(i, &b)| f(i, f32::from_bits(u32::from(b))));
            }
        }
    }
}

/// A matrix descriptor taken apart (PTX ISA 9.7.15.5.1.2.2), with the major order of its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    start: u32,
    leading: u32,
    stride: u32,
    /// Units of 16 bytes in a row of the swizzle: 1 without one.
    units: u32,
    mn_major: bool,
    per_unit: u32,
}

/// Rows of all operands are 32 bytes along K: two units.
pub(crate) const UNITS_OF_K: u32 = 2;

impl Layout {
    /// Takes a descriptor of an operand with `rows` rows apart; says what is wrong with one that the
    /// hardware would not take.
    pub(crate) fn new(
        descriptor: u64,
        mn_major: bool,
        element: Element,
        rows: u32,
    ) -> Result<Layout, String> {
        const USED: u64 = 0xc00e_3fff_3fff_3fff;
        if descriptor & !USED != 0 {
            return Err(format!(
                "bits {:#x} of the descriptor are reserved; addresses and offsets are 18 bits wide and stored without their low 4 bits",
                descriptor & !USED
            ));
        }
        let field = |at: u32| ((descriptor >> at & 0x3fff) << 4) as u32;
        let base_offset = descriptor >> 49 & 7;
        if base_offset != 0 {
            return Err(format!(
                "base offset {base_offset}: only swizzle patterns that start at a multiple of their length are emulated"
            ));
        }
        let layout = Layout {
            start: field(0),
            leading: field(16),
            stride: field(32),
            units: [1, 8, 4, 2][(descriptor >> 62) as usize],
            mn_major,
            per_unit: element.per_unit(),
        };
        let swizzled = layout.units > 1;
        let columns = UNITS_OF_K * layout.per_unit;
        let (leading, stride) = match (mn_major, swizzled) {
            (false, true) => (false, rows > 8),
            (false, false) => (true, rows > 8),
            (true, true) => (rows > layout.per_unit * layout.units, columns > 8),
            (true, false) => (columns > 8, rows > layout.per_unit),
        };
        let missing = match (leading && layout.leading == 0, stride && layout.stride == 0) {
            (true, _) => "leading dimension byte offset",
            (_, true) => "stride dimension byte offset",
            _ => return Ok(layout),
        };
        let order = if mn_major { "MN-major" } else { "K-major" };
        Err(format!(
            "the {missing} is 0, so that parts of the {order} operand of {rows} rows lie on each other"
        ))
    }

    /// Shared offsets of the units of rows `first..first + rows`: for a K-major operand the two units of each
    /// row, for an MN-major one, for each k, the units along the rows.
    pub(crate) fn units(&self, first: u32, rows: u32, out: &mut Vec<u32>) {
        out.clear();
        out.reserve((UNITS_OF_K * rows) as usize);
        let w = self.units;
        let mask = (w - 1) << 4;
        // Swizzles act on the address; W of 8, 4, 2, 1 is a mask of 0x70, 0x30, 0x10, 0.
        let mut push = |offset: u32| {
            let address = (self.start + offset) & 0x3_ffff;
            out.push(address ^ (address >> 3 & mask));
        };
        if !self.mn_major {
            let step = if w > 1 { 16 } else { self.leading };
            for mn in first..first + rows {
                let row = (mn % 8) * 16 * w + (mn / 8) * self.stride;
                push(row);
                push(row + step);
            }
            return;
        }
        let t = self.per_unit;
        for k in 0..UNITS_OF_K * t {
            for unit in first / t..(first + rows) / t {
                push(match w {
                    1 => unit * self.stride + (k % 8) * 16 + (k / 8) * self.leading,
                    _ => {
                        16 * (unit % w)
                            + (unit / w) * self.leading
                            + (k % 8) * 16 * w
                            + (k / 8) * self.stride
                    }
                });
            }
        }
    }
}

/// The 16 bytes that operands consist of.
pub(crate) type Unit = [u8; 16];

/// Reads units one after the other.
pub(crate) fn gather(shared: &[u8], units: &[u32], out: &mut Vec<Unit>) {
    let read = |&unit: &u32| shared[unit as usize..].first_chunk().copied().unwrap_or_default();
    out.clear();
    out.extend(units.iter().map(read));
}

/// The units of an operand.
#[derive(Debug)]
pub(crate) struct Units {
    /// Their shared offsets, in the order of the elements.
    pub(crate) offsets: Vec<u32>,
    /// The same as a [`Footprint`] has them: words, in order, and their bits.
    words: Vec<(u32, u64)>,
}

impl Units {
    pub(crate) fn new(offsets: Vec<u32>) -> Units {
        let mut words = std::collections::BTreeMap::new();
        for unit in &offsets {
            *words.entry(unit / 16 / 64).or_insert(0) |= 1 << (unit / 16 % 64);
        }
        Units { offsets, words: words.into_iter().collect() }
    }
}

/// Units of shared memory that the wgmmas of a group read, so that the steps of a tile, each of which reads
/// a part of every row, count as one whole range.
#[derive(Debug, Default)]
pub(crate) struct Footprint {
    /// A bit per unit.
    bits: Vec<u64>,
}

impl Footprint {
    pub(crate) fn add(&mut self, units: &Units) {
        let words = units.words.last().map_or(0, |&(at, _)| at as usize + 1);
        if self.bits.len() < words {
            self.bits.resize(words, 0);
        }
        for &(at, bits) in &units.words {
            self.bits[at as usize] |= bits;
        }
    }

    /// Calls `f(offset, len)` for the ranges and forgets them.
    pub(crate) fn take_ranges(&mut self, mut f: impl FnMut(u32, u32)) {
        let mut open: Option<u32> = None;
        for (i, word) in self.bits.iter_mut().enumerate() {
            let word = std::mem::take(word);
            let mut at = 0;
            while at < 64 {
                // Alternately the next unit that is there and the next that is not.
                let rest = if open.is_some() { !word } else { word } >> at;
                at += rest.trailing_zeros().min(64 - at);
                if at == 64 {
                    break;
                }
                let offset = (i as u32 * 64 + at) * 16;
                match open.take() {
                    Some(first) => f(first, offset - first),
                    None => open = Some(offset),
                }
            }
        }
        if let Some(first) = open {
            f(first, self.bits.len() as u32 * 64 * 16 - first);
        }
    }
}

/// Spreads the elements of B over lanes: `out[k * N/4 + j][q]` is column `8 (j / 2) + 2 q + j % 2`, for the
/// four lanes that share a row of the accumulator, twice.
pub(crate) fn spread_b(
    raw: &[Unit],
    element: Element,
    mn_major: bool,
    negate: bool,
    n: usize,
    out: &mut Vec<[f32; 8]>,
) {
    let columns = (UNITS_OF_K * element.per_unit()) as usize;
    let count = n / 4;
    let raw = raw.as_flattened();
    out.resize(columns * count, [0.0; 8]);
    let mut put = |k: usize, n: usize, x: f32| {
        let place = &mut out[k * count + n / 8 * 2 + n % 2];
        place[n % 8 / 2] = x;
        place[n % 8 / 2 + 4] = x;
    };
    if mn_major {
        for (k, row) in raw.chunks_exact(raw.len() / columns).enumerate() {
            element.each(row, negate, |n, x| put(k, n, x));
        }
    } else {
        for (n, row) in raw.chunks_exact(32).enumerate() {
            element.each(row, negate, |k, x| put(k, n, x));
        }
    }
}

/// Spreads 16 rows of A over lanes: `out[h * K + k][lane]` is row `lane / 4 + 8 h`.
pub(crate) fn spread_a(
    raw: &[Unit],
    element: Element,
    mn_major: bool,
    negate: bool,
    out: &mut Vec<[f32; 32]>,
) {
    let columns = (UNITS_OF_K * element.per_unit()) as usize;
    let raw = raw.as_flattened();
    out.resize(2 * columns, [0.0; 32]);
    let mut put = |k: usize, m: usize, x: f32| {
        let first = m % 8 * 4;
        out[m / 8 * columns + k][first..first + 4].fill(x);
    };
    if mn_major {
        for (k, row) in raw.chunks_exact(32).enumerate() {
            element.each(row, negate, |m, x| put(k, m, x));
        }
    } else {
        for (m, row) in raw.chunks_exact(32).enumerate() {
            element.each(row, negate, |k, x| put(k, m, x));
        }
    }
}

/// As [`spread_a`], from the four registers of a warp (PTX ISA 9.7.15.5.1.1): register `r` of a lane holds
/// row `lane / 4 + 8 (r % 2)`, columns `p (lane % 4) + 4 p (r / 2)` on, p to a register.
pub(crate) fn spread_registers(
    registers: &[[u32; 32]; 4],
    element: Element,
    negate: bool,
    out: &mut Vec<[f32; 32]>,
) {
    let per_unit = element.per_unit() as usize;
    let columns = UNITS_OF_K as usize * per_unit;
    out.resize(2 * columns, [0.0; 32]);
    let per_register = per_unit / 4;
    for (r, register) in registers.iter().enumerate() {
        for (lane, bits) in register.iter().enumerate() {
            let first = lane % 4 * per_register + r / 2 * per_unit;
            let row = lane / 4 * 4;
            element.each(&bits.to_le_bytes(), negate, |i, x| {
                out[r % 2 * columns + first + i][row..row + 4].fill(x);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_whole_and_exact() {
        let ranges = |units: &[u32]| {
            let (mut footprint, mut found) = (Footprint::default(), Vec::new());
            footprint.add(&Units::new(units.to_vec()));
            footprint.take_ranges(|offset, len| found.push((offset, len)));
            footprint.take_ranges(|_, _| panic!("they are forgotten"));
            found
        };
        let some = [0x400, 0x420, 0x410, 0x1000, 0x2000, 0x1ff0];
        assert_eq!(ranges(&some), [(0x400, 0x30), (0x1000, 0x10), (0x1ff0, 0x20)]);
        let long: Vec<u32> = (0..300).map(|i| 0x800 + i * 16).collect();
        assert_eq!(ranges(&long), [(0x800, 4800)]);
        let to_the_end: Vec<u32> = (0..128).map(|i| 0x800 + i * 16).collect();
        assert_eq!(ranges(&to_the_end), [(0x800, 2048)]);
    }

    #[test]
    fn a_swizzled_row_is_where_the_table_of_the_isa_puts_it() {
        // 128-byte swizzle at 1024: row r has its unit c at unit c ^ r.
        let descriptor = 1024 >> 4 | (1024 >> 4) << 32 | 1 << 62;
        let layout = Layout::new(descriptor, false, Element::Bf16, 64).expect("good");
        let mut units = Vec::new();
        layout.units(0, 16, &mut units);
        for (i, unit) in units.iter().enumerate() {
            let (row, c) = (i as u32 / 2, i as u32 % 2);
            assert_eq!(*unit, 1024 + row / 8 * 1024 + row % 8 * 128 + (c ^ (row % 8)) * 16);
        }
    }
}
