//! The card's memory: allocations with what is known of their contents.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock};

use super::bytes::Bytes;

/// First address of the card's own allocations. Host addresses of user programs lie elsewhere, so that the
/// driver can tell them apart.
const FIRST_ADDRESS: u64 = 0x0000_2000_0000_0000;
/// Alignment of allocations, as cuMemAlloc gives.
const ALLOCATION_ALIGN: u64 = 512;
/// Bytes between allocations that belong to nobody, so that an overrun hits no neighbour.
const GUARD: u64 = 512;

/// Why memory could not be had or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The card is full.
    #[error("{asked} bytes were asked for, {free} of {capacity} are free on the emulated card")]
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes free.
        free: u64,
        /// Bytes of the card.
        capacity: u64,
    },
    /// The host has not enough memory to back the card's.
    #[error("the host has no memory for an allocation of {asked} bytes")]
    HostMemory {
        /// Bytes asked for.
        asked: u64,
    },
    /// A range that is not inside one live allocation.
    #[error("{len} bytes at {address:#x} are not inside a live allocation{}", near(.nearest))]
    OutOfBounds {
        /// First byte.
        address: u64,
        /// Bytes.
        len: u64,
        /// The allocation that starts at or before the address, if any: start and size.
        nearest: Option<(u64, u64)>,
    },
    /// An address that no allocation starts at.
    #[error("no live allocation starts at {address:#x}")]
    NotAnAllocation {
        /// The address.
        address: u64,
    },
}

fn near(nearest: &Option<(u64, u64)>) -> String {
    match nearest {
        Some((start, size)) => format!("; the one before it is {size} bytes at {start:#x}"),
        None => String::new(),
    }
}

/// One allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    /// First address on the card.
    pub(crate) base: u64,
    pub(crate) size: u64,
    /// Constant memory and the like: kernels may not write to it.
    pub(crate) read_only: bool,
    pub(crate) bytes: Bytes,
    /// A bit per byte: whether something wrote it. None where all of it counts as written.
    written: Option<Bytes>,
}

impl Allocation {
    /// Offset of an access that lies inside.
    pub(crate) fn offset(&self, address: u64, len: u64) -> Option<usize> {
        let offset = address.checked_sub(self.base)?;
        (offset <= self.size && len <= self.size - offset).then_some(offset as usize)
    }

    /// Notes that bytes were written.
    pub(crate) fn mark_written(&self, offset: usize, len: usize) {
        let Some(written) = &self.written else { return };
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let (bits, n) = bits_of_word(at, end);
            written.set_bits(at / 64 * 8, bits);
            at += n;
        }
    }

    /// Whether all bytes of a range were written.
    pub(crate) fn is_written(&self, offset: usize, len: usize) -> bool {
        self.first_unwritten(offset, len).is_none()
    }

    /// The first byte of a range that was not written.
    pub(crate) fn first_unwritten(&self, offset: usize, len: usize) -> Option<usize> {
        let written = self.written.as_ref()?;
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let (bits, n) = bits_of_word(at, end);
            let missing = bits & !written.load(at / 64 * 8, 8);
            if missing != 0 {
                return Some(at / 64 * 64 + missing.trailing_zeros() as usize);
            }
            at += n;
        }
        None
    }
}

/// The bits of the word of 64 that an offset is in, from there to an end, and how many they are.
#[inline]
fn bits_of_word(at: usize, end: usize) -> (u64, usize) {
    let bit = at % 64;
    let n = (64 - bit).min(end - at);
    ((u64::MAX >> (64 - n)) << bit, n)
}

#[derive(Debug, Default)]
struct State {
    allocations: BTreeMap<u64, Arc<Allocation>>,
    next: u64,
    used: u64,
}

impl State {
    fn nearest(&self, address: u64) -> Option<&Arc<Allocation>> {
        self.allocations.range(..=address).next_back().map(|(_, a)| a)
    }
}

/// The card's memory. Shared by all launches and copies; every method may be called from any thread.
#[derive(Debug)]
pub struct DeviceMemory {
    capacity: u64,
    state: RwLock<State>,
}

