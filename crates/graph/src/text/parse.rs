//! Text into graphs.

use std::collections::HashMap;

use zeroforge_artifact::program::SymbolDecl;
use zeroforge_artifact::{DType, SymbolRange};

use super::attributes::{Attributes, Fault, Piece, Result, fault};
use super::constant;
use crate::ir::{
    Assumption, Bytes, Def, Graph, Input, Node, NodeId, Origin, Output, OutputKind, TensorType,
    Value, ValueId, Weight, WeightData,
};
use crate::verify::is_identifier;

/// Longest text that is read, in bytes.
pub const MAX_TEXT: usize = 256 << 20;

/// Where and why a text is no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads the text form. Only the form is checked: run [`verify`](fn@crate::verify) on the result.
pub fn parse(text: &str) -> std::result::Result<Graph, ParseError> {
    let mut parser = Parser { text, at: 0, graph: Graph::default(), names: HashMap::new() };
    match parser.graph() {
        Ok(()) => Ok(parser.graph),
        Err(Fault { at, message }) => {
            let before = text.get(..at).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |i| i + 1);
            Err(ParseError {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message,
            })
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    graph: Graph,
    names: HashMap<&'a str, ValueId>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips blanks, line ends and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest().trim_start();
            self.at = self.text.len() - rest.len();
            if !rest.starts_with('#') {
                return;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        fault(self.at, message)
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        let hit = self.rest().starts_with(token);
        self.at += if hit { token.len() } else { 0 };
        hit
    }

    /// Takes a word if it is the next one, whole.
    fn keyword(&mut self, word: &str) -> bool {
        let before = self.at;
        let hit = self.word() == word;
        if !hit {
            self.at = before;
        }
        hit
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { self.fail(format!("expected `{token}`")) }
    }

    /// Letters, digits, `_` and `.`; may be empty.
    fn word(&mut self) -> &'a str {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn string(&mut self) -> Result<String> {
        self.skip();
        let start = self.at;
        let Some(rest) = self.rest().strip_prefix('"') else {
            return self.fail("expected a string");
        };
        let mut out = String::new();
        let mut chars = rest.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + 1 + i + 1;
                    return Ok(out);
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    Some((j, 'u')) => {
                        let digits = rest[j + 1..].strip_prefix('{');
                        let digits = digits.and_then(|d| d.get(..d.find('}')?));
                        let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
                        let (Some(digits), Some(c)) = (digits, code.and_then(char::from_u32))
                        else {
                            return fault(start + 1 + i, "expected `\\u{hexadecimal}`");
                        };
                        out.push(c);
                        // The brace, the digits, the brace.
                        for _ in 0..digits.len() + 2 {
                            chars.next();
                        }
                    }
                    _ => return fault(start + 1 + i, "unknown escape"),
                },
                c => out.push(c),
            }
        }
        fault(start, "a string without end")
    }

    fn at_string(&mut self) -> bool {
        self.skip();
        self.rest().starts_with('"')
    }

    /// Text inside balanced brackets, which starts here; stops at the line's end.
    fn bracketed(&mut self, open: char, close: char) -> Result<Piece<'a>> {
        self.skip();
        let rest = self.rest();
        if !rest.starts_with(open) {
            return self.fail(format!("expected `{open}`"));
        }
        let mut depth = 0usize;
        for (i, c) in rest.char_indices() {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '\n' => break,
                _ => {}
            }
            if depth == 0 {
                if c != close {
                    return fault(self.at + i, format!("expected `{close}`"));
                }
                let piece = Piece { text: &rest[1..i], at: self.at + 1 };
                self.at += i + 1;
                return Ok(piece);
            }
        }
        self.fail(format!("`{open}` without `{close}` on its line"))
    }

    /// A size expression, up to one of the ends.
    fn expr_until(&mut self, end: &str) -> Result<zeroforge_artifact::Expr> {
        self.skip();
        let rest = self.rest();
        let Some(length) = rest.lines().next().unwrap_or_default().find(end) else {
            return self.fail(format!("expected an expression and `{end}`"));
        };
        let piece = Piece { text: &rest[..length], at: self.at }.trim();
        self.at += length + end.len();
        piece.expr()
    }

    fn number(&mut self) -> Result<i64> {
        self.skip();
        let start = self.at;
        let negative = self.eat("-");
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += end;
        let value = rest[..end].parse::<i64>().or_else(|_| fault(start, "expected a number"))?;
        Ok(if negative { -value } else { value })
    }

    fn tensor_type(&mut self) -> Result<TensorType> {
        self.skip();
        let at = self.at;
        let dtype: DType = self.word().parse().or_else(|e| fault(at, format!("{e}")))?;
        let shape = self.bracketed('[', ']')?.split().into_iter().map(Piece::expr);
        Ok(TensorType::new(dtype, shape.collect::<Result<_>>()?))
    }

    /// `%name` of a new value.
    fn new_name(&mut self) -> Result<(&'a str, usize)> {
        self.expect("%")?;
        let at = self.at;
        let name = self.word();
        if !is_identifier(name) {
            return fault(at, "expected a name");
        }
        Ok((name, at))
    }

    fn define(
        &mut self,
        (name, at): (&'a str, usize),
        ty: TensorType,
        def: Def,
    ) -> Result<ValueId> {
        let id = ValueId(self.graph.values.len() as u32);
        if self.names.insert(name, id).is_some() {
            return fault(at, format!("`%{name}` is defined twice"));
        }
        self.graph.values.push(Value { name: name.to_owned(), ty, def });
        Ok(id)
    }

    fn lookup(&self, name: &str, at: usize) -> Result<ValueId> {
        match self.names.get(name) {
            Some(id) => Ok(*id),
            None => fault(at, format!("`%{name}` is not defined before this line")),
        }
    }

    fn graph(&mut self) -> Result<()> {
        if self.text.len() > MAX_TEXT {
            return fault(0, format!("the text is longer than {MAX_TEXT} bytes"));
        }
        if !self.keyword("graph") {
            return self.fail("expected `graph \"name\" {`");
        }
        self.graph.name = self.string()?;
        self.expect("{")?;
        while !self.eat("}") {
            self.item()?;
        }
        self.skip();
        if self.rest().is_empty() { Ok(()) } else { self.fail("text after the graph") }
    }

    fn item(&mut self) -> Result<()> {
        self.skip();
        if self.rest().starts_with('%') {
            return self.node();
        }
        let at = self.at;
        match self.word() {
            "symbol" => self.symbol(),
            "assume" => {
                let non_negative = self.expr_until(">=")?;
                self.expect("0")?;
                self.expect(":")?;
                let message = self.string()?;
                self.graph.assumptions.push(Assumption { non_negative, message });
                Ok(())
            }
            "input" => {
                let name = self.new_name()?;
                let own = if self.at_string() { self.string()? } else { name.0.to_owned() };
                self.expect(":")?;
                let ty = self.tensor_type()?;
                let def = Def::Input(self.graph.inputs.len() as u32);
                let value = self.define(name, ty, def)?;
                self.graph.inputs.push(Input { name: own, value });
                Ok(())
            }
            "weight" => self.weight(false),
            "mutable" => {
                if !self.keyword("weight") {
                    return self.fail("expected `weight`");
                }
                self.weight(true)
            }
            "output" => self.output(),
            "signature" => {
                let at = self.at;
                let side = match self.word() {
                    "inputs" => true,
                    "outputs" => false,
                    _ => return fault(at, "expected `inputs` or `outputs`"),
                };
                let text = Some(self.string()?);
                let signature = &mut self.graph.signature;
                *(if side { &mut signature.inputs } else { &mut signature.outputs }) = text;
                Ok(())
            }
            "" => fault(at, "expected an item or `}`"),
            other => fault(at, format!("unknown item `{other}`")),
        }
    }

    fn symbol(&mut self) -> Result<()> {
        self.skip();
        let at = self.at;
        let expected = format!("s{}", self.graph.symbols.len());
        if self.word() != expected {
            return fault(at, format!("symbols are declared in order; expected `{expected}`"));
        }
        let name = self.string()?;
        self.expect(":")?;
        let min = self.number()?;
        self.expect("..")?;
        let max = if self.eat("inf") { i64::MAX } else { self.number()? };
        self.graph.symbols.push(SymbolDecl { name, range: SymbolRange { min, max } });
        Ok(())
    }

    fn weight(&mut self, mutable: bool) -> Result<()> {
        let name = self.new_name()?;
        let own = if self.at_string() { self.string()? } else { name.0.to_owned() };
        self.expect(":")?;
        let ty = self.tensor_type()?;
        self.expect("=")?;
        self.skip();
        let at = self.at;
        let data = if self.rest().starts_with('[') {
            let values: Vec<&str> =
                self.bracketed('[', ']')?.split().into_iter().map(|p| p.text).collect();
            match constant::parse_elements(ty.dtype, &values) {
                Some(bytes) => WeightData::Inline(Bytes::new(bytes)),
                None => return fault(at, format!("not all of these are values of {}", ty.dtype)),
            }
        } else {
            match self.word() {
                "unbound" => WeightData::Unbound,
                "source" => WeightData::Source(self.string()?),
                "hex" => match constant::parse_hex(&self.string()?) {
                    Some(bytes) => WeightData::Inline(Bytes::new(bytes)),
                    None => return fault(at, "expected pairs of hexadecimal digits"),
                },
                _ => {
                    let known = "expected `[values]`, `hex \"...\"`, `source \"...\"` or `unbound`";
                    return fault(at, known);
                }
            }
        };
        let def = Def::Weight(self.graph.weights.len() as u32);
        let value = self.define(name, ty, def)?;
        self.graph.weights.push(Weight { name: own, value, data, mutable });
        Ok(())
    }

    fn output(&mut self) -> Result<()> {
        let name = self.string()?;
        self.expect("=")?;
        let (value, at) = self.new_name()?;
        let value = self.lookup(value, at)?;
        let kind = if self.keyword("updates") {
            let at = self.at;
            let what = self.word();
            let index = self.number()?;
            let index = u32::try_from(index).or_else(|_| fault(at, "an impossible index"))?;
            match what {
                "input" => OutputKind::InputMutation(index),
                "weight" => OutputKind::BufferMutation(index),
                _ => return fault(at, "expected `input` or `weight`"),
            }
        } else {
            OutputKind::User
        };
        self.graph.outputs.push(Output { name, value, kind });
        Ok(())
    }

    fn node(&mut self) -> Result<()> {
        let mut results = vec![self.new_name()?];
        while self.eat(",") {
            results.push(self.new_name()?);
        }
        self.expect("=")?;
        self.skip();
        let at = self.at;
        let op = self.word();
        let mut attributes = Attributes { op, at, items: Vec::new() };
        let mut inputs = Vec::new();
        for piece in self.bracketed('(', ')')?.split() {
            if let Some(name) = piece.text.strip_prefix('%') {
                inputs.push(self.lookup(name, piece.at)?);
                continue;
            }
            let (key, value) = match piece.text.split_once(':') {
                Some((key, text)) => {
                    let value = Piece { text, at: piece.at + key.len() + 1 };
                    (key.trim(), Some(value.trim()))
                }
                None => (piece.text, None),
            };
            if !is_identifier(key) {
                return fault(piece.at, "expected `%operand`, `attribute: value` or a flag");
            }
            if attributes.items.iter().any(|(k, ..)| *k == key) {
                return fault(piece.at, format!("`{key}` is given twice"));
            }
            attributes.items.push((key, value, piece.at));
        }
        self.expect(":")?;
        let mut types = vec![self.tensor_type()?];
        while self.eat(",") {
            types.push(self.tensor_type()?);
        }
        if types.len() != results.len() {
            return fault(at, format!("{} results, but {} types", results.len(), types.len()));
        }
        let op = attributes.op(&types[0])?;
        let origin = self.origin(results[0].0)?;
        let node = NodeId(self.graph.nodes.len() as u32);
        let mut outputs = Vec::with_capacity(results.len());
        for (i, (name, ty)) in results.into_iter().zip(types).enumerate() {
            outputs.push(self.define(name, ty, Def::Node { node, output: i as u32 })?);
        }
        self.graph.nodes.push(Node { op, inputs, outputs, origin });
        Ok(())
    }

    fn origin(&mut self, result: &str) -> Result<Origin> {
        let mut origin = Origin::default();
        if !self.eat("@") {
            return Ok(origin);
        }
        origin.node = if self.at_string() { self.string()? } else { result.to_owned() };
        if self.keyword("in") {
            origin.module = self.string()?;
        }
        if self.keyword("from") {
            origin.source = self.string()?;
        }
        Ok(origin)
    }
}
