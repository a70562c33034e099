//! The graph as text, to read, to compare and to write tests in; `docs/graph-text.md` has the
//! grammar.

mod attributes;
mod constant;
mod parse;
mod print;

pub use parse::{MAX_TEXT, ParseError, parse};
pub use print::{print, print_op};
