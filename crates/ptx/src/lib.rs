//! PTX as a language: the instruction table ([`table`]), modules as data ([`module`], [`instruction`]),
//! and the ways in and out of text ([`parse()`], [`print()`], [`verify()`]).
//!
//! The table is the only place that says which instructions exist. The parser, the printer, the
//! verifier, the emulator's dispatch and the coverage page all read it.
//!
//! Section numbers are those of NVIDIA's PTX ISA 9.1.

#![forbid(unsafe_code)]

pub mod instruction;
pub mod module;
mod parse;
mod print;
pub mod table;
pub mod types;
mod verify;

pub use instruction::{Address, Base, Guard, Immediate, Instruction, Operand};
pub use module::{Body, Function, LabelId, Location, Module, RegisterId, Symbol, Variable};
pub use parse::{ParseError, parse};
pub use print::{InstructionPrinter, display_instruction, print};
pub use table::{Form, Modifier, Opcode};
pub use types::{SpecialRegister, StateSpace, Type};
pub use verify::{Problem, VerifyError, verify};
