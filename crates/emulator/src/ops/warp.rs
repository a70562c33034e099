//! Instructions of the lanes of a warp together: shuffles, votes, elections (PTX ISA 9.7.9.6, 9.7.13).

use zeroforge_ptx::Instruction;

use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// Operands.
#[derive(Debug)]
pub(crate) struct WarpOp {}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}
