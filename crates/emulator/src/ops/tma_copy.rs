//! Moving boxes of tensors between global and shared memory (PTX ISA 5.5, tiled mode).

use std::rc::Rc;

use crate::machine::context::{ClusterState, Env};
use crate::ops::bulk_copy::{self, Reduction};
use crate::ops::pending::SharedRange;
use crate::tensor_map::{DataType, MAX_RANK, OobFill, TensorMap};

/// A box of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Tile {
    pub(crate) map: Rc<TensorMap>,
    /// Where it starts, innermost first; may be outside of the tensor.
    pub(crate) coordinates: [i32; MAX_RANK],
}

/// A row of a box: elements along dimension 0.
pub(crate) struct Row {
    /// Bytes from the start of the box, before swizzling.
    pub(crate) at: u32,
    /// Of the row's bytes, those that are inside of the tensor, and the address of the first.
    pub(crate) inside: std::ops::Range<u32>,
    pub(crate) address: u64,
}

impl Tile {
    /// Bytes of a row.
    fn row_bytes(&self) -> u32 {
        self.map.box_elements()[0] * self.map.dtype().bytes()
    }

    /// Calls `f` with every row of the box.
    pub(crate) fn each_row(&self, mut f: impl FnMut(Row)) {
        let map = &*self.map;
        let rank = map.rank();
        let size = map.box_elements();
        let element = map.dtype().bytes();
        let row_bytes = self.row_bytes();
        // Dimension 0: the part of every row that is inside.
        let start = i64::from(self.coordinates[0]);
        let first = (-start).clamp(0, i64::from(size[0]));
        let last = (map.dims()[0] as i64 - start).clamp(first, i64::from(size[0]));
        let columns = first as u32 * element..last as u32 * element;
        let rows = size[1..].iter().product::<u32>();
        let mut index = [0u32; MAX_RANK];
        for row in 0..rows {
            let mut inside = columns.start < columns.end;
            let mut address = (start + first) * i64::from(element);
            for (d, &i) in index.iter().enumerate().take(rank).skip(1) {
                let stride = i64::from(map.element_strides()[d]);
                let c = i64::from(self.coordinates[d]) + i64::from(i) * stride;
                inside &= c >= 0 && (c as u64) < map.dims()[d];
                address = address.wrapping_add(c.wrapping_mul(map.strides()[d - 1] as i64));
            }
            f(Row {
                at: row * row_bytes,
                inside: if inside { columns.clone() } else { 0..0 },
                address: map.address().wrapping_add(address as u64),
            });
            for d in 1..rank {
                index[d] += 1;
                if index[d] < size[d] {
                    break;
                }
                index[d] = 0;
            }
        }
    }

    /// The range of addresses that the elements inside of the tensor span; None if there are none.
    pub(crate) fn hull(&self) -> Option<(u64, u64)> {
        let map = &*self.map;
        let size = map.box_elements();
        let element = i64::from(map.dtype().bytes());
        let (mut low, mut high) = (0i64, element);
        for (d, &size) in size.iter().enumerate().take(map.rank()) {
            let start = i64::from(self.coordinates[d]);
            let step = i64::from(map.element_strides()[d]);
            // The first and the last index of the box that is inside.
            let first = if start < 0 { (-start + step - 1) / step } else { 0 };
            let room = map.dims()[d] as i64 - 1 - start;
            if room < 0 {
                return None;
            }
            let last = (room / step).min(i64::from(size) - 1);
            if first > last {
                return None;
            }
            let stride = if d == 0 { element } else { map.strides()[d - 1] as i64 };
            low = low.wrapping_add((start + first * step).wrapping_mul(stride));
            high = high.wrapping_add((start + last * step).wrapping_mul(stride));
        }
        let base = map.address();
        Some((base.wrapping_add(low as u64), base.wrapping_add(high as u64)))
    }
}

/// Calls `f` with the pieces of a row that stay together under the swizzle: offset in the row, address in
/// shared memory, bytes.
fn each_piece(tile: &Tile, shared: u32, row: &Row, len: u32, mut f: impl FnMut(u32, u32, u32)) {
    let mask = tile.map.swizzle().mask();
    if mask == 0 {
        f(0, shared + row.at, len);
        return;
    }
    // The swizzle exchanges 16-byte units by bits of their absolute address (PTX ISA 5.5.7).
    for unit in (0..len).step_by(16) {
        let address = shared + row.at + unit;
        f(unit, address ^ (address >> 3 & mask), 16.min(len - unit));
    }
}

