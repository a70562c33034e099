//! Allocation: on the card, pinned, registered and managed.

use std::sync::Arc;

use crate::abi::{In, Out};
use crate::error::{Error, Res};
use crate::hostmem::{self, HostBlock};
use crate::state::{Allocation, MemoryKind, State, lock};
use crate::types::{DevicePtr, Handle, MemLocation};
use crate::{log, stream};

/// What an allocation takes of the card: whole units as the emulated memory counts them.
pub fn rounded(size: u64) -> u64 {
    size.max(1).next_multiple_of(512)
}

fn new_allocation(
    s: &mut State,
    size: u64,
    kind: MemoryKind,
    device: usize,
    context: Handle,
) -> Allocation {
    let id = s.buffer_id();
    Allocation { size, kind, device, context, pool: None, flags: 0, id, host: None, freeing: false }
}

/// Takes memory of a card. A device can be as full as its card is large.
pub fn allocate(
    s: &mut State,
    device: usize,
    context: Handle,
    pool: Option<Handle>,
    size: u64,
) -> Res<u64> {
    if size == 0 {
        return Err(Error::INVALID_VALUE);
    }
    // Nothing is as large as this; rounding must not overflow.
    if size > 1 << 48 {
        return Err(Error::OUT_OF_MEMORY);
    }
    s.charge(device, rounded(size))?;
    let address = s.memory.alloc(size).map_err(|e| {
        log::error(|| e.to_string());
        s.devices[device].used -= rounded(size);
        Error::OUT_OF_MEMORY
    })?;
    let mut allocation = new_allocation(s, size, MemoryKind::Device, device, context);
    allocation.pool = pool;
    s.allocations.insert(address, allocation);
    if let Some(pool) = pool.and_then(|p| s.pools.get_mut(&p)) {
        pool.take(size);
    }
    Ok(address)
}

/// Gives memory back, whatever it is.
pub fn release(s: &mut State, base: u64) {
    let Some(allocation) = s.allocations.remove(&base) else { return };
    if let Err(e) = s.memory.free(base) {
        log::debug(|| e.to_string());
    }
    if matches!(allocation.kind, MemoryKind::Device | MemoryKind::Graph { .. }) {
        s.devices[allocation.device].used -= rounded(allocation.size);
    }
    if let Some(pool) = allocation.pool.and_then(|p| s.pools.get_mut(&p)) {
        pool.give_back(allocation.size);
    }
    s.graveyard.extend(allocation.host);
    crate::stream::bury(s);
}

