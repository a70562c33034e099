//! Warp-level matrix products: mma.sync (PTX ISA 9.7.14.5).
//!
//! Fragments, for all shapes here, with p elements of a type in a register and lane `t`: register `r` of A
//! holds row `t / 4 + 8 (r % 2)` (8-row shapes: `t / 4`), columns `p (t % 4) + 4 p (r / 2)` and on; register
//! `r` of B rows `p (t % 4) + 4 p r` and on of column `t / 4`; element `i` of C and D row `t / 4 + 8 (i / 2)`,
//! column `2 (t % 4) + i % 2`. Sums are taken as for wgmma: fused multiply-adds over k in order.

use zeroforge_ptx::{Instruction, Modifier, Operand, Type};

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::ops::float::fma32;
use crate::ops::half::{f16_of_f32, f32_of_bf16, f32_of_f16};
use crate::ops::matrix::whole_warp;
use crate::ops::soft::{F32, F64, f32_of_e4m3, f32_of_e5m2};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Detail, Inst, Step};

/// Operands.
#[derive(Debug)]
pub(crate) struct MmaOp {
    m: usize,
    k: usize,
    a_type: Type,
    b_type: Type,
    sum: Type,
    saturate: bool,
    /// Registers of `r32`, of `r64` where the types are f64.
    d: Vec<u32>,
    a: Vec<u32>,
    b: Vec<u32>,
    c: Vec<u32>,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let shape = i.modifiers.iter().find_map(|m| match *m {
        Modifier::Shape { m, n, k } => Some([m, n, k].map(usize::from)),
        _ => None,
    });
    let [m, n, k] = shape.ok_or_else(|| "an mma without a shape".to_owned())?;
    let types: Vec<Type> = i.types().collect();
    let &[sum, a_type, b_type, c_type] = &types[..] else {
        return Err("an mma needs four types".to_owned());
    };
    if sum != c_type {
        return Err("C and D of different types are not emulated".to_owned());
    }
    if matches!(a_type, Type::S4 | Type::U4 | Type::B1) {
        return Err(format!("mma of {} is not emulated", a_type.text()));
    }
    if k == 4 && a_type == Type::F16 {
        return Err("m8n8k4 of f16, Volta's shape, is not emulated".to_owned());
    }
    let wide = sum == Type::F64;
    let mut registers = |at: usize, write: bool| -> Result<Vec<u32>, Reason> {
        let operand: Operand = d.operand(i, at)?.clone();
        let mut list = Vec::new();
        for e in d.elements(&operand) {
            list.push(match (write, wide) {
                (true, true) => d.d64(e)?,
                (true, false) => d.d32(e)?,
                (false, _) => 0,
            });
        }
        if !write {
            list.clear();
            for e in d.elements(&operand).to_vec() {
                list.push(if wide { d.s64(&e)? } else { d.s32(&e)? });
            }
        }
        Ok(list)
    };
    let op = MmaOp {
        m,
        k,
        a_type,
        b_type,
        sum,
        saturate: i.has(Modifier::Satfinite),
        d: registers(0, true)?,
        a: registers(1, false)?,
        b: registers(2, false)?,
        c: registers(3, false)?,
    };
    let per_register = |ty: Type| 32 / ty.bits().min(32) as usize;
    let counts = [
        (op.a.len(), m * k / 32 / per_register(a_type)),
        (op.b.len(), n * k / 32 / per_register(b_type)),
        (op.c.len(), m * n / 32 / per_register(sum)),
        (op.d.len(), m * n / 32 / per_register(sum)),
    ];
    if n != 8 || !matches!(m, 8 | 16) || counts.iter().any(|(is, must)| is != must) {
        return Err(format!("m{m}n{n}k{k} of {} is not emulated", a_type.text()));
    }
    let mut inst = Inst::new(execute);
    inst.detail = Detail::Mma(Box::new(op));
    Ok(inst)
}

fn execute(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if let Some(step) = whole_warp(warp, cx, "mma.sync") {
        return step;
    }
    let Detail::Mma(op) = &inst.detail else { return Step::Stop };
    match op.sum {
        Type::F64 => op.doubles(warp),
        Type::S32 => op.integers(warp),
        _ => op.floats(warp),
    }
    Step::Next
}

/// Bits of an element of a register.
fn part(bits: u32, ty: Type, e: usize) -> u32 {
    let width = ty.bits();
    if width == 32 { bits } else { bits >> (width * e as u32) & ((1 << width) - 1) }
}

fn float(bits: u32, ty: Type) -> f32 {
    match ty {
        Type::F16 => f32_of_f16(bits),
        Type::Bf16 => f32_of_bf16(bits),
        Type::E4m3 => f32_of_e4m3(bits),
        Type::E5m2 => f32_of_e5m2(bits),
        // The low 13 bits of a tf32 are not looked at.
        _ => f32::from_bits(bits & !0x1fff),
    }
}

fn integer(bits: u32, ty: Type) -> i32 {
    if ty == Type::S8 { i32::from(bits as i8) } else { bits as i32 }
}

