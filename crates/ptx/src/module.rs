//! Modules, functions and variables as data.
//!
//! Scopes are flattened: a register or label that is declared in an inner `{ ... }` is an entry of the
//! function like any other. Names may therefore repeat; the printer makes them distinct.

use crate::instruction::Instruction;
use crate::types::{StateSpace, Type};

/// Index into [`Body::registers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegisterId(pub u32);

/// Index into [`Body::labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId(pub u32);

/// What a name stands for where it is not a register or a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// Index into [`Module::variables`].
    Global(u32),
    /// Index into [`Body::variables`]: shared, local and param variables of the function.
    Local(u32),
    /// Index into [`Function::params`].
    Param(u32),
    /// Index into [`Function::returns`].
    Return(u32),
    /// Index into [`Module::functions`].
    Function(u32),
}

/// Line of a CUDA source, from `.loc` (PTX ISA 11.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Index into [`Module::files`].
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
    /// Where the function that holds the line was inlined, as an index into [`Body::inlined_at`].
    pub inlined_at: Option<u32>,
}

/// How a symbol is seen from other modules (PTX ISA 11.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Linkage {
    #[default]
    None,
    Visible,
    Extern,
    Weak,
    Common,
}

/// A source file named by `.file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Number that `.loc` uses in the text.
    pub number: u32,
    /// Path as written.
    pub path: String,
}

/// One element of an initialiser.
#[derive(Clone, Debug, PartialEq)]
pub enum InitialValue {
    /// Bytes, little-endian, already in the variable's type.
    Bytes(Vec<u8>),
    /// The address of a symbol plus bytes; `generic` where it was `generic(name)`.
    Address {
        /// The symbol.
        symbol: Symbol,
        /// Bytes added.
        offset: i64,
        /// Whether the generic address is meant.
        generic: bool,
        /// Bytes that the element takes.
        size: u32,
    },
}

/// A variable or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Name as written.
    pub name: String,
    /// Where it lives.
    pub space: StateSpace,
    /// Linkage.
    pub linkage: Linkage,
    /// Alignment in bytes; the natural one of the type where the text gives none.
    pub align: u32,
    /// Element type.
    pub ty: Type,
    /// 1, 2 or 4 for `.v2` and `.v4`.
    pub vector: u32,
    /// Array dimensions, outermost first; empty for a scalar. `name[]` has a first dimension of 0.
    pub dims: Vec<u64>,
    /// Initial contents in order; what is not covered is zero.
    pub init: Vec<InitialValue>,
    /// `.ptr` attributes of a kernel parameter: the space it points to and the alignment.
    pub pointer: Option<(StateSpace, u32)>,
    /// `.attribute(.managed)`.
    pub managed: bool,
}

impl Variable {
    /// Size in bytes; 0 for `name[]`. Saturates.
    pub fn bytes(&self) -> u64 {
        let element = u64::from(self.ty.bytes().max(1)) * u64::from(self.vector);
        self.dims.iter().fold(element, |a, &d| a.saturating_mul(d))
    }
}

/// A declared register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Name as written, with its `%`.
    pub name: String,
    /// Type.
    pub ty: Type,
}

/// A label and where it points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Name as written.
    pub name: String,
    /// Index of the instruction that follows it; the number of instructions at the end.
    pub position: u32,
}

/// `.callprototype`: what a function that is called by address takes and returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prototype {
    /// Return parameters.
    pub returns: Vec<Variable>,
    /// Parameters.
    pub params: Vec<Variable>,
    /// `.noreturn`.
    pub noreturn: bool,
}

/// `.branchtargets` and `.calltargets` inside a body are kept as resolved lists on the instructions
/// that use them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// All registers of the function. Returns and parameters in [`StateSpace::Register`] come first.
    pub registers: Vec<Register>,
    /// All labels of the function.
    pub labels: Vec<Label>,
    /// Shared, local, param and const variables declared inside.
    pub variables: Vec<Variable>,
    /// Places at which functions were inlined; `.loc`'s `inlined_at`.
    pub inlined_at: Vec<Location>,
    /// For each of `inlined_at`, what was inlined there: the label of the name in `.debug_str`.
    pub inlined_functions: Vec<String>,
    /// `.callprototype` declarations that are used.
    pub prototypes: Vec<Prototype>,
    /// Instructions in order.
    pub instructions: Vec<Instruction>,
    /// `.pragma` strings, and before which instruction each stands.
    pub pragmas: Vec<(u32, String)>,
}

impl Body {
    /// A register's name and type.
    pub fn register(&self, id: RegisterId) -> Option<&Register> {
        self.registers.get(id.0 as usize)
    }

    /// A label's name and place.
    pub fn label(&self, id: LabelId) -> Option<&Label> {
        self.labels.get(id.0 as usize)
    }
}

/// Performance-tuning and cluster directives of an entry (PTX ISA 11.4, 11.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `.maxntid`.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks: Option<u32>,
    /// `.maxnctapersm`.
    pub max_blocks: Option<u32>,
    /// `.maxnreg`.
    pub max_registers: Option<u32>,
    /// `.reqnctapercluster`.
    pub required_cluster: Option<[u32; 3]>,
    /// `.maxclusterrank`.
    pub max_cluster: Option<u32>,
    /// `.explicitcluster`.
    pub explicit_cluster: bool,
    /// `.blocksareclusters`.
    pub blocks_are_clusters: bool,
}

/// A kernel or a device function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Name.
    pub name: String,
    /// `.entry`: can be launched.
    pub entry: bool,
    /// Linkage.
    pub linkage: Linkage,
    /// `.noreturn`.
    pub noreturn: bool,
    /// Return parameters of a `.func`.
    pub returns: Vec<Variable>,
    /// Parameters.
    pub params: Vec<Variable>,
    /// Directives.
    pub limits: Limits,
    /// None for a declaration.
    pub body: Option<Body>,
}

/// A PTX module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// `.version`.
    pub version: (u32, u32),
    /// `.target` names in order: `sm_90a`, `debug`.
    pub targets: Vec<String>,
    /// `.address_size`: 32 or 64.
    pub address_size: u32,
    /// `.file` directives.
    pub files: Vec<SourceFile>,
    /// Variables at module scope.
    pub variables: Vec<Variable>,
    /// Functions in order, declarations merged into their definitions.
    pub functions: Vec<Function>,
    /// `.alias`: a declared function and the function that it stands for, as indices.
    pub aliases: Vec<(u32, u32)>,
    /// Debug sections (`.section`), name and text as written, kept for printing.
    pub sections: Vec<(String, String)>,
}

impl Module {
    /// The function of a name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }

    /// Kernels that have a body.
    pub fn entries(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|f| f.entry && f.body.is_some())
    }
}
