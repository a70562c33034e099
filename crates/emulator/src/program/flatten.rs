//! A kernel with the functions that it calls put into it.
//!
//! Every call gets its own copy of the callee: registers and local memory are the copy's own, formal
//! parameters are the caller's variables. A function that calls itself has no such form and is refused.

use std::collections::HashMap;

use zeroforge_ptx::{Function, Instruction, LabelId, Module, Operand, StateSpace, Symbol};

use crate::program::LoadError;

/// Most instructions that a kernel may have with everything put into it.
const MAX_INSTRUCTIONS: usize = 1 << 22;

/// One copy of a function.
pub(crate) struct Frame<'m> {
    pub(crate) function: &'m Function,
    /// Local-memory offset of each variable of the body that lives there, by index.
    pub(crate) locals: HashMap<u32, u32>,
    /// Local-memory offsets of formal parameters and return parameters; empty for the kernel itself.
    pub(crate) params: Vec<u32>,
    pub(crate) returns: Vec<u32>,
    /// Position of each instruction of the body in the flat code, and of its end.
    positions: Vec<u32>,
}

impl Frame<'_> {
    /// Position of a label in the flat code.
    pub(crate) fn label(&self, label: LabelId) -> Option<u32> {
        let body = self.function.body.as_ref()?;
        let position = body.labels.get(label.0 as usize)?.position;
        self.positions.get(position as usize).copied()
    }
}

/// An instruction of the flat code.
pub(crate) enum Flat<'m> {
    /// An instruction as it is.
    Instruction(&'m Instruction),
    /// `ret` of a called function: goes to the end of its copy. The instruction gives the guard.
    Return(&'m Instruction),
    /// A call of a function that the emulator provides: `vprintf`, `__assertfail`, `malloc`, `free`.
    Provided(&'m Instruction, &'m str),
}

impl<'m> Flat<'m> {
    pub(crate) fn instruction(&self) -> &'m Instruction {
        match self {
            Flat::Instruction(i) | Flat::Return(i) | Flat::Provided(i, _) => i,
        }
    }
}

/// A kernel with everything in it.
pub(crate) struct FlatKernel<'m> {
    pub(crate) code: Vec<(u32, Flat<'m>)>,
    pub(crate) frames: Vec<Frame<'m>>,
    /// Local memory of a thread in bytes.
    pub(crate) local_bytes: u32,
}

struct Flattener<'m> {
    module: &'m Module,
    out: FlatKernel<'m>,
    stack: Vec<&'m str>,
}

/// Puts everything that a kernel calls into it.
pub(crate) fn flatten<'m>(
    module: &'m Module,
    kernel: &'m Function,
) -> Result<FlatKernel<'m>, LoadError> {
    let out = FlatKernel { code: Vec::new(), frames: Vec::new(), local_bytes: 0 };
    let mut flattener = Flattener { module, out, stack: Vec::new() };
    flattener.function(kernel, Vec::new(), Vec::new())?;
    Ok(flattener.out)
}

impl<'m> Flattener<'m> {
    fn fail(function: &Function, reason: impl Into<String>) -> LoadError {
        LoadError::Function { function: function.name.clone(), reason: reason.into() }
    }

    /// Takes local memory.
    fn take(&mut self, function: &Function, bytes: u64, align: u32) -> Result<u32, LoadError> {
        // 512 KiB of local memory per thread is the hardware's limit.
        let at = u64::from(self.out.local_bytes).next_multiple_of(u64::from(align.max(8)));
        let end = at.saturating_add(bytes);
        if end > 512 * 1024 {
            return Err(Self::fail(
                function,
                "a thread would need more than 512 KiB of local memory",
            ));
        }
        self.out.local_bytes = end as u32;
        Ok(at as u32)
    }

