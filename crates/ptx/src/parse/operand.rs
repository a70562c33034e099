//! Operands (PTX ISA 6).

use super::scope::{FunctionState, Name};
use super::{ParseError, Parser};
use crate::instruction::{Address, Base, Operand};
use crate::module::Symbol;
use crate::types::SpecialRegister;

/// Most elements of `{ ... }`: wgmma's accumulators take 128.
const MAX_VECTOR: usize = 256;

impl<'a> Parser<'a> {
    pub(super) fn operand(&mut self, state: &mut FunctionState<'a>) -> Result<Operand, ParseError> {
        let first = match self.cursor.peek() {
            b'{' => Operand::Vector(self.vector(state)?),
            b'[' => self.memory(state)?,
            _ => self.scalar(state)?,
        };
        if self.cursor.peek() == b'|' {
            self.cursor.step();
            let second = self.scalar(state)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn vector(&mut self, state: &mut FunctionState<'a>) -> Result<Vec<Operand>, ParseError> {
        self.cursor.expect(b'{')?;
        let mut elements = Vec::new();
        loop {
            if elements.len() == MAX_VECTOR {
                return Err(self.cursor.error(format!("more than {MAX_VECTOR} elements")));
            }
            elements.push(self.scalar(state)?);
            if !self.cursor.take(b',') {
                break;
            }
        }
        self.cursor.expect(b'}')?;
        Ok(elements)
    }

    /// A register, constant, name or `_`.
    fn scalar(&mut self, state: &mut FunctionState<'a>) -> Result<Operand, ParseError> {
        let first = self.cursor.peek();
        if first == b'!' {
            self.cursor.step();
            return Ok(Operand::Not(self.register(state)?));
        }
        let place = self.cursor.place();
        let word = match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | b'%'
                if self.cursor.peek_word() != Some("WARP_SZ") =>
            {
                self.cursor.word("an operand")?
            }
            _ => return Ok(Operand::Immediate(self.constant()?)),
        };
        if word == "_" {
            return Ok(Operand::Sink);
        }
        match self.name(state, word) {
            Some(Name::Register(register)) => Ok(Operand::Register(register)),
            Some(Name::Symbol(symbol)) => {
                let offset = self.offset()?;
                Ok(Operand::Symbol(symbol, offset))
            }
            None => {
                if let Some(special) = self.special(word) {
                    return Ok(Operand::Special(special));
                }
                Err(self.cursor.error_at(place, format!("`{}` is not declared", short(word))))
            }
        }
    }

    fn name(&self, state: &FunctionState<'a>, word: &str) -> Option<Name> {
        state.find(word).or_else(|| self.symbols.get(word).map(|s| Name::Symbol(*s)))
    }

    fn special(&mut self, word: &str) -> Option<SpecialRegister> {
        let name = word.strip_prefix('%')?;
        if self.cursor.raw(0) == b'.' {
            let axis = self.cursor.try_dotted()?;
            return SpecialRegister::from_text(&format!("{name}.{}", short(axis)));
        }
        SpecialRegister::from_text(name)
    }

    /// `+4`, `-4`, `+-4` or nothing.
    fn offset(&mut self) -> Result<i64, ParseError> {
        match self.cursor.peek() {
            b'+' | b'-' => self.integer(),
            _ => Ok(0),
        }
    }

    fn address(&mut self, state: &mut FunctionState<'a>) -> Result<Address, ParseError> {
        let first = self.cursor.peek();
        let place = self.cursor.place();
        if !matches!(first, b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | b'%') {
            return Ok(Address { base: Base::Absolute, offset: self.integer()? });
        }
        let word = self.cursor.word("an address")?;
        let base = match self.name(state, word) {
            Some(Name::Register(register)) => Base::Register(register),
            Some(Name::Symbol(Symbol::Function(_))) | None => {
                let message = format!("`{}` is not a variable or register", short(word));
                return Err(self.cursor.error_at(place, message));
            }
            Some(Name::Symbol(symbol)) => Base::Symbol(symbol),
        };
        Ok(Address { base, offset: self.offset()? })
    }

    /// `[address]` or `[map, {coordinates}]`.
    fn memory(&mut self, state: &mut FunctionState<'a>) -> Result<Operand, ParseError> {
        self.cursor.expect(b'[')?;
        let address = self.address(state)?;
        if self.cursor.take(b',') {
            let coordinates = self.vector(state)?;
            self.cursor.expect(b']')?;
            return Ok(Operand::Tensor { map: address, coordinates });
        }
        self.cursor.expect(b']')?;
        Ok(Operand::Memory(address))
    }
}

fn short(word: &str) -> &str {
    &word[..word.len().min(80)]
}
