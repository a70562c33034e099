//! A [`Module`] as PTX text. Parsing that text gives the module again; lines of the text and repeated
//! names, which are made distinct, are all that differs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use crate::instruction::{Address, Base, Immediate, Instruction, Operand};
use crate::module::{
    Body, Function, InitialValue, Linkage, Location, Module, Prototype, Symbol, Variable,
};
use crate::types::{StateSpace, Type};

/// The text of a module.
pub fn print(module: &Module) -> String {
    let mut out = String::new();
    let (major, minor) = module.version;
    line(&mut out, format_args!(".version {major}.{minor}"));
    if !module.targets.is_empty() {
        line(&mut out, format_args!(".target {}", module.targets.join(", ")));
    }
    line(&mut out, format_args!(".address_size {}", module.address_size));
    for file in &module.files {
        line(&mut out, format_args!(".file {} \"{}\"", file.number, file.path));
    }
    let names = ModuleNames::as_written(module);
    // Functions keep their order and are defined in it. Those that are named before their definition
    // are declared before that, with all that stand before them.
    let mut declared = 0;
    for (i, v) in module.variables.iter().enumerate() {
        let held = v.init.iter().filter_map(|v| match v {
            InitialValue::Address { symbol: Symbol::Function(i), .. } => Some(*i as usize + 1),
            _ => None,
        });
        declared = declare(&mut out, module, declared, held.max().unwrap_or(0));
        variable(&mut out, &names, v, name_of(&names.variables, i));
        out.push_str(";\n");
    }
    let printer = Printer { module, names: &names };
    for (i, function) in module.functions.iter().enumerate() {
        let Some(body) = &function.body else {
            declared = declare(&mut out, module, declared, i + 1);
            continue;
        };
        let used = last_function(body);
        let to = if used > i + 1 { used } else { i };
        declared = declare(&mut out, module, declared, to).max(i + 1);
        header(&mut out, function);
        out.push('\n');
        let names = FunctionNames::new(&names, function, body);
        printer.body(&mut out, function, body, &names);
    }
    for (new, old) in &module.aliases {
        let name = |i: &u32| name_of(&names.functions, *i as usize).to_owned();
        line(&mut out, format_args!(".alias {}, {};", name(new), name(old)));
    }
    for (name, text) in &module.sections {
        line(&mut out, format_args!(".section {name}\n{{\n{text}\n}}"));
    }
    out
}

/// Declares the functions from `from` up to, not including, `to`; gives where it ended.
fn declare(out: &mut String, module: &Module, from: usize, to: usize) -> usize {
    let to = to.min(module.functions.len());
    for function in module.functions.get(from..to).unwrap_or_default() {
        header(out, function);
        out.push_str(";\n");
    }
    from.max(to)
}

/// One more than the highest index of a function that a body names; 0 if it names none.
fn last_function(body: &Body) -> usize {
    fn last(operand: &Operand) -> usize {
        match operand {
            Operand::Symbol(Symbol::Function(i), _) => *i as usize + 1,
            Operand::List(list) | Operand::Vector(list) => list.iter().map(last).max().unwrap_or(0),
            _ => 0,
        }
    }
    body.instructions.iter().flat_map(|i| &i.operands).map(last).max().unwrap_or(0)
}

/// Prints instructions of one function, with their guards and without `;`. Names are as written: a report shows what
/// its reader finds in the text.
pub struct InstructionPrinter<'m> {
    module: &'m Module,
    body: Cow<'m, Body>,
    names: ModuleNames,
    locals: FunctionNames,
}

impl<'m> InstructionPrinter<'m> {
    /// For a function of a module: gathers the names, once for all instructions.
    pub fn new(module: &'m Module, function: &'m Function) -> InstructionPrinter<'m> {
        let body =
            function.body.as_ref().map_or_else(|| Cow::Owned(Body::default()), Cow::Borrowed);
        let locals = FunctionNames::as_written(function, &body);
        InstructionPrinter { module, names: ModuleNames::as_written(module), locals, body }
    }

    /// The text of an instruction.
    pub fn text(&self, instruction: &Instruction) -> String {
        let mut out = String::new();
        let printer = Printer { module: self.module, names: &self.names };
        printer.instruction(&mut out, &self.body, &self.locals, instruction, None);
        out
    }
}

