//! Logic, shifts and byte permutation (PTX ISA 9.7.8, 9.7.9.7).

use zeroforge_ptx::{Instruction, Modifier, Opcode, Type};

use crate::machine::context::Cx;
use crate::machine::lanes::{op1, op2, op3};
use crate::machine::warp::Warp;
use crate::ops::integer::compute;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Exec, Inst, NO_REGISTER, Step};

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.ty().ok_or_else(|| "a logic instruction without a type".to_owned())?;
    if ty == Type::Pred {
        return decode_predicate(d, i);
    }
    match i.opcode() {
        Opcode::Lop3 => return decode_lop3(d, i),
        Opcode::Shl | Opcode::Shr => {
            let mut inst = Inst::new(shift(i.opcode(), ty));
            inst.d = d.destination_index(d.operand(i, 0)?, ty)?;
            inst.a = d.source_index(d.operand(i, 1)?, ty)?;
            inst.b = d.s32(d.operand(i, 2)?)?;
            return Ok(inst);
        }
        _ => {}
    }
    let wide = ty.bits() == 64;
    let exec: Exec = match i.opcode() {
        Opcode::And if wide => compute!(|a: u64, b: u64| -> u64 { a & b }),
        Opcode::And => compute!(|a: u32, b: u32| -> u32 { a & b }),
        Opcode::Or if wide => compute!(|a: u64, b: u64| -> u64 { a | b }),
        Opcode::Or => compute!(|a: u32, b: u32| -> u32 { a | b }),
        Opcode::Xor if wide => compute!(|a: u64, b: u64| -> u64 { a ^ b }),
        Opcode::Xor => compute!(|a: u32, b: u32| -> u32 { a ^ b }),
        Opcode::Not if wide => compute!(|a: u64| -> u64 { !a }),
        Opcode::Not if ty.bits() == 16 => compute!(|a: u16| -> u16 { !a }),
        Opcode::Not => compute!(|a: u32| -> u32 { !a }),
        Opcode::Cnot if wide => compute!(|a: u64| -> u64 { u64::from(a == 0) }),
        Opcode::Cnot if ty.bits() == 16 => compute!(|a: u16| -> u16 { u16::from(a == 0) }),
        Opcode::Cnot => compute!(|a: u32| -> u32 { u32::from(a == 0) }),
        Opcode::Shf => funnel(i),
        Opcode::Prmt => permute(i),
        other => return Err(format!("`{}` is not a logic instruction", other.text())),
    };
    let mut inst = Inst::new(exec);
    inst.d = d.destination_index(d.operand(i, 0)?, ty)?;
    inst.a = d.source_index(d.operand(i, 1)?, ty)?;
    if let Some(b) = i.operands.get(2) {
        inst.b = d.source_index(b, ty)?;
    }
    if let Some(c) = i.operands.get(3) {
        inst.c = d.source_index(c, ty)?;
    }
    Ok(inst)
}

/// Logic of predicates: a bit per lane already. `imm` says which sources are negated.
fn decode_predicate(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let exec: Exec = match i.opcode() {
        Opcode::And => |inst, warp, _| predicate(inst, warp, |a, b| a & b),
        Opcode::Or => |inst, warp, _| predicate(inst, warp, |a, b| a | b),
        Opcode::Xor => |inst, warp, _| predicate(inst, warp, |a, b| a ^ b),
        Opcode::Not => |inst, warp, _| predicate(inst, warp, |a, _| !a),
        other => return Err(format!("`{}` does not take predicates", other.text())),
    };
    let Some(to) = d.destination_predicate(d.operand(i, 0)?)? else {
        return Ok(Inst::new(|_, _, _| Step::Next));
    };
    let mut inst = Inst::new(exec);
    inst.d = to;
    let (a, not_a) = d.predicate(d.operand(i, 1)?)?;
    let (b, not_b) = match i.operands.get(2) {
        Some(b) => d.predicate(b)?,
        None => (a, false),
    };
    (inst.a, inst.b, inst.imm) = (a, b, u64::from(not_a) | u64::from(not_b) << 1);
    Ok(inst)
}

#[inline(always)]
fn predicate(inst: &Inst, warp: &mut Warp, f: impl Fn(u32, u32) -> u32) -> Step {
    let a = warp.predicate((inst.a, inst.imm & 1 != 0));
    let b = warp.predicate((inst.b, inst.imm & 2 != 0));
    warp.set_predicate(inst.d, f(a, b));
    Step::Next
}

/// Shifts by the width or more give zeros, or the sign: amounts are not taken modulo the width.
fn shift(opcode: Opcode, ty: Type) -> Exec {
    match (opcode, ty) {
        (Opcode::Shl, Type::B16) => {
            compute!(|a: u16, b: u32| -> u16 { (u32::from(a) << b.min(16)) as u16 })
        }
        (Opcode::Shl, Type::B64) => {
            compute!(|a: u64, b: u32| -> u64 { if b > 63 { 0 } else { a << b } })
        }
        (Opcode::Shl, _) => compute!(|a: u32, b: u32| -> u32 { if b > 31 { 0 } else { a << b } }),
        (_, Type::S16) => compute!(|a: i16, b: u32| -> i16 { a >> b.min(15) }),
        (_, Type::S32) => compute!(|a: i32, b: u32| -> i32 { a >> b.min(31) }),
        (_, Type::S64) => compute!(|a: i64, b: u32| -> i64 { a >> b.min(63) }),
        (_, Type::U16 | Type::B16) => {
            compute!(|a: u16, b: u32| -> u16 { (u32::from(a) >> b.min(16)) as u16 })
        }
        (_, Type::U64 | Type::B64) => {
            compute!(|a: u64, b: u32| -> u64 { if b > 63 { 0 } else { a >> b } })
        }
        _ => compute!(|a: u32, b: u32| -> u32 { if b > 31 { 0 } else { a >> b } }),
    }
}

