//! Bulk copies without a tensor map, and their groups (PTX ISA 9.7.9.25.4).

use zeroforge_ptx::Instruction;

use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// Operands.
#[derive(Debug)]
pub(crate) struct BulkOp {}

/// Bulk groups of a warp's threads.
#[derive(Debug, Default)]
pub(crate) struct BulkState {}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}
