//! Loads and stores (PTX ISA 9.7.9.8-12) in every state space.

use zeroforge_ptx::{Instruction, Modifier, Opcode, StateSpace, Type};

use crate::check::race::stores_disagree;
use crate::check::runs::{Even, even};
use crate::check::{Kind, WarpAccess, global_access, lanes, shared_access};
use crate::machine::context::Cx;
use crate::machine::warp::{ALL, LANES, Warp};
use crate::memory::bytes::Bytes;
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
    /// How the addresses of all lanes are spaced, where that is known already.
    pub(crate) even: Option<Even>,
}

/// How the addresses of all lanes are spaced, from the register that they start from: the same test as of the
/// addresses themselves, on fewer bytes. Only for spaces whose addresses are not changed further.
#[inline(always)]
fn even_of(warp: &Warp, shared: bool, address: &Addr) -> Option<Even> {
    let offset = address.offset as u64;
    let even = match address.base {
        AddrBase::R32(base) => {
            let base = &warp.r32[base as usize];
            let step = base[1].wrapping_sub(base[0]);
            let mut differ = 0;
            for (b, a) in base[1..].iter().zip(&base[..31]) {
                differ |= b.wrapping_sub(*a) ^ step;
            }
            // From below zero to above is even for 32 bits only.
            let last = u64::from(base[0]) + 31 * u64::from(step);
            if differ != 0 || last > u64::from(u32::MAX) {
                return None;
            }
            Even { first: u64::from(base[0]).wrapping_add(offset), step: step.into() }
        }
        AddrBase::R64(base) => {
            let even = even(&warp.r64[base as usize], ALL)?;
            Even { first: even.first.wrapping_add(offset), ..even }
        }
        AddrBase::Fixed => Even { first: offset, step: 0 },
    };
    let even = if shared { Even { first: even.first & 0xffff_ffff, ..even } } else { even };
    even.in_range(shared).then_some(even)
}

/// Resolves the addresses of the lanes of the mask.
#[inline(always)]
pub(crate) fn resolve(warp: &Warp, space: StateSpace, address: &Addr) -> Resolved {
    let shared = matches!(space, StateSpace::Shared | StateSpace::SharedCluster);
    let global = matches!(space, StateSpace::Global | StateSpace::Const);
    if (shared || global)
        && warp.mask == ALL
        && let Some(even) = even_of(warp, shared, address)
    {
        let mut at = even.first;
        let addresses = std::array::from_fn(|_| {
            let this = at;
            at += even.step;
            this
        });
        let (global, shared) = if shared { (0, ALL) } else { (ALL, 0) };
        return Resolved { addresses, global, shared, local: 0, param: 0, even: Some(even) };
    }
    resolve_lanes(warp, space, address)
}

