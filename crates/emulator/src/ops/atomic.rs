//! Atomics and reductions (PTX ISA 9.7.13.6-7).

use zeroforge_ptx::Instruction;

use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// Operands.
#[derive(Debug)]
pub(crate) struct AtomicOp {}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}
