//! Loads and stores (PTX ISA 9.7.9.8-12) in every state space.

use zeroforge_ptx::{Instruction, Modifier, Opcode, StateSpace, Type};

use crate::check::race::stores_disagree;
use crate::check::{Kind, WarpAccess, global_access, lanes, shared_access};
use crate::machine::context::Cx;
use crate::machine::warp::{LANES, Warp};
use crate::memory::window::{self, Place};
use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::{Addr, AddrBase, Detail, Inst, Step, Value};
use crate::report::FindingKind;

/// Operands of a load or store.
#[derive(Debug)]
pub(crate) struct MemoryOp {
    pub(crate) space: StateSpace,
    pub(crate) address: Addr,
    /// Bytes of one element, and the registers of the elements.
    pub(crate) size: u32,
    pub(crate) values: Vec<Value>,
    /// Whether narrow elements are sign-extended into their registers.
    signed: bool,
    /// A strong operation (PTX ISA 8.4).
    strong: bool,
    /// Acquire or release semantics.
    ordered: bool,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.types().last().ok_or_else(|| "an access without a type".to_owned())?;
    let store = i.opcode() == Opcode::St;
    let (address, value) = if store { (0, 1) } else { (1, 0) };
    let (address, symbol_space) = d.address(d.operand(i, address)?)?;
    let mut values = Vec::new();
    let operand = d.operand(i, value)?.clone();
    for element in d.elements(&operand) {
        values.push(if store { store_source(d, element, ty)? } else { d.destination(element)? });
    }
    let mut space = space_of(i);
    // `ld.param` in a called function reads its caller's variables.
    if let Some(StateSpace::Local) = symbol_space {
        space = StateSpace::Local;
    }
    if space == StateSpace::Generic
        && let Some(named) = symbol_space
    {
        space = named;
    }
    let ordered = i.has(Modifier::Acquire) || i.has(Modifier::Release);
    let strong = ordered
        || [Modifier::Relaxed, Modifier::Volatile, Modifier::Mmio].iter().any(|&m| i.has(m));
    let op = MemoryOp {
        space,
        address,
        size: ty.bytes(),
        values,
        signed: ty.is_signed(),
        strong,
        ordered,
    };
    let mut inst = Inst::new(if store { execute_store } else { execute_load });
    inst.detail = Detail::Memory(Box::new(op));
    Ok(inst)
}

/// The register of a stored element may be wider than the element (PTX ISA 9.4.1).
fn store_source(
    d: &mut Decoder<'_>,
    operand: &zeroforge_ptx::Operand,
    ty: Type,
) -> Result<Value, Reason> {
    match operand {
        zeroforge_ptx::Operand::Register(_) => d.destination(operand),
        other => d.source(other, ty),
    }
}

/// Prefetches and cache hints: nothing to do, but the address must make sense to the parser.
pub(crate) fn decode_hint(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let mut inst = Inst::new(|_, _, _| Step::Next);
    if i.opcode() == Opcode::CreatePolicy {
        inst = Inst::new(|inst, warp, _| {
            for lane in lanes(warp.mask) {
                warp.r64[inst.d as usize][lane] = 0;
            }
            Step::Next
        });
        inst.d = d.d64(d.operand(i, 0)?)?;
    }
    Ok(inst)
}

/// Where the lanes of an access go, after generic addresses are resolved. Lanes of one instruction may be
/// in different spaces.
pub(crate) struct Resolved {
    pub(crate) addresses: [u64; LANES],
    pub(crate) global: u32,
    pub(crate) shared: u32,
    pub(crate) local: u32,
    pub(crate) param: u32,
}