    fn function(
        &mut self,
        function: &'m Function,
        params: Vec<u32>,
        returns: Vec<u32>,
    ) -> Result<(), LoadError> {
        let Some(body) = &function.body else {
            return Err(Self::fail(function, "it is declared but not defined in this module"));
        };
        if self.stack.contains(&function.name.as_str()) {
            return Err(Self::fail(
                function,
                format!(
                    "it calls itself ({}); recursion is not supported",
                    self.stack.join(" -> ")
                ),
            ));
        }
        self.stack.push(&function.name);
        let mut locals = HashMap::new();
        for (i, v) in body.variables.iter().enumerate() {
            if matches!(v.space, StateSpace::Local | StateSpace::Param) {
                let at = self.take(function, v.bytes(), v.align)?;
                locals.insert(i as u32, at);
            }
        }
        let frame = self.out.frames.len() as u32;
        let positions = Vec::with_capacity(body.instructions.len() + 1);
        self.out.frames.push(Frame { function, locals, params, returns, positions });
        for instruction in &body.instructions {
            let here = self.out.code.len();
            if here > MAX_INSTRUCTIONS {
                return Err(Self::fail(
                    function,
                    format!(
                        "with all calls put in, it has more than {MAX_INSTRUCTIONS} instructions"
                    ),
                ));
            }
            self.out.frames[frame as usize].positions.push(here as u32);
            match instruction.opcode() {
                zeroforge_ptx::Opcode::Call => self.call(frame, instruction)?,
                zeroforge_ptx::Opcode::Ret if self.stack.len() > 1 => {
                    self.out.code.push((frame, Flat::Return(instruction)));
                }
                _ => self.out.code.push((frame, Flat::Instruction(instruction))),
            }
        }
        let end = self.out.code.len() as u32;
        self.out.frames[frame as usize].positions.push(end);
        self.stack.pop();
        Ok(())
    }

    fn call(&mut self, frame: u32, call: &'m Instruction) -> Result<(), LoadError> {
        let caller = self.out.frames[frame as usize].function;
        let fail = |reason: &str| LoadError::Instruction {
            function: caller.name.clone(),
            line: call.line,
            instruction: "call".to_owned(),
            reason: reason.to_owned(),
        };
        // `(returns), name, (arguments)`, each list optional.
        let mut lists = Vec::new();
        let mut target = None;
        for operand in &call.operands {
            match operand {
                Operand::List(list) => lists.push((target.is_some(), list)),
                Operand::Symbol(Symbol::Function(f), _) => target = Some(*f),
                _ => {
                    return Err(fail(
                        "calls through a function pointer are not supported; call the function by name",
                    ));
                }
            }
        }
        let callee = target.and_then(|t| self.module.functions.get(t as usize));
        let callee = callee.ok_or_else(|| fail("the called function is not in the module"))?;
        if callee.body.is_none() {
            self.out.code.push((frame, Flat::Provided(call, &callee.name)));
            return Ok(());
        }
        let slots = |after: bool| -> Result<Vec<u32>, LoadError> {
            let caller = &self.out.frames[frame as usize];
            let list = lists.iter().find(|(a, _)| *a == after).map(|(_, l)| l.as_slice());
            let mut slots = Vec::new();
            for operand in list.unwrap_or_default() {
                let slot = match operand {
                    Operand::Symbol(Symbol::Local(i), 0) => caller.locals.get(i).copied(),
                    Operand::Symbol(Symbol::Param(i), 0) => caller.params.get(*i as usize).copied(),
                    Operand::Symbol(Symbol::Return(i), 0) => {
                        caller.returns.get(*i as usize).copied()
                    }
                    _ => None,
                };
                slots.push(slot.ok_or_else(|| {
                    fail("arguments must be .param variables, as compilers for sm_20 and later write them")
                })?);
            }
            Ok(slots)
        };
        let (returns, params) = (slots(false)?, slots(true)?);
        if params.len() != callee.params.len() || returns.len() != callee.returns.len() {
            return Err(fail("the number of arguments is not that of the called function"));
        }
        // A guarded call is a branch around the copy.
        if call.guard.is_some() {
            return Err(fail("a call under a guard is not supported; branch around it"));
        }
        self.function(callee, params, returns)
    }
}

impl FlatKernel<'_> {
    /// Position behind the copy of a function.
    pub(crate) fn end_of(&self, frame: u32) -> u32 {
        self.frames[frame as usize].positions.last().copied().unwrap_or(0)
    }
}
