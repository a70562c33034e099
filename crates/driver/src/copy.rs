//! Copies: every kind becomes a three-dimensional one between two sides.

use zeroforge_emulator::DeviceMemory;

use crate::abi::{self, In, Out};
use crate::error::{Error, Res};
use crate::state::{State, lock};
use crate::stream;
use crate::types::{BatchOp3D, DevicePtr, Handle, Memcpy2D, Memcpy3D, MemcpyAttributes, Operand3D};
use crate::work::Work;

/// `CU_MEMORYTYPE_*`.
pub const HOST: u32 = 1;
/// On the card.
pub const DEVICE: u32 = 2;
/// A CUDA array.
pub const ARRAY: u32 = 3;
const UNIFIED: u32 = 4;

/// One side of a copy: the address of its first byte and the distances of rows and slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    address: u64,
    /// Whether the emulated memory knows the address; else it is plain host memory.
    device: bool,
    row: u64,
    slice: u64,
}

/// A copy that was checked.
#[derive(Clone, Debug)]
pub struct CopyPlan {
    /// As the caller described it.
    pub descriptor: Memcpy3D,
    to: Side,
    from: Side,
    width: usize,
    height: usize,
    depth: usize,
    /// Source bytes taken when the copy was enqueued: pageable memory may change after the call.
    staged: Option<Vec<u8>>,
}

/// Whether a range is inside live allocations that follow each other without a gap.
pub fn is_device_range(memory: &DeviceMemory, address: u64, len: u64) -> bool {
    let (mut at, end) = (address, address.checked_add(len));
    let Some(end) = end else { return false };
    loop {
        let Some((base, size)) = memory.range(at) else { return len == 0 };
        at = base + size;
        if at >= end {
            return true;
        }
    }
}

/// Bytes from an address to the end of its allocation.
fn left(memory: &DeviceMemory, address: u64) -> Res<u64> {
    let (base, size) = memory.range(address).ok_or(Error::ILLEGAL_ADDRESS)?;
    Ok((base + size - address).max(1))
}

/// Copies bytes between emulated and host memory.
fn transfer(memory: &DeviceMemory, to: (u64, bool), from: (u64, bool), len: usize) -> Res<()> {
    if !to.1 && !from.1 {
        return abi::copy_host(to.0 as usize, from.0 as usize, len);
    }
    let mut done = 0u64;
    while done < len as u64 {
        let (t, f) = (to.0 + done, from.0 + done);
        let mut n = len as u64 - done;
        if to.1 {
            n = n.min(left(memory, t)?);
        }
        if from.1 {
            n = n.min(left(memory, f)?);
        }
        let result = match (to.1, from.1) {
            (true, true) => memory.copy(t, f, n),
            (true, false) => {
                abi::with_host(f as usize, n as usize, |bytes| memory.write(t, bytes))?
            }
            _ => abi::with_host_mut(t as usize, n as usize, |bytes| memory.read(f, bytes))?,
        };
        result.map_err(|_| Error::ILLEGAL_ADDRESS)?;
        done += n;
    }
    Ok(())
}

/// The last byte's distance from the first, plus one.
fn extent(side: &Side, width: usize, height: usize, depth: usize) -> Option<u64> {
    let rows = side.row.checked_mul(height.checked_sub(1)? as u64)?;
    let slices = side.slice.checked_mul(depth.checked_sub(1)? as u64)?;
    rows.checked_add(slices)?.checked_add(width as u64)
}

