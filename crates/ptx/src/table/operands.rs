//! Operand signatures: `d:T, a:T, b:T`.
//!
//! An item is `name:kinds`, `name?:kinds` (may be left out) or `name[.modifier]:kinds` (there exactly
//! if the modifier is). `d:T|p:pred` is a pair, `d:T|p?:pred` one whose second may be left out. Names
//! that start with `d` are written; `dc` is read too. Kinds are separated by `/`:
//!
//! | kind | operand |
//! |---|---|
//! | `T`, `T2`, `T3`, `T4` | a value of the first, second... type of the mnemonic |
//! | `W` | a value of twice the bits of `T` |
//! | `u32`, `pred`... | a value of that type |
//! | `~T` | like `T`, but the register may be wider, or of another kind |
//! | `v~T` | `~T`, or with `.v2`, `.v4`, `.v8` a vector of them |
//! | `{T}` | a vector whose parts fill `T` |
//! | `b32*4`, `f32*N/2`, `b32*X` | a vector; N of the shape; X of `.x1`, `.x2`, `.x4` |
//! | `imm`, `imm(0..15)` | an integer constant, in a range |
//! | `mem` | `[address]` |
//! | `tensor` | `[map, {coordinates}]` |
//! | `sym` | the address of a variable or function |
//! | `label`, `func`, `list` | a branch target, a function to call, `(a, b)` |

use super::Modifier;
use crate::types::Type;

/// What an instruction does with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It reads it.
    Read,
    /// It writes it.
    Write,
    /// It reads, then writes it.
    ReadWrite,
}

/// When an operand is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    Always,
    /// If the author wants.
    Optional,
    /// Exactly if the instruction has the modifier.
    With(Modifier),
}

/// The type of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    /// This type.
    Fixed(Type),
    /// The type of this index in the mnemonic.
    Nth(usize),
    /// Twice as wide as the first type of the mnemonic.
    Wide,
}

/// Number of elements of a vector operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// This many.
    Fixed(u16),
    /// N of the shape, divided.
    ShapeN(u16),
    /// From `.x1`, `.x2` or `.x4`; 1 without.
    X,
    /// From `.v2`, `.v4` or `.v8`; a scalar without.
    V,
}

/// A kind of operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A register, special register or constant.
    Value {
        /// Its type.
        ty: Ty,
        /// Whether a register may be wider or of another kind of type.
        relaxed: bool,
    },
    /// A vector of values.
    Vector {
        /// Type of an element.
        ty: Ty,
        /// As in [`Kind::Value`].
        relaxed: bool,
        /// How many.
        count: Count,
    },
    /// A vector whose elements fill the type together.
    Pack(Ty),
    /// An integer constant in a range, ends included.
    Immediate(i64, i64),
    /// `[address]`.
    Memory,
    /// `[map, {coordinates}]`.
    Tensor,
    /// The address of a variable or function.
    Symbol,
    /// A branch target.
    Label,
    /// A function, or a register that holds its address.
    Function,
    /// `(a, b)`.
    List,
}

/// One operand of a form.
#[derive(Clone, Debug, PartialEq)]
pub struct OperandSpec {
    /// Its name in the signature.
    pub name: &'static str,
    /// What is done with it.
    pub role: Role,
    /// When it is there.
    pub presence: Presence,
    /// What it may be.
    pub kinds: Vec<Kind>,
    /// The `p` of `d|p`: its type, and whether it may be left out.
    pub second: Option<(Ty, bool)>,
}

/// Compiles a signature.
pub fn compile(text: &'static str) -> Result<Vec<OperandSpec>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(", ").map(operand).collect()
}

fn operand(text: &'static str) -> Result<OperandSpec, String> {
    let (first, second) = match text.split_once('|') {
        Some((a, b)) => (a, Some(b)),
        None => (text, None),
    };
    // `name[.L2::cache_hint]:kind`: the modifier has colons of its own.
    let (name, presence, kinds) = match first.split_once('[') {
        Some((name, rest)) => {
            let (with, kinds) = rest.split_once("]:").ok_or("`]:` is missing")?;
            let modifier = Modifier::from_text(with.trim_start_matches('.'))
                .ok_or_else(|| format!("no modifier `{with}`"))?;
            (name, Presence::With(modifier), kinds)
        }
        None => {
            let (name, kinds) = first.split_once(':').ok_or("`:` is missing")?;
            match name.strip_suffix('?') {
                Some(name) => (name, Presence::Optional, kinds),
                None => (name, Presence::Always, kinds),
            }
        }
    };
    let role = match name {
        "dc" => Role::ReadWrite,
        _ if name.starts_with('d') => Role::Write,
        _ => Role::Read,
    };
    let kinds = kinds.split('/').fold(Vec::new(), |mut all: Vec<String>, part| {
        // `f32*N/2` has a slash of its own.
        match all.last_mut() {
            Some(last) if last.ends_with("*N") => *last += &format!("/{part}"),
            _ => all.push(part.to_owned()),
        }
        all
    });
    let kinds: Result<Vec<Kind>, String> = kinds.iter().map(|k| kind(k)).collect();
    let second = match second {
        None => None,
        Some(text) => {
            let (name, kind) = text.split_once(':').ok_or("`:` is missing in a pair")?;
            Some((ty(kind)?, name.ends_with('?')))
        }
    };
    Ok(OperandSpec { name, role, presence, kinds: kinds?, second })
}

fn kind(text: &str) -> Result<Kind, String> {
    Ok(match text {
        "imm" => Kind::Immediate(i64::MIN, i64::MAX),
        "mem" => Kind::Memory,
        "tensor" => Kind::Tensor,
        "sym" => Kind::Symbol,
        "label" => Kind::Label,
        "func" => Kind::Function,
        "list" => Kind::List,
        _ => {
            if let Some(range) = text.strip_prefix("imm(").and_then(|t| t.strip_suffix(')')) {
                let (low, high) = range.split_once("..").ok_or("`..` is missing")?;
                let number = |t: &str| t.parse::<i64>().map_err(|e| format!("`{t}`: {e}"));
                return Ok(Kind::Immediate(number(low)?, number(high)?));
            }
            if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
                return Ok(Kind::Pack(ty(inner)?));
            }
            if let Some(inner) = text.strip_prefix("v~") {
                return Ok(Kind::Vector { ty: ty(inner)?, relaxed: true, count: Count::V });
            }
            if let Some(inner) = text.strip_prefix('~') {
                return Ok(Kind::Value { ty: ty(inner)?, relaxed: true });
            }
            if let Some((inner, count)) = text.split_once('*') {
                let count = match (count, count.strip_prefix("N/")) {
                    ("X", _) => Count::X,
                    ("V", _) => Count::V,
                    (_, Some(by)) => Count::ShapeN(by.parse().map_err(|e| format!("{e}"))?),
                    (n, None) => Count::Fixed(n.parse().map_err(|e| format!("`{n}`: {e}"))?),
                };
                return Ok(Kind::Vector { ty: ty(inner)?, relaxed: false, count });
            }
            Kind::Value { ty: ty(text)?, relaxed: false }
        }
    })
}

fn ty(text: &str) -> Result<Ty, String> {
    Ok(match text {
        "T" => Ty::Nth(0),
        "T2" => Ty::Nth(1),
        "T3" => Ty::Nth(2),
        "T4" => Ty::Nth(3),
        "W" => Ty::Wide,
        _ => Ty::Fixed(Type::from_text(text).ok_or_else(|| format!("no type `{text}`"))?),
    })
}
