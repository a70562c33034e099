//! The rows, one file per family of the ISA.

mod arithmetic;
mod asynchronous;
mod compare;
mod control;
mod matrix;
mod movement;
mod synchronise;

use super::{Arch, Form, Opcode, row};

pub(super) static ALL: &[&[Form]] = &[
    arithmetic::ROWS,
    compare::ROWS,
    movement::ROWS,
    asynchronous::ROWS,
    control::ROWS,
    synchronise::ROWS,
    matrix::ROWS,
];