impl DeviceMemory {
    /// Memory of a card of this many bytes.
    pub fn new(capacity: u64) -> DeviceMemory {
        let state = State { next: FIRST_ADDRESS, ..State::default() };
        DeviceMemory { capacity, state: RwLock::new(state) }
    }

    fn read_state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes free and bytes in all.
    pub fn info(&self) -> (u64, u64) {
        (self.capacity - self.read_state().used, self.capacity)
    }

    /// Takes memory with unwritten contents; its address.
    pub fn alloc(&self, size: u64) -> Result<u64, MemoryError> {
        self.add(size, false, true)
    }

    /// Takes memory that counts as written and that kernels may not write: constant banks.
    pub fn alloc_constant(&self, size: u64) -> Result<u64, MemoryError> {
        self.add(size, true, false)
    }

    /// Takes memory that is zero and counts as written.
    pub fn alloc_zeroed(&self, size: u64) -> Result<u64, MemoryError> {
        self.add(size, false, false)
    }

    fn add(&self, size: u64, read_only: bool, track: bool) -> Result<u64, MemoryError> {
        let mut state = self.write_state();
        let free = self.capacity - state.used;
        let rounded = size.checked_next_multiple_of(ALLOCATION_ALIGN).filter(|&r| r <= free);
        let Some(rounded) = rounded else {
            return Err(MemoryError::OutOfMemory { asked: size, free, capacity: self.capacity });
        };
        let host = MemoryError::HostMemory { asked: size };
        let len = usize::try_from(size).map_err(|_| host.clone())?;
        let bytes = Bytes::zeroed(len).ok_or_else(|| host.clone())?;
        let written = match track {
            true => Some(Bytes::zeroed(len.div_ceil(64) * 8).ok_or(host)?),
            false => None,
        };
        let base = state.next;
        state.next += rounded + GUARD;
        state.used += rounded;
        let allocation = Allocation { base, size, read_only, bytes, written };
        state.allocations.insert(base, Arc::new(allocation));
        Ok(base)
    }

    /// Makes host memory visible to kernels at its host address: pinned, registered and managed memory.
    ///
    /// # Safety
    /// As for a host pointer given to the CUDA driver: valid for `size` bytes until [`free`](Self::free)
    /// of the address, and not written by the host while a kernel uses it, atomics excepted.
    #[allow(unsafe_code, reason = "the promise is the caller's")]
    pub unsafe fn map_host(&self, start: NonNull<u8>, size: usize) -> Result<u64, MemoryError> {
        let base = start.as_ptr() as u64;
        // SAFETY: the caller's promise.
        unsafe { self.map_host_at(base, start, size, false) }?;
        Ok(base)
    }

    /// Makes host memory visible to kernels at an address of the caller's choice, which must be free.
    ///
    /// # Safety
    /// As for [`map_host`](Self::map_host).
    #[allow(unsafe_code, reason = "the promise is the caller's")]
    pub unsafe fn map_host_at(
        &self,
        base: u64,
        start: NonNull<u8>,
        size: usize,
        read_only: bool,
    ) -> Result<(), MemoryError> {
        let mut state = self.write_state();
        let overlap = state
            .nearest(base.saturating_add((size as u64).saturating_sub(1)))
            .is_some_and(|a| a.base + a.size.max(1) > base);
        if overlap {
            return Err(MemoryError::NotAnAllocation { address: base });
        }
        // SAFETY: the caller's promise.
        let bytes = unsafe { Bytes::foreign(start, size) };
        let allocation = Allocation { base, size: size as u64, read_only, bytes, written: None };
        state.allocations.insert(base, Arc::new(allocation));
        Ok(())
    }

