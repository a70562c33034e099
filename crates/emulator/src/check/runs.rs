//! Accesses of a warp as runs of lanes whose bytes follow one another: nearly every access is one run.

use crate::check::{WarpAccess, lanes};
use crate::machine::warp::Lanes64;

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

/// Addresses of all lanes of a warp at one distance from each to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Even {
    pub(crate) first: u64,
    /// Less than [`MAX_STEP`]; 0 where all lanes have one address.
    pub(crate) step: u64,
}

/// Distances from here on are taken for no distance: spans of all lanes stay small.
const MAX_STEP: u64 = 1 << 16;

/// How the addresses are spaced, if evenly and of all lanes.
#[inline]
pub(crate) fn even(addresses: &Lanes64, mask: u32) -> Option<Even> {
    let first = addresses[0];
    let step = addresses[1].wrapping_sub(first);
    if mask != u32::MAX || step >= MAX_STEP {
        return None;
    }
    let mut differ = 0;
    for (pair, &b) in addresses[1..].iter().zip(&addresses[..31]) {
        differ |= pair.wrapping_sub(b) ^ step;
    }
    let even = Even { first, step };
    (differ == 0 && even.in_range(false)).then_some(even)
}

impl Even {
    /// Bytes from the first lane's to the end of the last lane's.
    #[inline]
    pub(crate) fn span(&self, bytes: u32) -> u64 {
        31 * self.step + u64::from(bytes)
    }

    /// Whether the distance is small and the addresses of the lanes do not wrap, those of 32 bits neither.
    #[inline]
    pub(crate) fn in_range(&self, shared: bool) -> bool {
        let end = if shared { u64::from(u32::MAX) } else { u64::MAX };
        self.step < MAX_STEP && self.first <= end - 32 * MAX_STEP
    }

    /// Whether the bytes of every cell of 64 belong to lanes by a shift of their position.
    #[inline]
    pub(crate) fn is_stripe(&self, bytes: u32) -> bool {
        self.step.is_power_of_two() && u64::from(bytes) <= self.step && self.step <= 64
    }

    /// Of a stripe: which bytes of each 64 between its ends are accessed.
    #[inline]
    pub(crate) fn pattern(&self, bytes: u32) -> u64 {
        if self.step <= u64::from(bytes) {
            return u64::MAX;
        }
        let mut pattern = ((1 << bytes) - 1) << (self.first & (self.step - 1));
        let mut at = self.step;
        while at < 64 {
            pattern |= pattern << at;
            at *= 2;
        }
        pattern
    }
}

/// Whether the access is of one run of all lanes, or of one place.
#[inline]
pub(crate) fn is_regular(access: &WarpAccess<'_>) -> bool {
    if let Some(even) = access.even {
        return even.step == 0 || even.step == u64::from(access.bytes);
    }
    let mut runs = 0;
    each_run(access, true, |_| runs += 1);
    runs <= 1
}

/// Calls `f` for every run. With `broadcast`, lanes that all access the same bytes come as one.
#[inline]
pub(crate) fn each_run(access: &WarpAccess<'_>, broadcast: bool, mut f: impl FnMut(Run)) {
    let addresses = access.addresses;
    let bytes = u64::from(access.bytes);
    if let Some(Even { first, step }) = access.even {
        if step == bytes {
            f(Run { address: first, lane: 0, count: 32, broadcast: false });
            return;
        }
        if step == 0 && broadcast {
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
        let access = WarpAccess::new(Kind::Read, &addresses, mask, bytes, false);
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

    #[test]
    fn a_stripe_has_the_bytes_of_its_lanes() {
        for (step, bytes) in [(4, 4), (8, 4), (16, 8), (32, 2), (64, 16), (64, 1), (2, 1)] {
            for first in (0..128).step_by(bytes as usize) {
                let addresses: Lanes64 = std::array::from_fn(|l| 4096 + first + l as u64 * step);
                let even = even(&addresses, u32::MAX).expect("evenly spaced");
                assert!(even.is_stripe(bytes));
                let pattern = even.pattern(bytes);
                for at in even.first..even.first + even.span(bytes) {
                    let accessed = addresses.iter().any(|&a| a <= at && at < a + u64::from(bytes));
                    assert_eq!(pattern >> (at % 64) & 1 == 1, accessed, "{step} {bytes} {first}");
                }
            }
        }
        let odd = std::array::from_fn(|l| 64 + 4 * (l as u64 ^ 1));
        assert_eq!((even(&odd, u32::MAX), even(&[7; 32], 3)), (None, None));
        let down = std::array::from_fn(|l| 4096 - 4 * l as u64);
        assert_eq!(even(&down, u32::MAX), None);
    }
}
