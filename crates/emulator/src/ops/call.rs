//! Functions that the emulator provides: `vprintf`, `__assertfail`, `malloc`, `free`.

use zeroforge_ptx::Instruction;

use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// Operands.
#[derive(Debug)]
pub(crate) struct CallOp {}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction, name: &str) -> Result<Inst, Reason> {
    Err(format!("`{name}` is not defined in the module and the emulator does not provide it"))
}
