//! Tensor maps that kernels make: `tensormap.replace` (PTX ISA 9.7.9.27) and `tensormap.cp_fenceproxy`
//! (9.7.13.15.18). What they make is checked when a copy uses it, by the rules of the host's encoder.

use zeroforge_ptx::{Instruction, Modifier, Opcode, StateSpace};

use crate::check::{Kind, WarpAccess, global_access, lanes, shared_access};
use crate::machine::context::Cx;
use crate::machine::warp::{LANES, Warp};
use crate::memory::window;
use crate::ops::memory::{drop_misaligned, drop_outside_shared, report_outside_global, resolve};
use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::{Addr, AddrBase, Detail, Inst, Step, Value};
use crate::report::FindingKind;
use crate::tensor_map::{Fields, TENSOR_MAP_BYTES};

/// A field of a tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Address,
    Rank,
    Box,
    Dim,
    Stride,
    ElementStride,
    Type,
    Interleave,
    Swizzle,
    Fill,
}

/// Operands.
#[derive(Debug)]
pub(crate) struct TensormapOp {
    space: StateSpace,
    /// The map, of a copy the target.
    map: Addr,
    from: Addr,
    field: Field,
    /// Dimension.
    index: usize,
    value: Value,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let (map, symbol_space) = d.address(d.operand(i, 0)?)?;
    let mut op = TensormapOp {
        space: StateSpace::Global,
        map,
        from: Addr { base: AddrBase::Fixed, offset: 0 },
        field: Field::Rank,
        index: 0,
        value: Value::Sink,
    };
    if i.opcode() == Opcode::TensormapCpFenceproxy {
        op.from = d.address(d.operand(i, 1)?)?.0;
        let mut inst = Inst::new(copy);
        inst.detail = Detail::Tensormap(Box::new(op));
        return Ok(inst);
    }
    op.space = match space_of(i) {
        StateSpace::Generic => symbol_space.unwrap_or(StateSpace::Generic),
        space => space,
    };
    let fields = [
        (Modifier::GlobalAddress, Field::Address),
        (Modifier::Rank, Field::Rank),
        (Modifier::BoxDim, Field::Box),
        (Modifier::GlobalDim, Field::Dim),
        (Modifier::GlobalStride, Field::Stride),
        (Modifier::ElementStride, Field::ElementStride),
        (Modifier::Elemtype, Field::Type),
        (Modifier::InterleaveLayout, Field::Interleave),
        (Modifier::SwizzleMode, Field::Swizzle),
        (Modifier::FillMode, Field::Fill),
    ];
    let field = fields.iter().find(|(m, _)| i.has(*m)).map(|&(_, f)| f);
    op.field = field.ok_or_else(|| "swizzles of larger units are not on Hopper".to_owned())?;
    let mut value = 1;
    if matches!(op.field, Field::Box | Field::Dim | Field::Stride | Field::ElementStride) {
        let most = if op.field == Field::Stride { 4 } else { 5 };
        let index = d.integer(d.operand(i, 1)?)?;
        op.index = usize::try_from(index).unwrap_or(most);
        if op.index >= most {
            return Err(format!("a tensor map has no dimension {index} here"));
        }
        value = 2;
    }
    op.value = match op.field {
        Field::Address | Field::Stride => Value::R64(d.s64(d.operand(i, value)?)?),
        _ => Value::R32(d.s32(d.operand(i, value)?)?),
    };
    let mut inst = Inst::new(replace);
    inst.detail = Detail::Tensormap(Box::new(op));
    Ok(inst)
}

/// Sets a field. Encodings are those of the instruction, which differ from the driver API's in the element
/// types (PTX ISA 9.7.9.27, tables of field values).
fn set(fields: &mut Fields, op: &TensormapOp, value: u64) -> Result<(), String> {
    let index = op.index;
    match op.field {
        Field::Address => fields.address = value,
        // Counted from zero.
        Field::Rank => fields.rank = value.saturating_add(1).min(255) as u8,
        Field::Box => fields.box_dims[index] = value.min(65_535) as u32,
        Field::Dim => fields.dims[index] = value,
        Field::Stride => fields.strides[index] = value,
        Field::ElementStride => fields.element_strides[index] = value.min(255) as u32,
        Field::Type => {
            // u8, u16, u32, s32, u64, s64, f16, f32, f32.ftz, f64, bf16, tf32, tf32.ftz.
            const TYPES: [u8; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12];
            let ty = usize::try_from(value).ok().and_then(|v| TYPES.get(v));
            fields.dtype = *ty.ok_or_else(|| format!("element type {value} is not on Hopper"))?;
        }
        Field::Interleave => fields.interleave = value.min(255) as u8,
        Field::Swizzle if value > 3 => {
            return Err(format!("swizzle mode {value} is not on Hopper"));
        }
        Field::Swizzle => fields.swizzle = value as u8,
        Field::Fill => fields.oob_fill = value.min(255) as u8,
    }
    Ok(())
}

/// Tells the checkers of an access to a whole map by a lane.
fn watch(cx: &mut Cx<'_>, warp: &mut Warp, lane: usize, address: u64, kind: Kind, shared: bool) {
    for at in (0..TENSOR_MAP_BYTES as u64).step_by(16) {
        let addresses = [address + at; LANES];
        let access = WarpAccess::new(kind, &addresses, 1 << lane, 16, false);
        match shared {
            true => {
                shared_access(cx, warp, &access);
            }
            false => {
                global_access(cx, warp, &access);
            }
        }
    }
}

