//! Comparison and selection (PTX ISA 9.7.6, 9.7.7).

use half::{bf16, f16};
use zeroforge_ptx::{Instruction, Modifier, Opcode, Operand, Type};

use crate::machine::context::Cx;
use crate::machine::lanes::Scalar;
use crate::machine::warp::{LANES, Warp};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Exec, Inst, NO_REGISTER, Step};

/// An f32 whose subnormals count as zero.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Flushed(f32);

fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(value) } else { value }
}

/// A 16-bit float in one half of a register: f16 or bf16, the low or the high half, subnormals flushed or
/// not.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Half<const BF16: bool, const HIGH: bool, const FTZ: bool>(f32);

/// A type that is compared.
trait Compared: Copy + PartialOrd {
    type Bits: Scalar;
    fn of(bits: Self::Bits) -> Self;
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Compared for $t {
            type Bits = $t;

            #[inline(always)]
            fn of(bits: $t) -> $t {
                bits
            }
        }
    )*};
}

plain!(u16, i16, u32, i32, u64, i64, f32, f64);

impl Compared for Flushed {
    type Bits = f32;

    #[inline(always)]
    fn of(bits: f32) -> Flushed {
        Flushed(flush(bits))
    }
}

impl<const BF16: bool, const HIGH: bool, const FTZ: bool> Compared for Half<BF16, HIGH, FTZ> {
    type Bits = u32;

    #[inline(always)]
    fn of(bits: u32) -> Self {
        let bits = if HIGH { bits >> 16 } else { bits } as u16;
        // Both have their exponent above a mantissa: 10 bits of it in an f16, 7 in a bf16.
        let exponent = if BF16 { 0x7f80 } else { 0x7c00 };
        let bits = if FTZ && bits & exponent == 0 { bits & 0x8000 } else { bits };
        Half(if BF16 { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() })
    }
}

/// A comparison; its number is that of [`COMPARISONS`].
#[inline(always)]
#[allow(
    clippy::double_comparisons,
    clippy::nonminimal_bool,
    clippy::neg_cmp_op_on_partial_ord,
    reason = "a NaN is neither below nor above"
)]
fn holds<const C: u8, T: PartialOrd>(a: T, b: T) -> bool {
    match C {
        0 => a == b,
        // Ordered: false where one is not a number.
        1 => a < b || a > b,
        2 => a < b,
        3 => a <= b,
        4 => a > b,
        5 => a >= b,
        // Unordered: true where one is not a number.
        6 => !(a < b || a > b),
        7 => a != b,
        8 => !matches!(a.partial_cmp(&b), Some(o) if o.is_ge()),
        9 => !matches!(a.partial_cmp(&b), Some(o) if o.is_gt()),
        10 => !matches!(a.partial_cmp(&b), Some(o) if o.is_le()),
        11 => !matches!(a.partial_cmp(&b), Some(o) if o.is_lt()),
        12 => a.partial_cmp(&b).is_some(),
        _ => a.partial_cmp(&b).is_none(),
    }
}

const COMPARISONS: [(Modifier, u8); 18] = [
    (Modifier::Eq, 0),
    (Modifier::Ne, 1),
    (Modifier::Lt, 2),
    (Modifier::Le, 3),
    (Modifier::Gt, 4),
    (Modifier::Ge, 5),
    (Modifier::Equ, 6),
    (Modifier::Neu, 7),
    (Modifier::Ltu, 8),
    (Modifier::Leu, 9),
    (Modifier::Gtu, 10),
    (Modifier::Geu, 11),
    (Modifier::Num, 12),
    (Modifier::Nan, 13),
    // Of unsigned integers.
    (Modifier::Lo, 2),
    (Modifier::Ls, 3),
    (Modifier::Hi, 4),
    (Modifier::Hs, 5),
];

/// The lanes for which a comparison of `a` and `b` holds.
type Test = fn(&Warp, [u32; 2]) -> u32;

