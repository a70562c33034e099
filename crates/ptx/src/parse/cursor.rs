//! The text and the place in it: spaces, comments, words, numbers, strings.

use super::ParseError;
use crate::instruction::Immediate;

/// Largest text that is read.
pub(super) const MAX_TEXT: usize = 64 << 20;

/// A place in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Result<Cursor<'a>, ParseError> {
        let cursor = Cursor { text, at: 0, line: 1, line_start: 0 };
        if text.len() > MAX_TEXT {
            return Err(cursor.error(format!("the text is longer than {MAX_TEXT} bytes")));
        }
        Ok(cursor)
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    pub(super) fn place(&self) -> Place {
        let column = self.at.saturating_sub(self.line_start) + 1;
        Place { line: self.line, column: column as u32 }
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.place(), message)
    }

    pub(super) fn error_at(&self, place: Place, message: impl Into<String>) -> ParseError {
        ParseError {
            line: place.line,
            column: place.column,
            message: message.into(),
            mnemonic: None,
            nearest: Vec::new(),
        }
    }

    /// Steps over one byte and counts lines.
    pub(super) fn step(&mut self) {
        if self.bytes().get(self.at) == Some(&b'\n') {
            self.line += 1;
            self.line_start = self.at + 1;
        }
        if self.at < self.text.len() {
            self.at += 1;
        }
    }

    /// Skips spaces and comments.
    pub(super) fn space(&mut self) {
        loop {
            let rest = &self.bytes()[self.at..];
            match rest {
                [b' ' | b'\t' | b'\r' | b'\n' | b'\x0c', ..] => self.step(),
                [b'/', b'/', ..] => {
                    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                    self.at += end;
                }
                [b'/', b'*', ..] => {
                    self.at += 2;
                    while self.at < self.text.len() && !self.bytes()[self.at..].starts_with(b"*/") {
                        self.step();
                    }
                    self.at = (self.at + 2).min(self.text.len());
                }
                _ => return,
            }
        }
    }

    /// The next byte after spaces; 0 at the end.
    pub(super) fn peek(&mut self) -> u8 {
        self.space();
        self.bytes().get(self.at).copied().unwrap_or(0)
    }

    /// The byte right here, or a few bytes on.
    pub(super) fn raw(&self, ahead: usize) -> u8 {
        self.bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.space();
        self.at >= self.text.len()
    }

    /// Takes a byte if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte && !self.at_end();
        if found {
            self.at += 1;
        }
        found
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), ParseError> {
        if self.take(byte) {
            return Ok(());
        }
        let found = self.found();
        Err(self.error(format!("expected `{}`, found {found}", byte as char)))
    }

    /// What is next, for a message.
    pub(super) fn found(&mut self) -> String {
        self.space();
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => "the end of the text".to_owned(),
            Some(c) if c.is_ascii() && is_word(c as u8) => format!("`{}`", self.clone_word()),
            Some(c) => format!("`{}`", c.escape_default()),
        }
    }

    fn clone_word(&self) -> &'a str {
        let end = self.word_end(self.at).min(self.at + 60);
        self.slice(self.at, end)
    }

    fn word_end(&self, from: usize) -> usize {
        let rest = &self.bytes()[from..];
        from + rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len())
    }

    /// A word of letters, digits, `_`, `$` and `%`, if one is next.
    pub(super) fn try_word(&mut self) -> Option<&'a str> {
        let first = self.peek();
        if !is_word(first) || first.is_ascii_digit() {
            return None;
        }
        let start = self.at;
        self.at = self.word_end(start);
        Some(self.slice(start, self.at))
    }

    /// Looks at the next word without taking it.
    pub(super) fn peek_word(&mut self) -> Option<&'a str> {
        self.space();
        let at = self.at;
        let word = self.try_word();
        self.at = at;
        word
    }

    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, ParseError> {
        match self.try_word() {
            Some(word) => Ok(word),
            None => {
                let found = self.found();
                Err(self.error(format!("expected {what}, found {found}")))
            }
        }
    }

    /// `.word` with `::` inside, without its dot, if one is next.
    pub(super) fn try_dotted(&mut self) -> Option<&'a str> {
        if self.peek() != b'.' || !is_word(self.raw(1)) {
            return None;
        }
        let start = self.at + 1;
        let mut end = self.word_end(start);
        while self.bytes()[end..].starts_with(b"::") {
            end = self.word_end(end + 2);
        }
        self.at = end;
        Some(self.slice(start, end))
    }

    /// Looks at the next `.word` without taking it.
    pub(super) fn peek_dotted(&mut self) -> Option<&'a str> {
        self.space();
        let at = self.at;
        let word = self.try_dotted();
        self.at = at;
        word
    }

    /// A mnemonic or label: a word with dots and `::` in it.
    pub(super) fn mnemonic(&mut self) -> &'a str {
        self.space();
        let start = self.at;
        let mut end = start;
        loop {
            end = self.word_end(end);
            let rest = &self.bytes()[end..];
            if rest.first() == Some(&b'.') && rest.get(1).is_some_and(|b| is_word(*b)) {
                end += 1;
            } else if rest.starts_with(b"::") {
                end += 2;
            } else {
                break;
            }
        }
        self.at = end;
        self.slice(start, end)
    }

    /// A string in quotes, escapes as written.
    pub(super) fn string(&mut self) -> Result<&'a str, ParseError> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.raw(0) {
                b'"' => break,
                b'\\' if self.at + 1 < self.text.len() => {
                    self.step();
                    self.step();
                }
                0 | b'\n' => return Err(self.error("a string without its closing `\"`")),
                _ => self.step(),
            }
        }
        let text = self.slice(start, self.at);
        self.at += 1;
        Ok(text)
    }

    /// A number, without sign.
    pub(super) fn number(&mut self) -> Result<Immediate, ParseError> {
        self.space();
        let place = self.place();
        let start = self.at;
        let bad = |cursor: &Cursor<'_>, text: &str| {
            let text: String = text.chars().take(40).collect();
            cursor.error_at(place, format!("`{text}` is not a number"))
        };
        let mut end = self.word_end(start);
        let word = self.slice(start, end);
        let second = word.as_bytes().get(1).copied().unwrap_or(0);
        if word.starts_with('0') && matches!(second, b'f' | b'F' | b'd' | b'D') {
            let digits = &word[2..];
            self.at = end;
            let value = u64::from_str_radix(digits, 16).ok();
            let float = second.eq_ignore_ascii_case(&b'f');
            let all_digits = digits.bytes().all(|b| b.is_ascii_hexdigit());
            return match (float, digits.len(), value) {
                (true, 8, Some(bits)) if all_digits => Ok(Immediate::F32(bits as u32)),
                (false, 16, Some(bits)) if all_digits => Ok(Immediate::F64(bits)),
                _ => Err(bad(self, word)),
            };
        }
        let hex = matches!(second, b'x' | b'X') && word.starts_with('0');
        let exponent = !hex && word.bytes().last().is_some_and(|b| b == b'e' || b == b'E');
        let fraction = !hex && self.bytes().get(end) == Some(&b'.');
        if fraction {
            end = self.word_end(end + 1);
        }
        let so_far = self.slice(start, end);
        let open = so_far.bytes().last().is_some_and(|b| b == b'e' || b == b'E');
        if (exponent || (fraction && open)) && matches!(self.bytes().get(end), Some(b'+' | b'-')) {
            end = self.word_end(end + 1);
        }
        let text = self.slice(start, end);
        self.at = end;
        let decimal = fraction || (!hex && !text.starts_with("0b") && text.contains(['e', 'E']));
        if decimal {
            let value: Option<f64> = text.parse().ok();
            return value.map(|v| Immediate::F64(v.to_bits())).ok_or_else(|| bad(self, text));
        }
        let digits = text.strip_suffix('U').unwrap_or(text);
        let (digits, radix) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
            [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
            [b'0', _, ..] => (&digits[1..], 8),
            _ => (digits, 10),
        };
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad(self, text));
        }
        match u64::from_str_radix(digits, radix) {
            Ok(value) => Ok(Immediate::Integer(value as i64)),
            Err(_) => Err(bad(self, text)),
        }
    }
}