/// Funnel shifts: 32 bits out of the 64 of `b` above `a` (PTX ISA 9.7.8.7).
fn funnel(i: &Instruction) -> Exec {
    #[inline(always)]
    fn both(a: u32, b: u32) -> u64 {
        u64::from(b) << 32 | u64::from(a)
    }
    match (i.has(Modifier::Left), i.has(Modifier::Wrap)) {
        (true, true) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { (both(a, b) << (c & 31) >> 32) as u32 })
        }
        (true, false) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { (both(a, b) << c.min(32) >> 32) as u32 })
        }
        (false, true) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { (both(a, b) >> (c & 31)) as u32 })
        }
        (false, false) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { (both(a, b) >> c.min(32)) as u32 })
        }
    }
}

/// Byte permutation (PTX ISA 9.7.9.7). Bytes 0 to 3 are those of `a`, 4 to 7 those of `b`.
fn permute(i: &Instruction) -> Exec {
    /// The bytes that the four selectors of a mode name, for each value of the control.
    macro_rules! mode {
        ($table:expr) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 {
                const TABLE: [[u8; 4]; 4] = $table;
                let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
                let select = TABLE[(c & 3) as usize];
                // Tables list the highest byte first, as the ISA does.
                u32::from_be_bytes(select.map(|s| bytes[s as usize]))
            })
        };
    }
    if i.has(Modifier::F4e) {
        mode!([[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]])
    } else if i.has(Modifier::B4e) {
        mode!([[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]])
    } else if i.has(Modifier::Rc8) {
        mode!([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]])
    } else if i.has(Modifier::Ecl) {
        mode!([[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]])
    } else if i.has(Modifier::Ecr) {
        mode!([[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]])
    } else if i.has(Modifier::Rc16) {
        mode!([[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]])
    } else {
        compute!(|a: u32, b: u32, c: u32| -> u32 {
            let bytes = u64::from(b) << 32 | u64::from(a);
            let byte = |k: u32| {
                let select = c >> (4 * k) & 15;
                let byte = (bytes >> (8 * (select & 7))) as u8;
                // With its highest bit, a selector asks for the byte's sign eight times.
                let byte = if select & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
                u32::from(byte) << (8 * k)
            };
            byte(0) | byte(1) | byte(2) | byte(3)
        })
    }
}

/// Any function of three bits by its table (PTX ISA 9.7.8.6). The form with a predicate keeps the index of
/// `q` and its negation above the table in `imm`.
fn decode_lop3(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let to = d.operand(i, 0)?;
    let table = d.integer(d.operand(i, 4)?)? as u64 & 0xff;
    let mut inst = Inst::new(lop3);
    inst.imm = table;
    let to = match to {
        zeroforge_ptx::Operand::Pair(value, p) => {
            let and = i.has(Modifier::And);
            inst.exec = if and { lop3_predicate::<true> } else { lop3_predicate::<false> };
            inst.e = d.destination_predicate(p)?.unwrap_or(NO_REGISTER);
            let (q, negated) = d.predicate(d.operand(i, 5)?)?;
            inst.imm |= u64::from(negated) << 8 | u64::from(q) << 32;
            value
        }
        other => other,
    };
    inst.d = d.d32(to)?;
    inst.a = d.s32(d.operand(i, 1)?)?;
    inst.b = d.s32(d.operand(i, 2)?)?;
    inst.c = d.s32(d.operand(i, 3)?)?;
    Ok(inst)
}

fn lop3(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    // All ones for every combination of bits that the table has.
    let terms: [u32; 8] = std::array::from_fn(|k| 0u32.wrapping_sub((inst.imm >> k & 1) as u32));
    op3(inst, warp, |a: u32, b: u32, c: u32| {
        let of_c = |low: u32, high: u32| (low & !c) | (high & c);
        let of_bc =
            |k: usize| (of_c(terms[k], terms[k + 1]) & !b) | (of_c(terms[k + 2], terms[k + 3]) & b);
        (of_bc(0) & !a) | (of_bc(4) & a)
    });
    Step::Next
}

fn lop3_predicate<const AND: bool>(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let q = warp.predicate(((inst.imm >> 32) as u32, inst.imm >> 8 & 1 != 0));
    lop3(inst, warp, cx);
    let set = warp.test2::<u32, u32>([inst.d, inst.d], |d, _| d != 0);
    if inst.e != NO_REGISTER {
        warp.set_predicate(inst.e, if AND { set & q } else { set | q });
    }
    Step::Next
}
