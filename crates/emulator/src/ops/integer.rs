//! Integer arithmetic (PTX ISA 9.7.1) and its extended-precision forms (9.7.2).

use zeroforge_ptx::{Instruction, Modifier, Opcode, Type};

use crate::machine::context::Cx;
use crate::machine::lanes::{Scalar, op1, op2, op3};
use crate::machine::warp::Warp;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Exec, Inst, Step};
use crate::report::FindingKind;

/// The function made of an expression in which `$t` is the Rust type of a PTX integer type.
macro_rules! for_type {
    ($ty:expr, $t:ident, $f:expr) => {
        match $ty {
            Type::U16 | Type::B16 => for_type!(@one $t, u16, $f),
            Type::S16 => for_type!(@one $t, i16, $f),
            Type::U32 | Type::B32 => for_type!(@one $t, u32, $f),
            Type::S32 => for_type!(@one $t, i32, $f),
            Type::U64 | Type::B64 => for_type!(@one $t, u64, $f),
            Type::S64 => for_type!(@one $t, i64, $f),
            other => Err(format!("type .{} is not an integer type of this instruction", other.text())),
        }
    };
    (@one $t:ident, $rust:ty, $f:expr) => {{
        type $t = $rust;
        let exec: Exec = $f;
        Ok(exec)
    }};
}

/// An instruction that computes `d = f(a)`, `f(a, b)` or `f(a, b, c)`.
macro_rules! compute {
    (|$a:ident: $ta:ty| -> $td:ty $body:block) => {
        |inst, warp, _| {
            op1::<$td, $ta>(inst, warp, |$a| $body);
            Step::Next
        }
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty| -> $td:ty $body:block) => {
        |inst, warp, _| {
            op2::<$td, $ta, $tb>(inst, warp, |$a, $b| $body);
            Step::Next
        }
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| -> $td:ty $body:block) => {
        |inst, warp, _| {
            op3::<$td, $ta, $tb, $tc>(inst, warp, |$a, $b, $c| $body);
            Step::Next
        }
    };
}
pub(crate) use compute;

/// What all integer types have and the standard library has no trait for.
pub(crate) trait Integer: Scalar + PartialOrd + Default {
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul_lo(self, b: Self) -> Self;
    fn mul_hi(self, b: Self) -> Self;
    /// Quotient and remainder; all ones and the dividend by zero, as hardware gives.
    fn div(self, b: Self) -> Self;
    fn rem(self, b: Self) -> Self;
    fn neg(self) -> Self;
    /// Sum or difference with the carry or borrow in; and the one that comes out, of the bits as unsigned.
    fn add_carry(self, b: Self, carry: bool) -> (Self, bool);
    fn sub_borrow(self, b: Self, borrow: bool) -> (Self, bool);
    /// Position of the highest bit that is not the sign; all ones if there is none.
    fn highest(self) -> u32;
    /// The field of `len` bits at `pos`, extended as the type is (PTX ISA 9.7.1.19).
    fn field(self, pos: u32, len: u32) -> Self;
}

