//! Bytes that host threads share without locks.
//!
//! Every access is a relaxed atomic of its size, so racing kernels give some value and never undefined
//! behaviour of the emulator; whether a race is the kernel's fault is for the checkers.

#![allow(
    unsafe_code,
    reason = "raw memory is shared between host threads and with the driver's caller"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A block of memory of fixed size.
#[derive(Debug)]
pub(crate) struct Bytes {
    start: NonNull<u8>,
    len: usize,
    /// How to free it; None where it is the caller's.
    layout: Option<Layout>,
}

// SAFETY: the memory is accessed through atomics only.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

/// Alignment of owned blocks: more than any access or tensor map needs.
const ALIGN: usize = 4096;

impl Bytes {
    /// Zeroed memory, which the system provides lazily. None if there is not enough.
    pub(crate) fn zeroed(len: usize) -> Option<Bytes> {
        let layout = Layout::from_size_align(len.max(1), ALIGN).ok()?;
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Bytes { start, len, layout: Some(layout) })
    }

    /// Memory of somebody else.
    ///
    /// # Safety
    /// `start` is valid for reads and writes of `len` bytes as long as the value lives, and whoever else
    /// writes to it meanwhile does so atomically or while nothing here accesses it.
    pub(crate) unsafe fn foreign(start: NonNull<u8>, len: usize) -> Bytes {
        Bytes { start, len, layout: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address in host memory.
    pub(crate) fn host_address(&self) -> usize {
        self.start.as_ptr() as usize
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

    /// Sets bits of a byte.
    #[inline]
    pub(crate) fn set_bits(&self, offset: usize, bits: u8) {
        let pointer = self.at(offset, 1);
        // SAFETY: in range by `at`; a byte is always aligned.
        let byte = unsafe { AtomicU8::from_ptr(pointer) };
        if byte.load(Relaxed) & bits != bits {
            byte.fetch_or(bits, Relaxed);
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
        if let Some(layout) = self.layout {
            // SAFETY: allocated by `zeroed` with this layout.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}
