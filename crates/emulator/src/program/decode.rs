//! From PTX to decoded instructions: registers, symbols and labels become indices.

use std::collections::HashMap;

use zeroforge_ptx::module::Location;
use zeroforge_ptx::{
    Address, Base, Function, Immediate, Instruction, InstructionPrinter, Modifier, Module, Opcode,
    Operand, RegisterId, StateSpace, Symbol, Type,
};

use crate::memory::window;
use crate::ops;
use crate::ops::wgmma::watch;
use crate::program::compact::{Places, places};
use crate::program::flatten::{Flat, FlatKernel, flatten};
use crate::program::flow::Flow;
use crate::program::inst::{Addr, AddrBase, Inst, NO_GUARD, SymbolPlace, Value};
use crate::program::tracked::{Watched, watched};
use crate::program::{Files, Kernel, LoadError, param_layout};
use crate::report::SourceLine;

/// Why an instruction cannot be decoded.
pub(crate) type Reason = String;

/// What decoding an instruction needs.
pub(crate) struct Decoder<'m> {
    pub(crate) module: &'m Module,
    pub(crate) flat: &'m FlatKernel<'m>,
    /// The frame of the instruction being decoded.
    pub(crate) frame: u32,
    files: Files,
    constants32: HashMap<u32, u32>,
    constants64: HashMap<u64, u32>,
    /// Per frame, the place of each register.
    registers: Vec<Vec<Value>>,
    /// Registers that destinations nobody reads are written to.
    sinks: [u32; 2],
    shared: SharedLayout,
    globals: &'m [Option<u64>],
    params: Vec<u32>,
    /// Registers of the kernel's wgmmas.
    watched: watch::Numbers,
}

/// Shared memory of the variables that a kernel uses.
#[derive(Default)]
struct SharedLayout {
    /// Offset by module variable, and by frame and variable of the body.
    of_module: HashMap<u32, u32>,
    of_frame: HashMap<(u32, u32), u32>,
    bytes: u32,
}

/// Decodes a kernel. `globals` has the addresses of the module's variables.
pub(crate) fn kernel(
    module: &Module,
    function: &Function,
    globals: &[Option<u64>],
) -> Result<Kernel, LoadError> {
    let flat = flatten(module, function)?;
    let (params, param_bytes) = param_layout(function)?;
    let flow = Flow::of(&flat);
    let live = flow.live();
    let Places { mut files, registers, pressure } = places(&flat, &flow, live.as_ref());
    let Watched { names, mut by_instruction } = watched(&flat, &flow, live.as_ref());
    drop((flow, live));
    files.tracked = names;
    files.r32 += 1;
    files.r64 += 1;
    let sinks = [files.r32 as u32 - 1, files.r64 as u32 - 1];
    let shared = SharedLayout::of(module, &flat)?;
    let mut decoder = Decoder {
        module,
        flat: &flat,
        frame: 0,
        files,
        constants32: HashMap::new(),
        constants64: HashMap::new(),
        registers,
        sinks,
        shared,
        globals,
        params: params.iter().map(|p| p.offset).collect(),
        watched: watch::watched(&flat),
    };
    let mut code = Vec::with_capacity(flat.code.len());
    let mut lines = Vec::with_capacity(flat.code.len());
    let mut printers: Vec<Option<InstructionPrinter<'_>>> =
        flat.frames.iter().map(|_| None).collect();
    for (at, (frame, item)) in flat.code.iter().enumerate() {
        decoder.frame = *frame;
        let function = flat.frames[*frame as usize].function;
        let i = item.instruction();
        let text = printers[*frame as usize]
            .get_or_insert_with(|| InstructionPrinter::new(module, function))
            .text(i);
        let mut inst = decoder.instruction(item).map_err(|reason| LoadError::Instruction {
            function: function.name.clone(),
            line: i.line,
            instruction: text.clone(),
            reason,
        })?;
        inst.tracked = by_instruction.remove(&at);
        code.push(inst);
        let (source, inlined_at) = source_of(module, function_of(&flat, *frame), i);
        lines.push(SourceLine { source, inlined_at, ptx_line: i.line, instruction: text });
    }
    let communicates = flat.code.iter().any(|(_, item)| ops::communicates(item.instruction()));
    Ok(Kernel {
        name: function.name.clone(),
        params,
        param_bytes,
        static_shared: decoder.shared.bytes,
        local_bytes: flat.local_bytes,
        limits: function.limits,
        communicates,
        registers: pressure,
        files: decoder.files,
        code,
        lines,
    })
}

