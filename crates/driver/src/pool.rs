//! Stream-ordered allocation and memory pools.
//!
//! Memory is taken when the allocation is enqueued, which a stream cannot tell from taking it in order, and
//! given back when the stream gets to the free.

use crate::abi::{In, Out};
use crate::error::{Error, Res};
use crate::memory;
use crate::state::{Kind, MemoryKind, State, lock};
use crate::stream;
use crate::types::{AccessDesc, DevicePtr, Handle, MemLocation, PoolProps};
use crate::work::Work;

/// A memory pool.
#[derive(Debug)]
pub struct Pool {
    /// Ordinal.
    pub device: usize,
    default: bool,
    max_size: u64,
    release_threshold: u64,
    reuse: [i32; 3],
    used: u64,
    used_high: u64,
    reserved_high: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(device: usize, default: bool) -> Pool {
        Pool {
            device,
            default,
            max_size: 0,
            release_threshold: 0,
            reuse: [1; 3],
            used: 0,
            used_high: 0,
            reserved_high: 0,
        }
    }

    /// Counts memory taken from it.
    pub fn take(&mut self, size: u64) {
        self.used += memory::rounded(size);
        self.used_high = self.used_high.max(self.used);
        self.reserved_high = self.reserved_high.max(self.used);
    }

    /// Counts memory given back.
    pub fn give_back(&mut self, size: u64) {
        self.used -= memory::rounded(size);
    }
}

fn find(s: &mut State, pool: Handle) -> Res<&mut Pool> {
    s.ready()?;
    s.pools.get_mut(&pool).ok_or(Error::INVALID_VALUE)
}

fn allocate(to: Out<DevicePtr>, size: usize, pool: Option<Handle>, handle: Handle) -> Res<()> {
    if to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    let stream = stream::usable(&mut s, handle)?;
    let context = s.streams[&stream].context;
    let device = s.context(context)?.device;
    let pool = pool.unwrap_or(s.devices[device].pool);
    let found = find(&mut s, pool)?;
    let (device, used, max) = (found.device, found.used, found.max_size);
    if max != 0 && used.saturating_add(size as u64) > max {
        return Err(Error::OUT_OF_MEMORY);
    }
    if s.streams[&stream].capture.is_some() {
        return to.set(crate::capture::allocate(&mut s, stream, device, pool, size as u64)?);
    }
    to.set(memory::allocate(&mut s, device, 0, Some(pool), size as u64)?)
}

/// Value of a pool attribute; the first three are `int`, the others `cuuint64_t`.
fn attribute(pool: &Pool, which: u32) -> Res<u64> {
    Ok(match which {
        1..=3 => pool.reuse[which as usize - 1] as u64,
        4 => pool.release_threshold,
        5 | 7 => pool.used,
        6 => pool.reserved_high,
        8 => pool.used_high,
        _ => return Err(Error::INVALID_VALUE),
    })
}