/// Reads the map of a lane from shared or global memory.
fn read(
    cx: &mut Cx<'_>,
    warp: &Warp,
    lane: usize,
    address: u64,
    shared: bool,
) -> Option<[u8; 128]> {
    let mut bytes = [0; TENSOR_MAP_BYTES];
    if shared {
        let (rank, offset) = window::split_shared(address as u32, cx.rank);
        let cta = cx.cluster.ctas.get(rank as usize)?;
        let range = cta.range(offset, TENSOR_MAP_BYTES as u32)?;
        bytes.copy_from_slice(&cta.shared[range]);
        return Some(bytes);
    }
    let env = cx.env;
    let Some((at, offset)) = env.find(address, TENSOR_MAP_BYTES as u64) else {
        report_outside_global(cx, warp, lane, address, TENSOR_MAP_BYTES as u64);
        return None;
    };
    env.memory[at].bytes.read(offset, &mut bytes);
    Some(bytes)
}

fn write(cx: &mut Cx<'_>, warp: &Warp, lane: usize, address: u64, shared: bool, bytes: &[u8; 128]) {
    if shared {
        let (rank, offset) = window::split_shared(address as u32, cx.rank);
        let Some(cta) = cx.cluster.ctas.get_mut(rank as usize) else { return };
        if let Some(range) = cta.range(offset, TENSOR_MAP_BYTES as u32) {
            cta.shared[range].copy_from_slice(bytes);
            cta.mark_written(offset, TENSOR_MAP_BYTES as u32);
        }
        return;
    }
    let env = cx.env;
    let Some((at, offset)) = env.find(address, TENSOR_MAP_BYTES as u64) else {
        report_outside_global(cx, warp, lane, address, TENSOR_MAP_BYTES as u64);
        return;
    };
    let allocation = &env.memory[at];
    if allocation.read_only {
        cx.find(warp, 1 << lane, FindingKind::ReadOnly, Some(address), || {
            format!("a tensor map in constant memory at {address:#x} is changed")
        });
        return;
    }
    allocation.bytes.write(offset, bytes);
    allocation.mark_written(offset, TENSOR_MAP_BYTES);
}

fn replace(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Tensormap(op) = &inst.detail else { return Step::Stop };
    let r = resolve(warp, op.space, &op.map);
    let size = TENSOR_MAP_BYTES as u32;
    let mut good = warp.mask & (r.shared | r.global);
    // CUDA aligns the type to 64 bytes.
    good = drop_misaligned(cx, warp, &r.addresses, good, 64);
    good = drop_outside_shared(cx, warp, &r.addresses, good & r.shared, size) | good & r.global;
    for lane in lanes(good) {
        let (address, shared) = (r.addresses[lane], r.shared >> lane & 1 != 0);
        let value = match op.value {
            Value::R64(v) => warp.r64[v as usize][lane],
            Value::R32(v) => u64::from(warp.r32[v as usize][lane]),
            _ => 0,
        };
        let Some(bytes) = read(cx, warp, lane, address, shared) else { continue };
        watch(cx, warp, lane, address, Kind::Write, shared);
        let changed = Fields::to_change(&bytes).map_err(|e| e.to_string()).and_then(|mut f| {
            set(&mut f, op, value)?;
            Ok(f.to_bytes())
        });
        match changed {
            Ok(bytes) => write(cx, warp, lane, address, shared, &bytes),
            Err(reason) => {
                cx.find(warp, 1 << lane, FindingKind::BadDescriptor, Some(address), || reason);
            }
        }
    }
    Step::Next
}

/// Copies a map from shared to global memory, for the whole warp together.
fn copy(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Tensormap(op) = &inst.detail else { return Step::Stop };
    if warp.mask != warp.live {
        if warp.mask == warp.active {
            warp.wait_for_lanes();
            return Step::Wait;
        }
        cx.find(warp, warp.mask, FindingKind::Divergence, None, || {
            "tensormap.cp_fenceproxy.sync.aligned is reached by some lanes of the warp only"
                .to_owned()
        });
    }
    let from = resolve(warp, StateSpace::Shared, &op.from);
    let to = resolve(warp, StateSpace::Global, &op.map);
    let size = TENSOR_MAP_BYTES as u32;
    // All lanes name the same (PTX ISA 9.7.13.15.18).
    let lane = warp.mask.trailing_zeros() as usize;
    let mut good = drop_misaligned(cx, warp, &from.addresses, 1 << lane, size);
    good = drop_misaligned(cx, warp, &to.addresses, good, size);
    good = drop_outside_shared(cx, warp, &from.addresses, good, size);
    if good != 0
        && let Some(bytes) = read(cx, warp, lane, from.addresses[lane], true)
    {
        watch(cx, warp, lane, from.addresses[lane], Kind::Read, true);
        write(cx, warp, lane, to.addresses[lane], false, &bytes);
        if cx.env.find(to.addresses[lane], u64::from(size)).is_some() {
            watch(cx, warp, lane, to.addresses[lane], Kind::Write, false);
        }
        crate::ops::fence::release(warp, cx);
    }
    Step::Next
}