fn test<T: Compared, const C: u8>(warp: &Warp, ab: [u32; 2]) -> u32 {
    warp.test2::<T::Bits, T::Bits>(ab, |a, b| holds::<C, T>(T::of(a), T::of(b)))
}

/// As [`test`], as an instruction of its own that sets one predicate: the common case.
fn set_one<T: Compared, const C: u8>(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let bits = test::<T, C>(warp, [inst.a, inst.b]);
    warp.set_predicate(inst.d, bits);
    Step::Next
}

fn integer_test<T: Compared>(comparison: u8) -> (Test, Exec) {
    match comparison {
        0 => (test::<T, 0>, set_one::<T, 0>),
        1 => (test::<T, 7>, set_one::<T, 7>),
        2 => (test::<T, 2>, set_one::<T, 2>),
        3 => (test::<T, 3>, set_one::<T, 3>),
        4 => (test::<T, 4>, set_one::<T, 4>),
        _ => (test::<T, 5>, set_one::<T, 5>),
    }
}

fn float_test<T: Compared>(comparison: u8) -> (Test, Exec) {
    match comparison {
        0 => (test::<T, 0>, set_one::<T, 0>),
        1 => (test::<T, 1>, set_one::<T, 1>),
        2 => (test::<T, 2>, set_one::<T, 2>),
        3 => (test::<T, 3>, set_one::<T, 3>),
        4 => (test::<T, 4>, set_one::<T, 4>),
        5 => (test::<T, 5>, set_one::<T, 5>),
        6 => (test::<T, 6>, set_one::<T, 6>),
        7 => (test::<T, 7>, set_one::<T, 7>),
        8 => (test::<T, 8>, set_one::<T, 8>),
        9 => (test::<T, 9>, set_one::<T, 9>),
        10 => (test::<T, 10>, set_one::<T, 10>),
        11 => (test::<T, 11>, set_one::<T, 11>),
        12 => (test::<T, 12>, set_one::<T, 12>),
        _ => (test::<T, 13>, set_one::<T, 13>),
    }
}

/// The test of a type, of its high half too where it has two.
fn tests(ty: Type, i: &Instruction) -> Result<(Test, Exec, Option<Test>), Reason> {
    let found = i.modifiers.iter().find_map(|m| COMPARISONS.iter().find(|(c, _)| c == m));
    let &(modifier, comparison) = found.ok_or_else(|| "no comparison is named".to_owned())?;
    let ftz = i.has(Modifier::Ftz);
    let unsigned = matches!(modifier, Modifier::Lo | Modifier::Ls | Modifier::Hi | Modifier::Hs);
    let bits = matches!(ty, Type::B16 | Type::B32 | Type::B64);
    if bits && comparison > 1 || unsigned && !matches!(ty, Type::U16 | Type::U32 | Type::U64) {
        return Err(format!(
            "comparison {} does not exist for type .{} (PTX ISA 9.7.6.2)",
            modifier.text(),
            ty.text()
        ));
    }
    let one = |(test, exec)| Ok((test, exec, None));
    let two = |(low, exec), (high, _)| Ok((low, exec, Some(high)));
    let c = comparison;
    match (ty, ftz) {
        (Type::U16 | Type::B16, _) => one(integer_test::<u16>(c)),
        (Type::S16, _) => one(integer_test::<i16>(c)),
        (Type::U32 | Type::B32, _) => one(integer_test::<u32>(c)),
        (Type::S32, _) => one(integer_test::<i32>(c)),
        (Type::U64 | Type::B64, _) => one(integer_test::<u64>(c)),
        (Type::S64, _) => one(integer_test::<i64>(c)),
        (Type::F32, false) => one(float_test::<f32>(c)),
        (Type::F32, true) => one(float_test::<Flushed>(c)),
        (Type::F64, _) => one(float_test::<f64>(c)),
        (Type::F16, false) => one(float_test::<Half<false, false, false>>(c)),
        (Type::F16, true) => one(float_test::<Half<false, false, true>>(c)),
        (Type::Bf16, false) => one(float_test::<Half<true, false, false>>(c)),
        (Type::Bf16, true) => one(float_test::<Half<true, false, true>>(c)),
        (Type::F16x2, false) => two(
            float_test::<Half<false, false, false>>(c),
            float_test::<Half<false, true, false>>(c),
        ),
        (Type::F16x2, true) => {
            two(float_test::<Half<false, false, true>>(c), float_test::<Half<false, true, true>>(c))
        }
        (Type::Bf16x2, false) => {
            two(float_test::<Half<true, false, false>>(c), float_test::<Half<true, true, false>>(c))
        }
        (Type::Bf16x2, true) => {
            two(float_test::<Half<true, false, true>>(c), float_test::<Half<true, true, true>>(c))
        }
        (other, _) => Err(format!("values of type .{} cannot be compared", other.text())),
    }
}

