//! mbarriers (PTX ISA 9.7.13.15).

use zeroforge_ptx::Instruction;

use crate::machine::context::ClusterState;
use crate::machine::cta::Cta;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// Operands.
#[derive(Debug)]
pub(crate) struct MbarrierOp {}

/// What is known of an mbarrier beyond its 8 bytes.
#[derive(Debug, Default)]
pub(crate) struct MbarrierShadow {}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}

/// Whether the phase of a parity is over.
pub(crate) fn phase_is_over(_cta: &Cta, _offset: u32, _parity: u32) -> bool {
    true
}

/// The state of every mbarrier of a cluster, for reports; starts with a line break unless empty.
pub(crate) fn describe_all(_state: &ClusterState) -> String {
    String::new()
}