impl CopyPlan {
    /// Checks a copy.
    pub fn new(s: &State, descriptor: Memcpy3D) -> Res<CopyPlan> {
        let memory = &s.memory;
        let d = crate::array::resolve(s, descriptor)?;
        if d.src_lod != 0 || d.dst_lod != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let side = |kind, host: usize, device, pitch: usize, rows: usize, at: [usize; 3]| {
            let (base, must) = match kind {
                HOST => (host as u64, false),
                DEVICE => (device, true),
                UNIFIED => (device, false),
                _ => return Err(Error::INVALID_VALUE),
            };
            // A pitch of zero means rows without a gap.
            let row = if pitch == 0 { d.width } else { pitch } as u64;
            let rows = if rows == 0 { d.height } else { rows } as u64;
            let slice = row.checked_mul(rows).ok_or(Error::INVALID_VALUE)?;
            let start = (at[1] as u64)
                .checked_mul(row)
                .zip((at[2] as u64).checked_mul(slice))
                .and_then(|(y, z)| y.checked_add(z)?.checked_add(at[0] as u64)?.checked_add(base));
            let address = start.ok_or(Error::INVALID_VALUE)?;
            if (d.height > 1 || d.depth > 1) && row < d.width as u64 {
                return Err(Error::INVALID_VALUE);
            }
            let side = Side { address, device: memory.range(address).is_some(), row, slice };
            let extent = extent(&side, d.width, d.height, d.depth);
            if d.width == 0 || d.height == 0 || d.depth == 0 {
                return Ok(side);
            }
            let extent = extent.ok_or(Error::INVALID_VALUE)?;
            if address.checked_add(extent).is_none() || address == 0 || base == 0 {
                return Err(Error::INVALID_VALUE);
            }
            if side.device || must {
                let inside = is_device_range(memory, address, extent);
                if !inside {
                    crate::log::error(|| {
                        format!(
                            "a copy of {extent} bytes at {address:#x} is not inside live allocations"
                        )
                    });
                    return Err(Error::INVALID_VALUE);
                }
            }
            Ok(side)
        };
        let from = side(
            d.src_type,
            d.src_host,
            d.src_device,
            d.src_pitch,
            d.src_height,
            [d.src_x, d.src_y, d.src_z],
        )?;
        let to = side(
            d.dst_type,
            d.dst_host,
            d.dst_device,
            d.dst_pitch,
            d.dst_height,
            [d.dst_x, d.dst_y, d.dst_z],
        )?;
        let (width, height, depth) = (d.width, d.height, d.depth);
        Ok(CopyPlan { descriptor, to, from, width, height, depth, staged: None })
    }

    /// Bytes that move.
    pub fn bytes(&self) -> u64 {
        (self.width as u64).saturating_mul(self.height as u64).saturating_mul(self.depth as u64)
    }

    /// Takes the source now, if it is pageable memory that the caller may change after the call.
    pub fn stage(&mut self) -> Res<()> {
        if self.from.device || self.bytes() == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for z in 0..self.depth as u64 {
            for y in 0..self.height as u64 {
                let at = self.from.address + z * self.from.slice + y * self.from.row;
                bytes.extend(abi::read_host(at as usize, self.width)?);
            }
        }
        self.staged = Some(bytes);
        Ok(())
    }

    /// Copies. Says whether the bytes crossed the bus.
    pub fn run(&self, memory: &DeviceMemory) -> Res<bool> {
        if self.bytes() == 0 {
            return Ok(false);
        }
        let packed = |side: &Side| {
            side.row == self.width as u64 && side.slice == side.row * self.height as u64
        };
        let (mut width, mut height, mut depth) = (self.width, self.height, self.depth);
        if packed(&self.to) && packed(&self.from) {
            (width, height, depth) = (self.bytes() as usize, 1, 1);
        }
        let mut taken = 0;
        for z in 0..depth as u64 {
            for y in 0..height as u64 {
                let to = self.to.address + z * self.to.slice + y * self.to.row;
                let from = self.from.address + z * self.from.slice + y * self.from.row;
                match &self.staged {
                    Some(bytes) => {
                        let row = bytes.get(taken..taken + width).ok_or(Error::UNKNOWN)?;
                        transfer(
                            memory,
                            (to, self.to.device),
                            (row.as_ptr() as u64, false),
                            width,
                        )?;
                        taken += width;
                    }
                    None => {
                        transfer(memory, (to, self.to.device), (from, self.from.device), width)?
                    }
                }
            }
        }
        Ok(self.to.device != self.from.device)
    }
}

/// A copy of consecutive bytes.
fn flat(to: (u32, u64), from: (u32, u64), len: usize) -> Memcpy3D {
    Memcpy3D {
        src_type: from.0,
        src_host: from.1 as usize,
        src_device: from.1,
        dst_type: to.0,
        dst_host: to.1 as usize,
        dst_device: to.1,
        width: len,
        height: 1,
        depth: 1,
        ..Memcpy3D::default()
    }
}

fn from_2d(c: Memcpy2D) -> Memcpy3D {
    Memcpy3D {
        src_x: c.src_x,
        src_y: c.src_y,
        src_type: c.src_type,
        src_host: c.src_host,
        src_device: c.src_device,
        src_array: c.src_array,
        src_pitch: c.src_pitch,
        dst_x: c.dst_x,
        dst_y: c.dst_y,
        dst_type: c.dst_type,
        dst_host: c.dst_host,
        dst_device: c.dst_device,
        dst_array: c.dst_array,
        dst_pitch: c.dst_pitch,
        width: c.width,
        height: c.height,
        depth: 1,
        ..Memcpy3D::default()
    }
}

