//! Matrix loads and stores: ldmatrix, stmatrix, movmatrix (PTX ISA 9.7.14.5.15-17).
//!
//! A matrix has 8 rows of 8 elements of 16 bits. Register `i` of lane `t` holds row `t / 4`, columns
//! `2 (t % 4)` and the next, of matrix `i`; with `.trans`, of the transposed matrix.

use zeroforge_ptx::{Instruction, Modifier, Opcode, StateSpace};

use crate::check::{Kind, WarpAccess, lanes, shared_access};
use crate::machine::context::Cx;
use crate::machine::warp::{Lanes32, Warp};
use crate::memory::window;
use crate::ops::memory::{drop_misaligned, drop_outside_shared, resolve};
use crate::program::decode::{Decoder, Reason, space_of};
use crate::program::inst::{Addr, Detail, Inst, Step};
use crate::report::FindingKind;

/// Operands.
#[derive(Debug)]
pub(crate) struct MatrixOp {
    space: StateSpace,
    address: Addr,
    registers: Vec<u32>,
    transposed: bool,
}

/// Bytes of a row.
const ROW: u32 = 16;

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    if i.opcode() == Opcode::Movmatrix {
        let mut inst = Inst::new(movmatrix);
        inst.d = d.d32(d.operand(i, 0)?)?;
        inst.a = d.s32(&d.operand(i, 1)?.clone())?;
        return Ok(inst);
    }
    let load = i.opcode() == Opcode::Ldmatrix;
    let (at, values) = if load { (1, 0) } else { (0, 1) };
    let (address, symbol_space) = d.address(d.operand(i, at)?)?;
    let mut space = space_of(i);
    if space == StateSpace::Generic {
        space = symbol_space.unwrap_or(space);
    }
    let operand = d.operand(i, values)?.clone();
    let mut registers = Vec::new();
    for element in d.elements(&operand).to_vec() {
        registers.push(if load { d.d32(&element)? } else { d.s32(&element)? });
    }
    if !matches!(registers.len(), 1 | 2 | 4) {
        return Err("one, two or four matrices move at once".to_owned());
    }
    let op = MatrixOp { space, address, registers, transposed: i.has(Modifier::Trans) };
    let mut inst = Inst::new(if load { ldmatrix } else { stmatrix });
    inst.detail = Detail::Matrix(Box::new(op));
    Ok(inst)
}

/// Instructions of a whole warp wait until all lanes that live are here. One that a guard takes lanes away
/// from is reported, and then goes on with what there is.
pub(crate) fn whole_warp(warp: &mut Warp, cx: &mut Cx<'_>, name: &str) -> Option<Step> {
    if warp.mask == warp.live {
        return None;
    }
    if warp.mask != warp.active {
        cx.find(warp, warp.mask, FindingKind::Divergence, None, || {
            format!("{name} is .aligned, but a guard keeps lanes of the warp from it")
        });
        return None;
    }
    warp.wait_for_lanes();
    Some(Step::Wait)
}

/// Offsets of the rows in the memory of their blocks, with the blocks' ranks; None for rows that cannot be accessed, which is reported.
fn rows(op: &MatrixOp, warp: &mut Warp, cx: &mut Cx<'_>, kind: Kind) -> [Option<(u32, u32)>; 32] {
    let r = resolve(warp, op.space, &op.address);
    let count = 8 * op.registers.len() as u32;
    // The first lanes give the addresses, eight for a matrix.
    let givers = if count == 32 { u32::MAX } else { (1 << count) - 1 } & warp.mask;
    let elsewhere = givers & !r.shared;
    if elsewhere != 0 {
        let address = r.addresses[elsewhere.trailing_zeros() as usize];
        cx.find(warp, elsewhere, FindingKind::OutOfBounds, Some(address), || {
            format!("a row's address {address:#x} is not in shared memory")
        });
    }
    let mask = drop_misaligned(cx, warp, &r.addresses, givers & r.shared, ROW);
    let mask = drop_outside_shared(cx, warp, &r.addresses, mask, ROW);
    let access = WarpAccess::new(kind, &r.addresses, mask, ROW, false);
    shared_access(cx, warp, &access);
    let mut rows = [None; 32];
    for lane in lanes(mask) {
        rows[lane] = Some(window::split_shared(r.addresses[lane] as u32, cx.rank));
    }
    rows
}

/// Which element of a matrix a half of a register is: row and column.
#[inline(always)]
fn element(lane: usize, half: usize, transposed: bool) -> (usize, usize) {
    let (r, c) = (lane / 4, 2 * (lane % 4) + half);
    if transposed { (c, r) } else { (r, c) }
}

fn ldmatrix(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "ldmatrix") {
        return step;
    }
    let Detail::Matrix(op) = &inst.detail else { return Step::Stop };
    let rows = rows(op, warp, cx, Kind::Read);
    // All rows are read before a register is written: the address may be among them.
    let mut loaded = [[0u32; 32]; 4];
    for (i, out) in loaded.iter_mut().enumerate().take(op.registers.len()) {
        let mut matrix = [[0u32; 8]; 8];
        for (row, at) in matrix.iter_mut().zip(&rows[8 * i..]) {
            let Some((rank, offset)) = *at else { continue };
            let bytes = &cx.cluster.ctas[rank as usize].shared[offset as usize..][..ROW as usize];
            for (x, c) in row.iter_mut().zip(bytes.chunks_exact(2)) {
                *x = u32::from(u16::from_le_bytes([c[0], c[1]]));
            }
        }
        *out = pack(&matrix, op.transposed);
    }
    for (&d, values) in op.registers.iter().zip(&loaded) {
        for lane in lanes(warp.mask) {
            warp.r32[d as usize][lane] = values[lane];
        }
    }
    Step::Next
}

fn pack(matrix: &[[u32; 8]; 8], transposed: bool) -> Lanes32 {
    std::array::from_fn(|lane| {
        let [low, high] = [0, 1].map(|half| {
            let (r, c) = element(lane, half, transposed);
            matrix[r][c]
        });
        high << 16 | low
    })
}

fn unpack(register: &Lanes32, transposed: bool) -> [[u32; 8]; 8] {
    let mut matrix = [[0; 8]; 8];
    for (lane, bits) in register.iter().enumerate() {
        for half in 0..2 {
            let (r, c) = element(lane, half, transposed);
            matrix[r][c] = bits >> (16 * half) & 0xffff;
        }
    }
    matrix
}

fn stmatrix(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "stmatrix") {
        return step;
    }
    let Detail::Matrix(op) = &inst.detail else { return Step::Stop };
    let rows = rows(op, warp, cx, Kind::Write);
    for (i, &register) in op.registers.iter().enumerate() {
        let matrix = unpack(&warp.r32[register as usize], op.transposed);
        for (row, at) in matrix.iter().zip(&rows[8 * i..]) {
            let Some((rank, offset)) = *at else { continue };
            let shared = &mut cx.cluster.ctas[rank as usize].shared;
            let bytes = &mut shared[offset as usize..][..ROW as usize];
            for (x, c) in row.iter().zip(bytes.chunks_exact_mut(2)) {
                c.copy_from_slice(&(*x as u16).to_le_bytes());
            }
        }
    }
    Step::Next
}

fn movmatrix(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "movmatrix") {
        return step;
    }
    let matrix = unpack(&warp.r32[inst.a as usize], false);
    let out = pack(&matrix, true);
    for lane in lanes(warp.mask) {
        warp.r32[inst.d as usize][lane] = out[lane];
    }
    Step::Next
}
