//! Tensor copies (PTX ISA 9.7.9.25.5).

use zeroforge_ptx::Instruction;

use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// Operands.
#[derive(Debug)]
pub(crate) struct TmaOp {}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}