/// The same of any addresses.
fn resolve_lanes(warp: &Warp, space: StateSpace, address: &Addr) -> Resolved {
    let (addresses, even) = ([0; LANES], None);
    let mut r = Resolved { addresses, global: 0, shared: 0, local: 0, param: 0, even };
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
    // Mostly all are aligned, those of lanes that do not execute as well.
    if addresses.iter().fold(0, |all, a| all | a) & low == 0 {
        return mask;
    }
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
fn load_own(op: &MemoryOp, warp: &mut Warp, shared: &[u8], access: &WarpAccess<'_>) {
    let (size, mask) = (op.size as usize, access.lanes);
    if let Some(even) = access.even
        && load_even(op, warp, shared, even)
    {
        return;
    }
    for (k, &value) in op.values.iter().enumerate() {
        let place = |lane: usize| access.addresses[lane] as usize + k * size;
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
            (Value::R32(r), 2) => {
                let (to, signed) = (&mut warp.r32[r as usize], op.signed);
                each(mask, |lane| {
                    if let Some(bytes) = shared.get(place(lane)..).and_then(|s| s.first_chunk()) {
                        to[lane] = extend16(u16::from_le_bytes(*bytes), signed);
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

/// A 16-bit element in its register.
#[inline(always)]
fn extend16(bits: u16, signed: bool) -> u32 {
    if signed { i32::from(bits as i16) as u32 } else { u32::from(bits) }
}

/// Loads of lanes that follow one another, or that all read one place, by whole elements of registers.
/// False where it is none of them.
fn load_even(op: &MemoryOp, warp: &mut Warp, shared: &[u8], even: Even) -> bool {
    let bytes = total(op);
    let start = even.first as usize;
    let Some(all) = shared.get(start..start + even.span(bytes) as usize) else { return false };
    match (op.size, even.step) {
        (4, 0) => {
            for (&value, bytes) in op.values.iter().zip(all.as_chunks().0) {
                if let Value::R32(r) = value {
                    warp.r32[r as usize] = [u32::from_le_bytes(*bytes); LANES];
                }
            }
            op.values.iter().all(|v| matches!(v, Value::R32(_) | Value::Sink))
        }
        (4, 4) if bytes == 4 => load_words::<4>(op, warp, all),
        (4, 8) if bytes == 8 => load_words::<8>(op, warp, all),
        (4, 16) if bytes == 16 => load_words::<16>(op, warp, all),
        _ => false,
    }
}

/// Loads words of lanes with `N` bytes each.
#[inline]
fn load_words<const N: usize>(op: &MemoryOp, warp: &mut Warp, all: &[u8]) -> bool {
    for (k, &value) in op.values.iter().enumerate() {
        match value {
            Value::R32(r) => {
                let to = &mut warp.r32[r as usize];
                for (to, from) in to.iter_mut().zip(all.as_chunks::<N>().0) {
                    let word = from[4 * k..].first_chunk().copied().unwrap_or_default();
                    *to = u32::from_le_bytes(word);
                }
            }
            Value::Sink => {}
            _ => return false,
        }
    }
    true
}

/// Stores words of lanes with `N` bytes each.
#[inline]
fn store_words<const N: usize>(op: &MemoryOp, warp: &Warp, all: &mut [u8]) -> bool {
    for (k, &value) in op.values.iter().enumerate() {
        let Value::R32(r) = value else { return false };
        let from = &warp.r32[r as usize];
        for (to, from) in all.as_chunks_mut::<N>().0.iter_mut().zip(from) {
            if let Some(to) = to[4 * k..].first_chunk_mut() {
                *to = from.to_le_bytes();
            }
        }
    }
    true
}

/// As [`load_even`], of a store of lanes that follow one another.
fn store_even(op: &MemoryOp, warp: &Warp, shared: &mut [u8], even: Even) -> bool {
    let bytes = total(op);
    let start = even.first as usize;
    let all = shared.get_mut(start..start + even.span(bytes) as usize);
    let Some(all) = all.filter(|_| even.step == u64::from(bytes) && op.size == 4) else {
        return false;
    };
    match bytes {
        4 => store_words::<4>(op, warp, all),
        8 => store_words::<8>(op, warp, all),
        16 => store_words::<16>(op, warp, all),
        _ => false,
    }
}

/// As [`load_own`], of a store. Lanes that store to one place do so in their order: the highest stays.
fn store_own(op: &MemoryOp, warp: &Warp, shared: &mut [u8], access: &WarpAccess<'_>) {
    let (size, mask) = (op.size as usize, access.lanes);
    if let Some(even) = access.even
        && store_even(op, warp, shared, even)
    {
        return;
    }
    for (k, &value) in op.values.iter().enumerate() {
        let place = |lane: usize| access.addresses[lane] as usize + k * size;
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
            (Value::R32(r), 2) => {
                let from = &warp.r32[r as usize];
                each(mask, |lane| {
                    let to = shared.get_mut(place(lane)..).and_then(|s| s.first_chunk_mut());
                    if let Some(to) = to {
                        *to = (from[lane] as u16).to_le_bytes();
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

/// An access of all lanes to the own block's shared memory at one distance, aligned and inside: what nearly all
/// accesses of shared memory are, and what needs no look at single lanes.
#[inline(always)]
fn own_access<'a>(
    op: &MemoryOp,
    cx: &mut Cx<'_>,
    r: &'a Resolved,
    kind: Kind,
) -> Option<WarpAccess<'a>> {
    let even = r.even.filter(|_| r.shared == ALL)?;
    let bytes = total(op);
    let end = even.first + even.span(bytes);
    let inside = even.first >= u64::from(window::SHARED_START)
        && end <= cx.cta().shared.len() as u64
        && end <= 1 << window::SHARED_OFFSET_BITS;
    let aligned = (even.first | even.step) & u64::from(bytes - 1) == 0;
    let (addresses, lanes, strong) = (&r.addresses, ALL, op.strong);
    let access = WarpAccess { kind, addresses, lanes, bytes, strong, even: Some(even) };
    (inside && aligned).then_some(access)
}

fn execute_load(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Memory(op) = &inst.detail else { return Step::Stop };
    let r = resolve(warp, op.space, &op.address);
    let bytes = total(op);
    if let Some(access) = own_access(op, cx, &r, Kind::Read) {
        shared_access(cx, warp, &access);
        load_own(op, warp, &cx.cta().shared, &access);
        if op.ordered {
            crate::ops::fence::acquire(warp, cx);
        }
        return Step::Next;
    }
    let mask = drop_misaligned(cx, warp, &r.addresses, warp.mask, bytes);
    if r.shared & mask != 0 {
        let mask = drop_outside_shared(cx, warp, &r.addresses, r.shared & mask, bytes);
        let access = WarpAccess::new(Kind::Read, &r.addresses, mask, bytes, op.strong);
        shared_access(cx, warp, &access);
        let own = are_own(&r.addresses);
        if own {
            load_own(op, warp, &cx.cta().shared, &access);
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

/// Loads of all lanes from one allocation, one every `step` bytes from `offset` on. False where the elements or
/// addresses are none of those that come in numbers: nothing is lost by loading again.
fn gather(op: &MemoryOp, warp: &mut Warp, bytes: &Bytes, offset: usize, step: usize) -> bool {
    let size = op.size as usize;
    if !step.is_multiple_of(size) {
        return false;
    }
    for (k, &value) in op.values.iter().enumerate() {
        let at = offset + k * size;
        match (value, size) {
            (Value::R32(r), 4) => bytes.gather32(at, step, &mut warp.r32[r as usize]),
            (Value::R64(r), 8) => bytes.gather64(at, step, &mut warp.r64[r as usize]),
            (Value::R32(r), 2) => {
                for (lane, to) in warp.r32[r as usize].iter_mut().enumerate() {
                    *to = extend16(bytes.load(at + lane * step, 2) as u16, op.signed);
                }
            }
            _ => return false,
        }
    }
    true
}

/// As [`gather`], of a store.
fn scatter(op: &MemoryOp, warp: &Warp, bytes: &Bytes, offset: usize, step: usize) -> bool {
    let size = op.size as usize;
    if !step.is_multiple_of(size) {
        return false;
    }
    for (k, &value) in op.values.iter().enumerate() {
        let at = offset + k * size;
        match (value, size) {
            (Value::R32(r), 4) => bytes.scatter32(at, step, &warp.r32[r as usize]),
            (Value::R64(r), 8) => bytes.scatter64(at, step, &warp.r64[r as usize]),
            (Value::R32(r), 2) => {
                for (lane, &from) in warp.r32[r as usize].iter().enumerate() {
                    bytes.store(at + lane * step, 2, u64::from(from));
                }
            }
            _ => return false,
        }
    }
    true
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
    if let Some(even) = even(addresses, mask)
        && let Some((at, offset)) = env.find(even.first, even.span(bytes))
        && (!check || env.memory[at].is_written(offset, even.span(bytes) as usize))
        && gather(op, warp, &env.memory[at].bytes, offset, even.step as usize)
    {
        let (kind, lanes, strong) = (Kind::Read, mask, op.strong);
        let access = WarpAccess { kind, addresses, lanes, bytes, strong, even: Some(even) };
        global_access(cx, warp, &access);
        return;
    }
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
    let access = WarpAccess::new(Kind::Read, addresses, good, bytes, op.strong);
    global_access(cx, warp, &access);
}

fn execute_store(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Memory(op) = &inst.detail else { return Step::Stop };
    if op.ordered {
        crate::ops::fence::release(warp, cx);
    }
    let r = resolve(warp, op.space, &op.address);
    let bytes = total(op);
    if let Some(access) = own_access(op, cx, &r, Kind::Write) {
        let twice = shared_access(cx, warp, &access);
        if twice != 0 {
            stores_disagree(cx, warp, &access, twice, |lane| joined_value(op, warp, lane));
        }
        store_own(op, warp, &mut cx.cta().shared, &access);
        return Step::Next;
    }
    let mask = drop_misaligned(cx, warp, &r.addresses, warp.mask, bytes);
    if r.shared & mask != 0 {
        let mask = drop_outside_shared(cx, warp, &r.addresses, r.shared & mask, bytes);
        let access = WarpAccess::new(Kind::Write, &r.addresses, mask, bytes, op.strong);
        let twice = shared_access(cx, warp, &access);
        if twice != 0 {
            let joined = |lane| joined_value(op, warp, lane);
            stores_disagree(cx, warp, &access, twice, joined);
        }
        let own = are_own(&r.addresses);
        if own {
            store_own(op, warp, &mut cx.cta().shared, &access);
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
    if let Some(even) = even(addresses, mask).filter(|e| e.step >= u64::from(bytes))
        && let Some((at, offset)) = env.find(even.first, even.span(bytes))
        && !env.memory[at].read_only
        && scatter(op, warp, &env.memory[at].bytes, offset, even.step as usize)
    {
        let allocation = &env.memory[at];
        if even.step == u64::from(bytes) {
            allocation.mark_written(offset, even.span(bytes) as usize);
        } else {
            let places = (0..LANES).map(|lane| offset + lane * even.step as usize);
            places.for_each(|at| allocation.mark_written(at, bytes as usize));
        }
        let (kind, lanes, strong) = (Kind::Write, mask, op.strong);
        let access = WarpAccess { kind, addresses, lanes, bytes, strong, even: Some(even) };
        let twice = global_access(cx, warp, &access);
        if twice != 0 {
            stores_disagree(cx, warp, &access, twice, |lane| joined_value(op, warp, lane));
        }
        return;
    }
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
    let access = WarpAccess::new(Kind::Write, addresses, good, bytes, op.strong);
    let twice = global_access(cx, warp, &access);
    if twice != 0 {
        stores_disagree(cx, warp, &access, twice, |lane| joined_value(op, warp, lane));
    }
}
