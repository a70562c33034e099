//! Access that works but is slow: bank conflicts in shared memory and uncoalesced access of global memory.
//!
//! Both are warnings, and only from a factor of four on. Factors of two are often worth it (a transposed tile, a
//! row that starts in the middle of a sector) and hide behind arithmetic; at four, three quarters of what the
//! memory could give is lost, which no layout that somebody chose with care does.

use crate::check::runs::is_regular;
use crate::check::{Kind, WarpAccess, lanes};
use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::report::FindingKind;

/// Factor from which slow access is told.
const THRESHOLD: u32 = 4;
/// Sectors below which an access is too small to matter.
const FEW_SECTORS: u32 = 8;

/// Times that the worst bank must be read for one request: shared memory serves 128 bytes at a time, so lanes
/// with 8 bytes go by halves of the warp and lanes with 16 by quarters; equal words are served together.
fn conflict_degree(access: &WarpAccess<'_>) -> u32 {
    let per_phase = (128 / access.bytes.max(4)).min(32);
    let words_per_lane = access.bytes.div_ceil(4);
    let mut degree = 1;
    for first in (0..32).step_by(per_phase as usize) {
        let phase = (u32::MAX >> (32 - per_phase)) << first;
        let mut words = [0u32; 32];
        let mut count = 0;
        for lane in lanes(access.lanes & phase) {
            let word = (access.addresses[lane] / 4) as u32;
            for i in 0..words_per_lane {
                words[count] = word + i;
                count += 1;
            }
        }
        let words = &mut words[..count];
        words.sort_unstable();
        let mut banks = [0u8; 32];
        let mut last = None;
        for &word in words.iter() {
            if last.replace(word) != Some(word) {
                let bank = &mut banks[(word % 32) as usize];
                *bank += 1;
                degree = degree.max(u32::from(*bank));
            }
        }
    }
    degree
}

/// The same of lanes at one distance, a multiple of the banks' 4 bytes and greater than their bytes: the lanes of
/// a phase take turns on so many banks as the distance reaches, all with different words.
fn even_degree(step: u64, bytes: u32) -> u32 {
    let per_phase = (128 / bytes.max(4)).min(32);
    let words = (step / 4) as u32;
    (per_phase * (1 << words.trailing_zeros().min(5)) / 32).max(1)
}

/// Counts words of one bank.
pub(crate) fn shared_access(cx: &mut Cx<'_>, warp: &Warp, access: &WarpAccess<'_>) {
    // Lanes that follow one another fill the banks evenly; atomics are slow for other reasons.
    if access.kind == Kind::Atomic || is_regular(access) {
        return;
    }
    let degree = match access.even {
        Some(even) if even.step.is_multiple_of(4) && even.step > u64::from(access.bytes) => {
            even_degree(even.step, access.bytes)
        }
        _ => conflict_degree(access),
    };
    if degree >= THRESHOLD {
        let first = access.addresses[(access.lanes.trailing_zeros() & 31) as usize];
        cx.find(warp, access.lanes, FindingKind::BankConflict, Some(first), || {
            format!("{degree} different words of one bank of shared memory are accessed at once, so that the access takes {degree} times as long; pad or swizzle the rows")
        });
    }
}

/// Sectors of 32 bytes that an access touches, and those that its bytes would fill.
fn sectors(access: &WarpAccess<'_>) -> (u32, u32) {
    let mut bytes = [(0u64, 0u64); 32];
    let mut count = 0;
    for lane in lanes(access.lanes) {
        let at = access.addresses[lane];
        bytes[count] = (at, at + u64::from(access.bytes));
        count += 1;
    }
    let bytes = &mut bytes[..count];
    bytes.sort_unstable();
    let (mut touched, mut distinct, mut end, mut sector) = (0, 0, 0, None);
    for &(from, to) in bytes.iter() {
        distinct += to.saturating_sub(from.max(end));
        end = end.max(to);
        // Aligned accesses of up to 32 bytes lie in one sector.
        if sector.replace(from / 32) != Some(from / 32) {
            touched += 1;
        }
    }
    (touched, distinct.div_ceil(32) as u32)
}

/// Counts sectors.
pub(crate) fn global_access(cx: &mut Cx<'_>, warp: &Warp, access: &WarpAccess<'_>) {
    if access.kind == Kind::Atomic || access.strong || is_regular(access) {
        return;
    }
    let (touched, needed) = match access.even {
        Some(even) if even.step > u64::from(access.bytes) => {
            let last = even.first + 31 * even.step;
            let touched = (last / 32 - even.first / 32 + 1).min(32);
            (touched as u32, access.bytes)
        }
        _ => sectors(access),
    };
    if touched >= FEW_SECTORS && touched >= THRESHOLD * needed {
        let first = access.addresses[(access.lanes.trailing_zeros() & 31) as usize];
        cx.find(warp, access.lanes, FindingKind::Uncoalesced, Some(first), || {
            format!("{touched} sectors of 32 bytes of global memory are touched where {needed} would hold the bytes; let neighbouring lanes access neighbouring bytes")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(addresses: &[u64; 32], bytes: u32) -> WarpAccess<'_> {
        WarpAccess::new(Kind::Read, addresses, u32::MAX, bytes, false)
    }

    #[test]
    fn degrees_of_known_patterns() {
        let stride = |bytes: u64| std::array::from_fn(|l| 1024 + l as u64 * bytes);
        assert_eq!(conflict_degree(&access(&stride(4), 4)), 1);
        assert_eq!(conflict_degree(&access(&stride(8), 4)), 2);
        assert_eq!(conflict_degree(&access(&stride(128), 4)), 32);
        assert_eq!(conflict_degree(&access(&stride(132), 4)), 1);
        assert_eq!(conflict_degree(&access(&stride(0), 4)), 1);
        assert_eq!(conflict_degree(&access(&stride(2), 2)), 1);
        assert_eq!(conflict_degree(&access(&stride(16), 16)), 1);
        // Rows of ldmatrix 128 bytes apart: all eight of a matrix in the same banks; padded by 16 they are not.
        assert_eq!(conflict_degree(&access(&stride(128), 16)), 8);
        assert_eq!(conflict_degree(&access(&stride(144), 16)), 1);
        assert_eq!(conflict_degree(&access(&stride(8), 8)), 1);
        assert_eq!(conflict_degree(&access(&stride(256), 8)), 16);
    }

    #[test]
    fn sectors_of_known_patterns() {
        let stride = |bytes: u64| std::array::from_fn(|l| 4096 + l as u64 * bytes);
        assert_eq!(sectors(&access(&stride(4), 4)), (4, 4));
        assert_eq!(sectors(&access(&stride(32), 4)), (32, 4));
        assert_eq!(sectors(&access(&stride(0), 4)), (1, 1));
        assert_eq!(sectors(&access(&stride(16), 16)), (16, 16));
        assert_eq!(sectors(&access(&stride(512), 16)), (32, 16));
    }

    #[test]
    fn even_distances_count_as_any_others() {
        for bytes in [1, 2, 4, 8, 16] {
            for step in (u64::from(bytes.max(4))..600).step_by(bytes.max(4) as usize).skip(1) {
                let addresses = std::array::from_fn(|l| 4096 + l as u64 * step);
                let access = access(&addresses, bytes);
                assert_eq!(even_degree(step, bytes), conflict_degree(&access), "{step} {bytes}");
            }
        }
    }
}