/// What a comparison does beyond one predicate.
#[derive(Debug)]
pub(crate) struct CompareOp {
    low: Test,
    /// Of packed types.
    high: Option<Test>,
    /// How the result is joined with `with`.
    join: Option<Modifier>,
    with: (u32, bool),
    /// `set`: the value where it holds; of the high half, where the destination is packed too.
    value: u32,
    high_value: u32,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    match i.opcode() {
        Opcode::Selp => decode_selp(d, i),
        Opcode::Slct => decode_slct(d, i),
        _ => decode_compare(d, i),
    }
}

fn decode_compare(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.types().last().ok_or_else(|| "a comparison without a type".to_owned())?;
    let (low, exec, high) = tests(ty, i)?;
    let a = d.source_index(d.operand(i, 1)?, ty)?;
    let b = d.source_index(d.operand(i, 2)?, ty)?;
    let join = [Modifier::And, Modifier::Or, Modifier::Xor].into_iter().find(|&m| i.has(m));
    let with = match join {
        Some(_) => d.predicate(d.operand(i, 3)?)?,
        None => (d.constant_predicate(false), false),
    };
    let mut op = CompareOp { low, high, join, with, value: 0, high_value: 0 };
    let mut inst = Inst::new(set_predicates);
    (inst.a, inst.b) = (a, b);
    if i.opcode() == Opcode::Set {
        let to = i.ty().ok_or_else(|| "set without a type".to_owned())?;
        // PTX ISA 9.7.6.1, 9.7.7.1: all ones, or 1.0.
        op.value = match to {
            Type::F32 => 1.0f32.to_bits(),
            Type::F16 | Type::F16x2 => u32::from(f16::ONE.to_bits()),
            Type::Bf16 | Type::Bf16x2 => u32::from(bf16::ONE.to_bits()),
            _ if high.is_some() || to.bits() == 16 => 0xffff,
            _ => u32::MAX,
        };
        op.high_value = op.value << 16;
        inst.exec = set_value;
        inst.d = d.d32(d.operand(i, 0)?)?;
    } else {
        let (p, q) = match d.operand(i, 0)? {
            Operand::Pair(p, q) => (d.destination_predicate(p)?, d.destination_predicate(q)?),
            one => (d.destination_predicate(one)?, None),
        };
        (inst.d, inst.e) = (p.unwrap_or(NO_REGISTER), q.unwrap_or(NO_REGISTER));
        if let (Some(_), None, None) = (p, q, join) {
            inst.exec = exec;
            return Ok(inst);
        }
    }
    inst.detail = crate::program::inst::Detail::Compare(Box::new(op));
    Ok(inst)
}

fn join(op: &CompareOp, warp: &Warp, bits: u32) -> u32 {
    let with = warp.predicate(op.with);
    match op.join {
        Some(Modifier::And) => bits & with,
        Some(Modifier::Or) => bits | with,
        Some(_) => bits ^ with,
        None => bits,
    }
}

