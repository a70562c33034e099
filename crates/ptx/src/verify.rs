//! Whether a module keeps the rules that the table states: operands, types, targets, labels.
//!
//! The parser accepts what can be written; this says whether it means something. Both are needed
//! before a module is run.

use std::fmt;

use crate::instruction::{Address, Base, Immediate, Instruction, Operand};
use crate::module::{Body, Function, Module, RegisterId, Symbol, Variable};
use crate::print::display_instruction;
use crate::table::{Arch, Count, Kind, Modifier, OperandSpec, Presence, Role, Ty};
use crate::types::{StateSpace, Type};

/// Most problems that are listed.
const MAX_PROBLEMS: usize = 100;

/// One rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The function; empty at module scope.
    pub function: String,
    /// Line in the PTX text; 0 if unknown.
    pub line: u32,
    /// The instruction as text; empty where it is not about one.
    pub instruction: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.function.is_empty() {
            write!(f, "in `{}`", self.function)?;
            if self.line > 0 {
                write!(f, ", line {}", self.line)?;
            }
            f.write_str(": ")?;
        }
        if !self.instruction.is_empty() {
            write!(f, "`{}`: ", self.instruction)?;
        }
        f.write_str(&self.message)
    }
}

/// The rules that a module breaks; the first hundred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(problems))]
pub struct VerifyError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Checks a module.
///
/// # Errors
///
/// All rules that are broken, in the order of the text.
pub fn verify(module: &Module) -> Result<(), VerifyError> {
    let mut problems = Vec::new();
    let target = target(module);
    if target.is_none() {
        let names = module.targets.join(", ");
        let message = format!("`.target {names}` names no architecture; write one like `sm_90a`");
        let (function, instruction) = (String::new(), String::new());
        problems.push(Problem { function, line: 0, instruction, message });
    }
    let target = target.unwrap_or(Target { number: u32::MAX, own: true });
    for function in &module.functions {
        let Some(body) = &function.body else { continue };
        let checker = Checker { module, function, body, target };
        for instruction in &body.instructions {
            let Err(message) = checker.instruction(instruction) else { continue };
            problems.push(Problem {
                function: function.name.clone(),
                line: instruction.line,
                instruction: shorten(display_instruction(module, function, instruction)),
                message,
            });
            if problems.len() == MAX_PROBLEMS {
                return Err(VerifyError { problems });
            }
        }
        if let Some(label) =
            body.labels.iter().find(|l| l.position as usize > body.instructions.len())
        {
            problems.push(Problem {
                function: function.name.clone(),
                line: 0,
                instruction: String::new(),
                message: format!("the label `{}` is past the end of the body", label.name),
            });
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(VerifyError { problems }) }
}

/// A vector of 128 registers says little in a message.
fn shorten(text: String) -> String {
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[derive(Clone, Copy)]
struct Target {
    number: u32,
    /// `sm_90a`: with the features of that architecture alone.
    own: bool,
}

impl Target {
    fn has(self, arch: Arch) -> bool {
        match arch {
            Arch::Sm80 => true,
            Arch::Sm90 => self.number >= 90,
            Arch::Sm90a => self.number == u32::MAX || (self.number == 90 && self.own),
        }
    }
}

fn target(module: &Module) -> Option<Target> {
    module.targets.iter().find_map(|name| {
        let name = name.strip_prefix("sm_").or_else(|| name.strip_prefix("compute_"))?;
        let digits = name.trim_end_matches(|c: char| c.is_ascii_lowercase());
        Some(Target { number: digits.parse().ok()?, own: name.ends_with('a') })
    })
}

struct Checker<'a> {
    module: &'a Module,
    function: &'a Function,
    body: &'a Body,
    target: Target,
}

type Check = Result<(), String>;

impl Checker<'_> {
    fn instruction(&self, instruction: &Instruction) -> Check {
        let form = instruction.form;
        if !self.target.has(form.arch) {
            let needed = match form.arch {
                Arch::Sm80 => "sm_80",
                Arch::Sm90 => "sm_90",
                Arch::Sm90a => "sm_90a",
            };
            let have = self.module.targets.join(", ");
            return Err(format!("it needs `.target {needed}`; the module says `{have}`"));
        }
        if let Some(guard) = instruction.guard
            && self.register(guard.register)? != Type::Pred
        {
            return Err("the guard is not a predicate; compare first, with `setp`".to_owned());
        }
        let specs = self.match_specs(instruction)?;
        transposes(instruction)?;
        for (i, (spec, operand)) in specs.iter().zip(&instruction.operands).enumerate() {
            self.operand(instruction, spec, operand)
                .map_err(|text| format!("operand {} (`{}`): {text}", i + 1, spec.name))?;
        }
        Ok(())
    }

    /// The operands' descriptions: those that may be left out are there from left to right.
    fn match_specs(&self, instruction: &Instruction) -> Result<Vec<&'static OperandSpec>, String> {
        let form = instruction.form;
        let needed = |spec: &&OperandSpec| match spec.presence {
            Presence::Always => true,
            Presence::Optional => false,
            Presence::With(modifier) => instruction.has(modifier),
        };
        let all = form.operand_specs();
        let least = all.iter().filter(needed).count();
        let optional = all.iter().filter(|s| s.presence == Presence::Optional).count();
        let count = instruction.operands.len();
        if count < least || count > least + optional {
            let how = if optional == 0 {
                format!("{least}")
            } else {
                format!("{least} to {}", least + optional)
            };
            return Err(format!(
                "it has {count} operands and takes {how}: `{}`",
                if form.operands.is_empty() { "none" } else { form.operands }
            ));
        }
        let mut spare = count - least;
        Ok(all
            .iter()
            .filter(|spec| {
                let optional = spec.presence == Presence::Optional && spare > 0;
                spare -= usize::from(optional);
                optional || needed(spec)
            })
            .collect())
    }

    fn register(&self, id: RegisterId) -> Result<Type, String> {
        let register = self.body.registers.get(id.0 as usize);
        register.map(|r| r.ty).ok_or_else(|| format!("there is no register {}", id.0))
    }

    fn variable(&self, symbol: Symbol) -> Result<&Variable, String> {
        let found = match symbol {
            Symbol::Global(i) => self.module.variables.get(i as usize),
            Symbol::Local(i) => self.body.variables.get(i as usize),
            Symbol::Param(i) => self.function.params.get(i as usize),
            Symbol::Return(i) => self.function.returns.get(i as usize),
            Symbol::Function(_) => None,
        };
        found.ok_or_else(|| "the symbol is not a variable".to_owned())
    }

    fn symbol(&self, symbol: Symbol) -> Check {
        match symbol {
            Symbol::Function(i) if (i as usize) < self.module.functions.len() => Ok(()),
            symbol => self.variable(symbol).map(drop),
        }
    }

    fn operand(&self, at: &Instruction, spec: &OperandSpec, operand: &Operand) -> Check {
        if let Operand::Pair(first, second) = operand {
            let Some((ty, _)) = spec.second else {
                return Err("a pair `a|b` has no meaning here".to_owned());
            };
            self.kinds(at, spec, first)?;
            let ty = resolve(at, ty)?;
            return match &**second {
                Operand::Sink => Ok(()),
                Operand::Register(r) => fits(self.register(*r)?, ty, false),
                _ => Err("the second of a pair is a register or `_`".to_owned()),
            };
        }
        if let Some((_, false)) = spec.second {
            return Err("it needs a second destination: `d|p`".to_owned());
        }
        self.kinds(at, spec, operand)
    }

    /// One of the kinds fits, or the message of the first.
    fn kinds(&self, at: &Instruction, spec: &OperandSpec, operand: &Operand) -> Check {
        let mut first = None;
        for kind in &spec.kinds {
            match self.kind(at, spec, *kind, operand) {
                Ok(()) => return Ok(()),
                Err(text) => {
                    // The most telling message is that of the kind that is written like the operand.
                    let alike = match (kind, operand) {
                        (Kind::Vector { .. } | Kind::Pack(_), Operand::Vector(_)) => true,
                        (Kind::Symbol, Operand::Symbol(..)) => true,
                        (_, Operand::Vector(_) | Operand::Symbol(..)) => false,
                        (Kind::Value { .. }, _) => true,
                        _ => false,
                    };
                    if first.is_none() || alike {
                        first = Some(text);
                    }
                }
            }
        }
        Err(first.unwrap_or_else(|| "nothing fits here".to_owned()))
    }

    fn kind(&self, at: &Instruction, spec: &OperandSpec, kind: Kind, operand: &Operand) -> Check {
        let written = spec.role != Role::Read;
        match kind {
            Kind::Value { ty, relaxed } => self.value(operand, resolve(at, ty)?, relaxed, written),
            Kind::Vector { ty, relaxed, count } => {
                let ty = resolve(at, ty)?;
                let Some(count) = resolve_count(at, count)? else {
                    return self.value(operand, ty, relaxed, written);
                };
                match operand {
                    Operand::Vector(elements) if elements.len() == count => {
                        elements.iter().try_for_each(|e| self.value(e, ty, relaxed, written))
                    }
                    Operand::Vector(elements) => Err(format!(
                        "the vector has {} elements and should have {count}",
                        elements.len()
                    )),
                    single if count == 1 => self.value(single, ty, relaxed, written),
                    _ => Err(format!("a vector of {count} `.{}` is needed", ty.text())),
                }
            }
            Kind::Pack(ty) => {
                let Operand::Vector(elements) = operand else {
                    return Err("a vector is needed".to_owned());
                };
                self.pack(elements, resolve(at, ty)?, written)
            }
            Kind::Immediate(low, high) => match operand {
                Operand::Immediate(Immediate::Integer(n)) if (low..=high).contains(n) => {
                    self.immediate_rules(at, spec, *n)
                }
                Operand::Immediate(Immediate::Integer(n)) => {
                    Err(format!("{n} is not in {low} to {high}"))
                }
                _ => Err("an integer constant is needed".to_owned()),
            },
            Kind::Memory => match operand {
                Operand::Memory(address) => self.memory(at, address),
                _ => Err("an address `[...]` is needed".to_owned()),
            },
            Kind::Tensor => match operand {
                Operand::Tensor { map, coordinates } => {
                    self.address(map)?;
                    let dims = dimensions(at);
                    if coordinates.len() != dims {
                        let count = coordinates.len();
                        return Err(format!("{count} coordinates for {dims} dimensions"));
                    }
                    coordinates.iter().try_for_each(|c| self.value(c, Type::S32, false, false))
                }
                _ => Err("a tensor `[map, {coordinates}]` is needed".to_owned()),
            },
            Kind::Symbol => match operand {
                Operand::Symbol(symbol, _) => {
                    self.symbol(*symbol)?;
                    match at.ty().map(Type::bits) {
                        Some(32 | 64) => Ok(()),
                        _ => Err("an address has 32 or 64 bits".to_owned()),
                    }
                }
                _ => Err("a symbol is needed".to_owned()),
            },
            Kind::Label => self.label(operand),
            Kind::Function => match operand {
                Operand::Symbol(Symbol::Function(i), 0)
                    if (*i as usize) < self.module.functions.len() =>
                {
                    self.callee(at, *i as usize)
                }
                Operand::Register(r) if matches!(self.register(*r)?.bits(), 32 | 64) => {
                    self.indirect(at)
                }
                _ => Err("a function, or a register with its address, is needed".to_owned()),
            },
            Kind::List => self.list(at, operand),
        }
    }

    fn label(&self, operand: &Operand) -> Check {
        match operand {
            Operand::Label(l) if (l.0 as usize) < self.body.labels.len() => Ok(()),
            Operand::Label(l) => Err(format!("there is no label {}", l.0)),
            _ => Err("a label is needed".to_owned()),
        }
    }

    fn list(&self, at: &Instruction, operand: &Operand) -> Check {
        let branch = at.opcode() == crate::table::Opcode::BrxIdx;
        match operand {
            Operand::List(list) if branch && list.is_empty() => {
                Err("the list of targets is empty".to_owned())
            }
            Operand::List(list) if branch => list.iter().try_for_each(|t| self.label(t)),
            Operand::List(list) => list.iter().try_for_each(|element| match element {
                Operand::Register(r) => self.register(*r).map(drop),
                Operand::Symbol(symbol, 0) => self.symbol(*symbol),
                Operand::Immediate(_) | Operand::Special(_) | Operand::Sink => Ok(()),
                _ => Err("this cannot be given to a function".to_owned()),
            }),
            Operand::Prototype(i) if (*i as usize) < self.body.prototypes.len() => Ok(()),
            _ => Err("a list is needed".to_owned()),
        }
    }

    /// An indirect call: its prototype, or each function that it may reach.
    fn indirect(&self, at: &Instruction) -> Check {
        match at.operands.get(3) {
            Some(Operand::Prototype(i)) => match self.body.prototypes.get(*i as usize) {
                Some(p) => arguments(at, "the prototype", p.returns.len(), p.params.len()),
                None => Err(format!("there is no prototype {i}")),
            },
            Some(Operand::List(targets)) => targets.iter().try_for_each(|target| match target {
                Operand::Symbol(Symbol::Function(i), 0) => self.callee(at, *i as usize),
                _ => Err("a target is a function".to_owned()),
            }),
            _ => Err("an indirect call needs a prototype or targets".to_owned()),
        }
    }

    fn callee(&self, at: &Instruction, index: usize) -> Check {
        match self.module.functions.get(index) {
            Some(f) => arguments(at, &format!("`{}`", f.name), f.returns.len(), f.params.len()),
            None => Err(format!("there is no function {index}")),
        }
    }

    fn value(&self, operand: &Operand, ty: Type, relaxed: bool, written: bool) -> Check {
        match operand {
            Operand::Register(r) => fits(self.register(*r)?, ty, relaxed),
            Operand::Sink if written => Ok(()),
            _ if written => Err("a register is needed as destination".to_owned()),
            Operand::Not(r) if ty == Type::Pred => fits(self.register(*r)?, ty, false),
            Operand::Not(_) => Err("`!` is for predicates".to_owned()),
            Operand::Special(special) => {
                // Both halves of a clock can be read; 64-bit ones also as 32 bits in older text.
                let own = special.ty();
                let ok = own.bits() == ty.bits() || (own.bits() == 64 && ty.bits() == 32);
                if ok && !ty.is_float() {
                    return Ok(());
                }
                Err(format!("`{}` has {} bits", special.text(), own.bits()))
            }
            Operand::Immediate(value) => immediate(*value, ty),
            _ => Err(format!("a register or constant of type `.{}` is needed", ty.text())),
        }
    }

    fn pack(&self, elements: &[Operand], ty: Type, written: bool) -> Check {
        let count = elements.len() as u32;
        if !matches!(count, 2 | 4 | 8) || !ty.bits().is_multiple_of(count) {
            return Err(format!("{count} elements do not fill `.{}`", ty.text()));
        }
        let bits = ty.bits() / count;
        elements.iter().try_for_each(|element| match element {
            Operand::Register(r) => {
                let own = self.register(*r)?;
                if own.bits() == bits {
                    return Ok(());
                }
                Err(format!("an element has {} bits; {bits} are needed", own.bits()))
            }
            Operand::Sink if written => Ok(()),
            Operand::Immediate(_) if !written => Ok(()),
            _ => Err("an element is a register".to_owned()),
        })
    }

    fn address(&self, address: &Address) -> Check {
        match address.base {
            Base::Register(r) => {
                let ty = self.register(r)?;
                if matches!(ty.bits(), 32 | 64) && !ty.is_float() {
                    return Ok(());
                }
                Err(format!("an address in a register of type `.{}`", ty.text()))
            }
            Base::Symbol(symbol) => self.variable(symbol).map(drop),
            Base::Absolute => Ok(()),
        }
    }

    /// An address, and that a named variable is in the space that the instruction names.
    fn memory(&self, at: &Instruction, address: &Address) -> Check {
        self.address(address)?;
        let Base::Symbol(symbol) = address.base else { return Ok(()) };
        let variable = self.variable(symbol)?;
        if variable.space == StateSpace::Register {
            return Err(format!("`{}` is a register parameter", variable.name));
        }
        let named: Vec<StateSpace> = at.modifiers.iter().filter_map(|m| space(*m)).collect();
        let shared = |s: &StateSpace| matches!(s, StateSpace::Shared | StateSpace::SharedCluster);
        let ok = named.is_empty()
            || named.contains(&variable.space)
            || (variable.space == StateSpace::Shared && named.iter().any(shared));
        if ok {
            return Ok(());
        }
        let own = variable.space.text();
        Err(format!("`{}` is in `.{own}`, which the instruction does not name", variable.name))
    }

    /// What ranges do not say.
    fn immediate_rules(&self, at: &Instruction, spec: &OperandSpec, n: i64) -> Check {
        use crate::table::Opcode;
        match (at.opcode(), spec.name) {
            (Opcode::Setmaxnreg, _) if n % 8 != 0 => Err(format!("{n} is not a multiple of 8")),
            (Opcode::CpAsync, "size") if !matches!(n, 4 | 8 | 16) => {
                Err(format!("{n} is not 4, 8 or 16"))
            }
            (Opcode::WgmmaMmaAsync | Opcode::WgmmaMmaAsyncSp, "scale_a" | "scale_b") if n == 0 => {
                Err("a scale is 1 or -1".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Counts of what a call gives and takes.
fn arguments(at: &Instruction, callee: &str, returns: usize, params: usize) -> Check {
    let count = |i: usize| match at.operands.get(i) {
        Some(Operand::List(list)) => list.len(),
        _ => 0,
    };
    for (what, given, taken) in [("results", count(0), returns), ("arguments", count(2), params)] {
        if given != taken {
            return Err(format!("{given} {what}, but {callee} has {taken}"));
        }
    }
    Ok(())
}

/// wgmma on halves has a constant for each operand from shared memory that says how it lies.
fn transposes(at: &Instruction) -> Check {
    let specs = at.form.operand_specs();
    let Some(first) = specs.iter().position(|s| s.name == "trans_a") else { return Ok(()) };
    let registers = matches!(at.operands.get(1), Some(Operand::Vector(_)));
    let given = at.operands.len().saturating_sub(first);
    match (registers, given) {
        (true, 1) | (false, 2) => Ok(()),
        (true, _) => {
            Err("A comes from registers: one constant, whether B is transposed".to_owned())
        }
        (false, _) => Err("two constants are needed, whether A and B are transposed".to_owned()),
    }
}

fn space(modifier: Modifier) -> Option<StateSpace> {
    Some(match modifier {
        Modifier::Const => StateSpace::Const,
        Modifier::Global => StateSpace::Global,
        Modifier::Local => StateSpace::Local,
        Modifier::Param | Modifier::ParamEntry | Modifier::ParamFunc => StateSpace::Param,
        Modifier::Shared | Modifier::SharedCta => StateSpace::Shared,
        Modifier::SharedCluster => StateSpace::SharedCluster,
        _ => return None,
    })
}

fn dimensions(at: &Instruction) -> usize {
    let dims = [Modifier::Dim1, Modifier::Dim2, Modifier::Dim3, Modifier::Dim4, Modifier::Dim5];
    dims.iter().position(|d| at.has(*d)).map_or(0, |i| i + 1)
}

fn resolve(at: &Instruction, ty: Ty) -> Result<Type, String> {
    let found = match ty {
        Ty::Fixed(ty) => Some(ty),
        Ty::Nth(n) => at.types().nth(n),
        Ty::Wide => at.ty().and_then(|ty| {
            Some(match ty {
                Type::U16 => Type::U32,
                Type::S16 => Type::S32,
                Type::U32 => Type::U64,
                Type::S32 => Type::S64,
                _ => return None,
            })
        }),
    };
    found.ok_or_else(|| "the instruction has no such type".to_owned())
}

/// None for a scalar.
fn resolve_count(at: &Instruction, count: Count) -> Result<Option<usize>, String> {
    Ok(match count {
        Count::Fixed(n) => Some(usize::from(n)),
        Count::ShapeN(by) => {
            let n = at.modifiers.iter().find_map(|m| match m {
                Modifier::Shape { n, .. } => Some(*n),
                _ => None,
            });
            let n = n.ok_or_else(|| "the instruction has no shape".to_owned())?;
            Some(usize::from(n / by.max(1)))
        }
        Count::X if at.has(Modifier::X4) => Some(4),
        Count::X if at.has(Modifier::X2) => Some(2),
        Count::X => Some(1),
        Count::V if at.has(Modifier::V8) => Some(8),
        Count::V if at.has(Modifier::V4) => Some(4),
        Count::V if at.has(Modifier::V2) => Some(2),
        Count::V => None,
    })
}

/// Whether a register can be an operand of a type (PTX ISA 9.4).
fn fits(register: Type, ty: Type, relaxed: bool) -> Check {
    let wrong = || {
        Err(format!("a register of type `.{}` where `.{}` is needed", register.text(), ty.text()))
    };
    if (register == Type::Pred) != (ty == Type::Pred) {
        return wrong();
    }
    if relaxed {
        // ld, st and cvt take wider registers; a float register takes only its own size.
        let wider = register.bits() > ty.bits() && !register.is_float() && !ty.is_float();
        let bits_of_float = register.bits() > ty.bits() && !register.is_float() && ty.bits() < 32;
        return if register.bits() == ty.bits() || wider || bits_of_float {
            Ok(())
        } else {
            wrong()
        };
    }
    if register.bits() != ty.bits() {
        return wrong();
    }
    // Bits go with everything; integers with integers; packed halves live in bit registers.
    let bits = |t: Type| matches!(t, Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::B128);
    let integer = |t: Type| !t.is_float() && t != Type::Pred;
    if bits(register) || bits(ty) || register == ty || (integer(register) && integer(ty)) {
        return Ok(());
    }
    wrong()
}

fn immediate(value: Immediate, ty: Type) -> Check {
    match value {
        Immediate::Integer(_) if ty == Type::F32 || ty == Type::F64 => {
            Err(format!("an integer constant where `.{}` is needed; write `0f...`", ty.text()))
        }
        Immediate::Integer(_) => Ok(()),
        Immediate::F32(_) if matches!(ty, Type::F32 | Type::B32 | Type::F64 | Type::Tf32) => Ok(()),
        Immediate::F64(_) if matches!(ty, Type::F32 | Type::F64 | Type::B64) => Ok(()),
        _ => Err(format!("a floating-point constant where `.{}` is needed", ty.text())),
    }
}
