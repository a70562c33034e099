//! Comparison and selection (PTX ISA 9.7.6).

use zeroforge_ptx::Instruction;

use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}