macro_rules! integers {
    ($($t:ty, $unsigned:ty, $wide:ty;)*) => {$(
        impl Integer for $t {
            #[inline(always)]
            fn add(self, b: $t) -> $t {
                self.wrapping_add(b)
            }

            #[inline(always)]
            fn sub(self, b: $t) -> $t {
                self.wrapping_sub(b)
            }

            #[inline(always)]
            fn mul_lo(self, b: $t) -> $t {
                self.wrapping_mul(b)
            }

            #[inline(always)]
            fn mul_hi(self, b: $t) -> $t {
                ((self as $wide).wrapping_mul(b as $wide) >> <$t>::BITS) as $t
            }

            #[inline(always)]
            fn div(self, b: $t) -> $t {
                if b == 0 { !0 } else { self.wrapping_div(b) }
            }

            #[inline(always)]
            fn rem(self, b: $t) -> $t {
                if b == 0 { self } else { self.wrapping_rem(b) }
            }

            #[inline(always)]
            fn neg(self) -> $t {
                self.wrapping_neg()
            }

            #[inline(always)]
            fn add_carry(self, b: $t, carry: bool) -> ($t, bool) {
                let (sum, first) = (self as $unsigned).overflowing_add(b as $unsigned);
                let (sum, second) = sum.overflowing_add(<$unsigned>::from(carry));
                (sum as $t, first | second)
            }

            #[inline(always)]
            fn sub_borrow(self, b: $t, borrow: bool) -> ($t, bool) {
                let (rest, first) = (self as $unsigned).overflowing_sub(b as $unsigned);
                let (rest, second) = rest.overflowing_sub(<$unsigned>::from(borrow));
                (rest as $t, first | second)
            }

            #[inline(always)]
            #[allow(unused_comparisons, reason = "only signed values are below zero")]
            fn highest(self) -> u32 {
                let bits = (if self < 0 { !self } else { self }) as $unsigned;
                bits.checked_ilog2().unwrap_or(u32::MAX)
            }

            #[inline(always)]
            fn field(self, pos: u32, len: u32) -> $t {
                let (pos, len) = (pos & 0xff, len & 0xff);
                if len == 0 {
                    return 0;
                }
                // Shifts by the type's own arithmetic bring in the sign or zeros: first what lies above the
                // field goes, then what lies below. Bits beyond the value are copies of its sign.
                let value = self >> pos.min(<$t>::BITS - 1);
                let value = if pos >= <$t>::BITS && <$t>::MIN == 0 { 0 } else { value };
                let cut = <$t>::BITS.saturating_sub(len);
                value << cut >> cut
            }
        }
    )*};
}

integers! {
    u16, u16, u32;
    i16, u16, i32;
    u32, u32, u64;
    i32, u32, i64;
    u64, u64, u128;
    i64, u64, i128;
}

/// Two 16-bit halves, each by a function.
#[inline(always)]
fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    let low = f(a as u16, b as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16);
    u32::from(high) << 16 | u32::from(low)
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let ty = i.ty().ok_or_else(|| "an integer instruction without a type".to_owned())?;
    let mut inst = Inst::new(exec(i, ty)?);
    // Types of destination and sources where they are not all the instruction's own.
    let wide = i.has(Modifier::Wide).then_some(match ty {
        Type::U16 | Type::S16 => Type::B32,
        _ => Type::B64,
    });
    let (to, sources): (Type, [Type; 4]) = match i.opcode() {
        Opcode::Popc | Opcode::Clz | Opcode::Bfind => (Type::U32, [ty; 4]),
        Opcode::Bfe => (ty, [ty, Type::U32, Type::U32, ty]),
        Opcode::Bfi => (ty, [ty, ty, Type::U32, Type::U32]),
        Opcode::Mul | Opcode::Mad => (wide.unwrap_or(ty), [ty, ty, wide.unwrap_or(ty), ty]),
        _ => (ty, [ty; 4]),
    };
    inst.d = d.destination_index(d.operand(i, 0)?, to)?;
    for (at, (operand, ty)) in i.operands[1..].iter().zip(sources).enumerate() {
        let index = d.source_index(operand, ty)?;
        match at {
            0 => inst.a = index,
            1 => inst.b = index,
            2 => inst.c = index,
            // The fourth source of `bfi`.
            _ => inst.imm = u64::from(index),
        }
    }
    Ok(inst)
}