/// A NaN of the type, as bytes of one element.
fn nan(ty: DataType) -> Vec<u8> {
    match ty.bytes() {
        2 => vec![0xff, 0x7f],
        4 => vec![0xff, 0xff, 0xff, 0x7f],
        _ => vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    }
}

/// What loads do to the bytes of the types that are rounded or flushed on the way.
fn convert(ty: DataType, bytes: &mut [u8]) {
    let flushes = matches!(ty, DataType::Float32Ftz | DataType::Tfloat32Ftz);
    let rounds = matches!(ty, DataType::Tfloat32 | DataType::Tfloat32Ftz);
    if !flushes && !rounds {
        return;
    }
    for element in bytes.chunks_exact_mut(4) {
        let mut bits = u32::from_le_bytes(element.try_into().unwrap_or_default());
        let value = f32::from_bits(bits);
        if flushes && value.is_subnormal() {
            bits &= 0x8000_0000;
        }
        if rounds && !value.is_nan() {
            // To nearest, ties to even, on 10 bits of mantissa.
            bits = bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff;
        } else if rounds {
            bits &= !0x1fff;
            bits |= 0x0040_0000;
        }
        element.copy_from_slice(&bits.to_le_bytes());
    }
}

/// Copies a box into shared memory.
pub(crate) fn load(state: &mut ClusterState, env: &Env<'_>, tile: &Tile, to: SharedRange) {
    let cta = &mut state.ctas[to.rank as usize];
    let shared = &mut cta.shared;
    let ty = tile.map.dtype();
    let len = tile.row_bytes();
    let fill = match tile.map.oob_fill() {
        OobFill::Zero => vec![0; len as usize],
        OobFill::NanRequestZeroFma => nan(ty).repeat((len / ty.bytes()) as usize),
    };
    let mut buffer = fill.clone();
    let mut found: Option<usize> = None;
    tile.each_row(|row| {
        let inside = row.inside.start as usize..row.inside.end as usize;
        if inside.len() < len as usize {
            buffer.copy_from_slice(&fill);
        }
        if !inside.is_empty() {
            let bytes = inside.len() as u64;
            // Rows mostly lie in one allocation.
            let known = found.and_then(|a| Some((a, env.memory[a].offset(row.address, bytes)?)));
            match known.or_else(|| env.find(row.address, bytes)) {
                Some((allocation, offset)) => {
                    found = Some(allocation);
                    let target = &mut buffer[inside];
                    env.memory[allocation].bytes.read(offset, target);
                    convert(ty, target);
                }
                None => buffer[inside].fill(0),
            }
        }
        each_piece(tile, to.offset, &row, len, |at, address, n| {
            let (at, address, n) = (at as usize, address as usize, n as usize);
            // A swizzled box whose start is not aligned to the pattern may reach out of memory.
            if let Some(target) = shared.get_mut(address..address + n) {
                target.copy_from_slice(&buffer[at..at + n]);
            }
        });
    });
    cta.mark_written(to.offset, to.len);
}

/// Writes the bytes of a box, as they lay in shared memory from `from` on, to a tensor.
pub(crate) fn store(
    env: &Env<'_>,
    tile: &Tile,
    from: SharedRange,
    source: &[u8],
    reduction: Option<Reduction>,
) {
    let len = tile.row_bytes();
    let mut buffer = vec![0; len as usize];
    tile.each_row(|row| {
        if row.inside.is_empty() {
            return;
        }
        each_piece(tile, from.offset, &row, len, |at, address, n| {
            let start = address.wrapping_sub(from.offset) as usize;
            if let Some(piece) = source.get(start..start + n as usize) {
                buffer[at as usize..(at + n) as usize].copy_from_slice(piece);
            }
        });
        let inside = row.inside.start as usize..row.inside.end as usize;
        bulk_copy::store(env, &buffer[inside], row.address, reduction);
    });
}
