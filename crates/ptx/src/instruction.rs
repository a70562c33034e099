//! Instructions as data: what the parser makes and everything else reads.
//!
//! Names are resolved: registers, labels and symbols are indices into the function or the module.

use crate::module::{LabelId, Location, RegisterId, Symbol};
use crate::table::{Form, Modifier, Opcode};
use crate::types::{SpecialRegister, Type};

/// `@p` or `@!p` before an instruction (PTX ISA 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The predicate register.
    pub register: RegisterId,
    /// Whether the instruction runs where it is false.
    pub negated: bool,
}

/// A literal operand. An integer keeps its two's complement bits: `-1` and `0xffffffffffffffff` are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    /// An integer, or a predicate constant.
    Integer(i64),
    /// `0fXXXXXXXX`: bits of an f32.
    F32(u32),
    /// `0dXXXXXXXXXXXXXXXX` or a decimal: bits of an f64.
    F64(u64),
}

/// What an address starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// `[%rd1+4]`.
    Register(RegisterId),
    /// `[name+4]`.
    Symbol(Symbol),
    /// `[16]`.
    Absolute,
}

/// A memory operand without its brackets: base plus offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// What it starts from.
    pub base: Base,
    /// Bytes added.
    pub offset: i64,
}

/// An operand (PTX ISA 6).
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register.
    Register(RegisterId),
    /// `!%p`: a predicate operand, negated.
    Not(RegisterId),
    /// A special register.
    Special(SpecialRegister),
    /// A literal.
    Immediate(Immediate),
    /// `{a, b, ...}`. Braces around one element are kept where the table asks for a vector, and only there.
    Vector(Vec<Operand>),
    /// `d|p`: two destinations.
    Pair(Box<Operand>, Box<Operand>),
    /// `_`: a destination nobody reads.
    Sink,
    /// `[base+offset]`.
    Memory(Address),
    /// `[map, {c0, c1, ...}]`: a tensor map and coordinates, innermost first.
    Tensor {
        /// Where the tensor map is.
        map: Address,
        /// Signed 32-bit coordinates.
        coordinates: Vec<Operand>,
    },
    /// The address of a symbol plus bytes, as a value: `mov.u64 %rd1, name+8`.
    Symbol(Symbol, i64),
    /// A label of the function: a branch target.
    Label(LabelId),
    /// The lists of `call`, and the targets of `brx.idx`. A call always has three or four operands:
    /// the list of results, the function, the list of arguments (each maybe empty), and for an indirect
    /// call the list of functions or the prototype.
    List(Vec<Operand>),
    /// `.callprototype` of an indirect call, as an index into [`crate::Body::prototypes`].
    Prototype(u32),
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// Its guard, if any.
    pub guard: Option<Guard>,
    /// The row of the table that it matched; gives opcode and operand signature.
    pub form: &'static Form,
    /// Modifiers in the order written, types and shapes included: `.rn`, `.ftz`, `.f32`.
    pub modifiers: Vec<Modifier>,
    /// Operands in the order written.
    pub operands: Vec<Operand>,
    /// Line in the PTX text, from 1; 0 if it was not parsed from text.
    pub line: u32,
    /// Place in the CUDA source, where `.loc` gave one.
    pub location: Option<Location>,
}

impl Instruction {
    /// The opcode.
    pub fn opcode(&self) -> Opcode {
        self.form.opcode
    }

    /// Whether a modifier is there.
    pub fn has(&self, modifier: Modifier) -> bool {
        self.modifiers.contains(&modifier)
    }

    /// The types among the modifiers, in the order written: `cvt.rn.f16.f32` gives f16 and f32.
    pub fn types(&self) -> impl Iterator<Item = Type> + '_ {
        self.modifiers.iter().filter_map(|m| m.as_type())
    }

    /// The first type among the modifiers; most instructions have exactly one.
    pub fn ty(&self) -> Option<Type> {
        self.types().next()
    }
}
