//! Warpgroup matrix products (PTX ISA 9.7.15).

use zeroforge_ptx::Instruction;

use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// Operands.
#[derive(Debug)]
pub(crate) struct WgmmaOp {}

/// Products that a warp started and has not waited for.
#[derive(Debug, Default)]
pub(crate) struct WgmmaState {}

/// What the warps of a warpgroup must agree about.
#[derive(Debug, Default)]
pub(crate) struct WarpgroupState {}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}
