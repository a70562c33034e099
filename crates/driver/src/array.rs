//! CUDA arrays: memory with a shape, for copies. Textures and surfaces over them are not emulated.

use crate::abi::{In, Out};
use crate::copy::{self, ARRAY, DEVICE, HOST};
use crate::error::{Error, Res};
use crate::memory;
use crate::state::{Kind, State, lock};
use crate::types::{Array3DDescriptor, ArrayDescriptor, Handle, Memcpy3D};

/// `CUDA_ARRAY3D_LAYERED`.
const LAYERED: u32 = 1;
/// `CUDA_ARRAY3D_CUBEMAP`.
const CUBEMAP: u32 = 4;
/// Layered, surface load and store, cube map, texture gather, depth texture: what does not change where elements are.
const FLAGS: u32 = 0x1f;

/// An array.
#[derive(Debug)]
pub struct Array {
    /// Its context.
    pub context: Handle,
    base: u64,
    descriptor: Array3DDescriptor,
}

impl Array {
    fn row_bytes(&self) -> usize {
        self.descriptor.width * element_bytes(&self.descriptor).unwrap_or(1)
    }

    fn rows(&self) -> usize {
        self.descriptor.height.max(1)
    }
}

/// Bytes of an element.
fn element_bytes(d: &Array3DDescriptor) -> Option<usize> {
    let bytes = match d.format {
        0x01 | 0x08 => 1,
        0x02 | 0x09 | 0x10 => 2,
        0x03 | 0x0a | 0x20 => 4,
        _ => return None,
    };
    matches!(d.channels, 1 | 2 | 4).then_some(bytes * d.channels as usize)
}

/// Whether extents are ones that the card has (device attributes 21 to 68).
fn check(d: &Array3DDescriptor) -> Res<usize> {
    let element = element_bytes(d).ok_or(Error::INVALID_VALUE)?;
    let most = match (d.flags & (LAYERED | CUBEMAP), d.height, d.depth) {
        (0, 0, 0) => [131_072, 0, 0],
        (0, _, 0) => [131_072, 65_536, 0],
        (0, _, _) => [16_384, 16_384, 16_384],
        (LAYERED, _, _) => [32_768, 32_768, 2048],
        (CUBEMAP, _, _) => [32_768, 32_768, 6],
        _ => [32_768, 32_768, 2046],
    };
    let cube =
        d.flags & CUBEMAP == 0 || (d.width == d.height && d.depth.is_multiple_of(6) && d.depth > 0);
    let fits = d.width > 0 && d.width <= most[0] && d.height <= most[1] && d.depth <= most[2];
    let layers = d.flags & LAYERED == 0 || d.depth > 0;
    let solid = d.flags & LAYERED != 0 || d.depth == 0 || d.height > 0;
    if !cube || !fits || !layers || !solid || d.flags & !FLAGS != 0 {
        return Err(Error::INVALID_VALUE);
    }
    Ok(element * d.width * d.height.max(1) * d.depth.max(1))
}

fn create(to: Out<Handle>, descriptor: Array3DDescriptor) -> Res<()> {
    let bytes = check(&descriptor)?;
    if to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    let context = s.active()?;
    let device = s.contexts[&context].device;
    let base = memory::allocate(&mut s, device, context, None, bytes as u64)?;
    let handle = s.handle(Kind::Array);
    s.arrays.insert(handle, Array { context, base, descriptor });
    to.set(handle)
}

fn find(s: &State, handle: Handle) -> Res<&Array> {
    s.ready()?;
    s.arrays.get(&handle).ok_or(Error::INVALID_HANDLE)
}

/// A copy with its arrays replaced by where their elements are.
pub fn resolve(s: &State, mut d: Memcpy3D) -> Res<Memcpy3D> {
    let inside = |a: &Array, x: usize, y: usize, z: usize| {
        let fits =
            |at: usize, len: usize, size: usize| at.checked_add(len).is_some_and(|end| end <= size);
        let depth = a.descriptor.depth.max(1);
        fits(x, d.width, a.row_bytes()) && fits(y, d.height, a.rows()) && fits(z, d.depth, depth)
    };
    if d.src_type == ARRAY {
        let a = find(s, d.src_array)?;
        if !inside(a, d.src_x, d.src_y, d.src_z) {
            return Err(Error::INVALID_VALUE);
        }
        (d.src_type, d.src_device) = (DEVICE, a.base);
        (d.src_pitch, d.src_height) = (a.row_bytes(), a.rows());
    }
    if d.dst_type == ARRAY {
        let a = find(s, d.dst_array)?;
        if !inside(a, d.dst_x, d.dst_y, d.dst_z) {
            return Err(Error::INVALID_VALUE);
        }
        (d.dst_type, d.dst_device) = (DEVICE, a.base);
        (d.dst_pitch, d.dst_height) = (a.row_bytes(), a.rows());
    }
    Ok(d)
}

