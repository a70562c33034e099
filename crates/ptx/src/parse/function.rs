//! Kernels and device functions: headers and tuning directives.

use super::declare::linkage;
use super::scope::{FunctionState, Name};
use super::{ParseError, Parser};
use crate::module::{Function, Limits, Linkage, Prototype, RegisterId, Symbol, Variable};
use crate::types::StateSpace;

impl<'a> Parser<'a> {
    /// A declaration at module scope: linkage, then a function or variables.
    pub(super) fn global(&mut self) -> Result<(), ParseError> {
        let mut found = Linkage::None;
        while let Some(l) = self.cursor.peek_dotted().and_then(linkage) {
            self.cursor.try_dotted();
            found = l;
        }
        match self.cursor.peek_dotted() {
            Some("entry") => self.function(found, true),
            Some("func") => self.function(found, false),
            _ => self.global_variables(found),
        }
    }

    fn function(&mut self, linkage: Linkage, entry: bool) -> Result<(), ParseError> {
        self.cursor.try_dotted();
        if self.cursor.peek_dotted() == Some("attribute") {
            return Err(self.cursor.error("attributes of functions are not supported"));
        }
        let mut names = Vec::new();
        let mut returns = Vec::new();
        if !entry && self.cursor.peek() == b'(' {
            returns = self.parameters(&mut names)?;
        }
        self.cursor.space();
        let place = self.cursor.place();
        let name = self.cursor.word("the name of a function")?;
        let mut params = Vec::new();
        if self.cursor.peek() == b'(' {
            params = self.parameters(&mut names)?;
        }
        let registers = returns.iter().chain(&params).filter(|p| p.space == StateSpace::Register);
        if entry && registers.count() > 0 {
            return Err(self.cursor.error_at(place, "a kernel's parameters are `.param`"));
        }
        let mut function = Function {
            name: name.to_owned(),
            entry,
            linkage,
            noreturn: false,
            returns,
            params,
            limits: Limits::default(),
            body: None,
        };
        let mut pragmas = Vec::new();
        self.directives(&mut function, &mut pragmas)?;
        let index = match self.symbols.get(name) {
            None => {
                let index = self.module.functions.len() as u32;
                self.symbols.insert(name, Symbol::Function(index));
                self.module.functions.push(Function { body: None, ..function.clone() });
                index
            }
            Some(Symbol::Function(index)) => *index,
            Some(_) => {
                let message = format!("`{name}` is declared twice");
                return Err(self.cursor.error_at(place, message));
            }
        };
        let defined = self.module.functions[index as usize].body.is_some();
        if self.cursor.take(b';') {
            return Ok(());
        }
        if defined {
            let message = format!("the function `{name}` has a second body");
            return Err(self.cursor.error_at(place, message));
        }
        let mut state = FunctionState::default();
        state.open();
        self.declare_parameters(&mut state, &function, &names)?;
        state.body.pragmas = pragmas.into_iter().map(|text| (0, text)).collect();
        self.body(&mut state)?;
        let body = state.finish().map_err(|(place, text)| self.cursor.error_at(place, text))?;
        function.body = Some(body);
        let old = &self.module.functions[index as usize];
        if function.linkage == Linkage::None && old.linkage != Linkage::Extern {
            function.linkage = old.linkage;
        }
        function.noreturn |= old.noreturn;
        self.module.functions[index as usize] = function;
        Ok(())
    }

    fn declare_parameters(
        &mut self,
        state: &mut FunctionState<'a>,
        function: &Function,
        names: &[&'a str],
    ) -> Result<(), ParseError> {
        let returns = function.returns.iter().enumerate();
        let returns = returns.map(|(i, p)| (Symbol::Return(i as u32), p));
        let params = function.params.iter().enumerate();
        let params = params.map(|(i, p)| (Symbol::Param(i as u32), p));
        for ((symbol, parameter), name) in returns.chain(params).zip(names) {
            let new = if parameter.space == StateSpace::Register {
                self.count_registers(1)?;
                state.register(name, parameter.ty)
            } else {
                *name == "_" || state.declare(name, Name::Symbol(symbol))
            };
            if !new {
                return Err(self.cursor.error(format!("two parameters are called `{name}`")));
            }
        }
        Ok(())
    }

    /// Directives between the parameters and the body.
    fn directives(
        &mut self,
        function: &mut Function,
        pragmas: &mut Vec<String>,
    ) -> Result<(), ParseError> {
        let limits = &mut function.limits;
        while let Some(word) = self.cursor.peek_dotted() {
            let place = self.cursor.place();
            self.cursor.try_dotted();
            match word {
                "maxntid" => limits.max_threads = Some(self.extent()?),
                "reqntid" => limits.required_threads = Some(self.extent()?),
                "reqnctapercluster" => limits.required_cluster = Some(self.extent()?),
                "minnctapersm" => limits.min_blocks = Some(self.small()?),
                "maxnctapersm" => limits.max_blocks = Some(self.small()?),
                "maxnreg" => limits.max_registers = Some(self.small()?),
                "maxclusterrank" => limits.max_cluster = Some(self.small()?),
                "explicitcluster" => limits.explicit_cluster = true,
                "blocksareclusters" => limits.blocks_are_clusters = true,
                "noreturn" => function.noreturn = true,
                "unique" | "abi_preserve_control" => {}
                "abi_preserve" | "local_maxnreg" => {
                    self.small()?;
                }
                "pragma" => pragmas.push(self.pragma()?),
                _ => {
                    let word: String = word.chars().take(60).collect();
                    let message = format!("`.{word}` is not known before a function's body");
                    return Err(self.cursor.error_at(place, message));
                }
            }
        }
        Ok(())
    }

    fn small(&mut self) -> Result<u32, ParseError> {
        Ok(self.bounded("the value", u64::from(u32::MAX))? as u32)
    }

    fn extent(&mut self) -> Result<[u32; 3], ParseError> {
        let mut extent = [self.small()?, 1, 1];
        for axis in &mut extent[1..] {
            if !self.cursor.take(b',') {
                break;
            }
            *axis = self.small()?;
        }
        Ok(extent)
    }

    /// `.callprototype (ret) _ (params) .noreturn;`, after the directive's word.
    pub(super) fn prototype(&mut self) -> Result<Prototype, ParseError> {
        let mut names = Vec::new();
        let mut returns = Vec::new();
        if self.cursor.peek() == b'(' {
            returns = self.parameters(&mut names)?;
        }
        self.cursor.word("`_`")?;
        let mut params: Vec<Variable> = Vec::new();
        if self.cursor.peek() == b'(' {
            params = self.parameters(&mut names)?;
        }
        let mut noreturn = false;
        while let Some(word) = self.cursor.try_dotted() {
            match word {
                "noreturn" => noreturn = true,
                "abi_preserve_control" => {}
                "abi_preserve" => {
                    self.small()?;
                }
                _ => return Err(self.cursor.error("an unknown part of `.callprototype`")),
            }
        }
        self.cursor.expect(b';')?;
        Ok(Prototype { returns, params, noreturn })
    }

    /// The register of a name, for guards and `!%p`.
    pub(super) fn register(&mut self, state: &FunctionState<'a>) -> Result<RegisterId, ParseError> {
        self.cursor.space();
        let place = self.cursor.place();
        let name = self.cursor.word("a register")?;
        match state.find(name) {
            Some(Name::Register(register)) => Ok(register),
            _ => Err(self.cursor.error_at(place, format!("`{name}` is not a register"))),
        }
    }
}
