//! Bodies of functions: scopes, labels, directives, instructions.

use super::cursor::Place;
use super::declare::linkage;
use super::scope::{FunctionState, RawLocation, Targets};
use super::{MAX_NESTING, ParseError, Parser};
use crate::instruction::{Guard, Instruction, Operand};
use crate::module::{Linkage, Symbol};
use crate::table::{self, Count, Form, Kind, Opcode, OperandSpec};

/// Deepest nesting of inlined functions.
const MAX_INLINED: u32 = 1024;

impl<'a> Parser<'a> {
    pub(super) fn body(&mut self, state: &mut FunctionState<'a>) -> Result<(), ParseError> {
        let outermost = state.depth();
        let start = self.cursor.place();
        self.cursor.expect(b'{')?;
        loop {
            match self.cursor.peek() {
                b'{' => {
                    if !state.open() {
                        let message = format!("scopes nest deeper than {MAX_NESTING}");
                        return Err(self.cursor.error(message));
                    }
                    self.cursor.step();
                }
                b'}' => {
                    self.cursor.step();
                    if state.depth() == outermost {
                        return Ok(());
                    }
                    state.close();
                }
                b';' => self.cursor.step(),
                b'.' => self.directive(state)?,
                b'@' => {
                    self.cursor.step();
                    let negated = self.cursor.take(b'!');
                    let register = self.register(state)?;
                    let guard = Some(Guard { register, negated });
                    self.cursor.space();
                    let place = self.cursor.place();
                    let mnemonic = self.cursor.mnemonic();
                    self.instruction(state, guard, mnemonic, place)?;
                }
                _ if self.cursor.at_end() => {
                    return Err(self.cursor.error_at(start, "the body is not closed by `}`"));
                }
                _ => {
                    let place = self.cursor.place();
                    let word = self.cursor.mnemonic();
                    if word.is_empty() {
                        let found = self.cursor.found();
                        let message = format!("expected an instruction, found {found}");
                        return Err(self.cursor.error(message));
                    }
                    if self.cursor.take(b':') {
                        self.label(state, word, place)?;
                    } else {
                        self.instruction(state, None, word, place)?;
                    }
                }
            }
        }
    }

    fn label(
        &mut self,
        state: &mut FunctionState<'a>,
        name: &'a str,
        place: Place,
    ) -> Result<(), ParseError> {
        if name.contains(['.', ':']) || name.as_bytes()[0].is_ascii_digit() {
            return Err(self.cursor.error_at(place, "this is not the name of a label"));
        }
        match self.cursor.peek_dotted() {
            Some("branchtargets") => {
                self.cursor.try_dotted();
                let mut list = Vec::new();
                loop {
                    self.cursor.space();
                    let place = self.cursor.place();
                    let target = self.cursor.word("a label")?;
                    list.push(state.use_label(target, place));
                    if !self.cursor.take(b',') {
                        break;
                    }
                }
                self.cursor.expect(b';')?;
                state.add_targets(name, Targets::List(list));
            }
            Some("calltargets") => {
                self.cursor.try_dotted();
                let mut list = Vec::new();
                loop {
                    let function = self.function_name()?;
                    list.push(Operand::Symbol(Symbol::Function(function), 0));
                    if !self.cursor.take(b',') {
                        break;
                    }
                }
                self.cursor.expect(b';')?;
                state.add_targets(name, Targets::List(list));
            }
            Some("callprototype") => {
                self.cursor.try_dotted();
                let prototype = self.prototype()?;
                state.add_targets(name, Targets::Prototype(prototype, None));
            }
            _ => {
                if !state.define_label(name, place) {
                    let message = format!("the label `{name}` is there twice in one scope");
                    return Err(self.cursor.error_at(place, message));
                }
            }
        }
        Ok(())
    }

