//! Operations on the lanes of registers: one loop for each shape of operands, so that every instruction is
//! a function of scalars and the compiler makes vectors of it.
//!
//! A register is worked on in pieces: a piece is read whole from every source before the destination is
//! written, so source and destination may be the same register, and nothing is copied through memory.

use crate::machine::warp::{ALL, LANES, Lanes32, Lanes64, Warp};
use crate::program::inst::Inst;

/// Lanes worked on at once.
const PIECE: usize = 8;

/// A class of registers.
pub(crate) trait File: Copy + Default {
    /// The registers and constants of the class.
    fn all(warp: &Warp) -> &[[Self; LANES]];
    fn one(warp: &mut Warp, index: u32) -> &mut [Self; LANES];
}

impl File for u32 {
    #[inline(always)]
    fn all(warp: &Warp) -> &[Lanes32] {
        &warp.r32
    }

    #[inline(always)]
    fn one(warp: &mut Warp, index: u32) -> &mut Lanes32 {
        &mut warp.r32[index as usize]
    }
}

impl File for u64 {
    #[inline(always)]
    fn all(warp: &Warp) -> &[Lanes64] {
        &warp.r64
    }

    #[inline(always)]
    fn one(warp: &mut Warp, index: u32) -> &mut Lanes64 {
        &mut warp.r64[index as usize]
    }
}

/// A type of values and how they lie in registers.
pub(crate) trait Scalar: Copy {
    /// The class of registers that holds them.
    type File: File;
    fn of(bits: Self::File) -> Self;
    fn bits(self) -> Self::File;
}

macro_rules! scalars {
    ($($t:ty, $file:ty, |$bits:ident| $of:expr, |$value:ident| $to:expr;)*) => {$(
        impl Scalar for $t {
            type File = $file;

            #[inline(always)]
            fn of($bits: $file) -> $t {
                $of
            }

            #[inline(always)]
            fn bits(self) -> $file {
                let $value = self;
                $to
            }
        }
    )*};
}

scalars! {
    // Registers of 16 bits are kept zero-extended, but what a load put above is not looked at.
    u16, u32, |b| b as u16, |v| u32::from(v);
    i16, u32, |b| b as i16, |v| u32::from(v as u16);
    u32, u32, |b| b, |v| v;
    i32, u32, |b| b as i32, |v| v as u32;
    u64, u64, |b| b, |v| v;
    i64, u64, |b| b as i64, |v| v as u64;
    f32, u32, |b| f32::from_bits(b), |v| v.to_bits();
    f64, u64, |b| f64::from_bits(b), |v| v.to_bits();
}

#[inline(always)]
fn piece<T: File>(warp: &Warp, index: u32, at: usize) -> [T; PIECE] {
    let lanes = &T::all(warp)[index as usize];
    std::array::from_fn(|l| lanes[at + l])
}

/// Whether a lane is in a mask; in a form that becomes a comparison of vectors.
#[inline(always)]
fn is_in(mask: u32, lane: usize) -> bool {
    mask & (1 << lane) != 0
}

#[inline(always)]
fn put<T: File>(warp: &mut Warp, index: u32, at: usize, values: [T; PIECE]) {
    let mask = warp.mask;
    let to = T::one(warp, index);
    if mask == ALL {
        to[at..at + PIECE].copy_from_slice(&values);
    } else {
        for l in 0..PIECE {
            to[at + l] = if is_in(mask, at + l) { values[l] } else { to[at + l] };
        }
    }
}

impl Warp {
    /// `d = f(a)` for the lanes of the mask. `f` is called for the others too, here and in all that follow.
    #[inline(always)]
    pub(crate) fn map1<D: Scalar, A: Scalar>(&mut self, d: u32, a: u32, f: impl Fn(A) -> D) {
        for at in (0..LANES).step_by(PIECE) {
            let a = piece::<A::File>(self, a, at);
            put(self, d, at, std::array::from_fn(|l| f(A::of(a[l])).bits()));
        }
    }

    /// `d = f(a, b)` for the lanes of the mask.
    #[inline(always)]
    pub(crate) fn map2<D: Scalar, A: Scalar, B: Scalar>(
        &mut self,
        d: u32,
        [a, b]: [u32; 2],
        f: impl Fn(A, B) -> D,
    ) {
        for at in (0..LANES).step_by(PIECE) {
            let (a, b) = (piece::<A::File>(self, a, at), piece::<B::File>(self, b, at));
            put(self, d, at, std::array::from_fn(|l| f(A::of(a[l]), B::of(b[l])).bits()));
        }
    }

    /// `d = f(a, b, c)` for the lanes of the mask.
    #[inline(always)]
    pub(crate) fn map3<D: Scalar, A: Scalar, B: Scalar, C: Scalar>(
        &mut self,
        d: u32,
        [a, b, c]: [u32; 3],
        f: impl Fn(A, B, C) -> D,
    ) {
        for at in (0..LANES).step_by(PIECE) {
            let (a, b) = (piece::<A::File>(self, a, at), piece::<B::File>(self, b, at));
            let c = piece::<C::File>(self, c, at);
            let value = |l| f(A::of(a[l]), B::of(b[l]), C::of(c[l])).bits();
            put(self, d, at, std::array::from_fn(value));
        }
    }

    /// The lanes for which `f(a, b)` holds, whether or not they are in the mask.
    #[inline(always)]
    pub(crate) fn test2<A: Scalar, B: Scalar>(
        &self,
        [a, b]: [u32; 2],
        f: impl Fn(A, B) -> bool,
    ) -> u32 {
        let mut bits = 0;
        for at in (0..LANES).step_by(PIECE) {
            let (a, b) = (piece::<A::File>(self, a, at), piece::<B::File>(self, b, at));
            for l in 0..PIECE {
                bits |= if f(A::of(a[l]), B::of(b[l])) { 1 << (at + l) } else { 0 };
            }
        }
        bits
    }

    /// `d = if bits { a } else { b }` for the lanes of the mask.
    #[inline(always)]
    pub(crate) fn select<T: File>(&mut self, d: u32, [a, b]: [u32; 2], bits: u32) {
        for at in (0..LANES).step_by(PIECE) {
            let (a, b) = (piece::<T>(self, a, at), piece::<T>(self, b, at));
            let value = |l| if is_in(bits, at + l) { a[l] } else { b[l] };
            put(self, d, at, std::array::from_fn(value));
        }
    }

    /// The bits of a predicate operand that may be negated.
    #[inline(always)]
    pub(crate) fn predicate(&self, (index, negated): (u32, bool)) -> u32 {
        let bits = self.p[index as usize];
        if negated { !bits } else { bits }
    }
}

/// `d = f(a)` with the operands of an instruction.
#[inline(always)]
pub(crate) fn op1<D: Scalar, A: Scalar>(inst: &Inst, warp: &mut Warp, f: impl Fn(A) -> D) {
    warp.map1(inst.d, inst.a, f);
}

/// `d = f(a, b)` with the operands of an instruction.
#[inline(always)]
pub(crate) fn op2<D: Scalar, A: Scalar, B: Scalar>(
    inst: &Inst,
    warp: &mut Warp,
    f: impl Fn(A, B) -> D,
) {
    warp.map2(inst.d, [inst.a, inst.b], f);
}

/// `d = f(a, b, c)` with the operands of an instruction.
#[inline(always)]
pub(crate) fn op3<D: Scalar, A: Scalar, B: Scalar, C: Scalar>(
    inst: &Inst,
    warp: &mut Warp,
    f: impl Fn(A, B, C) -> D,
) {
    warp.map3(inst.d, [inst.a, inst.b, inst.c], f);
}