/// Resolves the addresses of the lanes of the mask.
#[inline]
pub(crate) fn resolve(warp: &Warp, space: StateSpace, address: &Addr) -> Resolved {
    let mut r = Resolved { addresses: [0; LANES], global: 0, shared: 0, local: 0, param: 0 };
    let offset = address.offset as u64;
    match address.base {
        AddrBase::R32(base) => {
            let base = &warp.r32[base as usize];
            for (to, &from) in r.addresses.iter_mut().zip(base) {
                *to = u64::from(from).wrapping_add(offset);
            }
        }
        AddrBase::R64(base) => {
            let base = &warp.r64[base as usize];
            for (to, &from) in r.addresses.iter_mut().zip(base) {
                *to = from.wrapping_add(offset);
            }
        }
        AddrBase::Fixed => r.addresses = [offset; LANES],
    }
    match space {
        StateSpace::Global | StateSpace::Const => r.global = warp.mask,
        StateSpace::Shared | StateSpace::SharedCluster => {
            r.shared = warp.mask;
            // A 64-bit register may hold the address; the space has 32 bits.
            for a in &mut r.addresses {
                *a &= 0xffff_ffff;
            }
        }
        StateSpace::Local | StateSpace::Register => r.local = warp.mask,
        StateSpace::Param => r.param = warp.mask,
        StateSpace::Generic => {
            for lane in lanes(warp.mask) {
                let bit = 1 << lane;
                match window::place(r.addresses[lane]) {
                    Place::Global(_) => r.global |= bit,
                    Place::Shared(a) => {
                        r.shared |= bit;
                        r.addresses[lane] = u64::from(a);
                    }
                    Place::Local(a) => {
                        r.local |= bit;
                        r.addresses[lane] = u64::from(a);
                    }
                    Place::Param(a) => {
                        r.param |= bit;
                        r.addresses[lane] = u64::from(a);
                    }
                }
            }
        }
    }
    r
}

/// Reports lanes whose address is not a multiple of what the access needs; they are left out.
pub(crate) fn drop_misaligned(
    cx: &mut Cx<'_>,
    warp: &Warp,
    addresses: &[u64; LANES],
    mask: u32,
    bytes: u32,
) -> u32 {
    let low = u64::from(bytes - 1);
    let mut bad = 0;
    for (lane, address) in addresses.iter().enumerate() {
        bad |= u32::from(address & low != 0) << lane;
    }
    bad &= mask;
    if bad != 0 {
        let address = addresses[bad.trailing_zeros() as usize];
        cx.find(warp, bad, FindingKind::Misaligned, Some(address), || {
            format!("address {address:#x} is not a multiple of the {bytes} bytes of the access")
        });
    }
    mask & !bad
}

/// Calls a function with the lanes of a mask; with all of them in a loop that the compiler can unroll.
#[inline(always)]
fn each(mask: u32, mut f: impl FnMut(usize)) {
    if mask == crate::machine::warp::ALL {
        (0..LANES).for_each(f);
    } else {
        lanes(mask).for_each(&mut f);
    }
}

/// Whether shared addresses are all in the own block's window; lanes that do not execute may spoil it.
fn are_own(addresses: &[u64; LANES]) -> bool {
    addresses.iter().fold(0, |all, a| all | a) >> window::SHARED_OFFSET_BITS == 0
}

/// The last offset at which so many bytes fit into the own block's shared memory; 0 if nowhere.
fn end_of(cx: &mut Cx<'_>, bytes: u32) -> u64 {
    (cx.cta().shared.len() as u64).saturating_sub(u64::from(bytes))
}

