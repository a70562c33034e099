//! Tensor copies in tiled mode (PTX ISA 9.7.9.25.5).

use std::rc::Rc;

use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, StateSpace, Type};

use crate::check::{Kind, Proxy, lanes};
use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::memory::window;
use crate::ops::bulk::{
    self, Starter, destinations, global_range, is_own, record_global, record_shared, record_source,
    shared_range, start, start_store, target, write_stamp,
};
use crate::ops::bulk_copy::{Operation, Reduction};
use crate::ops::mbarrier::locate;
use crate::ops::pending::{SharedRange, Transfer};
use crate::ops::tma_copy::Tile;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Addr, AddrBase, Detail, Inst, NO_REGISTER, Step};
use crate::report::FindingKind;
use crate::tensor_map::{DataType, MAX_RANK, TENSOR_MAP_BYTES, TensorMap};

/// Operands.
#[derive(Debug)]
pub(crate) struct TmaOp {
    /// Generic address of the tensor map.
    map: Addr,
    /// Registers of the coordinates, innermost first.
    coordinates: Vec<u32>,
    /// The box in shared memory.
    shared: Addr,
    barrier: Addr,
    /// Register of the mask of a multicast, or [`NO_REGISTER`].
    multicast: u32,
    operation: Option<Operation>,
}

const NOWHERE: Addr = Addr { base: AddrBase::Fixed, offset: 0 };

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let im2col =
        [Modifier::Im2col, Modifier::Im2colW, Modifier::Im2colW128, Modifier::Im2colNoOffs];
    if im2col.iter().any(|&m| i.has(m)) {
        return Err("im2col mode is not emulated; use tiled tensor maps".to_owned());
    }
    if i.has(Modifier::TileGather4) || i.has(Modifier::TileScatter4) {
        return Err("gather and scatter of rows are not on Hopper".to_owned());
    }
    let store = matches!(i.opcode(), Opcode::CpReduceAsyncBulkTensor)
        || (i.opcode() == Opcode::CpAsyncBulkTensor && i.has(Modifier::BulkGroup));
    let prefetch = i.opcode() == Opcode::CpAsyncBulkPrefetchTensor;
    let (tensor_at, shared_at) = match (store, prefetch) {
        (true, _) => (0, Some(1)),
        (_, true) => (0, None),
        _ => (1, Some(0)),
    };
    let Operand::Tensor { map, coordinates } = d.operand(i, tensor_at)?.clone() else {
        return Err("a tensor operand is missing".to_owned());
    };
    let dimensions =
        [Modifier::Dim1, Modifier::Dim2, Modifier::Dim3, Modifier::Dim4, Modifier::Dim5];
    let rank = dimensions.iter().position(|&m| i.has(m)).map(|p| p + 1);
    if rank != Some(coordinates.len()) {
        return Err(format!("{} coordinates for another number of dimensions", coordinates.len()));
    }
    let (mut map, space) = d.address_of(&map)?;
    // Named variables have addresses in their spaces; registers hold generic ones.
    if space == Some(StateSpace::Param) {
        map.offset = (map.offset as u64 | window::PARAM) as i64;
    }
    let registers: Result<Vec<u32>, Reason> = coordinates.iter().map(|c| d.s32(c)).collect();
    let shared = match shared_at {
        Some(at) => d.address(d.operand(i, at)?)?.0,
        None => NOWHERE,
    };
    let barrier = match store || prefetch {
        false => d.address(d.operand(i, 2)?)?.0,
        true => NOWHERE,
    };
    let multicast = match i.has(Modifier::MulticastCluster) {
        true => d.s32(d.operand(i, 3)?)?,
        false => NO_REGISTER,
    };
    let operation = match i.opcode() {
        Opcode::CpReduceAsyncBulkTensor => Some(Operation::of(i)?),
        _ => None,
    };
    let mut inst = Inst::new(match (store, prefetch) {
        (true, _) => store_tile,
        (_, true) => prefetch_tile,
        _ => load_tile,
    });
    let op = TmaOp { map, coordinates: registers?, shared, barrier, multicast, operation };
    inst.detail = Detail::Tma(Box::new(op));
    Ok(inst)
}

/// `prefetch.tensormap`: nothing to fetch, but the map must be one.
pub(crate) fn decode_prefetch_map(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let (mut map, space) = d.address(d.operand(i, 0)?)?;
    if space == Some(StateSpace::Param) || i.has(Modifier::Param) {
        map.offset = (map.offset as u64 | window::PARAM) as i64;
    }
    let mut inst = Inst::new(prefetch_map);
    let op = TmaOp {
        map,
        coordinates: Vec::new(),
        shared: NOWHERE,
        barrier: NOWHERE,
        multicast: NO_REGISTER,
        operation: None,
    };
    inst.detail = Detail::Tma(Box::new(op));
    Ok(inst)
}

