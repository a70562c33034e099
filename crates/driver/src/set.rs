//! Fills.

use zeroforge_emulator::DeviceMemory;

use crate::copy::is_device_range;
use crate::error::{Error, Res};
use crate::stream;
use crate::types::{Handle, MemsetParams};
use crate::work::Work;

/// A fill that was checked.
#[derive(Clone, Debug)]
pub struct FillPlan {
    /// As the caller described it; the width is in elements.
    pub params: MemsetParams,
}

impl FillPlan {
    /// Checks a fill.
    pub fn new(memory: &DeviceMemory, p: MemsetParams) -> Res<FillPlan> {
        if !matches!(p.element, 1 | 2 | 4) {
            return Err(Error::INVALID_VALUE);
        }
        let plan = FillPlan { params: p };
        if p.width == 0 || p.height == 0 {
            return Ok(plan);
        }
        let row = p.width.checked_mul(p.element as usize).ok_or(Error::INVALID_VALUE)? as u64;
        if p.height > 1 && (p.pitch as u64) < row {
            return Err(Error::INVALID_VALUE);
        }
        let rows = (p.pitch as u64).checked_mul(p.height as u64 - 1);
        let extent = rows.and_then(|r| r.checked_add(row)).ok_or(Error::INVALID_VALUE)?;
        let aligned = p.dst.is_multiple_of(u64::from(p.element));
        if !aligned || !is_device_range(memory, p.dst, extent) {
            crate::log::error(|| {
                format!("a fill of {extent} bytes at {:#x} is not inside live allocations", p.dst)
            });
            return Err(Error::INVALID_VALUE);
        }
        Ok(plan)
    }

    /// Bytes that are written.
    pub fn bytes(&self) -> u64 {
        let p = &self.params;
        (p.width as u64).saturating_mul(p.height as u64).saturating_mul(u64::from(p.element))
    }

    /// Fills.
    pub fn run(&self, memory: &DeviceMemory) -> Res<()> {
        let p = &self.params;
        let pattern = &p.value.to_le_bytes()[..p.element as usize];
        for y in 0..p.height as u64 {
            let (mut at, mut left) =
                (p.dst + y * p.pitch as u64, p.width as u64 * u64::from(p.element));
            while left > 0 {
                // Mapped memory may be several allocations in a row.
                let (base, size) = memory.range(at).ok_or(Error::ILLEGAL_ADDRESS)?;
                let n = left.min(base + size - at);
                let count = (n / u64::from(p.element)).max(1);
                memory.fill(at, pattern, count).map_err(|_| Error::ILLEGAL_ADDRESS)?;
                let filled = count * u64::from(p.element);
                (at, left) = (at + filled, left.saturating_sub(filled));
            }
        }
        Ok(())
    }
}

fn params(
    dst: u64,
    pitch: usize,
    value: u32,
    element: u32,
    width: usize,
    height: usize,
) -> MemsetParams {
    MemsetParams { dst, pitch, value, element, width, height }
}

fn blocking(p: MemsetParams) -> Res<()> {
    stream::submit_blocking(|s, _| FillPlan::new(&s.memory, p).map(Work::Fill))
}

fn asynchronous(p: MemsetParams, handle: Handle) -> Res<()> {
    stream::submit(handle, |s, _| FillPlan::new(&s.memory, p).map(Work::Fill))
}

api! {
    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) [cuMemsetD8_v2_ptds] {
        blocking(params(to, 0, value.into(), 1, count, 1))
    }

    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) [cuMemsetD16_v2_ptds] {
        blocking(params(to, 0, value.into(), 2, count, 1))
    }

    fn cuMemsetD32_v2(to: u64, value: u32, count: usize) [cuMemsetD32_v2_ptds] {
        blocking(params(to, 0, value, 4, count, 1))
    }

    fn cuMemsetD2D8_v2(
        to: u64, pitch: usize, value: u8, width: usize, height: usize,
    ) [cuMemsetD2D8_v2_ptds] {
        blocking(params(to, pitch, value.into(), 1, width, height))
    }

    fn cuMemsetD2D16_v2(
        to: u64, pitch: usize, value: u16, width: usize, height: usize,
    ) [cuMemsetD2D16_v2_ptds] {
        blocking(params(to, pitch, value.into(), 2, width, height))
    }

    fn cuMemsetD2D32_v2(
        to: u64, pitch: usize, value: u32, width: usize, height: usize,
    ) [cuMemsetD2D32_v2_ptds] {
        blocking(params(to, pitch, value, 4, width, height))
    }

    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) [cuMemsetD8Async_ptsz] {
        asynchronous(params(to, 0, value.into(), 1, count, 1), stream)
    }

    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: Handle) [cuMemsetD16Async_ptsz] {
        asynchronous(params(to, 0, value.into(), 2, count, 1), stream)
    }

    fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: Handle) [cuMemsetD32Async_ptsz] {
        asynchronous(params(to, 0, value, 4, count, 1), stream)
    }

    fn cuMemsetD2D8Async(
        to: u64, pitch: usize, value: u8, width: usize, height: usize, stream: Handle,
    ) [cuMemsetD2D8Async_ptsz] {
        asynchronous(params(to, pitch, value.into(), 1, width, height), stream)
    }

    fn cuMemsetD2D16Async(
        to: u64, pitch: usize, value: u16, width: usize, height: usize, stream: Handle,
    ) [cuMemsetD2D16Async_ptsz] {
        asynchronous(params(to, pitch, value.into(), 2, width, height), stream)
    }

    fn cuMemsetD2D32Async(
        to: u64, pitch: usize, value: u32, width: usize, height: usize, stream: Handle,
    ) [cuMemsetD2D32Async_ptsz] {
        asynchronous(params(to, pitch, value, 4, width, height), stream)
    }
}
