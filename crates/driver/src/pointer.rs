//! What is known of a pointer.

use crate::abi::{In, Out};
use crate::error::{Error, Res};
use crate::state::{MemoryKind, State, lock};
use crate::types::DevicePtr;

/// Writes an attribute of a pointer, in the width that it has.
fn attribute(s: &State, to: Out<u8>, which: u32, address: u64) -> Res<()> {
    let (base, a) = s.allocation_at(address).ok_or(Error::INVALID_VALUE)?;
    let host = matches!(a.kind, MemoryKind::Pinned | MemoryKind::Registered);
    match which {
        1 => {
            let primary = s.devices[a.device].primary.unwrap_or(0);
            to.cast::<u64>().set(if a.context == 0 { primary } else { a.context })
        }
        // CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE.
        2 => to.cast::<u32>().set(if host { 1 } else { 2 }),
        3 => to.cast::<u64>().set(address),
        4 if host || a.kind == MemoryKind::Managed => to.cast::<u64>().set(address),
        4 => Err(Error::INVALID_VALUE),
        5 => Err(Error::NOT_SUPPORTED),
        6 => to.cast::<i32>().set(1),
        7 => to.cast::<u64>().set(a.id),
        8 => to.set(u8::from(a.kind == MemoryKind::Managed)),
        9 => to.cast::<i32>().set(a.device as i32),
        10 => to.set(0),
        11 => to.cast::<u64>().set(base),
        12 => to.cast::<u64>().set(a.size),
        13 => to.set(1),
        14 => to.cast::<u64>().set(0),
        15 => to.set(0),
        16 => to.cast::<u32>().set(3),
        17 => to.cast::<u64>().set(a.pool.unwrap_or(0)),
        18 => to.cast::<u64>().set(a.size),
        19 => to.cast::<u64>().set(base),
        20 => to.cast::<u64>().set(a.id),
        21 => to.set(0),
        _ => Err(Error::INVALID_VALUE),
    }
}

/// Bytes of an attribute, to clear it for pointers that are not CUDA's.
fn width(which: u32) -> Option<usize> {
    Some(match which {
        8 | 10 | 13 | 15 | 21 => 1,
        2 | 6 | 9 | 16 => 4,
        1 | 3 | 4 | 7 | 11 | 12 | 14 | 17..=20 => 8,
        _ => return None,
    })
}

api! {
    fn cuPointerGetAttribute(to: Out<u8>, which: u32, address: DevicePtr) {
        let s = lock();
        s.ready()?;
        if to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        attribute(&s, to, which, address)
    }

    fn cuPointerGetAttributes(count: u32, which: In<u32>, data: In<u64>, address: DevicePtr) {
        let s = lock();
        s.ready()?;
        let (which, data) = (which.list(count as usize)?, data.list(count as usize)?);
        if count == 0 {
            return Err(Error::INVALID_VALUE);
        }
        // For a pointer that is not CUDA's this call succeeds with zeros, unlike the one for one attribute.
        for (which, to) in which.into_iter().zip(data) {
            let to = Out::<u8>::at(to as usize);
            let width = width(which).ok_or(Error::INVALID_VALUE)?;
            if attribute(&s, to, which, address).is_err() {
                match which {
                    9 => to.cast::<i32>().set(-2)?,
                    _ => (0..width).try_for_each(|i| to.set_at(i, 0))?,
                }
            }
        }
        Ok(())
    }

    fn cuPointerSetAttribute(value: In<u32>, which: u32, address: DevicePtr) {
        let s = lock();
        s.ready()?;
        value.get()?;
        let found = s.allocation_at(address);
        // Only synchronous memory operations can be asked for; all are synchronous here.
        (which == 6 && found.is_some()).then_some(()).ok_or(Error::INVALID_VALUE)
    }
}