/// The text of one instruction of a function. For many, [`InstructionPrinter`] gathers the names once.
pub fn display_instruction(
    module: &Module,
    function: &Function,
    instruction: &Instruction,
) -> String {
    InstructionPrinter::new(module, function).text(instruction)
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn name_of(names: &[String], index: usize) -> &str {
    names.get(index).map_or("?", String::as_str)
}

/// Names, each taken once.
#[derive(Default)]
struct Unique {
    taken: HashSet<String>,
    next: HashMap<String, u32>,
}

impl Unique {
    fn name(&mut self, wanted: &str) -> String {
        if self.taken.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let counter = self.next.entry(wanted.to_owned()).or_insert(0);
        loop {
            *counter += 1;
            let name = format!("{wanted}_{counter}");
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

struct ModuleNames {
    variables: Vec<String>,
    functions: Vec<String>,
}

impl ModuleNames {
    fn as_written(module: &Module) -> ModuleNames {
        ModuleNames {
            variables: module.variables.iter().map(|v| v.name.clone()).collect(),
            functions: module.functions.iter().map(|f| f.name.clone()).collect(),
        }
    }
}

struct FunctionNames {
    registers: Vec<String>,
    variables: Vec<String>,
    params: Vec<String>,
    returns: Vec<String>,
    labels: Vec<String>,
}

impl FunctionNames {
    fn as_written(function: &Function, body: &Body) -> FunctionNames {
        let variable = |v: &Variable| v.name.clone();
        FunctionNames {
            registers: body.registers.iter().map(|r| r.name.clone()).collect(),
            variables: body.variables.iter().map(variable).collect(),
            params: function.params.iter().map(variable).collect(),
            returns: function.returns.iter().map(variable).collect(),
            labels: body.labels.iter().map(|l| l.name.clone()).collect(),
        }
    }

    fn new(module: &ModuleNames, function: &Function, body: &Body) -> FunctionNames {
        let mut names = FunctionNames::as_written(function, body);
        let mut unique = Unique::default();
        // A local name must not hide what the function uses of the module.
        unique.taken.extend(module.variables.iter().chain(&module.functions).cloned());
        for name in names.returns.iter().chain(&names.params) {
            unique.taken.insert(name.clone());
        }
        // Registers that are parameters keep the parameter's name.
        let count = register_params(function).count();
        for name in names.registers.iter_mut().skip(count) {
            *name = unique.name(name);
        }
        for name in names.variables.iter_mut() {
            *name = unique.name(name);
        }
        let mut unique = Unique::default();
        for name in names.labels.iter_mut() {
            *name = unique.name(name);
        }
        names
    }
}

fn register_params(function: &Function) -> impl Iterator<Item = &Variable> {
    let all = function.returns.iter().chain(&function.params);
    all.filter(|p| p.space == StateSpace::Register)
}

fn linkage(linkage: Linkage) -> &'static str {
    match linkage {
        Linkage::None => "",
        Linkage::Visible => ".visible ",
        Linkage::Extern => ".extern ",
        Linkage::Weak => ".weak ",
        Linkage::Common => ".common ",
    }
}

/// `.shared .align 16 .b8 name[128]`, without linkage and initialiser.
fn declaration(out: &mut String, v: &Variable, name: &str) {
    put(out, format_args!(".{}", v.space.text()));
    if v.managed {
        out.push_str(" .attribute(.managed)");
    }
    if v.space != StateSpace::Register && v.pointer.is_none() {
        put(out, format_args!(" .align {}", v.align));
    }
    if v.vector > 1 {
        put(out, format_args!(" .v{}", v.vector));
    }
    put(out, format_args!(" .{}", v.ty.text()));
    if let Some((space, align)) = v.pointer {
        out.push_str(" .ptr");
        if space != StateSpace::Generic {
            put(out, format_args!(" .{}", space.text()));
        }
        put(out, format_args!(" .align {align}"));
    }
    put(out, format_args!(" {name}"));
    for dim in &v.dims {
        match dim {
            0 => out.push_str("[]"),
            n => put(out, format_args!("[{n}]")),
        }
    }
}

fn variable(out: &mut String, names: &ModuleNames, v: &Variable, name: &str) {
    out.push_str(linkage(v.linkage));
    declaration(out, v, name);
    if v.init.is_empty() {
        return;
    }
    // Elements of each inner dimension, outermost first: `{{a, b}, {c, d}}`.
    let mut dims = v.dims.clone();
    if v.vector > 1 {
        dims.push(u64::from(v.vector));
    }
    let inner: Vec<u64> = (1..dims.len())
        .map(|i| dims[i..].iter().fold(1u64, |a, d| a.saturating_mul(*d)).max(1))
        .collect();
    let braces = !dims.is_empty();
    out.push_str(if braces { " = {" } else { " = " });
    let mut count = 0u64;
    let mut next = |out: &mut String| {
        let groups = inner.iter().filter(|size| count.is_multiple_of(**size)).count();
        if count > 0 {
            (0..groups).for_each(|_| out.push('}'));
            out.push_str(", ");
        }
        (0..groups).for_each(|_| out.push('{'));
        count += 1;
    };
    for value in &v.init {
        match value {
            InitialValue::Bytes(bytes) => {
                for element in bytes.chunks(v.ty.bytes().max(1) as usize) {
                    next(out);
                    initial(out, v.ty, element);
                }
            }
            InitialValue::Address { symbol, offset, generic, .. } => {
                next(out);
                let name = match symbol {
                    Symbol::Global(i) => name_of(&names.variables, *i as usize),
                    Symbol::Function(i) => name_of(&names.functions, *i as usize),
                    _ => "?",
                };
                match generic {
                    true => put(out, format_args!("generic({name})")),
                    false => out.push_str(name),
                }
                add(out, *offset);
            }
        }
    }
    if braces {
        inner.iter().for_each(|_| out.push('}'));
        out.push('}');
    }
}

fn initial(out: &mut String, ty: Type, bytes: &[u8]) {
    let bits = bytes.iter().rev().fold(0u128, |a, b| a << 8 | u128::from(*b));
    match ty {
        Type::F32 => put(out, format_args!("0f{bits:08X}")),
        Type::F64 => put(out, format_args!("0d{bits:016X}")),
        _ if bytes.len() > 8 => put(out, format_args!("{}", bits as i64)),
        _ => put(out, format_args!("{bits}")),
    }
}

fn add(out: &mut String, offset: i64) {
    if offset != 0 {
        put(out, format_args!("+{offset}"));
    }
}

fn parameters(out: &mut String, list: &[Variable]) {
    out.push('(');
    for (i, p) in list.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        declaration(out, p, &p.name);
    }
    out.push(')');
}

/// Everything of a function before its body or `;`.
fn header(out: &mut String, function: &Function) {
    out.push_str(linkage(function.linkage));
    out.push_str(if function.entry { ".entry " } else { ".func " });
    if !function.returns.is_empty() {
        parameters(out, &function.returns);
        out.push(' ');
    }
    out.push_str(&function.name);
    parameters(out, &function.params);
    let limits = &function.limits;
    let triples = [
        (".maxntid", limits.max_threads),
        (".reqntid", limits.required_threads),
        (".reqnctapercluster", limits.required_cluster),
    ];
    for (name, value) in triples {
        if let Some([x, y, z]) = value {
            put(out, format_args!("\n{name} {x}, {y}, {z}"));
        }
    }
    let numbers = [
        (".minnctapersm", limits.min_blocks),
        (".maxnctapersm", limits.max_blocks),
        (".maxnreg", limits.max_registers),
        (".maxclusterrank", limits.max_cluster),
    ];
    for (name, value) in numbers {
        if let Some(n) = value {
            put(out, format_args!("\n{name} {n}"));
        }
    }
    let flags = [
        (".explicitcluster", limits.explicit_cluster),
        (".blocksareclusters", limits.blocks_are_clusters),
        (".noreturn", function.noreturn),
    ];
    for (name, on) in flags {
        if on {
            put(out, format_args!("\n{name}"));
        }
    }
}

type Known = HashMap<(u32, u32, u32), Option<u32>>;

fn key(location: Location) -> (u32, u32, u32) {
    (location.file, location.line, location.column)
}

struct Printer<'a> {
    module: &'a Module,
    names: &'a ModuleNames,
}

impl Printer<'_> {
    fn body(&self, out: &mut String, function: &Function, body: &Body, names: &FunctionNames) {
        out.push_str("{\n");
        registers(out, function, body, names);
        for (i, v) in body.variables.iter().enumerate() {
            out.push('\t');
            variable(out, self.names, v, name_of(&names.variables, i));
            out.push_str(";\n");
        }
        for (i, prototype) in body.prototypes.iter().enumerate() {
            self.prototype(out, i, prototype);
        }
        let mut labels = body.labels.iter().zip(&names.labels).peekable();
        let mut pragmas = body.pragmas.iter().peekable();
        let mut location = None;
        let mut known = Known::new();
        for (i, instruction) in body.instructions.iter().enumerate() {
            while let Some((_, name)) = labels.next_if(|(l, _)| l.position as usize <= i) {
                line(out, format_args!("{name}:"));
            }
            while let Some((_, text)) = pragmas.next_if(|(at, _)| *at as usize <= i) {
                line(out, format_args!("\t.pragma \"{text}\";"));
            }
            if let Some(l) = instruction.location.filter(|l| Some(*l) != location) {
                self.location(out, body, l, &mut known);
                location = Some(l);
            }
            if let Some(Operand::List(targets)) = instruction.operands.get(1) {
                list(out, &format!("$targets_{i}: .branchtargets"), targets, |out, t| {
                    self.operand(out, body, names, t);
                });
            }
            if let Some(Operand::List(targets)) = instruction.operands.get(3) {
                list(out, &format!("$targets_{i}: .calltargets"), targets, |out, t| {
                    self.operand(out, body, names, t);
                });
            }
            out.push('\t');
            self.instruction(out, body, names, instruction, Some(i));
            out.push_str(";\n");
        }
        for (_, name) in labels {
            line(out, format_args!("{name}:"));
        }
        for (_, text) in pragmas {
            line(out, format_args!("\t.pragma \"{text}\";"));
        }
        out.push_str("}\n");
    }

    fn prototype(&self, out: &mut String, index: usize, prototype: &Prototype) {
        put(out, format_args!("$prototype_{index}: .callprototype "));
        if !prototype.returns.is_empty() {
            parameters(out, &prototype.returns);
            out.push(' ');
        }
        out.push_str("_ ");
        parameters(out, &prototype.params);
        out.push_str(if prototype.noreturn { " .noreturn;\n" } else { ";\n" });
    }

    /// `known` has, for each place that a `.loc` named last, where it was inlined, as a reader of the
    /// text so far sees it.
    fn location(&self, out: &mut String, body: &Body, location: Location, known: &mut Known) {
        // Call sites that a reader would not find are named first, the outermost first.
        let mut chain = vec![location];
        while let Some(site) = chain.last().and_then(|l| l.inlined_at) {
            let Some(at) = body.inlined_at.get(site as usize) else { break };
            if known.get(&key(*at)) == Some(&at.inlined_at) || chain.len() > body.inlined_at.len() {
                break;
            }
            chain.push(*at);
        }
        for location in chain.into_iter().rev() {
            put(out, format_args!("\t.loc {}", self.place(location)));
            let site = location.inlined_at.map(|site| site as usize);
            if let Some(at) = site.and_then(|site| body.inlined_at.get(site)) {
                let label = site.and_then(|site| body.inlined_functions.get(site));
                if let Some(label) = label.filter(|label| !label.is_empty()) {
                    put(out, format_args!(", function_name {label}"));
                }
                put(out, format_args!(", inlined_at {}", self.place(*at)));
            }
            out.push('\n');
            known.insert(key(location), location.inlined_at);
        }
    }

    fn place(&self, location: Location) -> String {
        let file = self.module.files.get(location.file as usize).map_or(0, |f| f.number);
        format!("{file} {} {}", location.line, location.column)
    }

    /// `at` is its index; without it lists are written where they are used.
    fn instruction(
        &self,
        out: &mut String,
        body: &Body,
        names: &FunctionNames,
        instruction: &Instruction,
        at: Option<usize>,
    ) {
        if let Some(guard) = instruction.guard {
            let not = if guard.negated { "!" } else { "" };
            let name = name_of(&names.registers, guard.register.0 as usize);
            put(out, format_args!("@{not}{name} "));
        }
        out.push_str(instruction.opcode().text());
        for modifier in &instruction.modifiers {
            put(out, format_args!(".{modifier}"));
        }
        let call = instruction.opcode() == crate::table::Opcode::Call;
        let mut first = true;
        for (i, operand) in instruction.operands.iter().enumerate() {
            let empty = matches!(operand, Operand::List(list) if list.is_empty());
            // `call` has empty lists where the text has nothing; arguments stay for a prototype.
            if call && empty && (i == 0 || i == 2) {
                continue;
            }
            out.push_str(if first { " " } else { ", " });
            first = false;
            match (operand, at) {
                (Operand::List(_), Some(at)) if !call || i == 3 => {
                    put(out, format_args!("$targets_{at}"));
                }
                _ => self.operand(out, body, names, operand),
            }
        }
    }

    fn operand(&self, out: &mut String, body: &Body, names: &FunctionNames, operand: &Operand) {
        let register = |id: usize| name_of(&names.registers, id);
        match operand {
            Operand::Register(r) => out.push_str(register(r.0 as usize)),
            Operand::Not(r) => put(out, format_args!("!{}", register(r.0 as usize))),
            Operand::Special(special) => out.push_str(&special.text()),
            Operand::Immediate(Immediate::Integer(n)) => put(out, format_args!("{n}")),
            Operand::Immediate(Immediate::F32(bits)) => put(out, format_args!("0f{bits:08X}")),
            Operand::Immediate(Immediate::F64(bits)) => put(out, format_args!("0d{bits:016X}")),
            Operand::Vector(elements) => {
                out.push('{');
                self.elements(out, body, names, elements);
                out.push('}');
            }
            Operand::List(elements) => {
                out.push('(');
                self.elements(out, body, names, elements);
                out.push(')');
            }
            Operand::Pair(first, second) => {
                self.operand(out, body, names, first);
                out.push('|');
                self.operand(out, body, names, second);
            }
            Operand::Sink => out.push('_'),
            Operand::Memory(address) => {
                out.push('[');
                self.address(out, names, address);
                out.push(']');
            }
            Operand::Tensor { map, coordinates } => {
                out.push('[');
                self.address(out, names, map);
                out.push_str(", {");
                self.elements(out, body, names, coordinates);
                out.push_str("}]");
            }
            Operand::Symbol(symbol, offset) => {
                out.push_str(self.symbol(names, *symbol));
                add(out, *offset);
            }
            Operand::Label(label) => out.push_str(name_of(&names.labels, label.0 as usize)),
            Operand::Prototype(index) => put(out, format_args!("$prototype_{index}")),
        }
    }

    fn elements(&self, out: &mut String, body: &Body, names: &FunctionNames, elements: &[Operand]) {
        for (i, element) in elements.iter().enumerate() {
            out.push_str(if i == 0 { "" } else { ", " });
            self.operand(out, body, names, element);
        }
    }

    fn address(&self, out: &mut String, names: &FunctionNames, address: &Address) {
        match address.base {
            Base::Register(r) => out.push_str(name_of(&names.registers, r.0 as usize)),
            Base::Symbol(symbol) => out.push_str(self.symbol(names, symbol)),
            Base::Absolute => {
                put(out, format_args!("{}", address.offset));
                return;
            }
        }
        add(out, address.offset);
    }

    fn symbol<'n>(&'n self, names: &'n FunctionNames, symbol: Symbol) -> &'n str {
        match symbol {
            Symbol::Global(i) => name_of(&self.names.variables, i as usize),
            Symbol::Function(i) => name_of(&self.names.functions, i as usize),
            Symbol::Local(i) => name_of(&names.variables, i as usize),
            Symbol::Param(i) => name_of(&names.params, i as usize),
            Symbol::Return(i) => name_of(&names.returns, i as usize),
        }
    }
}

