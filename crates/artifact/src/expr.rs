//! Symbolic sizes: integer expressions over the dimensions that a call binds.
//!
//! An [`Expr`] is kept in one canonical form, a sum of monomials, so that structural equality is
//! equality of polynomials and shape inference needs no solver. What is not a polynomial
//! (floor division, modulo, minimum, maximum) is an opaque atom inside a monomial.

use std::fmt;
use std::ops;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest text that [`Expr::from_str`] accepts, in bytes.
pub const MAX_EXPR_LEN: usize = 4096;
/// Deepest nesting that [`Expr::from_str`] accepts.
pub const MAX_EXPR_DEPTH: usize = 64;
/// Most monomials an expression may have; a product that would exceed it saturates to a constant
/// that no shape check accepts.
const MAX_TERMS: usize = 256;

/// Most nodes (monomials and their factors, counted through all nesting) an expression may have; one
/// that would exceed it saturates likewise. Without it a short text could ask for any amount of
/// memory, since products and ceiling divisions repeat their operands.
const MAX_NODES: usize = 4096;

/// A dimension bound per call, by its index in the program's symbol table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(pub u32);

/// The inclusive range that the exporter guarantees for a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SymbolRange {
    /// Smallest value.
    pub min: i64,
    /// Largest value; `i64::MAX` when unbounded.
    pub max: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Sym(Symbol),
    FloorDiv(Box<Expr>, Box<Expr>),
    Mod(Box<Expr>, Box<Expr>),
    Min(Box<Expr>, Box<Expr>),
    Max(Box<Expr>, Box<Expr>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Term {
    /// Sorted factors; empty for the constant term.
    atoms: Vec<Atom>,
    coef: i64,
}

/// A canonical integer expression over symbols.
///
/// Coefficients saturate instead of overflowing; a saturated expression evaluates to an error or
/// to a size that every consumer refuses.
///
/// Text form: `3*s0*s1 + s1 - 2`, `floordiv(s0, 2)`, `mod(s0, 8)`, `min(s0, 4)`, `max(s0, 1)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expr {
    terms: Vec<Term>,
}

/// Why an expression could not be read or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// The text form is malformed.
    #[error("malformed size expression `{text}`: {reason} at byte {at}")]
    Syntax {
        /// The text, shortened.
        text: String,
        /// Byte offset of the fault.
        at: usize,
        /// What was wrong.
        reason: &'static str,
    },
    /// A symbol has no value.
    #[error("size expression `{expr}` needs s{symbol}, but only {bound} symbols are bound")]
    Unbound {
        /// The expression.
        expr: String,
        /// Index of the missing symbol.
        symbol: u32,
        /// How many were given.
        bound: usize,
    },
    /// Division or modulo by zero.
    #[error("size expression `{0}` divides by zero")]
    DivisionByZero(String),
    /// The value does not fit 64 bits.
    #[error("size expression `{0}` overflows 64 bits")]
    Overflow(String),
}

impl Expr {
    /// A constant.
    pub fn constant(value: i64) -> Expr {
        if value == 0 {
            return Expr { terms: Vec::new() };
        }
        Expr { terms: vec![Term { atoms: Vec::new(), coef: value }] }
    }

    /// A symbol.
    pub fn symbol(symbol: Symbol) -> Expr {
        Expr::atom(Atom::Sym(symbol))
    }

    /// A value that no shape check accepts, in place of an expression that is too large.
    fn saturated() -> Expr {
        Expr::constant(i64::MAX)
    }