/// Copies on the default stream and waits.
pub fn blocking(d: Memcpy3D) -> Res<()> {
    stream::submit_blocking(|s, _| Ok(Work::Copy(Box::new(CopyPlan::new(s, d)?))))
}

/// Copies on a stream.
pub fn asynchronous(d: Memcpy3D, handle: Handle) -> Res<()> {
    stream::submit(handle, |s, st| {
        let mut plan = CopyPlan::new(s, d)?;
        let stream = &s.streams[&st];
        if stream.capture.is_none() && !stream.is_idle() {
            plan.stage()?;
        }
        Ok(Work::Copy(Box::new(plan)))
    })
}

fn peer_contexts(s: &mut State, contexts: [Handle; 2]) -> Res<()> {
    contexts.into_iter().try_for_each(|c| s.context(c).map(|_| ()))
}

/// The copy of a batched operand pair.
fn operands(s: &State, op: &BatchOp3D) -> Res<Memcpy3D> {
    let pointer = |o: &Operand3D| match o.kind {
        1 => Ok((o.op[0], o.op[1] as usize, o.op[2] as usize)),
        2 => Err(Error::NOT_SUPPORTED),
        _ => Err(Error::INVALID_VALUE),
    };
    s.ready()?;
    let (to, from) = (pointer(&op.dst)?, pointer(&op.src)?);
    let mut d = flat((UNIFIED, to.0), (UNIFIED, from.0), op.extent[0]);
    (d.dst_pitch, d.dst_height) = (to.1, to.2);
    (d.src_pitch, d.src_height) = (from.1, from.2);
    (d.height, d.depth) = (op.extent[1], op.extent[2]);
    Ok(d)
}

fn batch(
    to: In<DevicePtr>,
    from: In<DevicePtr>,
    sizes: In<usize>,
    count: usize,
    attributes: (In<MemcpyAttributes>, In<usize>, usize),
    failed: Out<usize>,
    handle: Handle,
) -> Res<()> {
    failed.set_if(usize::MAX);
    if count == 0 || handle == 0 || handle == 1 || attributes.2 > count {
        return Err(Error::INVALID_VALUE);
    }
    attributes.0.list(attributes.2)?;
    let starts = attributes.1.list(attributes.2)?;
    if starts.first().is_some_and(|&f| f != 0) || !starts.is_sorted() {
        return Err(Error::INVALID_VALUE);
    }
    let (to, from, sizes) = (to.list(count)?, from.list(count)?, sizes.list(count)?);
    for i in 0..count {
        asynchronous(flat((UNIFIED, to[i]), (UNIFIED, from[i]), sizes[i]), handle)
            .inspect_err(|_| failed.set_if(i))?;
    }
    Ok(())
}

fn batch_3d(
    count: usize,
    ops: In<BatchOp3D>,
    failed: Out<usize>,
    flags: u64,
    handle: Handle,
) -> Res<()> {
    failed.set_if(usize::MAX);
    if count == 0 || flags != 0 || handle == 0 || handle == 1 {
        return Err(Error::INVALID_VALUE);
    }
    for (i, op) in ops.list(count)?.iter().enumerate() {
        let descriptor = operands(&lock(), op);
        descriptor.and_then(|d| asynchronous(d, handle)).inspect_err(|_| failed.set_if(i))?;
    }
    Ok(())
}

