//! Memory of a launch on the host: what a reference computes from, and what is compared.

use std::borrow::Cow;

use zeroforge_compiler::reference::Memory;

/// Regions by address.
#[derive(Default)]
pub(crate) struct Snapshot<'a> {
    regions: Vec<(u64, Cow<'a, [u8]>)>,
}

impl<'a> Snapshot<'a> {
    /// Adds a region; regions do not overlap.
    pub(crate) fn add(&mut self, start: u64, bytes: Cow<'a, [u8]>) {
        let at = self.regions.partition_point(|r| r.0 < start);
        if self.regions.get(at).is_none_or(|r| r.0 != start) {
            self.regions.insert(at, (start, bytes));
        }
    }

    /// All regions in order.
    pub(crate) fn regions(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.regions.iter().map(|(start, bytes)| (*start, &**bytes))
    }
}

impl Memory for Snapshot<'_> {
    fn region(&self, address: u64) -> Option<(u64, &[u8])> {
        let at = self.regions.partition_point(|r| r.0 <= address).checked_sub(1)?;
        let (start, bytes) = &self.regions[at];
        (address - start < bytes.len() as u64).then_some((*start, &**bytes))
    }
}