/// `name: directive a, b;` for a list of targets.
fn list(
    out: &mut String,
    start: &str,
    targets: &[Operand],
    mut each: impl FnMut(&mut String, &Operand),
) {
    out.push_str(start);
    for (i, target) in targets.iter().enumerate() {
        out.push_str(if i == 0 { " " } else { ", " });
        each(out, target);
    }
    out.push_str(";\n");
}

/// Declares registers, runs of `prefix0`, `prefix1`... as ranges.
fn registers(out: &mut String, function: &Function, body: &Body, names: &FunctionNames) {
    let mut at = register_params(function).count();
    let mut ranges = HashSet::new();
    while at < body.registers.len() {
        let register = &body.registers[at];
        let name = name_of(&names.registers, at);
        let mut count = 1;
        if let Some(prefix) = name.strip_suffix('0').filter(|p| ranges.insert(p.to_string())) {
            while let Some(next) = body.registers.get(at + count) {
                let expected = format!("{prefix}{count}");
                if next.ty != register.ty || name_of(&names.registers, at + count) != expected {
                    break;
                }
                count += 1;
            }
            if count > 1 {
                line(out, format_args!("\t.reg .{} {prefix}<{count}>;", register.ty.text()));
                at += count;
                continue;
            }
        }
        line(out, format_args!("\t.reg .{} {name};", register.ty.text()));
        at += 1;
    }
}
