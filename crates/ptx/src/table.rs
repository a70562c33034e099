//! The instruction table: every instruction that is known, as rows ([`Form`]).

use crate::types::Type;

/// An instruction without its modifiers. Multi-part mnemonics are one opcode: `cp.async.bulk.tensor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Opcode {
    Add,
}

/// A dotted part of an instruction after its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Modifier {
    /// `.f32` and the like.
    Type(Type),
    /// `.m64n128k16`.
    Shape {
        m: u16,
        n: u16,
        k: u16,
    },
    Ftz,
}

impl Modifier {
    /// The type, if it is one.
    pub fn as_type(self) -> Option<Type> {
        match self {
            Modifier::Type(t) => Some(t),
            _ => None,
        }
    }
}

/// A row of the table.
#[derive(Debug, PartialEq)]
pub struct Form {
    /// The opcode.
    pub opcode: Opcode,
    /// The mnemonic with its alternatives: `add[.rn|.rz|.rm|.rp][.ftz][.sat].f32`.
    pub pattern: &'static str,
    /// Operand signature: `d:T, a:T, b:T`.
    pub operands: &'static str,
    /// Section of the PTX ISA.
    pub section: &'static str,
}