    fn directive(&mut self, state: &mut FunctionState<'a>) -> Result<(), ParseError> {
        match self.cursor.peek_dotted() {
            Some("loc") => {
                self.cursor.try_dotted();
                self.loc(state)
            }
            Some("pragma") => {
                self.cursor.try_dotted();
                let text = self.pragma()?;
                state.body.pragmas.push((state.body.instructions.len() as u32, text));
                Ok(())
            }
            Some("file") => {
                self.cursor.try_dotted();
                self.file()
            }
            _ => {
                let mut found = Linkage::None;
                while let Some(l) = self.cursor.peek_dotted().and_then(linkage) {
                    self.cursor.try_dotted();
                    found = l;
                }
                self.local_variables(state, found)
            }
        }
    }

    /// `.loc file line column[, function_name label[+n], inlined_at file line column]`.
    fn loc(&mut self, state: &mut FunctionState<'a>) -> Result<(), ParseError> {
        let (file, line, column) = self.source_place()?;
        let mut inlined = None;
        if self.cursor.take(b',') {
            let mut label = String::new();
            let mut at = None;
            loop {
                match self.cursor.word("`function_name` or `inlined_at`")? {
                    "function_name" => {
                        label = self.cursor.word("a label")?.to_owned();
                        if self.cursor.take(b'+') {
                            label.push_str(&format!("+{}", self.integer()?));
                        }
                    }
                    "inlined_at" => at = Some(self.source_place()?),
                    _ => return Err(self.cursor.error("an unknown part of `.loc`")),
                }
                if !self.cursor.take(b',') {
                    break;
                }
            }
            if let Some(at) = at {
                let raw = *state.location_of.entry(at).or_insert_with(|| {
                    let (file, line, column) = at;
                    let (inlined, interned) = (None, None);
                    let raw = RawLocation { file, line, column, inlined, depth: 0, interned };
                    state.locations.push(raw);
                    state.locations.len() - 1
                });
                inlined = Some((label, raw));
            }
        }
        let depth = inlined.as_ref().map_or(0, |(_, at)| state.locations[*at].depth + 1);
        if depth > MAX_INLINED {
            return Err(self.cursor.error(format!("inlined deeper than {MAX_INLINED}")));
        }
        let raw = RawLocation { file, line, column, inlined, depth, interned: None };
        state.location_of.insert((file, line, column), state.locations.len());
        state.current = Some(state.locations.len());
        state.locations.push(raw);
        Ok(())
    }

    fn source_place(&mut self) -> Result<(u32, u32, u32), ParseError> {
        let limit = u64::from(u32::MAX);
        let number = self.bounded("a file number", limit)? as u32;
        let line = self.bounded("a line", limit)? as u32;
        let column = self.bounded("a column", limit)? as u32;
        Ok((self.file_index(number), line, column))
    }

    fn instruction(
        &mut self,
        state: &mut FunctionState<'a>,
        guard: Option<Guard>,
        mnemonic: &'a str,
        place: Place,
    ) -> Result<(), ParseError> {
        let Some((form, modifiers)) = self.lookup(mnemonic) else {
            return Err(self.unknown(mnemonic, place));
        };
        let operands = match form.opcode {
            Opcode::Call => self.call(state),
            _ => self.operands(state, form),
        };
        let mut operands = operands.map_err(|mut error| {
            error.mnemonic = Some(mnemonic.to_owned());
            error
        })?;
        operands.shrink_to_fit();
        let location = state.location();
        let line = place.line;
        state.body.instructions.push(Instruction {
            guard,
            form,
            modifiers,
            operands,
            line,
            location,
        });
        Ok(())
    }

    fn unknown(&self, mnemonic: &str, place: Place) -> ParseError {
        let shown: String = mnemonic.chars().take(160).collect();
        let rows = table::nearest(&shown, 3);
        let nearest: Vec<&'static str> = rows.iter().map(|form| form.pattern).collect();
        let list = nearest.join("`, `");
        let message = format!("unknown instruction `{shown}`; the nearest known are `{list}`");
        let mut error = self.cursor.error_at(place, message);
        error.mnemonic = Some(shown);
        error.nearest = nearest;
        error
    }