fn exec(i: &Instruction, ty: Type) -> Result<Exec, Reason> {
    let has = |m| i.has(m);
    let fixed = |exec: Exec| Ok(exec);
    if matches!(ty, Type::U16x2 | Type::S16x2) {
        return packed(i, ty);
    }
    match i.opcode() {
        Opcode::Add if has(Modifier::Cc) => for_type!(ty, T, add_carry::<T, false, true>),
        Opcode::Addc if has(Modifier::Cc) => for_type!(ty, T, add_carry::<T, true, true>),
        Opcode::Addc => for_type!(ty, T, add_carry::<T, true, false>),
        Opcode::Sub if has(Modifier::Cc) => for_type!(ty, T, sub_borrow::<T, false, true>),
        Opcode::Subc if has(Modifier::Cc) => for_type!(ty, T, sub_borrow::<T, true, true>),
        Opcode::Subc => for_type!(ty, T, sub_borrow::<T, true, false>),
        Opcode::Mad if has(Modifier::Cc) => multiply_add_carry(i, ty),
        Opcode::Madc => multiply_add_carry(i, ty),
        Opcode::Add if has(Modifier::Sat) => {
            fixed(compute!(|a: i32, b: i32| -> i32 { a.saturating_add(b) }))
        }
        Opcode::Add => for_type!(ty, T, compute!(|a: T, b: T| -> T { a.add(b) })),
        Opcode::Sub if has(Modifier::Sat) => {
            fixed(compute!(|a: i32, b: i32| -> i32 { a.saturating_sub(b) }))
        }
        Opcode::Sub => for_type!(ty, T, compute!(|a: T, b: T| -> T { a.sub(b) })),
        Opcode::Mul if has(Modifier::Lo) => {
            for_type!(ty, T, compute!(|a: T, b: T| -> T { a.mul_lo(b) }))
        }
        Opcode::Mul if has(Modifier::Hi) => {
            for_type!(ty, T, compute!(|a: T, b: T| -> T { a.mul_hi(b) }))
        }
        Opcode::Mul => fixed(match ty {
            Type::U16 => compute!(|a: u16, b: u16| -> u32 { u32::from(a) * u32::from(b) }),
            Type::S16 => compute!(|a: i16, b: i16| -> i32 { i32::from(a) * i32::from(b) }),
            Type::U32 => compute!(|a: u32, b: u32| -> u64 { u64::from(a) * u64::from(b) }),
            _ => compute!(|a: i32, b: i32| -> i64 { i64::from(a) * i64::from(b) }),
        }),
        Opcode::Mad if has(Modifier::Sat) => {
            fixed(compute!(|a: i32, b: i32, c: i32| -> i32 { a.mul_hi(b).saturating_add(c) }))
        }
        Opcode::Mad if has(Modifier::Lo) => {
            for_type!(ty, T, compute!(|a: T, b: T, c: T| -> T { a.mul_lo(b).add(c) }))
        }
        Opcode::Mad if has(Modifier::Hi) => {
            for_type!(ty, T, compute!(|a: T, b: T, c: T| -> T { a.mul_hi(b).add(c) }))
        }
        Opcode::Mad => fixed(match ty {
            Type::U16 => compute!(|a: u16, b: u16, c: u32| -> u32 {
                (u32::from(a) * u32::from(b)).wrapping_add(c)
            }),
            Type::S16 => compute!(|a: i16, b: i16, c: i32| -> i32 {
                (i32::from(a) * i32::from(b)).wrapping_add(c)
            }),
            Type::U32 => compute!(|a: u32, b: u32, c: u64| -> u64 {
                (u64::from(a) * u64::from(b)).wrapping_add(c)
            }),
            _ => compute!(|a: i32, b: i32, c: i64| -> i64 {
                (i64::from(a) * i64::from(b)).wrapping_add(c)
            }),
        }),
        Opcode::Mul24 | Opcode::Mad24 => Ok(multiply24(i, ty)),
        Opcode::Sad => for_type!(
            ty,
            T,
            compute!(|a: T, b: T, c: T| -> T { c.add(if a < b { b.sub(a) } else { a.sub(b) }) })
        ),
        Opcode::Div => for_type!(ty, T, |inst, warp, cx| {
            report_zero::<T>(inst, warp, cx);
            op2::<T, T, T>(inst, warp, |a, b| a.div(b));
            Step::Next
        }),
        Opcode::Rem => for_type!(ty, T, |inst, warp, cx| {
            report_zero::<T>(inst, warp, cx);
            op2::<T, T, T>(inst, warp, |a, b| a.rem(b));
            Step::Next
        }),
        Opcode::Abs => {
            for_type!(ty, T, compute!(|a: T| -> T { if a < T::default() { a.neg() } else { a } }))
        }
        Opcode::Neg => for_type!(ty, T, compute!(|a: T| -> T { a.neg() })),
        Opcode::Min if has(Modifier::Relu) => {
            fixed(compute!(|a: i32, b: i32| -> i32 { a.min(b).max(0) }))
        }
        Opcode::Max if has(Modifier::Relu) => {
            fixed(compute!(|a: i32, b: i32| -> i32 { a.max(b).max(0) }))
        }
        Opcode::Min => for_type!(ty, T, compute!(|a: T, b: T| -> T { if b < a { b } else { a } })),
        Opcode::Max => for_type!(ty, T, compute!(|a: T, b: T| -> T { if b > a { b } else { a } })),
        Opcode::Popc => fixed(match ty.bits() {
            64 => compute!(|a: u64| -> u32 { a.count_ones() }),
            _ => compute!(|a: u32| -> u32 { a.count_ones() }),
        }),
        Opcode::Clz => fixed(match ty.bits() {
            64 => compute!(|a: u64| -> u32 { a.leading_zeros() }),
            _ => compute!(|a: u32| -> u32 { a.leading_zeros() }),
        }),
        Opcode::Bfind if has(Modifier::Shiftamt) => for_type!(
            ty,
            T,
            compute!(|a: T| -> u32 {
                match a.highest() {
                    u32::MAX => u32::MAX,
                    at => T::BITS - 1 - at,
                }
            })
        ),
        Opcode::Bfind => for_type!(ty, T, compute!(|a: T| -> u32 { a.highest() })),
        Opcode::Brev => fixed(match ty.bits() {
            64 => compute!(|a: u64| -> u64 { a.reverse_bits() }),
            _ => compute!(|a: u32| -> u32 { a.reverse_bits() }),
        }),
        Opcode::Bfe => {
            for_type!(ty, T, compute!(|a: T, b: u32, c: u32| -> T { a.field(b, c) }))
        }
        Opcode::Bfi => Ok(match ty.bits() {
            64 => insert_field::<u64>,
            _ => insert_field::<u32>,
        }),
        Opcode::Szext => Ok(extend(i, ty)),
        Opcode::Bmsk if has(Modifier::Clamp) => {
            fixed(compute!(|a: u32, b: u32| -> u32 { mask_clamped(a, b) }))
        }
        Opcode::Bmsk => fixed(compute!(|a: u32, b: u32| -> u32 { mask_clamped(a & 31, b & 31) })),
        Opcode::Fns => fixed(compute!(|a: u32, b: u32, c: u32| -> u32 { nth_set(a, b, c as i32) })),
        Opcode::Dp4a => dot4(i),
        Opcode::Dp2a => dot2(i),
        other => Err(format!("`{}` is not an integer instruction", other.text())),
    }
}