/// `setp` with two destinations or with a predicate to join (PTX ISA 9.7.6.2, 9.7.7.2).
fn set_predicates(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let crate::program::inst::Detail::Compare(op) = &inst.detail else { return Step::Stop };
    let low = (op.low)(warp, [inst.a, inst.b]);
    // The second predicate is of the high half, or of the opposite.
    let high = op.high.map_or(!low, |high| high(warp, [inst.a, inst.b]));
    let (p, q) = (join(op, warp, low), join(op, warp, high));
    if inst.d != NO_REGISTER {
        warp.set_predicate(inst.d, p);
    }
    if inst.e != NO_REGISTER {
        warp.set_predicate(inst.e, q);
    }
    Step::Next
}

fn set_value(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    let crate::program::inst::Detail::Compare(op) = &inst.detail else { return Step::Stop };
    let low = join(op, warp, (op.low)(warp, [inst.a, inst.b]));
    let high = op.high.map_or(0, |high| join(op, warp, high(warp, [inst.a, inst.b])));
    for lane in 0..LANES {
        if warp.mask >> lane & 1 != 0 {
            let low = if low >> lane & 1 != 0 { op.value } else { 0 };
            let high = if high >> lane & 1 != 0 { op.high_value } else { 0 };
            warp.r32[inst.d as usize][lane] = low | high;
        }
    }
    Step::Next
}

fn decode_selp(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.ty().ok_or_else(|| "selp without a type".to_owned())?;
    let mut inst = Inst::new(if ty.bits() == 64 { select::<u64> } else { select::<u32> });
    inst.d = d.destination_index(d.operand(i, 0)?, ty)?;
    inst.a = d.source_index(d.operand(i, 1)?, ty)?;
    inst.b = d.source_index(d.operand(i, 2)?, ty)?;
    let (c, negated) = d.predicate(d.operand(i, 3)?)?;
    inst.c = c;
    if negated {
        (inst.a, inst.b) = (inst.b, inst.a);
    }
    Ok(inst)
}

fn select<T: crate::machine::lanes::File>(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step {
    warp.select::<T>(inst.d, [inst.a, inst.b], warp.p[inst.c as usize]);
    Step::Next
}

fn decode_slct(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let mut types = i.types();
    let (Some(ty), Some(by)) = (types.next(), types.next()) else {
        return Err("slct without its two types".to_owned());
    };
    let wide = ty.bits() == 64;
    let exec: Exec = match (by, i.has(Modifier::Ftz), wide) {
        (Type::S32, _, false) => slct::<u32, i32>,
        (Type::S32, _, true) => slct::<u64, i32>,
        (Type::F32, false, false) => slct::<u32, f32>,
        (Type::F32, false, true) => slct::<u64, f32>,
        (Type::F32, true, false) => slct::<u32, Flushed>,
        (Type::F32, true, true) => slct::<u64, Flushed>,
        (other, _, _) => return Err(format!("slct does not select by .{}", other.text())),
    };
    let mut inst = Inst::new(exec);
    inst.d = d.destination_index(d.operand(i, 0)?, ty)?;
    inst.a = d.source_index(d.operand(i, 1)?, ty)?;
    inst.b = d.source_index(d.operand(i, 2)?, ty)?;
    inst.c = d.source_index(d.operand(i, 3)?, by)?;
    // What the sign is compared with.
    inst.imm = u64::from(d.constant32(0));
    Ok(inst)
}

/// `d = c >= 0 ? a : b` (PTX ISA 9.7.6.4); not a number gives `b`, minus zero gives `a`.
fn slct<T: crate::machine::lanes::File, C: Compared>(
    inst: &Inst,
    warp: &mut Warp,
    _: &mut Cx<'_>,
) -> Step {
    let bits = test::<C, 5>(warp, [inst.c, inst.imm as u32]);
    warp.select::<T>(inst.d, [inst.a, inst.b], bits);
    Step::Next
}