/// A copy of consecutive bytes from or to the first row of an array, or memory.
fn flat(to: (u32, u64, usize), from: (u32, u64, usize), len: usize) -> Memcpy3D {
    Memcpy3D {
        src_type: from.0,
        src_host: from.1 as usize,
        src_device: from.1,
        src_array: from.1,
        src_x: from.2,
        dst_type: to.0,
        dst_host: to.1 as usize,
        dst_device: to.1,
        dst_array: to.1,
        dst_x: to.2,
        width: len,
        height: 1,
        depth: 1,
        ..Memcpy3D::default()
    }
}

api! {
    fn cuArrayCreate_v2(to: Out<Handle>, descriptor: In<ArrayDescriptor>) {
        let d = descriptor.get()?;
        create(to, Array3DDescriptor {
            width: d.width,
            height: d.height,
            depth: 0,
            format: d.format,
            channels: d.channels,
            flags: 0,
        })
    }

    fn cuArray3DCreate_v2(to: Out<Handle>, descriptor: In<Array3DDescriptor>) {
        create(to, descriptor.get()?)
    }

    fn cuArrayGetDescriptor_v2(to: Out<ArrayDescriptor>, array: Handle) {
        let d = find(&lock(), array)?.descriptor;
        to.set(ArrayDescriptor {
            width: d.width,
            height: d.height,
            format: d.format,
            channels: d.channels,
        })
    }

    fn cuArray3DGetDescriptor_v2(to: Out<Array3DDescriptor>, array: Handle) {
        to.set(find(&lock(), array)?.descriptor)
    }

    fn cuArrayDestroy(array: Handle) {
        crate::stream::pump();
        let mut s = lock();
        s.ready()?;
        let gone = s.arrays.remove(&array).ok_or(Error::INVALID_HANDLE)?;
        memory::release(&mut s, gone.base);
        Ok(())
    }

    fn cuMemcpyHtoA_v2(array: Handle, offset: usize, from: u64, len: usize) [cuMemcpyHtoA_v2_ptds] {
        copy::blocking(flat((ARRAY, array, offset), (HOST, from, 0), len))
    }

    fn cuMemcpyAtoH_v2(to: u64, array: Handle, offset: usize, len: usize) [cuMemcpyAtoH_v2_ptds] {
        copy::blocking(flat((HOST, to, 0), (ARRAY, array, offset), len))
    }

    fn cuMemcpyDtoA_v2(array: Handle, offset: usize, from: u64, len: usize) [cuMemcpyDtoA_v2_ptds] {
        copy::blocking(flat((ARRAY, array, offset), (DEVICE, from, 0), len))
    }

    fn cuMemcpyAtoD_v2(to: u64, array: Handle, offset: usize, len: usize) [cuMemcpyAtoD_v2_ptds] {
        copy::blocking(flat((DEVICE, to, 0), (ARRAY, array, offset), len))
    }

    fn cuMemcpyAtoA_v2(
        to: Handle, to_offset: usize, from: Handle, from_offset: usize, len: usize,
    ) [cuMemcpyAtoA_v2_ptds] {
        copy::blocking(flat((ARRAY, to, to_offset), (ARRAY, from, from_offset), len))
    }

    fn cuMemcpyHtoAAsync_v2(
        array: Handle, offset: usize, from: u64, len: usize, stream: Handle,
    ) [cuMemcpyHtoAAsync_v2_ptsz] {
        copy::asynchronous(flat((ARRAY, array, offset), (HOST, from, 0), len), stream)
    }

    fn cuMemcpyAtoHAsync_v2(
        to: u64, array: Handle, offset: usize, len: usize, stream: Handle,
    ) [cuMemcpyAtoHAsync_v2_ptsz] {
        copy::asynchronous(flat((HOST, to, 0), (ARRAY, array, offset), len), stream)
    }
}
