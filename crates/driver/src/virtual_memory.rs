//! Virtual memory management: address ranges, physical memory, mappings.
//!
//! Physical memory is host memory; a mapping becomes visible to kernels when access is granted. What is written in it is not tracked,
//! so reads of uninitialised mapped memory are not found.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::abi::{In, Out};
use crate::error::{Error, Res};
use crate::hostmem::{self, HostBlock};
use crate::log;
use crate::state::{Allocation, Kind, MemoryKind, State, lock};
use crate::types::{AccessDesc, AllocationProp, DevicePtr, Handle, MemLocation};

/// Sizes and addresses are multiples of it, as on the card.
const GRANULARITY: u64 = 2 << 20;
/// Reserved ranges start here, below the card's own allocations.
const FIRST_RESERVED: u64 = 0x0000_1000_0000_0000;
/// And end here.
const END_RESERVED: u64 = 0x0000_1fff_0000_0000;

/// Physical memory.
#[derive(Debug)]
pub struct Physical {
    size: u64,
    device: usize,
    prop: AllocationProp,
    block: Arc<HostBlock>,
    holders: u64,
    mappings: u64,
}

/// A reserved range with its mappings by address.
#[derive(Debug)]
pub struct Reservation {
    size: u64,
    mappings: BTreeMap<u64, Mapping>,
}

#[derive(Debug)]
struct Mapping {
    size: u64,
    offset: u64,
    physical: Handle,
    device: usize,
    /// `CU_MEM_ACCESS_FLAGS_PROT_*`.
    access: u32,
    block: Arc<HostBlock>,
}

fn check_prop(s: &State, prop: &AllocationProp) -> Res<usize> {
    if prop.kind != 1 {
        return Err(Error::INVALID_VALUE);
    }
    if prop.location.kind != 1 || prop.handle_types != 0 {
        log::once("cuMemCreate", || "physical memory is on a device and not shared".to_owned());
        return Err(Error::NOT_SUPPORTED);
    }
    s.device(prop.location.id)
}

/// The reservation that holds a range.
fn reservation(s: &mut State, address: u64, size: u64) -> Res<&mut Reservation> {
    let end = address.checked_add(size).ok_or(Error::INVALID_VALUE)?;
    let found = s.reservations.range_mut(..=address).next_back();
    let found = found.filter(|(base, r)| end <= **base + r.size).map(|(_, r)| r);
    found.ok_or(Error::INVALID_VALUE)
}

/// Gives physical memory back when nobody holds or maps it.
fn settle(s: &mut State, handle: Handle) {
    if s.physical.get(&handle).is_some_and(|p| p.holders == 0 && p.mappings == 0)
        && let Some(p) = s.physical.remove(&handle)
    {
        s.devices[p.device].used -= p.size;
    }
}

/// Takes a mapping out of the kernels' sight.
fn hide(s: &mut State, address: u64) {
    if s.allocations.remove(&address).is_some()
        && let Err(e) = s.memory.free(address)
    {
        log::debug(|| e.to_string());
    }
}

/// Addresses of the mappings that exactly make up a range.
fn exact(r: &Reservation, address: u64, size: u64) -> Res<Vec<u64>> {
    let (mut at, end) = (address, address + size);
    let mut found = Vec::new();
    while at < end {
        let mapping = r.mappings.get(&at).ok_or(Error::INVALID_VALUE)?;
        found.push(at);
        at += mapping.size;
    }
    (at == end).then_some(found).ok_or(Error::INVALID_VALUE)
}