/// Loads from the own block's shared memory: all lanes of one register after the other.
fn load_own(op: &MemoryOp, warp: &mut Warp, shared: &[u8], addresses: &[u64; LANES], mask: u32) {
    let size = op.size as usize;
    for (k, &value) in op.values.iter().enumerate() {
        let place = |lane: usize| addresses[lane] as usize + k * size;
        match (value, size) {
            (Value::R32(r), 4) => {
                let to = &mut warp.r32[r as usize];
                each(mask, |lane| {
                    if let Some(bytes) = shared.get(place(lane)..).and_then(|s| s.first_chunk()) {
                        to[lane] = u32::from_le_bytes(*bytes);
                    }
                });
            }
            (Value::R64(r), 8) => {
                let to = &mut warp.r64[r as usize];
                each(mask, |lane| {
                    if let Some(bytes) = shared.get(place(lane)..).and_then(|s| s.first_chunk()) {
                        to[lane] = u64::from_le_bytes(*bytes);
                    }
                });
            }
            _ => {
                for lane in lanes(mask) {
                    let bits = read_le(&shared[place(lane)..place(lane) + size]);
                    set_value(warp, value, lane, bits, op.size, op.signed);
                }
            }
        }
    }
}

/// As [`load_own`], of a store. Lanes that store to one place do so in their order: the highest stays.
fn store_own(op: &MemoryOp, warp: &Warp, shared: &mut [u8], addresses: &[u64; LANES], mask: u32) {
    let size = op.size as usize;
    for (k, &value) in op.values.iter().enumerate() {
        let place = |lane: usize| addresses[lane] as usize + k * size;
        match (value, size) {
            (Value::R32(r), 4) => {
                let from = &warp.r32[r as usize];
                each(mask, |lane| {
                    let to = shared.get_mut(place(lane)..).and_then(|s| s.first_chunk_mut());
                    if let Some(to) = to {
                        *to = from[lane].to_le_bytes();
                    }
                });
            }
            (Value::R64(r), 8) => {
                let from = &warp.r64[r as usize];
                each(mask, |lane| {
                    let to = shared.get_mut(place(lane)..).and_then(|s| s.first_chunk_mut());
                    if let Some(to) = to {
                        *to = from[lane].to_le_bytes();
                    }
                });
            }
            _ => {
                for lane in lanes(mask) {
                    let bits = get_value(warp, value, lane).to_le_bytes();
                    shared[place(lane)..place(lane) + size].copy_from_slice(&bits[..size]);
                }
            }
        }
    }
}

/// Reports lanes outside of shared memory; they are left out.
pub(crate) fn drop_outside_shared(
    cx: &mut Cx<'_>,
    warp: &Warp,
    addresses: &[u64; LANES],
    mask: u32,
    bytes: u32,
) -> u32 {
    if are_own(addresses) {
        let inside = u64::from(window::SHARED_START)..=end_of(cx, bytes);
        let mut all = true;
        each(mask, |lane| all &= inside.contains(&addresses[lane]));
        if all {
            return mask;
        }
    }
    let mut bad = 0;
    for lane in lanes(mask) {
        let (rank, offset) = window::split_shared(addresses[lane] as u32, cx.rank);
        let inside = cx.cluster.ctas.get(rank as usize).and_then(|c| c.range(offset, bytes));
        bad |= u32::from(inside.is_none()) << lane;
    }
    if bad != 0 {
        let address = addresses[bad.trailing_zeros() as usize];
        let (rank, offset) = window::split_shared(address as u32, cx.rank);
        let size = cx.cta().shared.len() as u32 - window::SHARED_START;
        let blocks = cx.cluster.ctas.len();
        cx.find(warp, bad, FindingKind::OutOfBounds, Some(address), || {
            if rank as usize >= blocks {
                format!("shared address {address:#x} names block {rank} of a cluster of {blocks}")
            } else {
                format!(
                    "{bytes} bytes at shared offset {offset:#x}; the block has {size} bytes from {:#x} on",
                    window::SHARED_START
                )
            }
        });
    }
    mask & !bad
}

/// Reports a global access outside of every allocation.
pub(crate) fn report_outside_global(
    cx: &mut Cx<'_>,
    warp: &Warp,
    lane: usize,
    address: u64,
    bytes: u64,
) {
    let before = cx.env.memory.partition_point(|a| a.base <= address).checked_sub(1);
    let nearest = before.map(|i| (cx.env.memory[i].base, cx.env.memory[i].size));
    cx.find(warp, 1 << lane, FindingKind::OutOfBounds, Some(address), || {
        let error = crate::MemoryError::OutOfBounds { address, len: bytes, nearest };
        error.to_string()
    });
}