fn function_of<'m>(flat: &FlatKernel<'m>, frame: u32) -> &'m Function {
    flat.frames[frame as usize].function
}

/// A file and a line in it.
type Place = (String, u32);

/// Source line of an instruction, and where the function that holds it was inlined.
fn source_of(module: &Module, function: &Function, i: &Instruction) -> (Option<Place>, Vec<Place>) {
    let place = |l: &Location| Some((module.files.get(l.file as usize)?.path.clone(), l.line));
    let Some(location) = &i.location else { return (None, Vec::new()) };
    let all = function.body.as_ref().map_or(&[][..], |b| &b.inlined_at[..]);
    let mut inlined_at = Vec::new();
    let mut next = location.inlined_at;
    // A chain that is longer than the list goes in a circle.
    while let Some(at) =
        next.and_then(|n| all.get(n as usize)).filter(|_| inlined_at.len() < all.len())
    {
        inlined_at.extend(place(at));
        next = at.inlined_at;
    }
    (place(location), inlined_at)
}

impl SharedLayout {
    /// Lays out the shared variables that the kernel and what it calls name. Dynamic memory comes last.
    fn of(module: &Module, flat: &FlatKernel<'_>) -> Result<SharedLayout, LoadError> {
        let mut used = Vec::new();
        for (frame, item) in &flat.code {
            for operand in &item.instruction().operands {
                each_symbol(operand, &mut |symbol| used.push((*frame, symbol)));
            }
        }
        let mut layout = SharedLayout::default();
        let mut at = 0u64;
        let mut dynamic = Vec::new();
        let mut dynamic_align = 16u64;
        for (frame, symbol) in used {
            let variable = match symbol {
                Symbol::Global(i) => module.variables.get(i as usize),
                Symbol::Local(i) => {
                    let body = flat.frames[frame as usize].function.body.as_ref();
                    body.and_then(|b| b.variables.get(i as usize))
                }
                _ => None,
            };
            let Some(v) = variable.filter(|v| v.space == StateSpace::Shared) else { continue };
            let known = match symbol {
                Symbol::Global(i) => layout.of_module.contains_key(&i),
                Symbol::Local(i) => layout.of_frame.contains_key(&(frame, i)),
                _ => true,
            };
            if known {
                continue;
            }
            let align = u64::from(v.align.max(1));
            let offset = if v.bytes() == 0 {
                dynamic.push((frame, symbol));
                dynamic_align = dynamic_align.max(align);
                0
            } else {
                at = at.next_multiple_of(align);
                let offset = at;
                at = at.saturating_add(v.bytes());
                if at > 1 << 23 {
                    return Err(LoadError::Variable {
                        name: v.name.clone(),
                        reason: "shared memory of this size does not exist".to_owned(),
                    });
                }
                offset
            };
            layout.set(frame, symbol, window::SHARED_START + offset as u32);
        }
        if !dynamic.is_empty() {
            at = at.next_multiple_of(dynamic_align.min(1024));
        }
        for (frame, symbol) in dynamic {
            layout.set(frame, symbol, window::SHARED_START + at as u32);
        }
        layout.bytes = at as u32;
        Ok(layout)
    }

    fn set(&mut self, frame: u32, symbol: Symbol, offset: u32) {
        match symbol {
            Symbol::Global(i) => self.of_module.insert(i, offset),
            Symbol::Local(i) => self.of_frame.insert((frame, i), offset),
            _ => None,
        };
    }
}

