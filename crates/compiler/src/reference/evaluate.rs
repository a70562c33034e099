//! Evaluates the instructions of a body at one point.

use zeroforge_artifact::DType;
use zeroforge_graph::interpret::scalar;
use zeroforge_graph::op::{BinaryOp, UnaryOp};

use super::view::View;
use super::{Fault, plain};
use crate::loop_ir::{Body, InstId, InstKind};

/// An instruction with everything looked up.
enum Step {
    Constant,
    Outer(usize),
    Inner(usize),
    Acc(usize),
    LoadFloat(usize, usize, Option<usize>),
    LoadInt(usize, usize, Option<usize>),
    Unary(fn(f64) -> f64, Plain1, DType, usize),
    UnaryInt(fn(i64) -> i64, DType, usize),
    IsNan(usize),
    IsInf(usize),
    Binary(fn(f64, f64) -> f64, Plain2, DType, usize, usize),
    BinaryInt(BinaryOp, i64, DType, usize, usize),
    CompareFloat(fn(&f64, &f64) -> bool, usize, usize),
    CompareInt(fn(&i64, &i64) -> bool, usize, usize),
    SelectFloat(usize, usize, usize),
    SelectInt(usize, usize, usize),
    FloatToFloat(DType, usize),
    FloatToInt(DType, usize),
    IntToFloat(DType, usize),
    IntToInt(DType, usize),
}

type Plain1 = Option<fn(f32) -> f32>;
type Plain2 = Option<fn(f32, f32) -> f32>;

/// An accumulator.
#[derive(Clone, Copy, Default)]
pub(super) struct Value {
    pub(super) exact: f64,
    pub(super) plain: f64,
    pub(super) int: i64,
}

/// A body with the values of its instructions at the current point.
pub(super) struct Evaluator<'a> {
    views: &'a [View<'a>],
    floats: Vec<bool>,
    steps: Vec<Step>,
    exact: Vec<f64>,
    plain: Vec<f64>,
    int: Vec<i64>,
    pub(super) outer: Vec<i64>,
    pub(super) inner: Vec<i64>,
    pub(super) accs: Vec<Value>,
}