/// Bytes of all elements of an access.
fn total(op: &MemoryOp) -> u32 {
    op.size * op.values.len() as u32
}

/// Offset of a lane's local memory, if the access is inside.
pub(crate) fn local_range(cx: &Cx<'_>, lane: usize, address: u64, bytes: u32) -> Option<usize> {
    let size = u64::from(cx.env.kernel.local_bytes);
    (address.checked_add(u64::from(bytes))? <= size)
        .then(|| lane * size as usize + address as usize)
}

fn report_outside_local(cx: &mut Cx<'_>, warp: &Warp, lane: usize, address: u64, what: &str) {
    cx.find(warp, 1 << lane, FindingKind::OutOfBounds, Some(address), || {
        format!("{what} address {address:#x} is outside of the {what} memory")
    });
}

fn read_le(bytes: &[u8]) -> u128 {
    let mut value = [0; 16];
    value[..bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(value)
}

/// Puts a loaded element into its register.
pub(crate) fn set_value(
    warp: &mut Warp,
    value: Value,
    lane: usize,
    bits: u128,
    size: u32,
    signed: bool,
) {
    match value {
        Value::R32(r) => {
            let bits = bits as u32;
            warp.r32[r as usize][lane] = match (signed, size) {
                (true, 1) => i32::from(bits as i8) as u32,
                (true, 2) => i32::from(bits as i16) as u32,
                _ => bits,
            };
        }
        Value::R64(r) => {
            let bits = bits as u64;
            warp.r64[r as usize][lane] = match (signed, size) {
                (true, 1) => i64::from(bits as i8) as u64,
                (true, 2) => i64::from(bits as i16) as u64,
                (true, 4) => i64::from(bits as i32) as u64,
                _ => bits,
            };
        }
        Value::R128(r) => {
            warp.r64[r as usize][lane] = bits as u64;
            warp.r64[r as usize + 1][lane] = (bits >> 64) as u64;
        }
        Value::Pred(_) | Value::Sink => {}
    }
}

/// The bits of a register in a lane.
pub(crate) fn get_value(warp: &Warp, value: Value, lane: usize) -> u128 {
    match value {
        Value::R32(r) => u128::from(warp.r32[r as usize][lane]),
        Value::R64(r) => u128::from(warp.r64[r as usize][lane]),
        Value::R128(r) => {
            let (low, high) = (warp.r64[r as usize][lane], warp.r64[r as usize + 1][lane]);
            u128::from(high) << 64 | u128::from(low)
        }
        Value::Pred(_) | Value::Sink => 0,
    }
}

/// All elements that a lane stores, as one number.
fn joined_value(op: &MemoryOp, warp: &Warp, lane: usize) -> u128 {
    let bits = 8 * op.size;
    let mask = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
    op.values.iter().rev().fold(0, |all, &value| {
        all.checked_shl(bits).unwrap_or(0) | get_value(warp, value, lane) & mask
    })
}

fn execute_load(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Memory(op) = &inst.detail else { return Step::Stop };
    let r = resolve(warp, op.space, &op.address);
    let bytes = total(op);
    let mask = drop_misaligned(cx, warp, &r.addresses, warp.mask, bytes);
    if r.shared & mask != 0 {
        let mask = drop_outside_shared(cx, warp, &r.addresses, r.shared & mask, bytes);
        let access = WarpAccess {
            kind: Kind::Read,
            addresses: &r.addresses,
            lanes: mask,
            bytes,
            strong: op.strong,
        };
        shared_access(cx, warp, &access);
        let own = are_own(&r.addresses);
        if own {
            load_own(op, warp, &cx.cta().shared, &r.addresses, mask);
        }
        for lane in lanes(if own { 0 } else { mask }) {
            let (rank, offset) = window::split_shared(r.addresses[lane] as u32, cx.rank);
            for (k, &value) in op.values.iter().enumerate() {
                let at = offset as usize + k * op.size as usize;
                let shared = &cx.cluster.ctas[rank as usize].shared;
                let bits = read_le(&shared[at..at + op.size as usize]);
                set_value(warp, value, lane, bits, op.size, op.signed);
            }
        }
    }
    if r.global & mask != 0 {
        load_global(op, warp, cx, &r.addresses, r.global & mask);
    }
    for lane in lanes(r.local & mask) {
        let Some(at) = local_range(cx, lane, r.addresses[lane], bytes) else {
            report_outside_local(cx, warp, lane, r.addresses[lane], "local");
            continue;
        };
        for (k, &value) in op.values.iter().enumerate() {
            let at = at + k * op.size as usize;
            let bits = read_le(&warp.local[at..at + op.size as usize]);
            set_value(warp, value, lane, bits, op.size, op.signed);
        }
    }
    if r.param & mask != 0 {
        let params = &cx.env.config.params;
        for lane in lanes(r.param & mask) {
            let start = r.addresses[lane] as usize;
            let Some(all) = params.get(start..start.saturating_add(bytes as usize)) else {
                report_outside_local(cx, warp, lane, r.addresses[lane], "parameter");
                continue;
            };
            for (k, &value) in op.values.iter().enumerate() {
                let at = k * op.size as usize;
                let bits = read_le(&all[at..at + op.size as usize]);
                set_value(warp, value, lane, bits, op.size, op.signed);
            }
        }
    }
    if op.ordered {
        crate::ops::fence::acquire(warp, cx);
    }
    Step::Next
}

fn load_global(
    op: &MemoryOp,
    warp: &mut Warp,
    cx: &mut Cx<'_>,
    addresses: &[u64; LANES],
    mask: u32,
) {
    let bytes = total(op);
    let mut good = 0u32;
    let mut unwritten = 0u32;
    let check = cx.env.options.checks.uninitialised;
    let env = cx.env;
    let mut last: Option<usize> = None;
    for lane in lanes(mask) {
        let address = addresses[lane];
        let found = match last {
            Some(at) => {
                let offset = env.memory[at].offset(address, u64::from(bytes));
                offset.map(|o| (at, o)).or_else(|| env.find(address, u64::from(bytes)))
            }
            None => env.find(address, u64::from(bytes)),
        };
        let Some((at, offset)) = found else {
            report_outside_global(cx, warp, lane, address, u64::from(bytes));
            continue;
        };
        last = Some(at);
        let allocation = &env.memory[at];
        good |= 1 << lane;
        if check && !allocation.is_written(offset, bytes as usize) {
            unwritten |= 1 << lane;
        }
        for (k, &value) in op.values.iter().enumerate() {
            let at = offset + k * op.size as usize;
            let bits = match op.size {
                16 => {
                    let high = allocation.bytes.load(at + 8, 8);
                    u128::from(high) << 64 | u128::from(allocation.bytes.load(at, 8))
                }
                size => u128::from(allocation.bytes.load(at, size as usize)),
            };
            set_value(warp, value, lane, bits, op.size, op.signed);
        }
    }
    if unwritten != 0 {
        let address = addresses[unwritten.trailing_zeros() as usize];
        cx.find(warp, unwritten, FindingKind::UninitialisedGlobal, Some(address), || {
            format!("{bytes} bytes at {address:#x} are read but nothing wrote them")
        });
    }
    let access = WarpAccess { kind: Kind::Read, addresses, lanes: good, bytes, strong: op.strong };
    global_access(cx, warp, &access);
}

fn execute_store(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Memory(op) = &inst.detail else { return Step::Stop };
    if op.ordered {
        crate::ops::fence::release(warp, cx);
    }
    let r = resolve(warp, op.space, &op.address);
    let bytes = total(op);
    let mask = drop_misaligned(cx, warp, &r.addresses, warp.mask, bytes);
    if r.shared & mask != 0 {
        let mask = drop_outside_shared(cx, warp, &r.addresses, r.shared & mask, bytes);
        let access = WarpAccess {
            kind: Kind::Write,
            addresses: &r.addresses,
            lanes: mask,
            bytes,
            strong: op.strong,
        };
        let twice = shared_access(cx, warp, &access);
        if twice != 0 {
            let joined = |lane| joined_value(op, warp, lane);
            stores_disagree(cx, warp, &access, twice, joined);
        }
        let own = are_own(&r.addresses);
        if own {
            store_own(op, warp, &mut cx.cta().shared, &r.addresses, mask);
        }
        for lane in lanes(if own { 0 } else { mask }) {
            let (rank, offset) = window::split_shared(r.addresses[lane] as u32, cx.rank);
            for (k, &value) in op.values.iter().enumerate() {
                let at = offset as usize + k * op.size as usize;
                let bits = get_value(warp, value, lane).to_le_bytes();
                let shared = &mut cx.cluster.ctas[rank as usize].shared;
                shared[at..at + op.size as usize].copy_from_slice(&bits[..op.size as usize]);
            }
        }
    }
    if r.global & mask != 0 {
        store_global(op, warp, cx, &r.addresses, r.global & mask);
    }
    for lane in lanes(r.local & mask) {
        let Some(at) = local_range(cx, lane, r.addresses[lane], bytes) else {
            report_outside_local(cx, warp, lane, r.addresses[lane], "local");
            continue;
        };
        for (k, &value) in op.values.iter().enumerate() {
            let at = at + k * op.size as usize;
            let bits = get_value(warp, value, lane).to_le_bytes();
            warp.local[at..at + op.size as usize].copy_from_slice(&bits[..op.size as usize]);
        }
    }
    if r.param & mask != 0 {
        cx.find(warp, r.param & mask, FindingKind::ReadOnly, None, || {
            "a store to the kernel's parameters".to_owned()
        });
    }
    Step::Next
}

fn store_global(
    op: &MemoryOp,
    warp: &mut Warp,
    cx: &mut Cx<'_>,
    addresses: &[u64; LANES],
    mask: u32,
) {
    let bytes = total(op);
    let mut good = 0u32;
    let env = cx.env;
    let mut last: Option<usize> = None;
    for lane in lanes(mask) {
        let address = addresses[lane];
        let found = match last {
            Some(at) => {
                let offset = env.memory[at].offset(address, u64::from(bytes));
                offset.map(|o| (at, o)).or_else(|| env.find(address, u64::from(bytes)))
            }
            None => env.find(address, u64::from(bytes)),
        };
        let Some((at, offset)) = found else {
            report_outside_global(cx, warp, lane, address, u64::from(bytes));
            continue;
        };
        last = Some(at);
        let allocation = &env.memory[at];
        if allocation.read_only {
            cx.find(warp, 1 << lane, FindingKind::ReadOnly, Some(address), || {
                format!("a store to constant memory at {address:#x}")
            });
            continue;
        }
        good |= 1 << lane;
        for (k, &value) in op.values.iter().enumerate() {
            let at = offset + k * op.size as usize;
            let bits = get_value(warp, value, lane);
            if op.size == 16 {
                allocation.bytes.store(at, 8, bits as u64);
                allocation.bytes.store(at + 8, 8, (bits >> 64) as u64);
            } else {
                allocation.bytes.store(at, op.size as usize, bits as u64);
            }
        }
        allocation.mark_written(offset, bytes as usize);
    }
    let access = WarpAccess { kind: Kind::Write, addresses, lanes: good, bytes, strong: op.strong };
    let twice = global_access(cx, warp, &access);
    if twice != 0 {
        stores_disagree(cx, warp, &access, twice, |lane| joined_value(op, warp, lane));
    }
}