    /// Monomials and factors through all nesting.
    fn nodes(&self) -> usize {
        let factor = |a: &Atom| match a {
            Atom::Sym(_) => 1,
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                1 + a.nodes() + b.nodes()
            }
        };
        self.terms.iter().map(|t| 1 + t.atoms.iter().map(factor).sum::<usize>()).sum()
    }

    /// An atom of two operands, made by `make`.
    fn nested(a: &Expr, b: &Expr, make: fn(Box<Expr>, Box<Expr>) -> Atom) -> Expr {
        if a.nodes() + b.nodes() > MAX_NODES {
            return Expr::saturated();
        }
        Expr::atom(make(Box::new(a.clone()), Box::new(b.clone())))
    }

    fn atom(atom: Atom) -> Expr {
        Expr { terms: vec![Term { atoms: vec![atom], coef: 1 }] }
    }

    /// The value, if the expression is constant.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [Term { atoms, coef }] if atoms.is_empty() => Some(*coef),
            _ => None,
        }
    }

    /// The symbol, if the expression is exactly one.
    pub fn as_symbol(&self) -> Option<Symbol> {
        match self.terms.as_slice() {
            [Term { atoms, coef: 1 }] => match atoms.as_slice() {
                [Atom::Sym(s)] => Some(*s),
                _ => None,
            },
            _ => None,
        }
    }

    /// `(a, s, b)` if the expression is `a*s + b` with constants `a` (not zero) and `b`.
    pub fn as_linear(&self) -> Option<(i64, Symbol, i64)> {
        let (rest, constant) = match self.terms.as_slice() {
            [t] => (t, 0),
            // The constant term sorts first.
            [c, t] if c.atoms.is_empty() => (t, c.coef),
            _ => return None,
        };
        match rest.atoms.as_slice() {
            [Atom::Sym(s)] => Some((rest.coef, *s, constant)),
            _ => None,
        }
    }

    /// Whether the expression is the constant `value`.
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    fn from_terms(mut terms: Vec<Term>) -> Expr {
        terms.sort_by(|a, b| a.atoms.cmp(&b.atoms));
        let mut out: Vec<Term> = Vec::with_capacity(terms.len());
        for t in terms {
            match out.last_mut() {
                Some(last) if last.atoms == t.atoms => last.coef = last.coef.saturating_add(t.coef),
                _ => out.push(t),
            }
        }
        out.retain(|t| t.coef != 0);
        // Saturated coefficients keep a magnitude that the text form can say.
        for t in out.iter_mut().filter(|t| !t.atoms.is_empty()) {
            t.coef = t.coef.max(-i64::MAX);
        }
        Expr { terms: out }
    }

    /// Rounds towards negative infinity. Exact divisions cancel: `floordiv(6*s0, 3)` is `2*s0`.
    /// Division by the constant zero stays symbolic and fails in [`Expr::eval`].
    pub fn floor_div(&self, divisor: &Expr) -> Expr {
        if let (Some(a), Some(b)) = (self.as_const(), divisor.as_const())
            && b != 0
        {
            return Expr::constant(floor_div(a, b));
        }
        if divisor.is(1) {
            return self.clone();
        }
        if self.is(0) && !divisor.is(0) {
            return Expr::constant(0);
        }
        if let Some(q) = self.exact_div(divisor) {
            return q;
        }
        // Split off the part that divides exactly: floor((q*d + r) / d) == q + floor(r / d).
        if let Some(d) = divisor.as_const().filter(|d| *d > 1) {
            let (whole, rest): (Vec<_>, Vec<_>) =
                self.terms.iter().cloned().partition(|t| !t.atoms.is_empty() && t.coef % d == 0);
            if !whole.is_empty() {
                let whole = Expr::from_terms(
                    whole.into_iter().map(|t| Term { coef: t.coef / d, ..t }).collect(),
                );
                return whole + Expr::from_terms(rest).floor_div(divisor);
            }
        }
        Expr::nested(self, divisor, Atom::FloorDiv)
    }

    /// The quotient, if `divisor` is one monomial that divides every term.
    pub fn exact_div(&self, divisor: &Expr) -> Option<Expr> {
        if self == divisor {
            return Some(Expr::constant(1));
        }
        let [d] = divisor.terms.as_slice() else { return None };
        let mut terms = Vec::with_capacity(self.terms.len());
        for t in &self.terms {
            if t.coef.checked_rem(d.coef)? != 0 {
                return None;
            }
            let mut atoms = t.atoms.clone();
            for a in &d.atoms {
                let at = atoms.iter().position(|x| x == a)?;
                atoms.remove(at);
            }
            terms.push(Term { atoms, coef: t.coef.checked_div(d.coef)? });
        }
        Some(Expr::from_terms(terms))
    }

    /// The remainder with the sign of the divisor (Python's `%`).
    pub fn modulo(&self, divisor: &Expr) -> Expr {
        if let (Some(a), Some(b)) = (self.as_const(), divisor.as_const())
            && b != 0
        {
            return Expr::constant(a.wrapping_sub(floor_div(a, b).wrapping_mul(b)));
        }
        if divisor.is(1) || self.exact_div(divisor).is_some() {
            return Expr::constant(0);
        }
        if let Some(d) = divisor.as_const().filter(|d| *d > 1) {
            let rest: Vec<Term> = self.terms.iter().filter(|t| t.coef % d != 0).cloned().collect();
            if rest.len() < self.terms.len() {
                return Expr::from_terms(rest).modulo(divisor);
            }
        }
        Expr::nested(self, divisor, Atom::Mod)
    }

    /// The largest power of two, at most `limit` (itself one), that divides every value of the expression as far as its
    /// coefficients tell.
    pub fn power_of_two_divisor(&self, limit: u32) -> u32 {
        let shift = self.terms.iter().map(|t| t.coef.trailing_zeros()).min();
        let limit_shift = limit.checked_ilog2().unwrap_or(0);
        1 << shift.map_or(limit_shift, |s| s.min(limit_shift))
    }

    /// The smaller of two expressions.
    pub fn minimum(&self, other: &Expr) -> Expr {
        match (self.clone() - other.clone()).as_const() {
            Some(d) if d <= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Expr::nested(a, b, Atom::Min)
            }
        }
    }

    /// The larger of two expressions.
    pub fn maximum(&self, other: &Expr) -> Expr {
        match (self.clone() - other.clone()).as_const() {
            Some(d) if d >= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Expr::nested(a, b, Atom::Max)
            }
        }
    }

    /// Rounds up: `ceildiv(a, b)`.
    pub fn ceil_div(&self, divisor: &Expr) -> Expr {
        (self.clone() + divisor.clone() - Expr::constant(1)).floor_div(divisor)
    }

    /// The value with symbol `i` bound to `values[i]`.
    pub fn eval(&self, values: &[i64]) -> Result<i64, ExprError> {
        let overflow = || ExprError::Overflow(self.to_string());
        let mut sum: i64 = 0;
        for t in &self.terms {
            let mut product = t.coef;
            for a in &t.atoms {
                let v = match a {
                    Atom::Sym(s) => *values.get(s.0 as usize).ok_or_else(|| {
                        let expr = self.to_string();
                        ExprError::Unbound { expr, symbol: s.0, bound: values.len() }
                    })?,
                    Atom::FloorDiv(a, b) => self.divide(a, b, values)?.0,
                    Atom::Mod(a, b) => self.divide(a, b, values)?.1,
                    Atom::Min(a, b) => a.eval(values)?.min(b.eval(values)?),
                    Atom::Max(a, b) => a.eval(values)?.max(b.eval(values)?),
                };
                product = product.checked_mul(v).ok_or_else(overflow)?;
            }
            sum = sum.checked_add(product).ok_or_else(overflow)?;
        }
        Ok(sum)
    }

    /// Floor quotient and remainder of two sub-expressions.
    fn divide(&self, a: &Expr, b: &Expr, values: &[i64]) -> Result<(i64, i64), ExprError> {
        let (x, y) = (a.eval(values)?, b.eval(values)?);
        if y == 0 {
            return Err(ExprError::DivisionByZero(self.to_string()));
        }
        if x == i64::MIN && y == -1 {
            return Err(ExprError::Overflow(self.to_string()));
        }
        let q = floor_div(x, y);
        Ok((q, x.wrapping_sub(q.wrapping_mul(y))))
    }

    /// An inclusive interval that holds every value of the expression, by interval arithmetic;
    /// `i64::MIN` and `i64::MAX` stand for unbounded. A symbol with no range is unbounded.
    pub fn bounds(&self, ranges: &[SymbolRange]) -> SymbolRange {
        let mut sum = SymbolRange { min: 0, max: 0 };
        for t in &self.terms {
            let mut p = SymbolRange { min: t.coef, max: t.coef };
            for a in &t.atoms {
                let r = match a {
                    Atom::Sym(s) => ranges
                        .get(s.0 as usize)
                        .copied()
                        .unwrap_or(SymbolRange { min: i64::MIN, max: i64::MAX }),
                    Atom::FloorDiv(a, b) => {
                        let (a, b) = (a.bounds(ranges), b.bounds(ranges));
                        if b.min <= 0 {
                            SymbolRange { min: i64::MIN, max: i64::MAX }
                        } else {
                            let ends = [
                                floor_div(a.min, b.min),
                                floor_div(a.min, b.max),
                                floor_div(a.max, b.min),
                                floor_div(a.max, b.max),
                            ];
                            hull(&ends)
                        }
                    }
                    Atom::Mod(a, b) => {
                        let (a, b) = (a.bounds(ranges), b.bounds(ranges));
                        if b.min <= 0 {
                            SymbolRange { min: i64::MIN, max: i64::MAX }
                        } else if a.min >= 0 && a.max < b.min {
                            a
                        } else {
                            SymbolRange { min: 0, max: b.max.saturating_sub(1) }
                        }
                    }
                    Atom::Min(a, b) => {
                        let (a, b) = (a.bounds(ranges), b.bounds(ranges));
                        SymbolRange { min: a.min.min(b.min), max: a.max.min(b.max) }
                    }
                    Atom::Max(a, b) => {
                        let (a, b) = (a.bounds(ranges), b.bounds(ranges));
                        SymbolRange { min: a.min.max(b.min), max: a.max.max(b.max) }
                    }
                };
                p = hull(&[
                    p.min.saturating_mul(r.min),
                    p.min.saturating_mul(r.max),
                    p.max.saturating_mul(r.min),
                    p.max.saturating_mul(r.max),
                ]);
            }
            sum.min = sum.min.saturating_add(p.min);
            sum.max = sum.max.saturating_add(p.max);
        }
        sum
    }

    /// Whether every value of the expression is a multiple of `n`, as far as its form shows: `12*s0*s1`
    /// is one of 4. A saturated coefficient is odd.
    pub fn is_multiple_of(&self, n: u64) -> bool {
        n != 0 && self.known_factor().is_multiple_of(n)
    }

    /// A number that divides every value of the expression; 0 if it is zero.
    fn known_factor(&self) -> u64 {
        self.terms.iter().fold(0, |factor, t| {
            let product = t.atoms.iter().fold(t.coef.unsigned_abs(), |product, a| {
                let factor = match a {
                    Atom::Sym(_) | Atom::FloorDiv(..) => 1,
                    Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                        gcd(a.known_factor(), b.known_factor())
                    }
                };
                // A factor of the product remains one where the product does not fit.
                product.checked_mul(factor).unwrap_or(product)
            });
            gcd(factor, product)
        })
    }

    /// Replaces each symbol by what `map` returns for it.
    pub fn substitute(&self, map: &dyn Fn(Symbol) -> Expr) -> Expr {
        let mut sum = Expr::constant(0);
        for t in &self.terms {
            let mut p = Expr::constant(t.coef);
            for a in &t.atoms {
                let v = match a {
                    Atom::Sym(s) => map(*s),
                    Atom::FloorDiv(a, b) => a.substitute(map).floor_div(&b.substitute(map)),
                    Atom::Mod(a, b) => a.substitute(map).modulo(&b.substitute(map)),
                    Atom::Min(a, b) => a.substitute(map).minimum(&b.substitute(map)),
                    Atom::Max(a, b) => a.substitute(map).maximum(&b.substitute(map)),
                };
                p = p * v;
            }
            sum = sum + p;
        }
        sum
    }

    /// Adds every symbol that occurs to `out`, in order of first occurrence, without repeats.
    pub fn collect_symbols(&self, out: &mut Vec<Symbol>) {
        for a in self.terms.iter().flat_map(|t| &t.atoms) {
            match a {
                Atom::Sym(s) => {
                    if !out.contains(s) {
                        out.push(*s);
                    }
                }
                Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                    a.collect_symbols(out);
                    b.collect_symbols(out);
                }
            }
        }
    }

    /// The product of several expressions; 1 for none. The element count of a shape.
    pub fn product<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Expr {
        exprs.into_iter().fold(Expr::constant(1), |p, e| p * e.clone())
    }
}