/// `.u16x2` and `.s16x2` (PTX ISA 9.7.1.1, 9.7.1.12, 9.7.1.13).
fn packed(i: &Instruction, ty: Type) -> Result<Exec, Reason> {
    let signed = ty == Type::S16x2;
    let exec: Exec = match (i.opcode(), signed, i.has(Modifier::Relu)) {
        (Opcode::Add, _, _) => {
            compute!(|a: u32, b: u32| -> u32 { halves(a, b, u16::wrapping_add) })
        }
        (Opcode::Min, false, _) => compute!(|a: u32, b: u32| -> u32 { halves(a, b, u16::min) }),
        (Opcode::Max, false, _) => compute!(|a: u32, b: u32| -> u32 { halves(a, b, u16::max) }),
        (Opcode::Min, true, false) => compute!(|a: u32, b: u32| -> u32 {
            halves(a, b, |a, b| (a as i16).min(b as i16) as u16)
        }),
        (Opcode::Max, true, false) => compute!(|a: u32, b: u32| -> u32 {
            halves(a, b, |a, b| (a as i16).max(b as i16) as u16)
        }),
        (Opcode::Min, true, true) => compute!(|a: u32, b: u32| -> u32 {
            halves(a, b, |a, b| (a as i16).min(b as i16).max(0) as u16)
        }),
        (Opcode::Max, true, true) => compute!(|a: u32, b: u32| -> u32 {
            halves(a, b, |a, b| (a as i16).max(b as i16).max(0) as u16)
        }),
        (other, _, _) => return Err(format!("`{}` has no type .{}", other.text(), ty.text())),
    };
    Ok(exec)
}