/// Host memory of the driver's own that kernels see at its address.
fn host_block(size: usize, kind: MemoryKind, flags: u32) -> Res<u64> {
    if size == 0 {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    let context = s.active()?;
    let device = s.contexts[&context].device;
    let block = HostBlock::new(size).ok_or(Error::OUT_OF_MEMORY)?;
    let address = block.address();
    hostmem::map(&s.memory, address, size).map_err(|_| Error::OUT_OF_MEMORY)?;
    let mut allocation = new_allocation(&mut s, size as u64, kind, device, context);
    allocation.flags = flags;
    allocation.host = Some(Arc::new(block));
    s.allocations.insert(address, allocation);
    Ok(address)
}

/// Frees an allocation that starts at an address and is of one of some kinds, after all work that is queued.
fn free(address: u64, kinds: &[MemoryKind], otherwise: Error) -> Res<()> {
    let context = {
        let s = lock();
        let context = s.current()?;
        let found = s.allocations.get(&address).filter(|a| kinds.contains(&a.kind) && !a.freeing);
        found.ok_or(otherwise)?;
        context
    };
    // Freeing synchronises with the device, so that nothing queued loses its memory.
    let result = stream::wait_until(context, |s| {
        s.streams.values().all(|st| st.context != context || st.is_idle())
    });
    release(&mut lock(), address);
    result
}

/// Whether a range has bytes of an allocation or a registration.
fn overlaps(s: &State, address: u64, size: u64) -> bool {
    let end = address.saturating_add(size);
    let before = s.allocations.range(..end).next_back();
    before.is_some_and(|(&base, a)| base + a.size.max(1) > address)
}

api! {
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let s = lock();
        let context = s.active()?;
        let device = s.contexts[&context].device;
        free.set((s.spec.memory - s.devices[device].used) as usize)?;
        total.set(s.spec.memory as usize)
    }

    fn cuMemAlloc_v2(to: Out<DevicePtr>, size: usize) {
        if to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        let context = s.active()?;
        let device = s.contexts[&context].device;
        to.set(allocate(&mut s, device, context, None, size as u64)?)
    }

    fn cuMemAllocPitch_v2(
        to: Out<DevicePtr>, pitch: Out<usize>, width: usize, height: usize, element: u32,
    ) {
        if to.is_null() || pitch.is_null() || !matches!(element, 4 | 8 | 16) || width == 0 || height == 0 {
            return Err(Error::INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(512).ok_or(Error::INVALID_VALUE)?;
        let size = row.checked_mul(height).ok_or(Error::INVALID_VALUE)?;
        let mut s = lock();
        let context = s.active()?;
        let device = s.contexts[&context].device;
        to.set(allocate(&mut s, device, context, None, size as u64)?)?;
        pitch.set(row)
    }

    fn cuMemFree_v2(address: DevicePtr) {
        if address == 0 {
            return lock().active().map(|_| ());
        }
        free(address, &[MemoryKind::Device, MemoryKind::Managed], Error::INVALID_VALUE)
    }

    fn cuMemGetAddressRange_v2(base: Out<DevicePtr>, size: Out<usize>, address: DevicePtr) {
        let s = lock();
        s.active()?;
        let (start, len) = s.memory.range(address).ok_or(Error::NOT_FOUND)?;
        base.set_if(start);
        size.set_if(len as usize);
        Ok(())
    }

    fn cuMemAllocHost_v2(to: Out<u64>, size: usize) {
        if to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        to.set(host_block(size, MemoryKind::Pinned, 0)?)
    }

    fn cuMemHostAlloc(to: Out<u64>, size: usize, flags: u32) {
        if to.is_null() || flags > 7 {
            return Err(Error::INVALID_VALUE);
        }
        to.set(host_block(size, MemoryKind::Pinned, flags)?)
    }

    fn cuMemFreeHost(address: u64) {
        if address == 0 {
            return lock().active().map(|_| ());
        }
        free(address, &[MemoryKind::Pinned], Error::INVALID_VALUE)
    }

    fn cuMemHostGetDevicePointer_v2(to: Out<DevicePtr>, address: u64, flags: u32) {
        let s = lock();
        s.active()?;
        let (base, a) = s.allocation_at(address).ok_or(Error::INVALID_VALUE)?;
        if flags != 0 || !matches!(a.kind, MemoryKind::Pinned | MemoryKind::Registered | MemoryKind::Managed) {
            return Err(Error::INVALID_VALUE);
        }
        debug_assert!(base <= address);
        to.set(address)
    }

    fn cuMemHostGetFlags(to: Out<u32>, address: u64) {
        let s = lock();
        s.active()?;
        let (_, a) = s.allocation_at(address).ok_or(Error::INVALID_VALUE)?;
        match a.kind {
            // Pinned memory is always portable and mapped with unified addressing.
            MemoryKind::Pinned | MemoryKind::Registered => to.set(a.flags | 3),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuMemHostRegister_v2(address: u64, size: usize, flags: u32) [cuMemHostRegister] {
        // Portable, device map, I/O memory, read only.
        if address == 0 || size == 0 || flags > 0xf || address.checked_add(size as u64).is_none() {
            return Err(Error::INVALID_VALUE);
        }
        if flags & 4 != 0 {
            return Err(Error::NOT_SUPPORTED);
        }
        let mut s = lock();
        let context = s.active()?;
        let device = s.contexts[&context].device;
        if overlaps(&s, address, size as u64) {
            return Err(Error::HOST_MEMORY_ALREADY_REGISTERED);
        }
        hostmem::map(&s.memory, address, size).map_err(|_| Error::HOST_MEMORY_ALREADY_REGISTERED)?;
        let mut allocation = new_allocation(&mut s, size as u64, MemoryKind::Registered, device, context);
        allocation.flags = flags;
        s.allocations.insert(address, allocation);
        Ok(())
    }

    fn cuMemHostUnregister(address: u64) {
        free(address, &[MemoryKind::Registered], Error::HOST_MEMORY_NOT_REGISTERED)
    }

    fn cuMemAllocManaged(to: Out<DevicePtr>, size: usize, flags: u32) {
        if to.is_null() || !matches!(flags, 1 | 2) {
            return Err(Error::INVALID_VALUE);
        }
        to.set(host_block(size, MemoryKind::Managed, flags)?)
    }

    fn cuMemPrefetchAsync(address: DevicePtr, size: usize, device: i32, stream: Handle)
        [cuMemPrefetchAsync_ptsz] {
        if device != -1 {
            crate::device::ordinal(device)?;
        }
        prefetch(address, size, stream)
    }

    fn cuMemPrefetchAsync_v2(
        address: DevicePtr, size: usize, location: MemLocation, flags: u32, stream: Handle,
    ) [cuMemPrefetchAsync_v2_ptsz] {
        if flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        check_location(location)?;
        prefetch(address, size, stream)
    }

    fn cuMemAdvise(address: DevicePtr, size: usize, advice: u32, _device: i32) {
        advise(address, size, advice)
    }

    fn cuMemAdvise_v2(address: DevicePtr, size: usize, advice: u32, location: MemLocation) {
        // Read-mostly advice has no location.
        if advice > 2 {
            check_location(location)?;
        }
        advise(address, size, advice)
    }

    fn cuMemRangeGetAttribute(
        to: Out<i32>, size: usize, which: u32, address: DevicePtr, count: usize,
    ) {
        let s = lock();
        s.ready()?;
        if to.is_null() || !is_managed(&s, address, count) {
            return Err(Error::INVALID_VALUE);
        }
        match which {
            1 if size == 4 => to.set(0),
            // No preferred location, nobody advised, never prefetched: `CU_DEVICE_INVALID`.
            2 | 4 if size == 4 => to.set(-2),
            3 if size >= 4 && size.is_multiple_of(4) => (0..size / 4).try_for_each(|i| to.set_at(i, -2)),
            5 | 7 if size == 4 => to.set(0),
            6 | 8 if size == 4 => to.set(-2),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuMemDiscardBatchAsync(
        addresses: In<DevicePtr>, sizes: In<usize>, count: usize, flags: u64, handle: Handle,
    ) [cuMemDiscardBatchAsync_ptsz] {
        if flags != 0 || count == 0 {
            return Err(Error::INVALID_VALUE);
        }
        for (address, size) in addresses.list(count)?.into_iter().zip(sizes.list(count)?) {
            prefetch(address, size, handle)?;
        }
        Ok(())
    }
}

/// Whether a location is the host, a NUMA node or a device.
fn check_location(location: MemLocation) -> Res<()> {
    match location.kind {
        1 => crate::device::ordinal(location.id).map(|_| ()),
        2..=4 => Ok(()),
        _ => Err(Error::INVALID_VALUE),
    }
}

fn is_managed(s: &State, address: u64, size: usize) -> bool {
    s.allocation_at(address).is_some_and(|(base, a)| {
        a.kind == MemoryKind::Managed && size as u64 <= a.size - (address - base)
    })
}

/// Managed memory is host memory that kernels see: it has nowhere to move, so a prefetch is only checked.
fn prefetch(address: u64, size: usize, handle: Handle) -> Res<()> {
    let mut s = lock();
    stream::usable(&mut s, handle)?;
    (size > 0 && is_managed(&s, address, size)).then_some(()).ok_or(Error::INVALID_VALUE)
}

fn advise(address: u64, size: usize, advice: u32) -> Res<()> {
    let s = lock();
    s.active()?;
    let fine = (1..=6).contains(&advice) && is_managed(&s, address, size);
    fine.then_some(()).ok_or(Error::INVALID_VALUE)
}
