//! Moving the bytes of bulk copies, and the reductions that they can do on the way (PTX ISA 9.7.9.25.4).

use zeroforge_ptx::{Instruction, Modifier, Type};

use crate::machine::context::{ClusterState, Env};
use crate::ops::pending::SharedRange;
use crate::program::decode::Reason;

/// The operation of a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    And,
    Or,
    Xor,
    Add,
    Inc,
    Dec,
    Min,
    Max,
}

/// A reduction: operation and element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reduction {
    pub(crate) operation: Operation,
    pub(crate) ty: Type,
}

impl Operation {
    /// The operation that an instruction names.
    pub(crate) fn of(i: &Instruction) -> Result<Operation, Reason> {
        let names = [
            (Modifier::And, Operation::And),
            (Modifier::Or, Operation::Or),
            (Modifier::Xor, Operation::Xor),
            (Modifier::Add, Operation::Add),
            (Modifier::Inc, Operation::Inc),
            (Modifier::Dec, Operation::Dec),
            (Modifier::Min, Operation::Min),
            (Modifier::Max, Operation::Max),
        ];
        let found = names.iter().find(|(m, _)| i.has(*m)).map(|&(_, o)| o);
        found.ok_or_else(|| "the reduction has no operation".to_owned())
    }
}

impl Reduction {
    /// Whether the ISA has the operation for the type (PTX ISA 9.7.9.25.5.3, table of valid combinations).
    pub(crate) fn is_valid(self) -> bool {
        use Operation as O;
        let Reduction { operation, ty } = self;
        match operation {
            O::Add => matches!(
                ty,
                Type::U32
                    | Type::S32
                    | Type::U64
                    | Type::S64
                    | Type::F16
                    | Type::Bf16
                    | Type::F32
                    | Type::F64
            ),
            O::Min | O::Max => {
                matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64 | Type::F16 | Type::Bf16)
            }
            O::Inc | O::Dec => ty == Type::U32,
            O::And | O::Or | O::Xor => {
                matches!(ty, Type::B32 | Type::B64 | Type::U32 | Type::S32 | Type::U64 | Type::S64)
            }
        }
    }

    /// `old OP value` on the bits of one element.
    pub(crate) fn apply(self, old: u64, value: u64) -> u64 {
        use Operation as O;
        let Reduction { operation, ty } = self;
        let wide = ty.bytes() == 8;
        match (operation, ty) {
            (O::And, _) => old & value,
            (O::Or, _) => old | value,
            (O::Xor, _) => old ^ value,
            (O::Add, Type::F16) => {
                let sum = half(old) + half(value);
                u64::from(half::f16::from_f32(sum).to_bits())
            }
            (O::Add, Type::Bf16) => {
                // The sum of two bf16 is exact in f64, so that it is rounded once.
                let sum = f64::from(brain(old)) + f64::from(brain(value));
                u64::from(half::bf16::from_f64(sum).to_bits())
            }
            (O::Add, Type::F32) => {
                // Subnormals are flushed (PTX ISA 9.7.9.25.4.2).
                let sum = flush(f32::from_bits(old as u32)) + flush(f32::from_bits(value as u32));
                u64::from(flush(sum).to_bits())
            }
            (O::Add, Type::F64) => (f64::from_bits(old) + f64::from_bits(value)).to_bits(),
            (O::Add, _) if wide => old.wrapping_add(value),
            (O::Add, _) => u64::from((old as u32).wrapping_add(value as u32)),
            (O::Inc, _) => match (old as u32, value as u32) {
                (old, limit) if old >= limit => 0,
                (old, _) => u64::from(old + 1),
            },
            (O::Dec, _) => match (old as u32, value as u32) {
                (old, limit) if old == 0 || old > limit => u64::from(limit),
                (old, _) => u64::from(old - 1),
            },
            (O::Min | O::Max, Type::F16) => pick(operation, half(old), half(value), old, value),
            (O::Min | O::Max, Type::Bf16) => pick(operation, brain(old), brain(value), old, value),
            (O::Min | O::Max, _) => {
                let old_less = match ty {
                    Type::S64 => (old as i64) < value as i64,
                    Type::S32 => (old as i32) < value as i32,
                    Type::U64 => old < value,
                    _ => (old as u32) < value as u32,
                };
                if old_less == (operation == O::Min) { old } else { value }
            }
        }
    }
}

fn half(bits: u64) -> f32 {
    half::f16::from_bits(bits as u16).to_f32()
}

fn brain(bits: u64) -> f32 {
    half::bf16::from_bits(bits as u16).to_f32()
}

fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

/// The smaller or larger of two numbers; a NaN loses, and -0 is below +0, as for `min` and `max`.
fn pick(operation: Operation, a: f32, b: f32, a_bits: u64, b_bits: u64) -> u64 {
    if a.is_nan() {
        return b_bits;
    }
    if b.is_nan() {
        return a_bits;
    }
    let a_less = a < b || (a == b && a.is_sign_negative());
    if a_less == (operation == Operation::Min) { a_bits } else { b_bits }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// Writes bytes to global memory, or reduces into it element by element. What lies outside of every
/// allocation was reported when the copy was started.
pub(crate) fn store(env: &Env<'_>, source: &[u8], to: u64, reduction: Option<Reduction>) {
    let Some((at, offset)) = env.find(to, source.len() as u64) else { return };
    let allocation = &env.memory[at];
    if allocation.read_only {
        return;
    }
    match reduction {
        None => allocation.bytes.write(offset, source),
        Some(r) => {
            let size = r.ty.bytes() as usize;
            for (i, element) in source.chunks_exact(size).enumerate() {
                let value = number(element);
                allocation.bytes.update(offset + i * size, size, |old| r.apply(old, value));
            }
        }
    }
    allocation.mark_written(offset, source.len());
}

/// Reads global memory into shared memory.
pub(crate) fn load(state: &mut ClusterState, env: &Env<'_>, from: u64, to: SharedRange) {
    let cta = &mut state.ctas[to.rank as usize];
    let at = to.offset as usize;
    let target = &mut cta.shared[at..at + to.len as usize];
    match env.find(from, u64::from(to.len)) {
        Some((allocation, offset)) => env.memory[allocation].bytes.read(offset, target),
        None => target.fill(0),
    }
    cta.mark_written(to.offset, to.len);
}

/// Writes bytes to shared memory, or reduces into it.
pub(crate) fn into_shared(
    state: &mut ClusterState,
    source: &[u8],
    to: SharedRange,
    reduction: Option<Reduction>,
) {
    let cta = &mut state.ctas[to.rank as usize];
    let at = to.offset as usize;
    let target = &mut cta.shared[at..at + to.len as usize];
    match reduction {
        None => target.copy_from_slice(source),
        Some(r) => {
            let size = r.ty.bytes() as usize;
            for (old, value) in target.chunks_exact_mut(size).zip(source.chunks_exact(size)) {
                let new = r.apply(number(old), number(value));
                old.copy_from_slice(&new.to_le_bytes()[..size]);
            }
        }
    }
    cta.mark_written(to.offset, to.len);
}