fn hull(ends: &[i64; 4]) -> SymbolRange {
    let [a, b, c, d] = *ends;
    SymbolRange { min: a.min(b).min(c).min(d), max: a.max(b).max(c).max(d) }
}

/// Euclid's greatest common divisor; that of a number and 0 is the number.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Rounds towards negative infinity; `b` is not zero.
fn floor_div(a: i64, b: i64) -> i64 {
    let q = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && ((a < 0) != (b < 0)) { q - 1 } else { q }
}

impl From<i64> for Expr {
    fn from(value: i64) -> Expr {
        Expr::constant(value)
    }
}

impl From<Symbol> for Expr {
    fn from(value: Symbol) -> Expr {
        Expr::symbol(value)
    }
}

impl ops::Add for Expr {
    type Output = Expr;
    fn add(mut self, rhs: Expr) -> Expr {
        if self.terms.len() + rhs.terms.len() > MAX_TERMS || self.nodes() + rhs.nodes() > MAX_NODES
        {
            return Expr::saturated();
        }
        self.terms.extend(rhs.terms);
        Expr::from_terms(self.terms)
    }
}

impl ops::Neg for Expr {
    type Output = Expr;
    fn neg(mut self) -> Expr {
        for t in &mut self.terms {
            t.coef = t.coef.saturating_neg();
        }
        self
    }
}

