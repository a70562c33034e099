//! Control flow, stack and miscellaneous instructions (PTX ISA 9.7.12, 9.7.17, 9.7.19).

use super::Opcode::*;
use super::{Arch, Form, row};

pub(super) static ROWS: &[Form] = &[
    row(Bra, "bra[.uni]", "target:label", "9.7.12.3"),
    row(BrxIdx, "brx.idx[.uni]", "index:u32, targets:list", "9.7.12.4"),
    row(Call, "call[.uni]", "d?:list, function:func, a?:list, targets?:list", "9.7.12.5"),
    row(Ret, "ret[.uni]", "", "9.7.12.6"),
    row(Exit, "exit", "", "9.7.12.7"),
    row(Stacksave, "stacksave(.u32|.u64)", "d:T", "9.7.17.1"),
    row(Stackrestore, "stackrestore(.u32|.u64)", "a:T", "9.7.17.2"),
    row(Alloca, "alloca(.u32|.u64)", "d:T, size:T, align?:imm", "9.7.17.3"),
    row(Brkpt, "brkpt", "", "9.7.19.1"),
    row(Nanosleep, "nanosleep.u32", "a:u32", "9.7.19.2"),
    row(Pmevent, "pmevent", "a:imm(0..15)", "9.7.19.3"),
    row(Pmevent, "pmevent.mask", "a:imm(0..65535)", "9.7.19.3"),
    row(Trap, "trap", "", "9.7.19.4"),
    row(Setmaxnreg, "setmaxnreg(.inc|.dec).sync.aligned.u32", "count:imm(24..256)", "9.7.19.5")
        .since(Arch::Sm90a),
];
