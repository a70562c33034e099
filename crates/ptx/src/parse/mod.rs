//! PTX text into a [`Module`]: a recursive-descent parser that works on the text itself.
//!
//! Every limit is checked before memory is taken, and nothing recurses by input beyond a fixed depth.

mod body;
mod constant;
mod cursor;
mod declare;
mod function;
mod initial;
mod operand;
mod scope;

use std::collections::HashMap;

use crate::module::{Module, SourceFile, Symbol};
use crate::table::{Form, Modifier};
use cursor::Cursor;

/// Deepest nesting of `{ ... }`.
const MAX_NESTING: usize = 64;
/// Most registers in a module.
const MAX_REGISTERS: u64 = 1 << 20;
/// Most bytes of a variable.
const MAX_VARIABLE: u64 = 1 << 40;
/// Most bytes that initialisers may take together, zeros between elements included.
const MAX_INITIAL: u64 = 64 << 20;

/// Why a text is not PTX, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    /// What is wrong and, where that is known, what to do.
    pub message: String,
    /// The mnemonic of the instruction in which it is, if it is in one.
    pub mnemonic: Option<String>,
    /// For an unknown instruction: the patterns of the rows nearest to it.
    pub nearest: Vec<&'static str>,
}

/// Parses a module.
///
/// # Errors
///
/// The first mistake in the text, or the first thing that this crate does not know.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    let mut parser = Parser {
        cursor: Cursor::new(text)?,
        module: Module { address_size: 64, ..Module::default() },
        symbols: HashMap::new(),
        files: HashMap::new(),
        mnemonics: HashMap::new(),
        registers: 0,
        initial_bytes: 0,
    };
    parser.module()?;
    Ok(parser.module)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    module: Module,
    symbols: HashMap<&'a str, Symbol>,
    /// Index in [`Module::files`] of a number of `.file`.
    files: HashMap<u32, u32>,
    mnemonics: HashMap<&'a str, (&'static Form, Vec<Modifier>)>,
    registers: u64,
    initial_bytes: u64,
}

impl<'a> Parser<'a> {
    fn module(&mut self) -> Result<(), ParseError> {
        while !self.cursor.at_end() {
            let place = self.cursor.place();
            let Some(directive) = self.cursor.peek_dotted() else {
                if self.cursor.take(b';') {
                    continue;
                }
                let found = self.cursor.found();
                return Err(self.cursor.error(format!("expected a directive, found {found}")));
            };
            match directive {
                "version" => {
                    self.cursor.try_dotted();
                    self.version()?;
                }
                "target" => {
                    self.cursor.try_dotted();
                    self.targets()?;
                }
                "address_size" => {
                    self.cursor.try_dotted();
                    self.cursor.space();
                    let place = self.cursor.place();
                    self.module.address_size = match self.integer()? {
                        32 => 32,
                        64 => 64,
                        _ => return Err(self.cursor.error_at(place, "it is 32 or 64")),
                    };
                }
                "file" => {
                    self.cursor.try_dotted();
                    self.file()?;
                }
                "section" => {
                    self.cursor.try_dotted();
                    self.section()?;
                }
                "pragma" => {
                    self.cursor.try_dotted();
                    self.pragma()?;
                }
                "alias" => {
                    self.cursor.try_dotted();
                    self.alias()?;
                }
                "loc" => return Err(self.cursor.error_at(place, "`.loc` outside of a function")),
                _ => self.global()?,
            }
        }
        Ok(())
    }

    fn version(&mut self) -> Result<(), ParseError> {
        self.cursor.space();
        let place = self.cursor.place();
        let start = self.cursor.offset();
        self.cursor.number()?;
        let text = self.cursor.slice(start, self.cursor.offset());
        let parts =
            text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        self.module.version =
            parts.ok_or_else(|| self.cursor.error_at(place, "a version is like `8.0`"))?;
        Ok(())
    }

    fn targets(&mut self) -> Result<(), ParseError> {
        loop {
            let name = self.cursor.word("a target")?;
            self.module.targets.push(name.to_owned());
            if !self.cursor.take(b',') {
                return Ok(());
            }
        }
    }

    fn file_index(&mut self, number: u32) -> u32 {
        let files = &mut self.module.files;
        *self.files.entry(number).or_insert_with(|| {
            files.push(SourceFile { number, path: String::new() });
            (files.len() - 1) as u32
        })
    }

    fn file(&mut self) -> Result<(), ParseError> {
        let number = self.bounded("a file number", u64::from(u32::MAX))? as u32;
        let path = self.cursor.string()?;
        let index = self.file_index(number);
        self.module.files[index as usize].path = path.to_owned();
        // Time stamp and size of the file.
        while self.cursor.take(b',') {
            self.integer()?;
        }
        Ok(())
    }

    /// `.section name { ... }`: the text between the braces is kept as it is.
    fn section(&mut self) -> Result<(), ParseError> {
        self.cursor.space();
        let name = match self.cursor.try_dotted() {
            Some(name) => format!(".{name}"),
            None => self.cursor.word("the name of a section")?.to_owned(),
        };
        let place = self.cursor.place();
        self.cursor.expect(b'{')?;
        let start = self.cursor.offset();
        loop {
            match self.cursor.peek() {
                b'}' => break,
                _ if self.cursor.at_end() => {
                    return Err(self.cursor.error_at(place, "the section is not closed by `}`"));
                }
                b'"' => {
                    self.cursor.string()?;
                }
                _ => self.cursor.step(),
            }
        }
        let text = self.cursor.slice(start, self.cursor.offset()).trim();
        self.module.sections.push((name, text.to_owned()));
        self.cursor.expect(b'}')
    }

    fn pragma(&mut self) -> Result<String, ParseError> {
        let mut all = self.cursor.string()?.to_owned();
        while self.cursor.take(b',') {
            all.push_str("\", \"");
            all.push_str(self.cursor.string()?);
        }
        self.cursor.expect(b';')?;
        Ok(all)
    }

    fn alias(&mut self) -> Result<(), ParseError> {
        let new = self.function_name()?;
        self.cursor.expect(b',')?;
        let old = self.function_name()?;
        self.module.aliases.push((new, old));
        self.cursor.expect(b';')
    }

    fn function_name(&mut self) -> Result<u32, ParseError> {
        self.cursor.space();
        let place = self.cursor.place();
        let name = self.cursor.word("a function")?;
        match self.symbols.get(name) {
            Some(Symbol::Function(index)) => Ok(*index),
            _ => Err(self.cursor.error_at(place, format!("`{name}` is not a function"))),
        }
    }

    /// The row and the modifiers of a mnemonic.
    fn lookup(&mut self, mnemonic: &'a str) -> Option<(&'static Form, Vec<Modifier>)> {
        if let Some(hit) = self.mnemonics.get(mnemonic) {
            return Some(hit.clone());
        }
        let found = crate::table::find(mnemonic)?;
        self.mnemonics.insert(mnemonic, found.clone());
        Some(found)
    }
}
