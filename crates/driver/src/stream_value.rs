//! Values in memory that streams write and wait for.

use crate::abi::In;
use crate::error::{Error, Res};
use crate::state::{State, lock};
use crate::stream;
use crate::types::{Handle, MemOp};
use crate::work::{ValueOp, Work};

/// `CU_STREAM_WAIT_VALUE_FLUSH`.
const FLUSH: u32 = 1 << 30;

fn check(
    s: &State,
    address: u64,
    value: u64,
    bytes: usize,
    flags: u32,
    write: bool,
) -> Res<ValueOp> {
    let condition = if write { flags } else { flags & !FLUSH };
    let known = condition <= if write { 1 } else { 3 };
    let inside = crate::copy::is_device_range(&s.memory, address, bytes as u64);
    if !known || !inside || !address.is_multiple_of(bytes as u64) {
        return Err(Error::INVALID_VALUE);
    }
    Ok(ValueOp { address, value, bytes, condition })
}

/// Checks a batch of operations; true for writes.
pub fn check_all(s: &State, ops: &[MemOp]) -> Res<Vec<(ValueOp, bool)>> {
    let mut checked = Vec::new();
    for op in ops {
        let (bytes, write) = match op.operation {
            1 => (4, false),
            2 => (4, true),
            4 => (8, false),
            5 => (8, true),
            // Remote writes to flush, barriers: everything is in order here.
            3 | 6 => continue,
            8 => return Err(Error::NOT_SUPPORTED),
            _ => return Err(Error::INVALID_VALUE),
        };
        let value = if bytes == 4 { op.value & u64::from(u32::MAX) } else { op.value };
        checked.push((check(s, op.address, value, bytes, op.flags, write)?, write));
    }
    Ok(checked)
}

fn one(handle: Handle, address: u64, value: u64, bytes: usize, flags: u32, write: bool) -> Res<()> {
    stream::submit(handle, |s, _| {
        let op = check(s, address, value, bytes, flags, write)?;
        Ok(if write { Work::WriteValue(op) } else { Work::WaitValue(op) })
    })
}

fn batch(handle: Handle, count: u32, ops: In<MemOp>, flags: u32) -> Res<()> {
    if flags != 0 || count > 256 {
        return Err(Error::INVALID_VALUE);
    }
    let ops = ops.list(count as usize)?;
    let checked = check_all(&lock(), &ops)?;
    for (op, write) in checked {
        one(handle, op.address, op.value, op.bytes, op.condition, write)?;
    }
    Ok(())
}

api! {
    fn cuStreamWriteValue32(stream: Handle, address: u64, value: u32, flags: u32)
        [cuStreamWriteValue32_ptsz, cuStreamWriteValue32_v2, cuStreamWriteValue32_v2_ptsz] {
        one(stream, address, value.into(), 4, flags, true)
    }

    fn cuStreamWriteValue64(stream: Handle, address: u64, value: u64, flags: u32)
        [cuStreamWriteValue64_ptsz, cuStreamWriteValue64_v2, cuStreamWriteValue64_v2_ptsz] {
        one(stream, address, value, 8, flags, true)
    }

    fn cuStreamWaitValue32(stream: Handle, address: u64, value: u32, flags: u32)
        [cuStreamWaitValue32_ptsz, cuStreamWaitValue32_v2, cuStreamWaitValue32_v2_ptsz] {
        one(stream, address, value.into(), 4, flags, false)
    }

    fn cuStreamWaitValue64(stream: Handle, address: u64, value: u64, flags: u32)
        [cuStreamWaitValue64_ptsz, cuStreamWaitValue64_v2, cuStreamWaitValue64_v2_ptsz] {
        one(stream, address, value, 8, flags, false)
    }

    fn cuStreamBatchMemOp(stream: Handle, count: u32, ops: In<MemOp>, flags: u32)
        [cuStreamBatchMemOp_ptsz, cuStreamBatchMemOp_v2, cuStreamBatchMemOp_v2_ptsz] {
        batch(stream, count, ops, flags)
    }
}