    fn operands(
        &mut self,
        state: &mut FunctionState<'a>,
        form: &'static Form,
    ) -> Result<Vec<Operand>, ParseError> {
        let specs = form.operand_specs();
        let mut operands = Vec::with_capacity(specs.len());
        if self.cursor.take(b';') {
            return Ok(operands);
        }
        loop {
            let spec = specs.get(operands.len());
            let label = spec.is_some_and(|s| s.kinds.contains(&Kind::Label));
            let list = spec.is_some_and(|s| s.kinds.contains(&Kind::List));
            self.cursor.space();
            let place = self.cursor.place();
            operands.push(if label {
                let name = self.cursor.word("a label")?;
                state.use_label(name, place)
            } else if list {
                let name = self.cursor.word("a list of targets")?;
                let message = || format!("no `.branchtargets` is called `{name}`");
                state.targets(name).ok_or_else(|| self.cursor.error_at(place, message()))?
            } else {
                braces(spec, self.operand(state)?)
            });
            if operands.len() > specs.len() {
                let message = format!("too many operands; they are `{}`", form.operands);
                return Err(self.cursor.error_at(place, message));
            }
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b';')?;
        Ok(operands)
    }

    /// The operands of `call`, always in this shape: returns, function, arguments, then the list of
    /// functions or the prototype of an indirect call, if there is one.
    fn call(&mut self, state: &mut FunctionState<'a>) -> Result<Vec<Operand>, ParseError> {
        let mut returns = Vec::new();
        if self.cursor.peek() == b'(' {
            returns = self.list(state)?;
            self.cursor.expect(b',')?;
        }
        self.cursor.space();
        let place = self.cursor.place();
        let function = self.operand(state)?;
        if !matches!(function, Operand::Symbol(Symbol::Function(_), 0) | Operand::Register(_)) {
            return Err(self.cursor.error_at(place, "a function or a register is needed here"));
        }
        let mut arguments = Vec::new();
        let mut targets = None;
        while self.cursor.take(b',') {
            if self.cursor.peek() == b'(' && targets.is_none() {
                arguments = self.list(state)?;
            } else {
                self.cursor.space();
                let place = self.cursor.place();
                let name = self.cursor.word("a prototype or a list of functions")?;
                let message = || format!("`{name}` is no prototype and no list of functions");
                let found = state.targets(name);
                targets = Some(found.ok_or_else(|| self.cursor.error_at(place, message()))?);
            }
        }
        self.cursor.expect(b';')?;
        let mut operands = vec![Operand::List(returns), function, Operand::List(arguments)];
        operands.extend(targets);
        Ok(operands)
    }

    /// `(a, b)`.
    fn list(&mut self, state: &mut FunctionState<'a>) -> Result<Vec<Operand>, ParseError> {
        self.cursor.expect(b'(')?;
        let mut list = Vec::new();
        if self.cursor.take(b')') {
            return Ok(list);
        }
        loop {
            list.push(self.operand(state)?);
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b')')?;
        Ok(list)
    }
}

/// Braces around one element say nothing: `{%r1}` is `%r1` where no vector is meant, and the other way
/// round.
fn braces(spec: Option<&OperandSpec>, operand: Operand) -> Operand {
    let counted = |kind: &Kind| match kind {
        Kind::Vector { count, .. } => !matches!(count, Count::V),
        Kind::Pack(_) => true,
        _ => false,
    };
    let Some(spec) = spec else { return operand };
    match operand {
        Operand::Vector(mut elements) if elements.len() == 1 && !spec.kinds.iter().any(counted) => {
            elements.pop().unwrap_or(Operand::Sink)
        }
        Operand::Register(_) if spec.kinds.iter().all(counted) => Operand::Vector(vec![operand]),
        other => other,
    }
}