fn prefetch_map(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Tma(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let s = Starter::new(cx, warp, lane);
        tensor_map(cx, s, warp, op.map.lane(warp, lane));
    }
    Step::Next
}

/// The tensor map at a generic address; None after a finding. It is decoded when its bytes are new.
fn tensor_map(cx: &mut Cx<'_>, s: Starter, warp: &Warp, address: u64) -> Option<Rc<TensorMap>> {
    // CUDA aligns the type to 64 bytes and the instruction needs it.
    if !address.is_multiple_of(64) {
        cx.cluster.findings.add(FindingKind::Misaligned, s.who, None, Some(address), || {
            format!("the tensor map at {address:#x} is not aligned to 64 bytes")
        });
        return None;
    }
    let mut bytes = [0; TENSOR_MAP_BYTES];
    let in_place = match window::place(address) {
        window::Place::Param(offset) => {
            let at = offset as usize;
            let params = cx.env.config.params.get(at..at.saturating_add(TENSOR_MAP_BYTES));
            params.map(|p| bytes.copy_from_slice(p)).is_some()
        }
        window::Place::Global(address) => {
            let env = cx.env;
            match env.find(address, TENSOR_MAP_BYTES as u64) {
                Some((at, offset)) => {
                    env.memory[at].bytes.read(offset, &mut bytes);
                    true
                }
                None => {
                    let len = TENSOR_MAP_BYTES as u64;
                    crate::ops::memory::report_outside_global(cx, warp, s.lane, address, len);
                    return None;
                }
            }
        }
        _ => false,
    };
    if !in_place {
        cx.cluster.findings.add(FindingKind::BadDescriptor, s.who, None, Some(address), || {
            format!("the tensor map at {address:#x} must be in parameter, constant or global memory (PTX ISA 9.7.9.25.5.2)")
        });
        return None;
    }
    if let Some((known, map)) = cx.cluster.pending.maps.get(&address)
        && *known == bytes
    {
        return Some(Rc::clone(map));
    }
    match TensorMap::decode(&bytes) {
        Ok(map) => {
            let map = Rc::new(map);
            cx.cluster.pending.maps.insert(address, (bytes, Rc::clone(&map)));
            Some(map)
        }
        Err(e) => {
            cx.cluster.findings.add(FindingKind::BadDescriptor, s.who, None, Some(address), || {
                format!("the tensor map at {address:#x} cannot be used: {e}")
            });
            None
        }
    }
}

/// The box that a lane names; None after a finding.
fn tile(cx: &mut Cx<'_>, s: Starter, warp: &Warp, op: &TmaOp) -> Option<Tile> {
    let map = tensor_map(cx, s, warp, op.map.lane(warp, s.lane))?;
    if map.rank() != op.coordinates.len() {
        cx.cluster.findings.add(FindingKind::BadDescriptor, s.who, None, None, || {
            format!(
                "the tensor map has {} dimensions, the instruction {}",
                map.rank(),
                op.coordinates.len()
            )
        });
        return None;
    }
    let mut coordinates = [0; MAX_RANK];
    for (c, &r) in coordinates.iter_mut().zip(&op.coordinates) {
        *c = warp.r32[r as usize][s.lane] as i32;
    }
    Some(Tile { map, coordinates })
}

/// Checks the global memory of a box, row by row where it is not all inside one allocation.
fn check_global(cx: &mut Cx<'_>, s: Starter, warp: &Warp, tile: &Tile, kind: Kind) -> bool {
    let Some((low, high)) = tile.hull() else { return true };
    if cx.env.find(low, high.wrapping_sub(low)).is_none() {
        let what = format!(
            "the box at {:?} spans {low:#x} to {high:#x}, inside of the tensor by its map but not inside of one allocation",
            &tile.coordinates[..tile.map.rank()]
        );
        cx.cluster.findings.add(FindingKind::OutOfBounds, s.who, None, Some(low), || what);
        return false;
    }
    let mut good = true;
    tile.each_row(|row| {
        if good && !row.inside.is_empty() {
            let len = u64::from(row.inside.end - row.inside.start);
            good = global_range(cx, s, warp, row.address, len, kind);
        }
    });
    good
}