fn each_symbol(operand: &Operand, f: &mut impl FnMut(Symbol)) {
    let address = |a: &Address| match a.base {
        Base::Symbol(s) => Some(s),
        _ => None,
    };
    match operand {
        Operand::Symbol(s, _) => f(*s),
        Operand::Memory(a) => address(a).into_iter().for_each(f),
        Operand::Tensor { map, coordinates } => {
            address(map).into_iter().for_each(&mut *f);
            coordinates.iter().for_each(|c| each_symbol(c, f));
        }
        Operand::Vector(list) | Operand::List(list) => list.iter().for_each(|o| each_symbol(o, f)),
        Operand::Pair(a, b) => {
            each_symbol(a, f);
            each_symbol(b, f);
        }
        _ => {}
    }
}

impl Decoder<'_> {
    fn instruction(&mut self, item: &Flat<'_>) -> Result<Inst, Reason> {
        let i = item.instruction();
        let mut inst = match item {
            Flat::Instruction(_) => ops::decode(self, i)?,
            Flat::Return(_) => ops::control::jump(self.flat.end_of(self.frame)),
            Flat::Provided(_, name) => ops::call::decode(self, i, name)?,
        };
        if let Some(guard) = i.guard {
            inst.guard = self.register_place(guard.register).and_then(|v| match v {
                Value::Pred(p) => Ok(p),
                _ => Err("the guard is not a predicate".to_owned()),
            })?;
            inst.guard_negated = guard.negated;
        } else {
            inst.guard = NO_GUARD;
        }
        let slot = |r| match self.register_place(RegisterId(r)) {
            Ok(Value::R32(slot)) => Some(slot),
            _ => None,
        };
        inst.wgmma = watch::of_instruction(&self.watched, self.frame, item, slot);
        Ok(inst)
    }

    fn register_place(&self, r: RegisterId) -> Result<Value, Reason> {
        let frame = self.registers.get(self.frame as usize);
        let place = frame.and_then(|f| f.get(r.0 as usize)).copied();
        place.ok_or_else(|| format!("register {} does not exist", r.0))
    }

    /// Numbers of the registers of a wgmma's operand, to watch them.
    pub(crate) fn watched(&self, operand: &Operand) -> Vec<u32> {
        let Operand::Vector(list) = operand else { return Vec::new() };
        let number = |o: &Operand| match o {
            Operand::Register(r) => self.watched.get(&(self.frame, r.0)).copied(),
            _ => None,
        };
        list.iter().filter_map(number).collect()
    }

    /// The operand at a position.
    pub(crate) fn operand<'i>(&self, i: &'i Instruction, at: usize) -> Result<&'i Operand, Reason> {
        i.operands.get(at).ok_or_else(|| format!("operand {} is missing", at + 1))
    }

    /// Index of a 32-bit constant.
    pub(crate) fn constant32(&mut self, value: u32) -> u32 {
        let files = &mut self.files;
        *self.constants32.entry(value).or_insert_with(|| {
            files.constants32.push(value);
            (files.r32 + files.constants32.len() - 1) as u32
        })
    }

    /// Index of a 64-bit constant.
    pub(crate) fn constant64(&mut self, value: u64) -> u32 {
        let files = &mut self.files;
        *self.constants64.entry(value).or_insert_with(|| {
            files.constants64.push(value);
            (files.r64 + files.constants64.len() - 1) as u32
        })
    }

    /// Index of the predicate that is always `value`.
    pub(crate) fn constant_predicate(&self, value: bool) -> u32 {
        self.files.predicates as u32 + u32::from(value)
    }

    /// A source of a type: a register or a constant of the type's class. Values narrower than 32 bits are
    /// zero-extended in 32-bit registers.
    pub(crate) fn source(&mut self, operand: &Operand, ty: Type) -> Result<Value, Reason> {
        if ty == Type::Pred {
            return self.predicate_source(operand).map(Value::Pred);
        }
        match ty.bits() {
            64 => self.s64(operand).map(Value::R64),
            128 => match operand {
                Operand::Register(r) => match self.register_place(*r)? {
                    v @ Value::R128(_) => Ok(v),
                    _ => Err("a 128-bit register is needed".to_owned()),
                },
                _ => Err("a 128-bit register is needed".to_owned()),
            },
            bits => {
                let index = match operand {
                    Operand::Immediate(imm) if bits < 32 => {
                        let mask = (1u32 << bits) - 1;
                        self.constant32(immediate32(*imm, ty) & mask)
                    }
                    Operand::Immediate(imm) => self.constant32(immediate32(*imm, ty)),
                    _ => self.s32(operand)?,
                };
                Ok(Value::R32(index))
            }
        }
    }

    /// Index of a source of a type of at most 64 bits, in the file of the type's class.
    pub(crate) fn source_index(&mut self, operand: &Operand, ty: Type) -> Result<u32, Reason> {
        match self.source(operand, ty)? {
            Value::R32(i) | Value::R64(i) | Value::Pred(i) => Ok(i),
            Value::R128(_) | Value::Sink => Err("a 128-bit value cannot be used here".to_owned()),
        }
    }

    /// Index of a destination of a type of 16 to 64 bits, in the file of the type's class.
    pub(crate) fn destination_index(&self, operand: &Operand, ty: Type) -> Result<u32, Reason> {
        match ty.bits() {
            64 => self.d64(operand),
            16 | 32 => self.d32(operand),
            _ => Err(format!("a destination of type .{} cannot be used here", ty.text())),
        }
    }

    /// A 32-bit source (16-bit registers too): index of the register or constant.
    pub(crate) fn s32(&mut self, operand: &Operand) -> Result<u32, Reason> {
        match operand {
            Operand::Register(r) => match self.register_place(*r)? {
                Value::R32(i) => Ok(i),
                _ => Err("a 32-bit register is needed".to_owned()),
            },
            Operand::Immediate(imm) => Ok(self.constant32(immediate32(*imm, Type::F32))),
            Operand::Symbol(symbol, offset) => {
                let place = self.symbol(*symbol)?;
                Ok(self.constant32(place.address.wrapping_add(*offset as u64) as u32))
            }
            other => Err(format!("{} cannot be a source here", kind_of(other))),
        }
    }

    /// A 64-bit source.
    pub(crate) fn s64(&mut self, operand: &Operand) -> Result<u32, Reason> {
        match operand {
            Operand::Register(r) => match self.register_place(*r)? {
                Value::R64(i) => Ok(i),
                _ => Err("a 64-bit register is needed".to_owned()),
            },
            Operand::Immediate(imm) => Ok(self.constant64(match *imm {
                Immediate::Integer(v) => v as u64,
                Immediate::F32(bits) => f64::from(f32::from_bits(bits)).to_bits(),
                Immediate::F64(bits) => bits,
            })),
            Operand::Symbol(symbol, offset) => {
                let place = self.symbol(*symbol)?;
                Ok(self.constant64(place.address.wrapping_add(*offset as u64)))
            }
            other => Err(format!("{} cannot be a source here", kind_of(other))),
        }
    }

    /// A predicate source that is not negated.
    pub(crate) fn predicate_source(&mut self, operand: &Operand) -> Result<u32, Reason> {
        match operand {
            Operand::Register(r) => match self.register_place(*r)? {
                Value::Pred(i) => Ok(i),
                _ => Err("a predicate is needed".to_owned()),
            },
            Operand::Immediate(Immediate::Integer(v)) => Ok(self.constant_predicate(*v != 0)),
            other => Err(format!("{} cannot be a predicate", kind_of(other))),
        }
    }

    /// A predicate source that may be negated: index, and whether `!` stands before it.
    pub(crate) fn predicate(&mut self, operand: &Operand) -> Result<(u32, bool), Reason> {
        match operand {
            Operand::Not(r) => Ok((self.predicate_source(&Operand::Register(*r))?, true)),
            other => Ok((self.predicate_source(other)?, false)),
        }
    }

    /// A destination: a register, or a place that nobody reads for `_`.
    pub(crate) fn destination(&self, operand: &Operand) -> Result<Value, Reason> {
        match operand {
            Operand::Register(r) => self.register_place(*r),
            Operand::Sink => Ok(Value::Sink),
            other => Err(format!("{} cannot be a destination", kind_of(other))),
        }
    }

    /// A 32-bit destination.
    pub(crate) fn d32(&self, operand: &Operand) -> Result<u32, Reason> {
        match self.destination(operand)? {
            Value::R32(i) => Ok(i),
            Value::Sink => Ok(self.sinks[0]),
            _ => Err("a 32-bit destination is needed".to_owned()),
        }
    }

    /// A 64-bit destination.
    pub(crate) fn d64(&self, operand: &Operand) -> Result<u32, Reason> {
        match self.destination(operand)? {
            Value::R64(i) => Ok(i),
            Value::Sink => Ok(self.sinks[1]),
            _ => Err("a 64-bit destination is needed".to_owned()),
        }
    }

    /// A predicate destination; None for `_`.
    pub(crate) fn destination_predicate(&self, operand: &Operand) -> Result<Option<u32>, Reason> {
        match self.destination(operand)? {
            Value::Pred(i) => Ok(Some(i)),
            Value::Sink => Ok(None),
            _ => Err("a predicate destination is needed".to_owned()),
        }
    }

    /// A memory operand. The second part is the space of the symbol it starts from, if any.
    pub(crate) fn address(
        &mut self,
        operand: &Operand,
    ) -> Result<(Addr, Option<StateSpace>), Reason> {
        match operand {
            Operand::Memory(address) => self.address_of(address),
            other => Err(format!("{} is not a memory operand", kind_of(other))),
        }
    }

    /// As [`address`](Self::address), of an address without its operand.
    pub(crate) fn address_of(
        &mut self,
        address: &Address,
    ) -> Result<(Addr, Option<StateSpace>), Reason> {
        let (base, offset, space) = match address.base {
            Base::Register(r) => match self.register_place(r)? {
                Value::R32(i) => (AddrBase::R32(i), address.offset, None),
                Value::R64(i) => (AddrBase::R64(i), address.offset, None),
                _ => return Err("an address must be in a 32- or 64-bit register".to_owned()),
            },
            Base::Symbol(symbol) => {
                let place = self.symbol(symbol)?;
                let offset = place.address.wrapping_add(address.offset as u64) as i64;
                (AddrBase::Fixed, offset, Some(place.space))
            }
            Base::Absolute => (AddrBase::Fixed, address.offset, None),
        };
        Ok((Addr { base, offset }, space))
    }

    /// Where a symbol lies.
    pub(crate) fn symbol(&self, symbol: Symbol) -> Result<SymbolPlace, Reason> {
        let place = |space, address: u64| Ok(SymbolPlace { space, address });
        let frame = &self.flat.frames[self.frame as usize];
        let missing = || "the symbol has no address".to_owned();
        match symbol {
            Symbol::Global(i) => {
                let v = self.module.variables.get(i as usize).ok_or_else(missing)?;
                match v.space {
                    StateSpace::Shared => {
                        let at = self.shared.of_module.get(&i).ok_or_else(missing)?;
                        place(StateSpace::Shared, u64::from(*at))
                    }
                    space => {
                        let at = self.globals.get(i as usize).copied().flatten();
                        place(space, at.ok_or_else(missing)?)
                    }
                }
            }
            Symbol::Local(i) => match frame.locals.get(&i) {
                Some(&at) => place(StateSpace::Local, u64::from(at)),
                None => {
                    let at = self.shared.of_frame.get(&(self.frame, i)).ok_or_else(missing)?;
                    place(StateSpace::Shared, u64::from(*at))
                }
            },
            // Parameters of the kernel are in the parameter block, those of called functions are variables
            // of their callers.
            Symbol::Param(i) if self.frame == 0 => {
                let at = self.params.get(i as usize).ok_or_else(missing)?;
                place(StateSpace::Param, u64::from(*at))
            }
            Symbol::Param(i) => {
                let at = frame.params.get(i as usize).ok_or_else(missing)?;
                place(StateSpace::Local, u64::from(*at))
            }
            Symbol::Return(i) => {
                let at = frame.returns.get(i as usize).ok_or_else(missing)?;
                place(StateSpace::Local, u64::from(*at))
            }
            Symbol::Function(_) => Err("addresses of functions are not supported".to_owned()),
        }
    }

    /// Position of a label in the code.
    pub(crate) fn label(&self, operand: &Operand) -> Result<u32, Reason> {
        match operand {
            Operand::Label(l) => self.flat.frames[self.frame as usize]
                .label(*l)
                .ok_or_else(|| "the label does not exist".to_owned()),
            other => Err(format!("{} is not a label", kind_of(other))),
        }
    }

    /// An integer literal.
    pub(crate) fn integer(&self, operand: &Operand) -> Result<i64, Reason> {
        match operand {
            Operand::Immediate(Immediate::Integer(v)) => Ok(*v),
            other => Err(format!("an integer literal is needed, not {}", kind_of(other))),
        }
    }

    /// The elements of a vector operand; a scalar is a vector of one.
    pub(crate) fn elements<'o>(&self, operand: &'o Operand) -> &'o [Operand] {
        match operand {
            Operand::Vector(list) => list,
            other => std::slice::from_ref(other),
        }
    }
}

