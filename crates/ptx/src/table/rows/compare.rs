//! Comparison, selection, logic and shifts (PTX ISA 9.7.6 to 9.7.8).

use super::Opcode::*;
use super::{Form, row};

pub(super) static ROWS: &[Form] = &[
    row(Set, "set<cmp-int>(.u32|.s32|.f32)<x16-64>", "d:T, a:T2, b:T2", "9.7.6.1"),
    row(Set, "set<cmp-int><bool>(.u32|.s32|.f32)<x16-64>", "d:T, a:T2, b:T2, c:pred", "9.7.6.1"),
    row(
        Set,
        "set<cmp-float>([.ftz](.u32|.s32|.f32).f32|(.u32|.s32|.f32).f64)",
        "d:T, a:T2, b:T2",
        "9.7.6.1",
    ),
    row(
        Set,
        "set<cmp-float><bool>([.ftz](.u32|.s32|.f32).f32|(.u32|.s32|.f32).f64)",
        "d:T, a:T2, b:T2, c:pred",
        "9.7.6.1",
    ),
    row(Setp, "setp<cmp-int><x16-64>", "d:pred|q?:pred, a:T, b:T", "9.7.6.2"),
    row(Setp, "setp<cmp-int><bool><x16-64>", "d:pred|q?:pred, a:T, b:T, c:pred", "9.7.6.2"),
    row(Setp, "setp<cmp-float>([.ftz].f32|.f64)", "d:pred|q?:pred, a:T, b:T", "9.7.6.2"),
    row(
        Setp,
        "setp<cmp-float><bool>([.ftz].f32|.f64)",
        "d:pred|q?:pred, a:T, b:T, c:pred",
        "9.7.6.2",
    ),
    row(Selp, "selp(<x16-64>|.f32|.f64)", "d:T, a:T, b:T, c:pred", "9.7.6.3"),
    row(Slct, "slct(<x16-64>|.f32|.f64).s32", "d:T, a:T, b:T, c:s32", "9.7.6.4"),
    row(Slct, "slct[.ftz](<x16-64>|.f32|.f64).f32", "d:T, a:T, b:T, c:f32", "9.7.6.4"),
    // Half precision.
    row(
        Set,
        "set<cmp-float>[.ftz](.f16|.bf16|.u16|.s16|.u32|.s32)(.f16|.bf16)",
        "d:T, a:T2, b:T2",
        "9.7.7.1",
    ),
    row(
        Set,
        "set<cmp-float><bool>[.ftz](.f16|.bf16|.u16|.s16|.u32|.s32)(.f16|.bf16)",
        "d:T, a:T2, b:T2, c:pred",
        "9.7.7.1",
    ),
    row(Set, "set<cmp-float>[.ftz](.f16x2|.u32|.s32).f16x2", "d:T, a:T2, b:T2", "9.7.7.1"),
    row(Set, "set<cmp-float>[.ftz](.bf16x2|.u32|.s32).bf16x2", "d:T, a:T2, b:T2", "9.7.7.1"),
    row(
        Set,
        "set<cmp-float><bool>[.ftz](.f16x2.f16x2|.bf16x2.bf16x2|(.u32|.s32)(.f16x2|.bf16x2))",
        "d:T, a:T2, b:T2, c:pred",
        "9.7.7.1",
    ),
    row(Setp, "setp<cmp-float>([.ftz].f16|.bf16)", "d:pred, a:T, b:T", "9.7.7.2"),
    row(Setp, "setp<cmp-float><bool>([.ftz].f16|.bf16)", "d:pred, a:T, b:T, c:pred", "9.7.7.2"),
    row(Setp, "setp<cmp-float>([.ftz].f16x2|.bf16x2)", "d:pred|q?:pred, a:T, b:T", "9.7.7.2"),
    row(
        Setp,
        "setp<cmp-float><bool>([.ftz].f16x2|.bf16x2)",
        "d:pred|q?:pred, a:T, b:T, c:pred",
        "9.7.7.2",
    ),
    // Logic and shifts.
    row(And, "and(<b16-64>|.pred)", "d:T, a:T, b:T", "9.7.8.1"),
    row(Or, "or(<b16-64>|.pred)", "d:T, a:T, b:T", "9.7.8.2"),
    row(Xor, "xor(<b16-64>|.pred)", "d:T, a:T, b:T", "9.7.8.3"),
    row(Not, "not(<b16-64>|.pred)", "d:T, a:T", "9.7.8.4"),
    row(Cnot, "cnot<b16-64>", "d:T, a:T", "9.7.8.5"),
    row(Lop3, "lop3.b32", "d:b32, a:b32, b:b32, c:b32, table:imm(0..255)", "9.7.8.6"),
    row(
        Lop3,
        "lop3(.or|.and).b32",
        "d:b32|p:pred, a:b32, b:b32, c:b32, table:imm(0..255), q:pred",
        "9.7.8.6",
    ),
    row(Shf, "shf(.l|.r)(.wrap|.clamp).b32", "d:b32, a:b32, b:b32, c:u32", "9.7.8.7"),
    row(Shl, "shl<b16-64>", "d:T, a:T, b:u32", "9.7.8.8"),
    row(Shr, "shr<x16-64>", "d:T, a:T, b:u32", "9.7.8.9"),
];