fn record_rows(
    cx: &mut Cx<'_>,
    s: Starter,
    warp: &Warp,
    tile: &Tile,
    kind: Kind,
    stamp: (u32, u32),
) {
    if !cx.env.options.checks.races {
        return;
    }
    tile.each_row(|row| {
        if !row.inside.is_empty() {
            let len = u64::from(row.inside.end - row.inside.start);
            record_global(cx, s, warp, kind, (row.address, len), stamp);
        }
    });
}

/// Boxes start at multiples of 128 bytes of shared memory (PTX ISA 9.7.9.25.5.2).
const ALIGN: u32 = 128;

fn load_tile(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Tma(op) = &inst.detail else { return Step::Stop };
    let (barriers, good) = locate(cx, warp, StateSpace::SharedCluster, &op.barrier, false);
    for lane in lanes(good) {
        let s = Starter::new(cx, warp, lane);
        // Without a map nobody knows how many bytes would come.
        let Some(tile) = tile(cx, s, warp, op) else { continue };
        let bytes = tile.map.box_bytes();
        let to = shared_range(cx, s, warp, op.shared.lane(warp, lane) as u32, bytes, ALIGN);
        // What cannot be read comes as zeros.
        let usable = to.is_some() && check_global(cx, s, warp, &tile, Kind::Read);
        let range = to.unwrap_or(SharedRange { rank: barriers[lane].rank, offset: 0, len: 0 });
        for (to_range, place) in destinations(cx, s, warp, range, barriers[lane], op.multicast) {
            let Some(target) = target(cx, s, warp, place) else { continue };
            if to.is_none() {
                target.give_up(cx, s, bytes);
                continue;
            }
            record_shared(cx, s, warp, to_range, target, (Kind::Write, Proxy::Async));
            if usable {
                record_rows(cx, s, warp, &tile, Kind::Read, target.stamp());
            }
            let transfer = Transfer::TileLoad { tile: tile.clone(), to: to_range };
            // Outside of the tensor too: the count is that of the whole box.
            start(cx, s, transfer, target.signal(bytes));
        }
    }
    Step::Next
}

/// The PTX type that a tensor's elements have in reductions.
fn reduced_type(ty: DataType) -> Option<Type> {
    Some(match ty {
        DataType::Uint32 => Type::U32,
        DataType::Int32 => Type::S32,
        DataType::Uint64 => Type::U64,
        DataType::Int64 => Type::S64,
        DataType::Float16 => Type::F16,
        DataType::Bfloat16 => Type::Bf16,
        DataType::Float32 | DataType::Float32Ftz => Type::F32,
        DataType::Float64 => Type::F64,
        _ => return None,
    })
}

fn store_tile(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Tma(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let s = Starter::new(cx, warp, lane);
        let Some(tile) = tile(cx, s, warp, op) else { continue };
        let dtype = tile.map.dtype();
        let reduction = op.operation.map(|operation| {
            let ty = reduced_type(dtype);
            ty.map(|ty| Reduction { operation, ty }).filter(|r| r.is_valid())
        });
        if reduction == Some(None) {
            let operation = op.operation;
            cx.cluster.findings.add(FindingKind::BadDescriptor, s.who, None, None, || {
                format!("there is no reduction {operation:?} of elements of type {dtype:?} (PTX ISA 9.7.9.25.5.3)")
            });
            continue;
        }
        let bytes = tile.map.box_bytes();
        let from = shared_range(cx, s, warp, op.shared.lane(warp, lane) as u32, bytes, ALIGN);
        let Some(from) = from.filter(|&f| is_own(cx, s, f)) else { continue };
        let kind = if op.operation.is_some() { Kind::Atomic } else { Kind::Write };
        if !check_global(cx, s, warp, &tile, kind) {
            continue;
        }
        record_source(cx, s, warp, from);
        let stamp = write_stamp(cx, warp, lane);
        record_rows(cx, s, warp, &tile, kind, stamp);
        let transfer = Transfer::TileStore { tile, from, reduction: reduction.flatten() };
        start_store(cx, s, warp, transfer);
    }
    Step::Next
}

fn prefetch_tile(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Tma(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let s = bulk::Starter::new(cx, warp, lane);
        let Some(tile) = tile(cx, s, warp, op) else { continue };
        if let Some((low, high)) = tile.hull()
            && cx.env.find(low, high.wrapping_sub(low)).is_none()
        {
            crate::ops::memory::report_outside_global(cx, warp, lane, low, high.wrapping_sub(low));
        }
    }
    Step::Next
}