/// The results of a division by zero are machine-specific (PTX ISA 9.7.1.8, 9.7.1.9).
fn report_zero<T: Integer>(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) {
    let zero = warp.test2::<T, T>([inst.b, inst.b], |b, _| b == T::default()) & warp.mask;
    if zero != 0 {
        cx.find(warp, zero, FindingKind::Undefined, None, || {
            "an integer is divided by zero, which gives a machine-specific value (PTX ISA 9.7.1.8)"
                .to_owned()
        });
    }
}

/// Runs a function of lane, operands and carry that gives a result and the new carry.
#[inline(always)]
fn with_carry<T: Integer>(
    warp: &mut Warp,
    d: u32,
    [a, b, c]: [u32; 3],
    write: bool,
    f: impl Fn(T, T, T, bool) -> (T, bool),
) {
    use crate::machine::lanes::File;
    let carry = warp.carry;
    let mut out = 0;
    for lane in crate::check::lanes(warp.mask) {
        let value = |r: u32| T::of(T::File::all(warp)[r as usize][lane]);
        let (result, bit) = f(value(a), value(b), value(c), carry >> lane & 1 != 0);
        T::File::one(warp, d)[lane] = result.bits();
        out |= u32::from(bit) << lane;
    }
    if write {
        warp.carry = carry & !warp.mask | out;
    }
}

fn add_carry<T: Integer, const READ: bool, const WRITE: bool>(
    inst: &Inst,
    warp: &mut Warp,
    _: &mut Cx<'_>,
) -> Step {
    let abc = [inst.a, inst.b, inst.a];
    with_carry::<T>(warp, inst.d, abc, WRITE, |a, b, _, carry| a.add_carry(b, carry & READ));
    Step::Next
}

fn sub_borrow<T: Integer, const READ: bool, const WRITE: bool>(
    inst: &Inst,
    warp: &mut Warp,
    _: &mut Cx<'_>,
) -> Step {
    let abc = [inst.a, inst.b, inst.a];
    with_carry::<T>(warp, inst.d, abc, WRITE, |a, b, _, carry| a.sub_borrow(b, carry & READ));
    Step::Next
}

fn mad_carry<T: Integer, const HIGH: bool, const READ: bool, const WRITE: bool>(
    inst: &Inst,
    warp: &mut Warp,
    _: &mut Cx<'_>,
) -> Step {
    let abc = [inst.a, inst.b, inst.c];
    with_carry::<T>(warp, inst.d, abc, WRITE, |a, b, c, carry| {
        let product = if HIGH { a.mul_hi(b) } else { a.mul_lo(b) };
        product.add_carry(c, carry & READ)
    });
    Step::Next
}

fn multiply_add_carry(i: &Instruction, ty: Type) -> Result<Exec, Reason> {
    let read = i.opcode() == Opcode::Madc;
    match (i.has(Modifier::Hi), read, i.has(Modifier::Cc)) {
        (false, false, _) => for_type!(ty, T, mad_carry::<T, false, false, true>),
        (true, false, _) => for_type!(ty, T, mad_carry::<T, true, false, true>),
        (false, true, true) => for_type!(ty, T, mad_carry::<T, false, true, true>),
        (true, true, true) => for_type!(ty, T, mad_carry::<T, true, true, true>),
        (false, true, false) => for_type!(ty, T, mad_carry::<T, false, true, false>),
        (true, true, false) => for_type!(ty, T, mad_carry::<T, true, true, false>),
    }
}