impl MmaOp {
    /// Calls `f(lane, register, element, row, column)` for the elements of A.
    fn each_a(&self, mut f: impl FnMut(usize, usize, usize, usize, usize)) {
        let p = 32 / self.a_type.bits().min(32) as usize;
        // Registers alternate between the halves of the rows, if there are two.
        let halves = self.m / 8;
        for lane in 0..32 {
            for r in 0..self.a.len() {
                for e in 0..p {
                    let row = lane / 4 + 8 * (r % halves);
                    f(lane, r, e, row, p * (lane % 4) + 4 * p * (r / halves) + e);
                }
            }
        }
    }

    /// Calls `f(lane, register, element, row, column)` for the elements of B.
    fn each_b(&self, mut f: impl FnMut(usize, usize, usize, usize, usize)) {
        let p = 32 / self.b_type.bits().min(32) as usize;
        for lane in 0..32 {
            for r in 0..self.b.len() {
                for e in 0..p {
                    f(lane, r, e, p * (lane % 4) + 4 * p * r + e, lane / 4);
                }
            }
        }
    }

    /// Calls `f(lane, i, row, column)` for the elements of C and D.
    fn each_c(&self, mut f: impl FnMut(usize, usize, usize, usize)) {
        for lane in 0..32 {
            for i in 0..self.m / 4 {
                f(lane, i, lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
            }
        }
    }

    fn floats(&self, warp: &mut Warp) {
        let (mut a, mut b) = ([[0f32; 32]; 16], [[0f32; 8]; 32]);
        let r32 = &mut warp.r32;
        self.each_a(|lane, r, e, row, k| {
            let bits = r32[self.a[r] as usize][lane];
            a[row][k] = float(part(bits, self.a_type, e), self.a_type);
        });
        self.each_b(|lane, r, e, k, column| {
            let bits = r32[self.b[r] as usize][lane];
            b[k][column] = float(part(bits, self.b_type, e), self.b_type);
        });
        let half = self.sum == Type::F16;
        let mut d = [[0f32; 8]; 16];
        self.each_c(|lane, i, row, column| {
            d[row][column] = match half {
                true => f32_of_f16(part(r32[self.c[i / 2] as usize][lane], Type::F16, i % 2)),
                false => f32::from_bits(r32[self.c[i] as usize][lane]),
            };
        });
        for (d, a) in d.iter_mut().zip(&a).take(self.m) {
            for (x, b) in a.iter().zip(&b).take(self.k) {
                for (d, y) in d.iter_mut().zip(b) {
                    *d = fma32(*x, *y, *d);
                }
            }
        }
        self.each_c(|lane, i, row, column| {
            let x = d[row][column];
            if half {
                let place = &mut r32[self.d[i / 2] as usize][lane];
                let bits = f16_of_f32(x);
                *place = if i % 2 == 0 { bits } else { *place & 0xffff | bits << 16 };
            } else {
                let bits = if x.is_nan() { F32.nan as u32 } else { x.to_bits() };
                r32[self.d[i] as usize][lane] = bits;
            }
        });
    }

    fn integers(&self, warp: &mut Warp) {
        let (mut a, mut b) = ([[0i32; 32]; 16], [[0i32; 8]; 32]);
        let r32 = &mut warp.r32;
        self.each_a(|lane, r, e, row, k| {
            let bits = r32[self.a[r] as usize][lane];
            a[row][k] = integer(part(bits, self.a_type, e), self.a_type);
        });
        self.each_b(|lane, r, e, k, column| {
            let bits = r32[self.b[r] as usize][lane];
            b[k][column] = integer(part(bits, self.b_type, e), self.b_type);
        });
        let mut c = [[0i32; 8]; 16];
        self.each_c(|lane, i, row, column| {
            c[row][column] = r32[self.c[i] as usize][lane] as i32;
        });
        self.each_c(|lane, i, row, column| {
            let sum: i32 = (0..self.k).map(|k| a[row][k] * b[k][column]).sum();
            let c = c[row][column];
            let d = if self.saturate { c.saturating_add(sum) } else { c.wrapping_add(sum) };
            r32[self.d[i] as usize][lane] = d as u32;
        });
    }

    fn doubles(&self, warp: &mut Warp) {
        let (mut a, mut b) = ([[0f64; 16]; 16], [[0f64; 8]; 16]);
        let r64 = &mut warp.r64;
        self.each_a(|lane, r, _, row, k| {
            a[row][k] = f64::from_bits(r64[self.a[r] as usize][lane]);
        });
        self.each_b(|lane, r, _, k, column| {
            b[k][column] = f64::from_bits(r64[self.b[r] as usize][lane]);
        });
        let mut c = [[0f64; 8]; 16];
        self.each_c(|lane, i, row, column| {
            c[row][column] = f64::from_bits(r64[self.c[i] as usize][lane]);
        });
        self.each_c(|lane, i, row, column| {
            let start = c[row][column];
            let d = (0..self.k).fold(start, |d, k| a[row][k].mul_add(b[k][column], d));
            r64[self.d[i] as usize][lane] = if d.is_nan() { F64.nan } else { d.to_bits() };
        });
    }
}
