//! Bytes that host threads share without locks.
//!
//! Every access is a relaxed atomic of its size, so racing kernels give some value and never undefined
//! behaviour of the emulator; whether a race is the kernel's fault is for the checkers.

#![allow(
    unsafe_code,
    reason = "raw memory is shared between host threads and with the driver's caller"
)]

use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A block of memory of fixed size.
#[derive(Debug)]
pub(crate) struct Bytes {
    start: NonNull<u8>,
    len: usize,
    /// Bytes to unmap; None where the memory is the caller's.
    mapped: Option<usize>,
}

// SAFETY: the memory is accessed through atomics only.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// Zeroed memory at the start of a page, more than any access or tensor map needs. The system provides it
    /// as it is touched, so that a large allocation of which a kernel uses little costs little. None if there is not enough.
    pub(crate) fn zeroed(len: usize) -> Option<Bytes> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let mapped = len.max(1);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the system's choice touches no other memory.
        let start = unsafe { mmap_anonymous(null_mut(), mapped, access, flags) }.ok()?;
        Some(Bytes { start: NonNull::new(start.cast())?, len, mapped: Some(mapped) })
    }

    /// Memory of somebody else.
    ///
    /// # Safety
    /// `start` is valid for reads and writes of `len` bytes as long as the value lives, and whoever else
    /// writes to it meanwhile does so atomically or while nothing here accesses it.
    pub(crate) unsafe fn foreign(start: NonNull<u8>, len: usize) -> Bytes {
        Bytes { start, len, mapped: None }
    }

    /// Pointer to `size` bytes at an offset. Panics outside: callers check against the allocation first,
    /// and a mistake must not become undefined behaviour.
    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(offset <= self.len && size <= self.len - offset, "access outside of a block");
        // SAFETY: within the block, by the line above.
        unsafe { self.start.as_ptr().add(offset) }
    }

    fn aligned(&self, offset: usize, size: usize) -> *mut u8 {
        let pointer = self.at(offset, size);
        assert!((pointer as usize).is_multiple_of(size), "misaligned access in a block");
        pointer
    }

    /// A little-endian integer of 1, 2, 4 or 8 bytes at an aligned offset.
    #[inline]
    pub(crate) fn load(&self, offset: usize, size: usize) -> u64 {
        let pointer = self.aligned(offset, size);
        // SAFETY: `aligned` checked range and alignment; all accesses to the block are atomic.
        unsafe {
            match size {
                1 => u64::from(AtomicU8::from_ptr(pointer).load(Relaxed)),
                2 => u64::from(AtomicU16::from_ptr(pointer.cast()).load(Relaxed)),
                4 => u64::from(AtomicU32::from_ptr(pointer.cast()).load(Relaxed)),
                8 => AtomicU64::from_ptr(pointer.cast()).load(Relaxed),
                _ => unreachable!("no access has {size} bytes"),
            }
        }
    }

    /// Stores an integer of 1, 2, 4 or 8 bytes at an aligned offset.
    #[inline]
    pub(crate) fn store(&self, offset: usize, size: usize, value: u64) {
        let pointer = self.aligned(offset, size);
        // SAFETY: as in `load`.
        unsafe {
            match size {
                1 => AtomicU8::from_ptr(pointer).store(value as u8, Relaxed),
                2 => AtomicU16::from_ptr(pointer.cast()).store(value as u16, Relaxed),
                4 => AtomicU32::from_ptr(pointer.cast()).store(value as u32, Relaxed),
                8 => AtomicU64::from_ptr(pointer.cast()).store(value, Relaxed),
                _ => unreachable!("no access has {size} bytes"),
            }
        }
    }

    /// Replaces an integer of 2, 4 or 8 bytes by a function of it; gives the old value.
    #[inline]
    pub(crate) fn update(&self, offset: usize, size: usize, f: impl Fn(u64) -> u64) -> u64 {
        use std::sync::atomic::Ordering::AcqRel;
        let pointer = self.aligned(offset, size);
        let order = (AcqRel, Relaxed);
        // SAFETY: as in `load`.
        unsafe {
            match size {
                2 => AtomicU16::from_ptr(pointer.cast())
                    .fetch_update(order.0, order.1, |v| Some(f(u64::from(v)) as u16))
                    .map_or_else(u64::from, u64::from),
                4 => AtomicU32::from_ptr(pointer.cast())
                    .fetch_update(order.0, order.1, |v| Some(f(u64::from(v)) as u32))
                    .map_or_else(u64::from, u64::from),
                8 => AtomicU64::from_ptr(pointer.cast())
                    .fetch_update(order.0, order.1, |v| Some(f(v)))
                    .unwrap_or_else(|v| v),
                _ => unreachable!("no atomic has {size} bytes"),
            }
        }
    }

    /// Sets bits of 8 bytes at an aligned offset.
    #[inline]
    pub(crate) fn set_bits(&self, offset: usize, bits: u64) {
        let pointer = self.aligned(offset, 8);
        // SAFETY: as in `load`.
        let word = unsafe { AtomicU64::from_ptr(pointer.cast()) };
        if word.load(Relaxed) & bits != bits {
            word.fetch_or(bits, Relaxed);
        }
    }

    /// Pointer to the first of `count` integers of `size` bytes at aligned offsets, one every `step` bytes.
    /// Panics unless all are aligned and inside, as the others do.
    #[inline]
    fn spaced(&self, offset: usize, step: usize, count: usize, size: usize) -> *mut u8 {
        let span = step.checked_mul(count.saturating_sub(1)).and_then(|s| s.checked_add(size));
        assert!(step.is_multiple_of(size), "misaligned access in a block");
        self.at(offset, span.unwrap_or(usize::MAX));
        self.aligned(offset, size)
    }

    /// Integers of 4 bytes at aligned offsets, one every `step` bytes.
    #[inline]
    pub(crate) fn gather32(&self, offset: usize, step: usize, to: &mut [u32]) {
        let first = self.spaced(offset, step, to.len(), 4);
        for (i, to) in to.iter_mut().enumerate() {
            // SAFETY: `spaced` checked range and alignment; all accesses to the block are atomic.
            *to = unsafe { AtomicU32::from_ptr(first.add(i * step).cast()).load(Relaxed) };
        }
    }

    /// Integers of 8 bytes at aligned offsets, one every `step` bytes.
    #[inline]
    pub(crate) fn gather64(&self, offset: usize, step: usize, to: &mut [u64]) {
        let first = self.spaced(offset, step, to.len(), 8);
        for (i, to) in to.iter_mut().enumerate() {
            // SAFETY: as in `gather32`.
            *to = unsafe { AtomicU64::from_ptr(first.add(i * step).cast()).load(Relaxed) };
        }
    }

    /// Stores integers of 4 bytes, in their order, at aligned offsets, one every `step` bytes.
    #[inline]
    pub(crate) fn scatter32(&self, offset: usize, step: usize, from: &[u32]) {
        let first = self.spaced(offset, step, from.len(), 4);
        for (i, &from) in from.iter().enumerate() {
            // SAFETY: as in `gather32`.
            unsafe { AtomicU32::from_ptr(first.add(i * step).cast()).store(from, Relaxed) };
        }
    }

    /// Stores integers of 8 bytes, in their order, at aligned offsets, one every `step` bytes.
    #[inline]
    pub(crate) fn scatter64(&self, offset: usize, step: usize, from: &[u64]) {
        let first = self.spaced(offset, step, from.len(), 8);
        for (i, &from) in from.iter().enumerate() {
            // SAFETY: as in `gather32`.
            unsafe { AtomicU64::from_ptr(first.add(i * step).cast()).store(from, Relaxed) };
        }
    }

    /// Reads bytes from an offset.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) {
        self.at(offset, to.len());
        let mut at = 0;
        while at < to.len() {
            let address = self.start.as_ptr() as usize + offset + at;
            if address.is_multiple_of(8) && to.len() - at >= 8 {
                to[at..at + 8].copy_from_slice(&self.load(offset + at, 8).to_le_bytes());
                at += 8;
            } else {
                to[at] = self.load(offset + at, 1) as u8;
                at += 1;
            }
        }
    }

    /// Writes bytes at an offset.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        self.at(offset, from.len());
        let mut at = 0;
        while at < from.len() {
            let address = self.start.as_ptr() as usize + offset + at;
            if address.is_multiple_of(8) && from.len() - at >= 8 {
                let word = from[at..at + 8].try_into().unwrap_or_default();
                self.store(offset + at, 8, u64::from_le_bytes(word));
                at += 8;
            } else {
                self.store(offset + at, 1, u64::from(from[at]));
                at += 1;
            }
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Some(mapped) = self.mapped {
            // SAFETY: mapped by `zeroed` with this length, and nobody has a reference into it.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), mapped) };
        }
    }
}
