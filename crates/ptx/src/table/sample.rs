//! Texts of instructions made from rows of the table: for tests of whatever reads the table, and for the
//! coverage page.

use super::{Count, Form, Kind, Modifier, Opcode, OperandSpec, Presence, Ty, find};
use crate::types::Type;

/// Declarations that the texts of [`samples`] need: registers inside the function, the variable at module
/// scope. The label `END` must exist.
pub const REGISTERS: &str = ".reg .pred %p<300>; .reg .b8 %c<300>; .reg .b16 %h<300>; \
    .reg .b32 %r<300>; .reg .b64 %rd<300>; .reg .b128 %q<300>;";
/// See [`REGISTERS`].
pub const VARIABLE: &str = ".global .b32 variable[4];";

/// A register of as many bits; for `ld` and its like a wider one, since none has 8.
fn register(ty: Type, relaxed: bool, index: usize) -> String {
    let bank = match ty.bits() {
        1 => "p",
        8 if relaxed => "h",
        8 => "c",
        16 => "h",
        32 => "r",
        64 => "rd",
        128 => "q",
        bits => panic!("{bits} bits"),
    };
    format!("%{bank}{index}")
}

fn vector(ty: Type, relaxed: bool, count: usize) -> String {
    let elements: Vec<String> = (0..count).map(|i| register(ty, relaxed, i)).collect();
    format!("{{{}}}", elements.join(", "))
}

fn resolve(ty: Ty, types: &[Type]) -> Type {
    match ty {
        Ty::Fixed(ty) => ty,
        Ty::Nth(n) => types[n],
        Ty::Wide => match types[0].bits() {
            16 => Type::B32,
            _ => Type::B64,
        },
    }
}

fn operand(form: &Form, spec: &OperandSpec, kind: Kind, modifiers: &[Modifier]) -> String {
    let types: Vec<Type> = modifiers.iter().filter_map(|m| m.as_type()).collect();
    let has = |m: Modifier| modifiers.contains(&m);
    let text = match kind {
        Kind::Value { ty, relaxed } => register(resolve(ty, &types), relaxed, 0),
        Kind::Vector { ty, relaxed, count } => {
            let ty = resolve(ty, &types);
            let shape = modifiers.iter().find_map(|m| match m {
                Modifier::Shape { n, .. } => Some(usize::from(*n)),
                _ => None,
            });
            let count = match count {
                Count::Fixed(n) => Some(usize::from(n)),
                Count::ShapeN(by) => Some(shape.expect("a shape") / usize::from(by)),
                Count::X if has(Modifier::X4) => Some(4),
                Count::X if has(Modifier::X2) => Some(2),
                Count::X => Some(1),
                Count::V if has(Modifier::V8) => Some(8),
                Count::V if has(Modifier::V4) => Some(4),
                Count::V if has(Modifier::V2) => Some(2),
                Count::V => None,
            };
            match count {
                Some(count) => vector(ty, relaxed, count),
                None => register(ty, relaxed, 0),
            }
        }
        Kind::Pack(ty) => match resolve(ty, &types).bits() {
            128 => "{%rd1, %rd2}".to_owned(),
            64 => "{%r1, %r2}".to_owned(),
            32 => "{%h1, %h2}".to_owned(),
            16 => "{%c1, %c2}".to_owned(),
            _ => register(resolve(ty, &types), false, 0),
        },
        Kind::Immediate(low, high) => match spec.name {
            "scale_a" | "scale_b" => "-1".to_owned(),
            _ if low == high || form.opcode == Opcode::CpAsync => high.to_string(),
            _ if spec.name == "align" => "8".to_owned(),
            _ => low.max(0).to_string(),
        },
        Kind::Memory => "[%rd0+16]".to_owned(),
        Kind::Tensor => {
            let dims = [Modifier::Dim1, Modifier::Dim2, Modifier::Dim3, Modifier::Dim4];
            let count = dims.iter().position(|d| has(*d)).unwrap_or(4) + 1;
            format!("[%rd0, {}]", vector(Type::S32, false, count))
        }
        Kind::Symbol => match types.first().map(|t| t.bits()) {
            Some(32 | 64) => "variable+4".to_owned(),
            _ => register(types[0], false, 0),
        },
        Kind::Label => "END".to_owned(),
        Kind::Function | Kind::List => unreachable!("calls have tests of their own"),
    };
    match spec.second {
        Some((ty, _)) => format!("{text}|{}", register(resolve(ty, &types), false, 1)),
        None => text,
    }
}

/// Instructions of a row, each ending with a semicolon: `count` mnemonics drawn with a fixed seed, every one
/// with the shortest and the longest operands. Empty for `call` and `brx.idx`, which need more around them.
///
/// # Panics
/// If the row contradicts itself, which a test of the table excludes.
pub fn samples(form: &'static Form, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    if matches!(form.opcode, Opcode::Call | Opcode::BrxIdx) {
        return texts;
    }
    let mut state = 1usize;
    for _ in 0..count {
        let mnemonic = form.compiled().expect("a row compiles").example(&mut |n| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n.max(1)
        });
        let (_, modifiers) = find(&mnemonic).expect("a mnemonic of a row is found");
        for pick in [false, true] {
            let there = form.operand_specs().iter().filter(|s| match s.presence {
                Presence::Always => true,
                // One constant says how B lies if A is in registers, which is the last kind.
                Presence::Optional if s.name == "trans_b" => !pick,
                Presence::Optional => pick || s.name == "trans_a",
                Presence::With(modifier) => modifiers.contains(&modifier),
            });
            let operands: Vec<String> = there
                .map(|s| {
                    let kind = if pick { s.kinds.last() } else { s.kinds.first() };
                    operand(form, s, *kind.expect("an operand has a kind"), &modifiers)
                })
                .collect();
            texts.push(format!("{mnemonic} {};", operands.join(", ")));
        }
    }
    texts
}