/// The type in which values of an instruction are rounded: f16 and bf16 are memory types only.
fn arithmetic(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

impl<'a> Evaluator<'a> {
    /// A checked body (`spec_file`) with the values of its parameters.
    pub(super) fn new(
        body: &Body,
        params: &[i64],
        views: &'a [View<'a>],
        (outer, inner, accs): (usize, usize, usize),
    ) -> Evaluator<'a> {
        let count = body.insts.len();
        let mut evaluator = Evaluator {
            views,
            floats: body.insts.iter().map(|i| i.dtype.is_float()).collect(),
            steps: Vec::with_capacity(count),
            exact: vec![0.0; count],
            plain: vec![0.0; count],
            int: vec![0; count],
            outer: vec![0; outer],
            inner: vec![0; inner],
            accs: vec![Value::default(); accs],
        };
        for at in 0..count {
            let step = evaluator.prepare(body, at, params);
            evaluator.steps.push(step);
        }
        evaluator
    }

    fn prepare(&mut self, body: &Body, at: usize, params: &[i64]) -> Step {
        let inst = &body.insts[at];
        let is_float = |id: &InstId| body.inst(*id).dtype.is_float();
        let i = |id: &InstId| id.0 as usize;
        let narrow = arithmetic(inst.dtype) == DType::F32;
        // Without a function (a body that was not checked) a value is NaN or zero.
        let no_float: fn(f64) -> f64 = |_| f64::NAN;
        match &inst.kind {
            InstKind::Int(v) => {
                self.int[at] = *v;
                Step::Constant
            }
            InstKind::FloatBits(bits) => {
                self.exact[at] = f64::from_bits(*bits);
                self.plain[at] = plain::round(arithmetic(inst.dtype), self.exact[at]);
                Step::Constant
            }
            InstKind::Param(p) => {
                self.int[at] = params.get(*p as usize).copied().unwrap_or(0);
                Step::Constant
            }
            InstKind::Outer(axis) => Step::Outer(*axis as usize),
            InstKind::Inner(axis) => Step::Inner(*axis as usize),
            InstKind::Acc(k) => Step::Acc(*k as usize),
            InstKind::Load { operand, index, guard } => {
                let (operand, index, guard) = (*operand as usize, i(index), guard.map(|g| i(&g)));
                match inst.dtype.is_float() {
                    true => Step::LoadFloat(operand, index, guard),
                    false => Step::LoadInt(operand, index, guard),
                }
            }
            InstKind::Unary(UnaryOp::IsNan, a) => Step::IsNan(i(a)),
            InstKind::Unary(UnaryOp::IsInf, a) => Step::IsInf(i(a)),
            InstKind::Unary(op, a) if is_float(a) => {
                let function = scalar::float_unary(*op).unwrap_or(no_float);
                let plain = plain::unary(*op).filter(|_| narrow);
                Step::Unary(function, plain, inst.dtype, i(a))
            }
            InstKind::Unary(op, a) => {
                Step::UnaryInt(scalar::int_unary(*op).unwrap_or(|_| 0), inst.dtype, i(a))
            }
            InstKind::Binary(op, a, b) if op.is_comparison() => match is_float(a) {
                true => Step::CompareFloat(scalar::compare(*op), i(a), i(b)),
                false => Step::CompareInt(scalar::compare(*op), i(a), i(b)),
            },
            InstKind::Binary(op, a, b) if is_float(a) => {
                let function = scalar::float_binary(*op).unwrap_or(|_, _| f64::NAN);
                let plain = plain::binary(*op).filter(|_| narrow);
                Step::Binary(function, plain, inst.dtype, i(a), i(b))
            }
            InstKind::Binary(op, a, b) => {
                // Narrow integers are held in 32 bits.
                let bits = if body.inst(*a).dtype == DType::I64 { 64 } else { 32 };
                Step::BinaryInt(*op, bits, inst.dtype, i(a), i(b))
            }
            InstKind::Select(c, a, b) => match inst.dtype.is_float() {
                true => Step::SelectFloat(i(c), i(a), i(b)),
                false => Step::SelectInt(i(c), i(a), i(b)),
            },
            InstKind::Cast(to, a) => match (is_float(a), to.is_float()) {
                (true, true) => Step::FloatToFloat(*to, i(a)),
                (true, false) => Step::FloatToInt(*to, i(a)),
                (false, true) => Step::IntToFloat(*to, i(a)),
                (false, false) => Step::IntToInt(*to, i(a)),
            },
        }
    }

    /// Computes instructions, in order.
    pub(super) fn run(&mut self, insts: &[InstId]) -> Result<(), Fault> {
        for id in insts {
            self.step(id.0 as usize)?;
        }
        Ok(())
    }

    fn step(&mut self, at: usize) -> Result<(), Fault> {
        let Evaluator { exact, plain, int, .. } = self;
        match self.steps[at] {
            Step::Constant => {}
            Step::Outer(axis) => int[at] = self.outer[axis],
            Step::Inner(axis) => int[at] = self.inner[axis],
            Step::Acc(k) => {
                let value = self.accs[k];
                (exact[at], plain[at], int[at]) = (value.exact, value.plain, value.int);
            }
            Step::LoadFloat(view, index, guard) => {
                let value = match guard {
                    Some(guard) if int[guard] == 0 => 0.0,
                    _ => self.views[view].float(int[index])?,
                };
                (exact[at], plain[at]) = (value, value);
            }
            Step::LoadInt(view, index, guard) => {
                int[at] = match guard {
                    Some(guard) if int[guard] == 0 => 0,
                    _ => self.views[view].int(int[index])?,
                };
            }
            Step::Unary(function, f32_function, dtype, a) => {
                exact[at] = function(exact[a]);
                plain[at] = match f32_function {
                    Some(f) => f(plain[a] as f32).into(),
                    None => plain::round(arithmetic(dtype), function(plain[a])),
                };
            }
            Step::UnaryInt(function, dtype, a) => int[at] = scalar::wrap(dtype, function(int[a])),
            Step::IsNan(a) => int[at] = i64::from(plain[a].is_nan()),
            Step::IsInf(a) => int[at] = i64::from(plain[a].is_infinite()),
            Step::Binary(function, f32_function, dtype, a, b) => {
                exact[at] = function(exact[a], exact[b]);
                plain[at] = match f32_function {
                    Some(f) => f(plain[a] as f32, plain[b] as f32).into(),
                    None => plain::round(arithmetic(dtype), function(plain[a], plain[b])),
                };
            }
            Step::BinaryInt(op, bits, dtype, a, b) => {
                let value = scalar::int_binary(op, int[a], int[b], bits).unwrap_or(0);
                int[at] = scalar::wrap(dtype, value);
            }
            Step::CompareFloat(f, a, b) => int[at] = i64::from(f(&plain[a], &plain[b])),
            Step::CompareInt(f, a, b) => int[at] = i64::from(f(&int[a], &int[b])),
            Step::SelectFloat(c, a, b) => {
                let from = if int[c] != 0 { a } else { b };
                (exact[at], plain[at]) = (exact[from], plain[from]);
            }
            Step::SelectInt(c, a, b) => int[at] = int[if int[c] != 0 { a } else { b }],
            Step::FloatToFloat(to, a) => {
                (exact[at], plain[at]) = (exact[a], plain::round(to, plain[a]));
            }
            Step::FloatToInt(DType::Bool, a) => int[at] = i64::from(plain[a] != 0.0),
            Step::FloatToInt(to, a) => int[at] = scalar::saturate(plain[a], to),
            Step::IntToFloat(to, a) => {
                exact[at] = int[a] as f64;
                // One rounding to f32, and from there to what is narrower.
                plain[at] = match to {
                    DType::F64 => exact[at],
                    to => plain::round(to, f64::from(int[a] as f32)),
                };
            }
            Step::IntToInt(to, a) => int[at] = scalar::wrap(to, int[a]),
        }
        Ok(())
    }

    /// Whether the value of an instruction is a float.
    pub(super) fn is_float(&self, id: InstId) -> bool {
        self.floats[id.0 as usize]
    }

    /// The value of an instruction that was computed.
    pub(super) fn value(&self, id: InstId) -> Value {
        let at = id.0 as usize;
        Value { exact: self.exact[at], plain: self.plain[at], int: self.int[at] }
    }
}