api! {
    fn cuMemcpy(to: u64, from: u64, len: usize) [cuMemcpy_ptds] {
        blocking(flat((UNIFIED, to), (UNIFIED, from), len))
    }

    fn cuMemcpyAsync(to: u64, from: u64, len: usize, stream: Handle) [cuMemcpyAsync_ptsz] {
        asynchronous(flat((UNIFIED, to), (UNIFIED, from), len), stream)
    }

    fn cuMemcpyHtoD_v2(to: u64, from: u64, len: usize) [cuMemcpyHtoD_v2_ptds] {
        blocking(flat((DEVICE, to), (HOST, from), len))
    }

    fn cuMemcpyDtoH_v2(to: u64, from: u64, len: usize) [cuMemcpyDtoH_v2_ptds] {
        blocking(flat((HOST, to), (DEVICE, from), len))
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, len: usize) [cuMemcpyDtoD_v2_ptds] {
        blocking(flat((DEVICE, to), (DEVICE, from), len))
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, len: usize, stream: Handle) [cuMemcpyHtoDAsync_v2_ptsz] {
        asynchronous(flat((DEVICE, to), (HOST, from), len), stream)
    }

    fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, len: usize, stream: Handle) [cuMemcpyDtoHAsync_v2_ptsz] {
        asynchronous(flat((HOST, to), (DEVICE, from), len), stream)
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: Handle) [cuMemcpyDtoDAsync_v2_ptsz] {
        asynchronous(flat((DEVICE, to), (DEVICE, from), len), stream)
    }

    fn cuMemcpyPeer(
        to: u64, to_context: Handle, from: u64, from_context: Handle, len: usize,
    ) [cuMemcpyPeer_ptds] {
        peer_contexts(&mut lock(), [to_context, from_context])?;
        blocking(flat((DEVICE, to), (DEVICE, from), len))
    }

    fn cuMemcpyPeerAsync(
        to: u64, to_context: Handle, from: u64, from_context: Handle, len: usize, stream: Handle,
    ) [cuMemcpyPeerAsync_ptsz] {
        peer_contexts(&mut lock(), [to_context, from_context])?;
        asynchronous(flat((DEVICE, to), (DEVICE, from), len), stream)
    }

    fn cuMemcpy2D_v2(copy: In<Memcpy2D>)
        [cuMemcpy2D_v2_ptds, cuMemcpy2DUnaligned_v2, cuMemcpy2DUnaligned_v2_ptds] {
        blocking(from_2d(copy.get()?))
    }

    fn cuMemcpy2DAsync_v2(copy: In<Memcpy2D>, stream: Handle) [cuMemcpy2DAsync_v2_ptsz] {
        asynchronous(from_2d(copy.get()?), stream)
    }

    fn cuMemcpy3D_v2(copy: In<Memcpy3D>) [cuMemcpy3D_v2_ptds] {
        blocking(copy.get()?)
    }

    fn cuMemcpy3DAsync_v2(copy: In<Memcpy3D>, stream: Handle) [cuMemcpy3DAsync_v2_ptsz] {
        asynchronous(copy.get()?, stream)
    }

    fn cuMemcpy3DPeer(copy: In<Memcpy3D>) [cuMemcpy3DPeer_ptds] {
        let copy = copy.get()?;
        peer_contexts(&mut lock(), [copy.src_context, copy.dst_context])?;
        blocking(copy)
    }

    fn cuMemcpy3DPeerAsync(copy: In<Memcpy3D>, stream: Handle) [cuMemcpy3DPeerAsync_ptsz] {
        let copy = copy.get()?;
        peer_contexts(&mut lock(), [copy.src_context, copy.dst_context])?;
        asynchronous(copy, stream)
    }

    fn cuMemcpyBatchAsync(
        to: In<DevicePtr>, from: In<DevicePtr>, sizes: In<usize>, count: usize,
        attributes: In<MemcpyAttributes>, starts: In<usize>, attribute_count: usize,
        failed: Out<usize>, stream: Handle,
    ) [cuMemcpyBatchAsync_ptsz] {
        batch(to, from, sizes, count, (attributes, starts, attribute_count), failed, stream)
    }

    fn cuMemcpyBatchAsync_v2(
        to: In<DevicePtr>, from: In<DevicePtr>, sizes: In<usize>, count: usize,
        attributes: In<MemcpyAttributes>, starts: In<usize>, attribute_count: usize, stream: Handle,
    ) [cuMemcpyBatchAsync_v2_ptsz] {
        let attributes = (attributes, starts, attribute_count);
        batch(to, from, sizes, count, attributes, Out::at(0), stream)
    }

    fn cuMemcpy3DBatchAsync(
        count: usize, ops: In<BatchOp3D>, failed: Out<usize>, flags: u64, stream: Handle,
    ) [cuMemcpy3DBatchAsync_ptsz] {
        batch_3d(count, ops, failed, flags, stream)
    }

    fn cuMemcpy3DBatchAsync_v2(
        count: usize, ops: In<BatchOp3D>, flags: u64, stream: Handle,
    ) [cuMemcpy3DBatchAsync_v2_ptsz] {
        batch_3d(count, ops, Out::at(0), flags, stream)
    }
}