fn immediate32(imm: Immediate, ty: Type) -> u32 {
    match imm {
        Immediate::Integer(v) => v as u32,
        Immediate::F32(bits) => bits,
        Immediate::F64(bits) if ty == Type::F32 || !ty.is_float() => {
            (f64::from_bits(bits) as f32).to_bits()
        }
        Immediate::F64(bits) => bits as u32,
    }
}

fn kind_of(operand: &Operand) -> &'static str {
    match operand {
        Operand::Register(_) => "a register",
        Operand::Not(_) => "a negated predicate",
        Operand::Special(_) => "a special register",
        Operand::Immediate(_) => "a literal",
        Operand::Vector(_) => "a vector",
        Operand::Pair(_, _) => "a pair",
        Operand::Sink => "`_`",
        Operand::Memory(_) => "a memory operand",
        Operand::Tensor { .. } => "a tensor operand",
        Operand::Symbol(_, _) => "a symbol",
        Operand::Label(_) => "a label",
        Operand::List(_) => "a list",
        Operand::Prototype(_) => "a prototype",
    }
}

/// The state space that an instruction's modifiers name; generic if none does.
pub(crate) fn space_of(i: &Instruction) -> StateSpace {
    let spaces = [
        (Modifier::Global, StateSpace::Global),
        (Modifier::Shared, StateSpace::Shared),
        (Modifier::SharedCta, StateSpace::Shared),
        (Modifier::SharedCluster, StateSpace::SharedCluster),
        (Modifier::Local, StateSpace::Local),
        (Modifier::Const, StateSpace::Const),
        (Modifier::Param, StateSpace::Param),
        (Modifier::ParamEntry, StateSpace::Param),
        (Modifier::ParamFunc, StateSpace::Param),
    ];
    let named = spaces.iter().find(|(m, _)| i.has(*m)).map(|&(_, s)| s);
    // `ldu` is of global memory when it names nothing else.
    named.unwrap_or(if i.opcode() == Opcode::Ldu {
        StateSpace::Global
    } else {
        StateSpace::Generic
    })
}
