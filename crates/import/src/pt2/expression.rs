//! Size expressions as torch writes them: sympy's `srepr` in tensor metadata, its `str` in range
//! keys. Parsed by a grammar; nothing is evaluated.

use std::collections::BTreeMap;

use zeroforge_artifact::{Expr, Symbol};

/// Longest expression in bytes.
pub(crate) const MAX_BYTES: usize = 16 << 10;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// Symbols by their name, numbered in order of first appearance.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    pub(crate) names: Vec<String>,
    index: BTreeMap<String, u32>,
}

impl Symbols {
    pub(crate) fn get(&mut self, name: &str) -> Symbol {
        if let Some(&i) = self.index.get(name) {
            return Symbol(i);
        }
        let i = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), i);
        Symbol(i)
    }
}

/// Parses `Add(Symbol('s0', positive=True), Integer(1))` and plain symbol names.
pub(crate) fn parse(text: &str, symbols: &mut Symbols) -> Result<Expr, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    let mut parser = Parser { text, at: 0, symbols };
    let e = parser.expression(0)?;
    parser.space();
    if parser.at != text.len() {
        return Err(format!("unexpected text at byte {}", parser.at));
    }
    Ok(e)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    symbols: &'a mut Symbols,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        // `at` only ever advances over ASCII.
        self.text.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        while self.rest().starts_with(' ') {
            self.at += 1;
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let hit = self.rest().starts_with(token);
        if hit {
            self.at += token.len();
        }
        hit
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) {
            return Ok(());
        }
        Err(format!("`{token}` expected at byte {}", self.at))
    }

    fn word(&mut self) -> String {
        self.space();
        let word: String =
            self.rest().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        self.at += word.len();
        word
    }

    fn integer(&mut self) -> Result<i64, String> {
        let negative = self.eat("-");
        let digits = self.word();
        let value: i64 = digits.parse().map_err(|_| format!("`{digits}` is no 64-bit integer"))?;
        Ok(if negative { -value } else { value })
    }

    fn arguments(&mut self, depth: usize) -> Result<Vec<Expr>, String> {
        let mut list = vec![self.expression(depth + 1)?];
        while self.eat(",") {
            list.push(self.expression(depth + 1)?);
        }
        self.expect(")")?;
        Ok(list)
    }

    fn expression(&mut self, depth: usize) -> Result<Expr, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.space();
        if self.rest().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return self.integer().map(Expr::constant);
        }
        let head = self.word();
        if head.is_empty() {
            return Err(format!("an expression was expected at byte {}", self.at));
        }
        if !self.eat("(") {
            return Ok(Expr::symbol(self.symbols.get(&head)));
        }
        if head == "Symbol" {
            self.expect("'")?;
            let name = self.word();
            self.expect("'")?;
            // Assumptions such as positive=True.
            while self.eat(",") {
                self.word();
                self.expect("=")?;
                self.word();
            }
            self.expect(")")?;
            if name.is_empty() {
                return Err("a symbol without a name".to_owned());
            }
            return Ok(Expr::symbol(self.symbols.get(&name)));
        }
        if head == "Integer" {
            let v = self.integer()?;
            self.expect(")")?;
            return Ok(Expr::constant(v));
        }
        let args = self.arguments(depth)?;
        let pair = || match args.as_slice() {
            [a, b] => Ok((a, b)),
            _ => Err(format!("{head} takes two arguments")),
        };
        match head.as_str() {
            "Add" => Ok(args.into_iter().fold(Expr::constant(0), |a, b| a + b)),
            "Mul" => Ok(args.into_iter().fold(Expr::constant(1), |a, b| a * b)),
            "Min" => {
                let first = args[0].clone();
                Ok(args[1..].iter().fold(first, |a, b| a.minimum(b)))
            }
            "Max" => {
                let first = args[0].clone();
                Ok(args[1..].iter().fold(first, |a, b| a.maximum(b)))
            }
            "Pow" => {
                let (base, exponent) = pair()?;
                let n = exponent.as_const().filter(|n| (0..=16).contains(n));
                let n = n.ok_or_else(|| format!("exponent {exponent} is not 0 to 16"))?;
                Ok((0..n).fold(Expr::constant(1), |p, _| p * base.clone()))
            }
            "FloorDiv" | "CleanDiv" => pair().map(|(a, b)| a.floor_div(b)),
            "CeilDiv" => pair().map(|(a, b)| a.ceil_div(b)),
            "Mod" | "PythonMod" => pair().map(|(a, b)| a.modulo(b)),
            "ModularIndexing" => match args.as_slice() {
                [a, d, m] => Ok(a.floor_div(d).modulo(m)),
                _ => Err("ModularIndexing takes three arguments".to_owned()),
            },
            _ => Err(format!("`{head}` is no known function of sizes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srepr_and_names_parse() {
        let mut s = Symbols::default();
        let e = parse(
            "Add(Mul(Integer(2), Symbol('s27', positive=True, integer=True)), Integer(-1))",
            &mut s,
        );
        assert_eq!(e.unwrap().to_string(), "2*s0 - 1");
        let e = parse("FloorDiv(Symbol('s27', positive=True, integer=True), Integer(2))", &mut s);
        assert_eq!(e.unwrap().to_string(), "floordiv(s0, 2)");
        assert_eq!(parse("s77", &mut s).unwrap().to_string(), "s1");
        assert_eq!(s.names, ["s27", "s77"]);
    }

    #[test]
    fn hostile_text_is_refused() {
        let mut s = Symbols::default();
        for bad in ["", "Add(", "__import__('os')", "Integer(1", "Pow(s0, Integer(99))", "é", "1 1"]
        {
            assert!(parse(bad, &mut s).is_err(), "{bad}");
        }
        assert!(parse(&"Add(".repeat(2000), &mut s).is_err());
    }
}