impl ops::Sub for Expr {
    type Output = Expr;
    fn sub(self, rhs: Expr) -> Expr {
        self + -rhs
    }
}

impl ops::Mul for Expr {
    type Output = Expr;
    fn mul(self, rhs: Expr) -> Expr {
        let (a, b) = (self.terms.len(), rhs.terms.len());
        if a.saturating_mul(b) > MAX_TERMS || self.nodes() * b + rhs.nodes() * a > MAX_NODES {
            return Expr::saturated();
        }
        let mut terms = Vec::with_capacity(self.terms.len() * rhs.terms.len());
        for a in &self.terms {
            for b in &rhs.terms {
                let mut atoms = [a.atoms.as_slice(), b.atoms.as_slice()].concat();
                atoms.sort();
                terms.push(Term { atoms, coef: a.coef.saturating_mul(b.coef) });
            }
        }
        Expr::from_terms(terms)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => write!(f, "s{}", s.0),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Constants sort first in the canonical order and read better last.
        let (constant, rest): (Vec<_>, Vec<_>) =
            self.terms.iter().partition(|t| t.atoms.is_empty());
        for (i, t) in rest.into_iter().chain(constant).enumerate() {
            match (i, t.coef < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let magnitude = t.coef.unsigned_abs();
            if magnitude != 1 || t.atoms.is_empty() {
                write!(f, "{magnitude}")?;
                if !t.atoms.is_empty() {
                    f.write_str("*")?;
                }
            }
            for (j, a) in t.atoms.iter().enumerate() {
                if j > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{a}")?;
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, reason: &'static str) -> Result<T, ExprError> {
        let text = self.text.chars().take(80).collect();
        Err(ExprError::Syntax { text, at: self.at, reason })
    }

    fn skip(&mut self) {
        while self.text.as_bytes().get(self.at) == Some(&b' ') {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.skip();
        let hit = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(hit);
        hit
    }

    fn sum(&mut self) -> Result<Expr, ExprError> {
        if self.depth >= MAX_EXPR_DEPTH {
            return self.fail("nested too deeply");
        }
        self.depth += 1;
        let mut e = if self.eat(b'-') { self.negated_product()? } else { self.product()? };
        loop {
            if self.eat(b'+') {
                e = e + self.product()?;
            } else if self.eat(b'-') {
                e = e + self.negated_product()?;
            } else {
                self.depth -= 1;
                return Ok(e);
            }
        }
    }

    /// What follows a minus. The magnitude of `i64::MIN` is no `i64`, so that constant is read whole.
    fn negated_product(&mut self) -> Result<Expr, ExprError> {
        self.skip();
        let rest = self.text[self.at..].strip_prefix("9223372036854775808");
        let ends = |c: char| !c.is_ascii_digit() && c != '*';
        if let Some(rest) = rest
            && rest.trim_start_matches(' ').chars().next().is_none_or(ends)
        {
            self.at = self.text.len() - rest.len();
            return Ok(Expr::constant(i64::MIN));
        }
        Ok(-self.product()?)
    }

    fn product(&mut self) -> Result<Expr, ExprError> {
        let mut e = self.factor()?;
        while self.eat(b'*') {
            e = e * self.factor()?;
        }
        Ok(e)
    }

    fn digits(&mut self) -> Result<&str, ExprError> {
        let start = self.at;
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if start == self.at {
            return self.fail("digits expected");
        }
        Ok(&self.text[start..self.at])
    }

    fn factor(&mut self) -> Result<Expr, ExprError> {
        self.skip();
        if self.eat(b'(') {
            let e = self.sum()?;
            return if self.eat(b')') { Ok(e) } else { self.fail("`)` expected") };
        }
        let rest = &self.text[self.at..];
        for (name, op) in [
            ("floordiv", Expr::floor_div as fn(&Expr, &Expr) -> Expr),
            ("mod", Expr::modulo),
            ("min", Expr::minimum),
            ("max", Expr::maximum),
        ] {
            if rest.starts_with(name) {
                self.at += name.len();
                if !self.eat(b'(') {
                    return self.fail("`(` expected");
                }
                let a = self.sum()?;
                if !self.eat(b',') {
                    return self.fail("`,` expected");
                }
                let b = self.sum()?;
                return if self.eat(b')') { Ok(op(&a, &b)) } else { self.fail("`)` expected") };
            }
        }
        if rest.starts_with('s') {
            self.at += 1;
            return match self.digits()?.parse() {
                Ok(i) => Ok(Expr::symbol(Symbol(i))),
                Err(_) => self.fail("symbol index out of range"),
            };
        }
        match self.digits()?.parse() {
            Ok(v) => Ok(Expr::constant(v)),
            Err(_) => self.fail("number out of range"),
        }
    }
}

impl FromStr for Expr {
    type Err = ExprError;

    fn from_str(text: &str) -> Result<Expr, ExprError> {
        let mut p = Parser { text, at: 0, depth: 0 };
        if text.len() > MAX_EXPR_LEN {
            return p.fail("longer than the limit");
        }
        if !text.is_ascii() {
            return p.fail("not ASCII");
        }
        let e = p.sum()?;
        p.skip();
        if p.at != text.len() {
            return p.fail("unexpected text");
        }
        Ok(e)
    }
}

/// Constants are JSON numbers, everything else is the text form.
impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.as_const() {
            Some(v) => s.serialize_i64(v),
            None => s.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Expr, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(i64),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Number(v) => Ok(Expr::constant(v)),
            Form::Text(t) => t.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(i: u32) -> Expr {
        Expr::symbol(Symbol(i))
    }
    fn c(v: i64) -> Expr {
        Expr::constant(v)
    }

    #[test]
    fn equal_polynomials_are_equal() {
        assert_eq!((s(0) + c(1)) * (s(0) - c(1)), s(0) * s(0) - c(1));
        assert_eq!(s(0) * s(1) - s(1) * s(0), c(0));
        assert_eq!((c(6) * s(0)).floor_div(&c(3)), c(2) * s(0));
        assert_eq!((c(6) * s(0) * s(1)).floor_div(&(c(2) * s(1))), c(3) * s(0));
        assert_eq!((c(4) * s(0) + c(3)).floor_div(&c(2)), c(2) * s(0) + c(1));
        assert_eq!((c(4) * s(0) + c(3)).modulo(&c(4)), c(3));
        assert_eq!(s(0).minimum(&(s(0) + c(1))), s(0));
    }

    #[test]
    fn divisors_divide() {
        let e = c(24) * s(0) + c(8) * s(0).floor_div(&c(3));
        assert_eq!((e.power_of_two_divisor(256), e.power_of_two_divisor(4)), (8, 4));
        assert_eq!((e + c(3)).power_of_two_divisor(256), 1);
        assert_eq!(c(0).power_of_two_divisor(256), 256);
        assert_eq!(c(i64::MIN).power_of_two_divisor(256), 256);
        assert_eq!(c(-48).power_of_two_divisor(256), 16);
    }

    #[test]
    fn text_parses_back() {
        for e in [
            c(0),
            c(-7),
            s(3),
            c(2) * s(0) * s(1) - s(1) + c(5),
            (s(0) + c(1)).floor_div(&c(2)),
            s(0).modulo(&c(8)).maximum(&s(1).minimum(&c(4))),
            -s(0),
        ] {
            assert_eq!(e.to_string().parse::<Expr>().unwrap(), e, "{e}");
        }
    }

    #[test]
    fn eval_is_checked() {
        assert_eq!((s(0) + c(1)).floor_div(&c(2)).eval(&[5]), Ok(3));
        assert_eq!((-s(0)).floor_div(&c(2)).eval(&[5]), Ok(-3));
        assert!(matches!(s(1).eval(&[5]), Err(ExprError::Unbound { symbol: 1, bound: 1, .. })));
        assert!(matches!((s(0) * s(0)).eval(&[i64::MAX]), Err(ExprError::Overflow(_))));
        assert!(matches!(c(1).floor_div(&s(0)).eval(&[0]), Err(ExprError::DivisionByZero(_))));
    }

    #[test]
    fn bounds_hold_every_value() {
        let ranges = [SymbolRange { min: 2, max: 9 }];
        for e in [
            c(3) * s(0) - c(1),
            s(0).modulo(&c(4)),
            s(0).floor_div(&c(2)),
            -s(0) * s(0),
            s(0).minimum(&c(5)),
        ] {
            let b = e.bounds(&ranges);
            for v in 2..=9 {
                let x = e.eval(&[v]).unwrap();
                assert!(b.min <= x && x <= b.max, "{e} at {v}: {x} not in {b:?}");
            }
        }
    }

    #[test]
    fn multiples_are_seen_where_the_form_shows_them() {
        let yes = [
            c(0),
            c(48),
            c(-16),
            c(16) * s(0),
            c(32) * s(0) * s(1) - c(48),
            c(4) * s(0) * (c(4) * s(1)),
            (c(16) * s(0)).maximum(&c(32)),
            c(8) * (c(2) * s(0)).minimum(&c(6)),
            c(16) * s(0).floor_div(&c(3)),
        ];
        let no = [
            c(8),
            s(0),
            c(8) * s(0),
            c(16) * s(0) + c(1),
            (c(16) * s(0)).maximum(&c(8)),
            (c(16) * s(0)).floor_div(&c(3)),
            Expr::saturated(),
        ];
        for e in &yes {
            assert!(e.is_multiple_of(16), "{e}");
            for v in 1..20 {
                assert_eq!(e.eval(&[v, v + 3]).unwrap() % 16, 0, "{e} at {v}");
            }
        }
        for e in no {
            assert!(!e.is_multiple_of(16), "{e}");
        }
        assert!(!c(0).is_multiple_of(0));
    }

    #[test]
    fn expressions_cannot_grow_without_bound() {
        // Each level repeats its operand: 2^40 copies without a limit.
        let mut e = s(0);
        for _ in 0..40 {
            e = ((e.clone() + c(1)) * (s(1) + c(2))).floor_div(&c(3));
        }
        assert!(e.nodes() <= 2 * MAX_NODES, "{}", e.nodes());
        let mut e = s(0);
        for _ in 0..40 {
            e = s(1).ceil_div(&e);
        }
        assert!(e.nodes() <= 2 * MAX_NODES, "{}", e.nodes());
        let mut e = s(0);
        for _ in 0..40 {
            e = e.clone() * e;
        }
        assert!(e.is(i64::MAX));
    }

    #[test]
    fn hostile_text_is_refused() {
        for bad in ["", "s", "s99999999999", "1+", "min(1)", "((((", "1 2", "é", "floordiv(1,"] {
            assert!(bad.parse::<Expr>().is_err(), "{bad}");
        }
        assert!("(".repeat(5000).parse::<Expr>().is_err());
        assert!("(".repeat(200).parse::<Expr>().is_err());
    }
}