/// The 48-bit product of the low 24 bits.
#[inline(always)]
fn product24<const SIGNED: bool>(a: u32, b: u32) -> i64 {
    let extend = |v: u32| match SIGNED {
        true => i64::from((v << 8) as i32 >> 8),
        false => i64::from(v & 0xff_ffff),
    };
    extend(a) * extend(b)
}

fn multiply24(i: &Instruction, ty: Type) -> Exec {
    let low = i.has(Modifier::Lo);
    match (i.opcode(), ty.is_signed(), low) {
        (Opcode::Mul24, false, true) => {
            compute!(|a: u32, b: u32| -> u32 { product24::<false>(a, b) as u32 })
        }
        (Opcode::Mul24, true, true) => {
            compute!(|a: u32, b: u32| -> u32 { product24::<true>(a, b) as u32 })
        }
        (Opcode::Mul24, false, false) => {
            compute!(|a: u32, b: u32| -> u32 { (product24::<false>(a, b) >> 16) as u32 })
        }
        (Opcode::Mul24, true, false) => {
            compute!(|a: u32, b: u32| -> u32 { (product24::<true>(a, b) >> 16) as u32 })
        }
        _ if i.has(Modifier::Sat) => compute!(|a: u32, b: u32, c: i32| -> i32 {
            ((product24::<true>(a, b) >> 16) as i32).saturating_add(c)
        }),
        (_, false, true) => compute!(|a: u32, b: u32, c: u32| -> u32 {
            (product24::<false>(a, b) as u32).wrapping_add(c)
        }),
        (_, true, true) => compute!(|a: u32, b: u32, c: u32| -> u32 {
            (product24::<true>(a, b) as u32).wrapping_add(c)
        }),
        (_, false, false) => compute!(|a: u32, b: u32, c: u32| -> u32 {
            ((product24::<false>(a, b) >> 16) as u32).wrapping_add(c)
        }),
        (_, true, false) => compute!(|a: u32, b: u32, c: u32| -> u32 {
            ((product24::<true>(a, b) >> 16) as u32).wrapping_add(c)
        }),
    }
}

/// Bit field insertion (PTX ISA 9.7.1.20); the length is the register that `imm` names.
fn insert_field<T: Integer + Into<u64>>(inst: &Inst, warp: &mut Warp, _: &mut Cx<'_>) -> Step
where
    T::File: Into<u64> + TryFrom<u64> + Default,
{
    use crate::machine::lanes::File;
    let length = warp.r32[inst.imm as usize];
    let bits = (size_of::<T>() * 8) as u32;
    for (lane, length) in length.into_iter().enumerate() {
        if warp.mask >> lane & 1 == 0 {
            continue;
        }
        let value = |r: u32| -> u64 { T::File::all(warp)[r as usize][lane].into() };
        let pos = warp.r32[inst.c as usize][lane] & 0xff;
        let len = length & 0xff;
        let field = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
        let all = u64::MAX >> (64 - bits);
        let (a, b) = (value(inst.a), value(inst.b));
        let result = match pos < bits {
            true => b & !(field << pos) | (a & field) << pos,
            false => b,
        };
        T::File::one(warp, inst.d)[lane] = T::File::try_from(result & all).unwrap_or_default();
    }
    Step::Next
}

/// Sign or zero extension from a bit position (PTX ISA 9.7.1.21).
fn extend(i: &Instruction, ty: Type) -> Exec {
    #[inline(always)]
    fn signed(a: i32, b: u32) -> i32 {
        match b & 31 {
            0 => 0,
            b => a << (32 - b) >> (32 - b),
        }
    }
    #[inline(always)]
    fn unsigned(a: u32, b: u32) -> u32 {
        a & ((1 << (b & 31)) - 1)
    }
    match (i.has(Modifier::Clamp), ty.is_signed()) {
        (false, false) => compute!(|a: u32, b: u32| -> u32 { unsigned(a, b) }),
        (false, true) => compute!(|a: i32, b: u32| -> i32 { signed(a, b) }),
        (true, false) => {
            compute!(|a: u32, b: u32| -> u32 { if b >= 32 { a } else { unsigned(a, b) } })
        }
        (true, true) => {
            compute!(|a: i32, b: u32| -> i32 { if b >= 32 { a } else { signed(a, b) } })
        }
    }
}

/// `b` ones from bit `a` on (PTX ISA 9.7.1.22).
#[inline(always)]
fn mask_clamped(a: u32, b: u32) -> u32 {
    if a >= 32 {
        return 0;
    }
    let ones = if b >= 32 { u32::MAX } else { (1 << b) - 1 };
    ones << a
}

/// Position of the n-th set bit from a base (PTX ISA 9.7.1.17); all ones if there is none.
fn nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    if base > 31 {
        return u32::MAX;
    }
    if offset == 0 {
        return if mask >> base & 1 == 1 { base } else { u32::MAX };
    }
    let mut left = offset.unsigned_abs();
    let mut pos = i64::from(base);
    while (0..32).contains(&pos) {
        if mask >> pos & 1 == 1 {
            left -= 1;
            if left == 0 {
                return pos as u32;
            }
        }
        pos += i64::from(offset.signum());
    }
    u32::MAX
}

