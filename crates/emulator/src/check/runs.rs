//! Accesses of a warp as runs of lanes whose bytes follow one another: nearly every access is one run.

use crate::check::{WarpAccess, lanes};

/// Lanes in order whose bytes follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Address of the first lane's bytes.
    pub(crate) address: u64,
    pub(crate) lane: u32,
    pub(crate) count: u32,
    /// All lanes access the first lane's bytes.
    pub(crate) broadcast: bool,
}

/// Whether the access is of one run of all lanes, or of one place.
#[inline]
pub(crate) fn is_regular(access: &WarpAccess<'_>) -> bool {
    let mut runs = 0;
    each_run(access, true, |_| runs += 1);
    runs <= 1
}

/// Calls `f` for every run. With `broadcast`, lanes that all access the same bytes come as one.
#[inline]
pub(crate) fn each_run(access: &WarpAccess<'_>, broadcast: bool, mut f: impl FnMut(Run)) {
    let addresses = access.addresses;
    let bytes = u64::from(access.bytes);
    if access.lanes == u32::MAX {
        let first = addresses[0];
        let (mut follows, mut same) = (0, 0);
        for (lane, &a) in addresses.iter().enumerate() {
            follows |= a ^ first.wrapping_add(lane as u64 * bytes);
            same |= a ^ first;
        }
        if follows == 0 {
            f(Run { address: first, lane: 0, count: 32, broadcast: false });
            return;
        }
        if same == 0 && broadcast {
            f(Run { address: first, lane: 0, count: 1, broadcast: true });
            return;
        }
    }
    let mut run: Option<Run> = None;
    for lane in lanes(access.lanes) {
        let address = addresses[lane];
        match &mut run {
            Some(r)
                if r.lane + r.count == lane as u32
                    && address == r.address + u64::from(r.count) * bytes =>
            {
                r.count += 1;
            }
            _ => {
                if let Some(r) = run.take() {
                    f(r);
                }
                run = Some(Run { address, lane: lane as u32, count: 1, broadcast: false });
            }
        }
    }
    if let Some(r) = run {
        f(r);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Kind;

    fn runs(addresses: [u64; 32], mask: u32, bytes: u32) -> Vec<(u64, u32, u32, bool)> {
        let access = WarpAccess {
            kind: Kind::Read,
            addresses: &addresses,
            lanes: mask,
            bytes,
            strong: false,
        };
        let mut out = Vec::new();
        each_run(&access, true, |r| out.push((r.address, r.lane, r.count, r.broadcast)));
        out
    }

    #[test]
    fn consecutive_lanes_are_one_run() {
        let a = std::array::from_fn(|l| 64 + 4 * l as u64);
        assert_eq!(runs(a, u32::MAX, 4), [(64, 0, 32, false)]);
        assert_eq!(runs(a, 0b1_0111, 4), [(64, 0, 3, false), (80, 4, 1, false)]);
        assert_eq!(runs(a, u32::MAX, 2).len(), 32);
        assert_eq!(runs([7; 32], u32::MAX, 1), [(7, 0, 1, true)]);
        assert_eq!(runs([7; 32], 3, 1), [(7, 0, 1, false), (7, 1, 1, false)]);
    }
}