api! {
    fn cuMemGetAllocationGranularity(to: Out<usize>, prop: In<AllocationProp>, option: u32) {
        let s = lock();
        check_prop(&s, &prop.get()?)?;
        if option > 1 {
            return Err(Error::INVALID_VALUE);
        }
        to.set(GRANULARITY as usize)
    }

    fn cuMemAddressReserve(
        to: Out<DevicePtr>, size: usize, alignment: usize, _wish: DevicePtr, flags: u64,
    ) {
        let (size, alignment) = (size as u64, (alignment as u64).max(GRANULARITY));
        if to.is_null() || size == 0 || !size.is_multiple_of(GRANULARITY)
            || !alignment.is_power_of_two() || flags != 0
        {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        s.active()?;
        // The first gap that is large enough.
        let mut at = FIRST_RESERVED.next_multiple_of(alignment);
        for (&base, r) in &s.reservations {
            if base.checked_sub(at).is_some_and(|gap| gap >= size) {
                break;
            }
            at = (base + r.size).checked_next_multiple_of(alignment).ok_or(Error::OUT_OF_MEMORY)?.max(at);
        }
        if at.checked_add(size).is_none_or(|end| end > END_RESERVED) {
            return Err(Error::OUT_OF_MEMORY);
        }
        s.reservations.insert(at, Reservation { size, mappings: BTreeMap::new() });
        to.set(at)
    }

    fn cuMemAddressFree(address: DevicePtr, size: usize) {
        let mut s = lock();
        s.ready()?;
        let found = s.reservations.get(&address).filter(|r| r.size == size as u64);
        if !found.ok_or(Error::INVALID_VALUE)?.mappings.is_empty() {
            return Err(Error::INVALID_VALUE);
        }
        s.reservations.remove(&address);
        Ok(())
    }

    fn cuMemCreate(to: Out<Handle>, size: usize, prop: In<AllocationProp>, flags: u64) {
        let mut s = lock();
        let prop = prop.get()?;
        let device = check_prop(&s, &prop)?;
        let bytes = size as u64;
        if to.is_null() || bytes == 0 || !bytes.is_multiple_of(GRANULARITY) || flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        s.charge(device, bytes)?;
        let Some(block) = HostBlock::new(size) else {
            s.devices[device].used -= bytes;
            return Err(Error::OUT_OF_MEMORY);
        };
        let handle = s.handle(Kind::Physical);
        let block = Arc::new(block);
        let physical = Physical { size: bytes, device, prop, block, holders: 1, mappings: 0 };
        s.physical.insert(handle, physical);
        to.set(handle)
    }

    fn cuMemRelease(handle: Handle) {
        let mut s = lock();
        s.ready()?;
        let p = s.physical.get_mut(&handle).filter(|p| p.holders > 0).ok_or(Error::INVALID_VALUE)?;
        p.holders -= 1;
        settle(&mut s, handle);
        Ok(())
    }

    fn cuMemMap(address: DevicePtr, size: usize, offset: usize, handle: Handle, flags: u64) {
        let (size, offset) = (size as u64, offset as u64);
        let aligned = [address, size, offset].iter().all(|v| v.is_multiple_of(GRANULARITY));
        if !aligned || size == 0 || flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        s.ready()?;
        let p = s.physical.get(&handle).filter(|p| p.holders > 0).ok_or(Error::INVALID_VALUE)?;
        if offset.checked_add(size).is_none_or(|end| end > p.size) {
            return Err(Error::INVALID_VALUE);
        }
        let (device, block) = (p.device, Arc::clone(&p.block));
        let r = reservation(&mut s, address, size)?;
        let before = r.mappings.range(..address + size).next_back();
        if before.is_some_and(|(&at, m)| at + m.size > address) {
            return Err(Error::INVALID_VALUE);
        }
        let mapping = Mapping { size, offset, physical: handle, device, access: 0, block };
        r.mappings.insert(address, mapping);
        if let Some(p) = s.physical.get_mut(&handle) {
            p.mappings += 1;
        }
        Ok(())
    }

    fn cuMemUnmap(address: DevicePtr, size: usize) {
        crate::stream::pump();
        let mut s = lock();
        s.ready()?;
        let r = reservation(&mut s, address, size as u64)?;
        let whole = exact(r, address, size as u64)?;
        let mut gone = Vec::new();
        for at in whole {
            gone.extend(r.mappings.remove(&at).map(|m| (at, m)));
        }
        for (at, mapping) in gone {
            hide(&mut s, at);
            s.graveyard.push(mapping.block);
            if let Some(p) = s.physical.get_mut(&mapping.physical) {
                p.mappings -= 1;
            }
            settle(&mut s, mapping.physical);
        }
        crate::stream::bury(&mut s);
        Ok(())
    }

    fn cuMemSetAccess(address: DevicePtr, size: usize, desc: In<AccessDesc>, count: usize) {
        let mut s = lock();
        s.ready()?;
        let descs = desc.list(count)?;
        if descs.is_empty() {
            return Err(Error::INVALID_VALUE);
        }
        for d in &descs {
            s.device(d.location.id)?;
            if d.location.kind != 1 || !matches!(d.flags, 0 | 1 | 3) {
                return Err(Error::INVALID_VALUE);
            }
        }
        let r = reservation(&mut s, address, size as u64)?;
        let whole = exact(r, address, size as u64)?;
        for at in whole {
            let r = reservation(&mut s, at, 1)?;
            let Some(mapping) = r.mappings.get_mut(&at) else { continue };
            let own = descs.iter().rev().find(|d| d.location.id as usize == mapping.device);
            let Some(access) = own.map(|d| d.flags) else { continue };
            mapping.access = access;
            let (size, offset, device) = (mapping.size, mapping.offset, mapping.device);
            let block = Arc::clone(&mapping.block);
            hide(&mut s, at);
            if access == 0 {
                continue;
            }
            hostmem::map_at(&s.memory, at, &block, offset as usize, size as usize, access == 1)
                .map_err(|_| Error::INVALID_VALUE)?;
            let id = s.buffer_id();
            s.allocations.insert(at, Allocation {
                size, kind: MemoryKind::Mapped, device, context: 0, pool: None, flags: access, id,
                host: None, freeing: false,
            });
        }
        Ok(())
    }

    fn cuMemGetAccess(to: Out<u64>, location: In<MemLocation>, address: DevicePtr) {
        let mut s = lock();
        let location = location.get()?;
        let device = s.device(location.id)?;
        let r = reservation(&mut s, address, 1)?;
        let found = r.mappings.range(..=address).next_back();
        let (_, m) = found.filter(|(at, m)| address < **at + m.size).ok_or(Error::INVALID_VALUE)?;
        to.set(if m.device == device { u64::from(m.access) } else { 0 })
    }

    fn cuMemGetAllocationPropertiesFromHandle(to: Out<AllocationProp>, handle: Handle) {
        let s = lock();
        s.ready()?;
        to.set(s.physical.get(&handle).ok_or(Error::INVALID_VALUE)?.prop)
    }

    fn cuMemRetainAllocationHandle(to: Out<Handle>, address: DevicePtr) {
        let mut s = lock();
        s.ready()?;
        let r = reservation(&mut s, address, 1)?;
        let found = r.mappings.range(..=address).next_back();
        let (_, m) = found.filter(|(at, m)| address < **at + m.size).ok_or(Error::INVALID_VALUE)?;
        let handle = m.physical;
        if let Some(p) = s.physical.get_mut(&handle) {
            p.holders += 1;
        }
        to.set(handle)
    }
}