/// An 8- or 16-bit part of a word, extended.
#[inline(always)]
fn part<const SIGNED: bool>(word: u32, at: u32, bits: u32) -> i64 {
    let up = 32 - bits * (at + 1);
    match SIGNED {
        true => i64::from((word << up) as i32 >> (32 - bits)),
        false => i64::from((word << up) >> (32 - bits)),
    }
}

#[inline(always)]
fn dot<const A: bool, const B: bool>(a: u32, b: u32, c: u32, bits: u32, first: u32) -> u32 {
    let count = 32 / bits;
    let sum: i64 = (0..count).map(|k| part::<A>(a, k, bits) * part::<B>(b, first + k, 8)).sum();
    c.wrapping_add(sum as u32)
}

fn signs(i: &Instruction) -> (bool, bool) {
    let mut types = i.types().map(Type::is_signed);
    (types.next().unwrap_or(false), types.next().unwrap_or(false))
}

/// Dot product of four bytes each (PTX ISA 9.7.1.23).
fn dot4(i: &Instruction) -> Result<Exec, Reason> {
    let exec: Exec = match signs(i) {
        (false, false) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { dot::<false, false>(a, b, c, 8, 0) })
        }
        (false, true) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { dot::<false, true>(a, b, c, 8, 0) })
        }
        (true, false) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { dot::<true, false>(a, b, c, 8, 0) })
        }
        (true, true) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { dot::<true, true>(a, b, c, 8, 0) })
        }
    };
    Ok(exec)
}

/// Dot product of two halves with two bytes, the low or the high ones (PTX ISA 9.7.1.24).
fn dot2(i: &Instruction) -> Result<Exec, Reason> {
    macro_rules! forms {
        ($first:literal) => {
            match signs(i) {
                (false, false) => compute!(|a: u32, b: u32, c: u32| -> u32 {
                    dot::<false, false>(a, b, c, 16, $first)
                }),
                (false, true) => compute!(|a: u32, b: u32, c: u32| -> u32 {
                    dot::<false, true>(a, b, c, 16, $first)
                }),
                (true, false) => compute!(|a: u32, b: u32, c: u32| -> u32 {
                    dot::<true, false>(a, b, c, 16, $first)
                }),
                (true, true) => compute!(|a: u32, b: u32, c: u32| -> u32 {
                    dot::<true, true>(a, b, c, 16, $first)
                }),
            }
        };
    }
    let exec: Exec = if i.has(Modifier::Hi) { forms!(2) } else { forms!(0) };
    Ok(exec)
}