    /// Gives an allocation back. Launches in flight keep its bytes alive.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut state = self.write_state();
        let Some(allocation) = state.allocations.remove(&address) else {
            return Err(MemoryError::NotAnAllocation { address });
        };
        if allocation.base >= FIRST_ADDRESS && allocation.base < state.next {
            state.used -= allocation.size.next_multiple_of(ALLOCATION_ALIGN);
        }
        Ok(())
    }

    /// Start and size of the live allocation that holds an address.
    pub fn range(&self, address: u64) -> Option<(u64, u64)> {
        let state = self.read_state();
        state
            .nearest(address)
            .filter(|a| address - a.base < a.size.max(1))
            .map(|a| (a.base, a.size))
    }

    /// The allocation that holds a range.
    pub(crate) fn find(
        &self,
        address: u64,
        len: u64,
    ) -> Result<(Arc<Allocation>, usize), MemoryError> {
        let state = self.read_state();
        let nearest = state.nearest(address);
        match nearest.and_then(|a| a.offset(address, len).map(|o| (Arc::clone(a), o))) {
            Some(found) => Ok(found),
            None => Err(MemoryError::OutOfBounds {
                address,
                len,
                nearest: nearest.map(|a| (a.base, a.size)),
            }),
        }
    }

    /// All live allocations in order of address, for a launch that must not lock.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Allocation>> {
        self.read_state().allocations.values().cloned().collect()
    }

    /// Copies from the card.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.find(address, to.len() as u64)?;
        allocation.bytes.read(offset, to);
        Ok(())
    }

    /// Copies to the card.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.find(address, from.len() as u64)?;
        allocation.bytes.write(offset, from);
        allocation.mark_written(offset, from.len());
        Ok(())
    }

    /// Fills with a repeated pattern of 1, 2 or 4 bytes; `count` repetitions.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), MemoryError> {
        let size = pattern.len();
        let len = count.saturating_mul(size as u64);
        let (allocation, offset) = self.find(address, len)?;
        let chunk = pattern.repeat((4096 / size.max(1)).max(1));
        let (mut at, len) = (0, len as usize);
        while at < len {
            let n = chunk.len().min(len - at);
            allocation.bytes.write(offset + at, &chunk[..n]);
            at += n;
        }
        allocation.mark_written(offset, len);
        Ok(())
    }

    /// Copies inside the card; ranges may overlap. What was not written in the source counts as not
    /// written in the target.
    pub fn copy(&self, to: u64, from: u64, len: u64) -> Result<(), MemoryError> {
        let (source, source_offset) = self.find(from, len)?;
        let (target, target_offset) = self.find(to, len)?;
        let mut buffer = vec![0; usize::try_from(len).unwrap_or(0).min(1 << 20)];
        let len = len as usize;
        let backwards = to > from;
        let mut done = 0;
        while done < len {
            let n = buffer.len().min(len - done);
            let at = if backwards { len - done - n } else { done };
            source.bytes.read(source_offset + at, &mut buffer[..n]);
            target.bytes.write(target_offset + at, &buffer[..n]);
            if source.is_written(source_offset + at, n) {
                target.mark_written(target_offset + at, n);
            } else {
                for i in (0..n).filter(|&i| source.is_written(source_offset + at + i, 1)) {
                    target.mark_written(target_offset + at + i, 1);
                }
            }
            done += n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_do_not_touch_and_are_given_back() {
        let memory = DeviceMemory::new(1 << 20);
        let a = memory.alloc(100).expect("room");
        let b = memory.alloc(100).expect("room");
        assert!(b >= a + 100 + GUARD);
        assert!(matches!(memory.write(a + 99, &[1, 2]), Err(MemoryError::OutOfBounds { .. })));
        assert!(matches!(memory.alloc(1 << 21), Err(MemoryError::OutOfMemory { .. })));
        let before = memory.info().0;
        memory.free(a).expect("live");
        assert_eq!(memory.info().0, before + 512);
        assert!(memory.free(a).is_err());
    }

    #[test]
    fn written_bytes_are_known_to_the_byte() {
        let memory = DeviceMemory::new(1 << 20);
        let a = memory.alloc(64).expect("room");
        memory.write(a + 3, &[1; 10]).expect("inside");
        let (allocation, _) = memory.find(a, 64).expect("live");
        assert!(allocation.is_written(3, 10));
        assert_eq!(allocation.first_unwritten(3, 11), Some(13));
        assert_eq!(allocation.first_unwritten(0, 4), Some(0));
        let b = memory.alloc(64).expect("room");
        memory.copy(b, a, 64).expect("both live");
        let (copy, _) = memory.find(b, 64).expect("live");
        assert!(copy.is_written(3, 10) && !copy.is_written(2, 1));
    }
}