api! {
    fn cuMemAllocAsync(to: Out<DevicePtr>, size: usize, stream: Handle) [cuMemAllocAsync_ptsz] {
        allocate(to, size, None, stream)
    }

    fn cuMemAllocFromPoolAsync(
        to: Out<DevicePtr>, size: usize, pool: Handle, stream: Handle,
    ) [cuMemAllocFromPoolAsync_ptsz] {
        allocate(to, size, Some(pool), stream)
    }

    fn cuMemFreeAsync(address: DevicePtr, stream: Handle) [cuMemFreeAsync_ptsz] {
        if address == 0 {
            return Ok(());
        }
        stream::submit(stream, |s, st| {
            let capturing = s.streams[&st].capture.is_some();
            let found = s.allocations.get_mut(&address);
            // Memory of a graph lives as long as the graph.
            if let Some(MemoryKind::Graph { .. }) = found.as_ref().map(|a| a.kind) {
                return Ok(if capturing { Work::Free(address) } else { Work::Empty });
            }
            let found = found.filter(|a| a.kind == MemoryKind::Device && !a.freeing).ok_or(Error::INVALID_VALUE)?;
            found.freeing |= !capturing;
            Ok(Work::Free(address))
        })
    }

    fn cuMemPoolCreate(to: Out<Handle>, props: In<PoolProps>) {
        let props = props.get()?;
        if props.kind != 1 || to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        if props.handle_types != 0 || props.location.kind != 1 {
            crate::log::once("pools", || "memory pools are on a device and not shared".to_owned());
            return Err(Error::NOT_SUPPORTED);
        }
        let mut s = lock();
        let device = s.device(props.location.id)?;
        let handle = s.handle(Kind::Pool);
        let mut pool = Pool::new(device, false);
        pool.max_size = props.max_size as u64;
        s.pools.insert(handle, pool);
        to.set(handle)
    }

    fn cuMemPoolDestroy(pool: Handle) {
        let mut s = lock();
        let found = find(&mut s, pool)?;
        if found.default {
            return Err(Error::NOT_PERMITTED);
        }
        let device = found.device;
        if s.devices[device].pool == pool {
            s.devices[device].pool = s.devices[device].default_pool;
        }
        // Its allocations live on until they are freed.
        s.pools.remove(&pool);
        Ok(())
    }

    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        find(&mut lock(), pool).map(|_| ())
    }

    fn cuMemPoolGetAttribute(pool: Handle, which: u32, to: Out<u64>) {
        let mut s = lock();
        let value = attribute(find(&mut s, pool)?, which)?;
        match which {
            1..=3 => to.cast::<i32>().set(value as i32),
            _ => to.set(value),
        }
    }

    fn cuMemPoolSetAttribute(pool: Handle, which: u32, value: In<u64>) {
        let mut s = lock();
        let pool = find(&mut s, pool)?;
        match which {
            1..=3 => pool.reuse[which as usize - 1] = value.cast::<i32>().get()?,
            4 => pool.release_threshold = value.get()?,
            // The high marks may only be set back.
            6 if value.get()? == 0 => pool.reserved_high = pool.used,
            8 if value.get()? == 0 => pool.used_high = pool.used,
            _ => return Err(Error::INVALID_VALUE),
        }
        Ok(())
    }

    fn cuMemPoolSetAccess(pool: Handle, map: In<AccessDesc>, count: usize) {
        let mut s = lock();
        let own = find(&mut s, pool)?.device;
        for desc in map.list(count)? {
            let device = s.device(desc.location.id)?;
            if desc.location.kind != 1 || !matches!(desc.flags, 0 | 1 | 3) {
                return Err(Error::INVALID_VALUE);
            }
            if device == own && desc.flags != 3 {
                return Err(Error::INVALID_DEVICE);
            }
            if device != own && !s.spec.peers {
                return Err(Error::INVALID_DEVICE);
            }
        }
        Ok(())
    }

    fn cuMemPoolGetAccess(to: Out<u32>, pool: Handle, location: In<MemLocation>) {
        let mut s = lock();
        let own = find(&mut s, pool)?.device;
        let location = location.get()?;
        let device = s.device(location.id)?;
        to.set(if location.kind == 1 && (device == own || s.spec.peers) { 3 } else { 0 })
    }

    fn cuMemGetDefaultMemPool(to: Out<Handle>, location: In<MemLocation>, kind: u32) {
        device_pool(to, location, kind, true)
    }

    fn cuMemGetMemPool(to: Out<Handle>, location: In<MemLocation>, kind: u32) {
        device_pool(to, location, kind, false)
    }

    fn cuMemSetMemPool(location: In<MemLocation>, kind: u32, pool: Handle) {
        let location = location.get()?;
        if location.kind != 1 || kind != 1 {
            return Err(Error::NOT_SUPPORTED);
        }
        let mut s = lock();
        let device = s.device(location.id)?;
        if find(&mut s, pool)?.device != device {
            return Err(Error::INVALID_VALUE);
        }
        s.devices[device].pool = pool;
        Ok(())
    }
}

fn device_pool(to: Out<Handle>, location: In<MemLocation>, kind: u32, default: bool) -> Res<()> {
    let location = location.get()?;
    if location.kind != 1 || kind != 1 {
        return Err(Error::NOT_SUPPORTED);
    }
    let s = lock();
    let device = &s.devices[s.device(location.id)?];
    to.set(if default { device.default_pool } else { device.pool })
}
