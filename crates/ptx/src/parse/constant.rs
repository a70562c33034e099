//! Constant expressions (PTX ISA 4.5), in wrapping 64-bit arithmetic.

use super::ParseError;
use super::Parser;
use crate::instruction::Immediate;

/// Deepest nesting of parentheses and unary operators.
const MAX_DEPTH: u32 = 64;

impl Parser<'_> {
    /// A constant: a number, `WARP_SZ`, or operators over them.
    pub(super) fn constant(&mut self) -> Result<Immediate, ParseError> {
        self.binary(0, 0)
    }

    /// A constant that is an integer.
    pub(super) fn integer(&mut self) -> Result<i64, ParseError> {
        let place = self.cursor.place();
        match self.constant()? {
            Immediate::Integer(value) => Ok(value),
            _ => Err(self.cursor.error_at(place, "an integer is needed here")),
        }
    }

    /// An integer from 0 to `limit`.
    pub(super) fn bounded(&mut self, what: &str, limit: u64) -> Result<u64, ParseError> {
        self.cursor.space();
        let place = self.cursor.place();
        let value = self.integer()? as u64;
        if value > limit {
            let message = format!("{what} is {value}; at most {limit} is allowed");
            return Err(self.cursor.error_at(place, message));
        }
        Ok(value)
    }

    fn binary(&mut self, lowest: u8, depth: u32) -> Result<Immediate, ParseError> {
        let mut left = self.unary(depth)?;
        loop {
            let first = self.cursor.peek();
            let (level, length) = match (first, self.cursor.raw(1)) {
                (b'*' | b'/' | b'%', _) => (6, 1),
                (b'+' | b'-', _) => (5, 1),
                (b'<', b'<') | (b'>', b'>') => (4, 2),
                (b'&', next) if next != b'&' => (3, 1),
                (b'^', _) => (2, 1),
                (b'|', next) if next != b'|' => (1, 1),
                _ => return Ok(left),
            };
            if level <= lowest {
                return Ok(left);
            }
            let place = self.cursor.place();
            for _ in 0..length {
                self.cursor.step();
            }
            let right = self.binary(level, depth + 1)?;
            let (Immediate::Integer(a), Immediate::Integer(b)) = (left, right) else {
                return Err(self.cursor.error_at(place, "arithmetic on constants needs integers"));
            };
            let value = match first {
                b'*' => a.wrapping_mul(b),
                b'/' if b != 0 => a.wrapping_div(b),
                b'%' if b != 0 => a.wrapping_rem(b),
                b'/' | b'%' => return Err(self.cursor.error_at(place, "division by zero")),
                b'+' => a.wrapping_add(b),
                b'-' => a.wrapping_sub(b),
                b'<' => a.wrapping_shl(b as u32),
                b'>' => a.wrapping_shr(b as u32),
                b'&' => a & b,
                b'^' => a ^ b,
                _ => a | b,
            };
            left = Immediate::Integer(value);
        }
    }

    fn unary(&mut self, depth: u32) -> Result<Immediate, ParseError> {
        let byte = self.cursor.peek();
        if depth > MAX_DEPTH {
            return Err(self.cursor.error("the expression is nested too deeply"));
        }
        match byte {
            b'(' => {
                self.cursor.step();
                let value = self.binary(0, depth + 1)?;
                self.cursor.expect(b')')?;
                Ok(value)
            }
            b'-' | b'~' | b'!' | b'+' => {
                self.cursor.step();
                let value = self.unary(depth + 1)?;
                match (byte, value) {
                    (b'+', value) => Ok(value),
                    (b'-', Immediate::Integer(v)) => Ok(Immediate::Integer(v.wrapping_neg())),
                    (b'~', Immediate::Integer(v)) => Ok(Immediate::Integer(!v)),
                    (b'!', Immediate::Integer(v)) => Ok(Immediate::Integer(i64::from(v == 0))),
                    (b'-', Immediate::F32(bits)) => Ok(Immediate::F32(bits ^ 1 << 31)),
                    (b'-', Immediate::F64(bits)) => Ok(Immediate::F64(bits ^ 1 << 63)),
                    _ => Err(self.cursor.error("this operator needs an integer")),
                }
            }
            b'0'..=b'9' => self.cursor.number(),
            b'.' if self.cursor.raw(1).is_ascii_digit() => self.cursor.number(),
            _ => {
                let place = self.cursor.place();
                match self.cursor.try_word() {
                    Some("WARP_SZ") => Ok(Immediate::Integer(32)),
                    Some(word) => {
                        let word: String = word.chars().take(60).collect();
                        let message = format!("`{word}` is not a constant");
                        Err(self.cursor.error_at(place, message))
                    }
                    None => {
                        let found = self.cursor.found();
                        Err(self.cursor.error(format!("expected a constant, found {found}")))
                    }
                }
            }
        }
    }
}
