//! Every row of the table can be written, read, verified and printed.

use zeroforge_ptx::table::{self, Count, Form, Kind, Modifier, OperandSpec, Presence, Ty};
use zeroforge_ptx::{Opcode, Type};

const REGISTERS: &str = ".reg .pred %p<300>; .reg .b8 %c<300>; .reg .b16 %h<300>;
    .reg .b32 %r<300>; .reg .b64 %rd<300>; .reg .b128 %q<300>;";

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

#[test]
fn every_row_can_be_written() {
    let mut text = format!(
        ".version 8.8\n.target sm_90a\n.address_size 64\n.global .b32 variable[4];
        .entry k() {{ {REGISTERS}\n"
    );
    let mut count = 0;
    for form in table::forms() {
        if matches!(form.opcode, Opcode::Call | Opcode::BrxIdx) {
            continue;
        }
        let mut state = 1usize;
        for _ in 0..40 {
            let mnemonic = form.compiled().expect("compiled").example(&mut |n| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) % n.max(1)
            });
            let (_, modifiers) = table::find(&mnemonic).expect("a row");
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
                        operand(form, s, *kind.expect("a kind"), &modifiers)
                    })
                    .collect();
                text.push_str(&format!("{mnemonic} {};\n", operands.join(", ")));
                count += 1;
            }
        }
    }
    text.push_str("END: ret; }\n");
    let module = zeroforge_ptx::parse(&text).unwrap_or_else(|e| {
        let line = text.lines().nth(e.line as usize - 1).unwrap_or_default();
        panic!("{e}\n{line}")
    });
    let body = module.functions[0].body.as_ref().expect("a body");
    assert_eq!(body.instructions.len(), count + 1);
    zeroforge_ptx::verify(&module).unwrap_or_else(|e| panic!("{e}"));
    let printed = zeroforge_ptx::print(&module);
    let again = zeroforge_ptx::parse(&printed).unwrap_or_else(|e| panic!("printed:{e}"));
    assert_eq!(zeroforge_ptx::print(&again), printed);
}
