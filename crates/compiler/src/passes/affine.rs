//! What integer and bool tensors are as functions of their own indices.
//!
//! Masks are built from `arange`, comparisons and sums; each element is then a condition on its
//! indices, known without running anything. This module finds those conditions: an integer tensor
//! is an affine function of its indices, a bool tensor a conjunction of `affine >= 0`. Anything it
//! does not understand has no form.

use zeroforge_artifact::{DType, Expr, SymbolRange};
use zeroforge_graph::infer::broadcast_shapes;
use zeroforge_graph::ir::{Node, TensorType, WeightData};
use zeroforge_graph::op::{BinaryOp, UnaryOp};
use zeroforge_graph::{Graph, Op, ValueId};

/// Most conditions of one bool tensor.
const MAX_CONDITIONS: usize = 16;
/// Largest bool constant that is looked at, in bytes.
const MAX_CONSTANT: usize = 1 << 22;

/// `sum over axes of coefficients[axis] * index[axis] + constant`. Axes of size 1 have coefficient 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    pub(super) coefficients: Vec<i64>,
    pub(super) constant: Expr,
}

/// What a tensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An i64 tensor. Sizes and what masks make of them do not overflow.
    Int(Affine),
    /// A bool tensor: true where every function is zero or more. Empty: true everywhere.
    All(Vec<Affine>),
    /// False everywhere.
    Never,
}

impl Affine {
    fn constant(rank: usize, constant: Expr) -> Affine {
        Affine { coefficients: vec![0; rank], constant }
    }

    fn is_constant(&self) -> bool {
        self.coefficients.iter().all(|c| *c == 0)
    }

    /// `self + factor * other`; `None` on overflow.
    fn plus(&self, factor: i64, other: &Affine) -> Option<Affine> {
        let coefficients = self
            .coefficients
            .iter()
            .zip(&other.coefficients)
            .map(|(a, b)| a.checked_add(b.checked_mul(factor)?))
            .collect::<Option<_>>()?;
        let constant = self.constant.clone() + Expr::constant(factor) * other.constant.clone();
        Some(Affine { coefficients, constant })
    }

    /// The smallest and the largest value over the indices of a shape without empty axes.
    fn extremes(&self, shape: &[Expr]) -> (Expr, Expr) {
        let (mut low, mut high) = (self.constant.clone(), self.constant.clone());
        for (&c, n) in self.coefficients.iter().zip(shape) {
            let reach = Expr::constant(c) * (n.clone() - Expr::constant(1));
            match c {
                0 => {}
                c if c < 0 => low = low + reach,
                _ => high = high + reach,
            }
        }
        (low, high)
    }

    /// The function on a larger index space, aligned at the right, of which it ignores the axes that
    /// it does not have or that are stretched there.
    fn broadcast(&self, rank: usize) -> Option<Affine> {
        let mut coefficients = vec![0; rank.checked_sub(self.coefficients.len())?];
        coefficients.extend_from_slice(&self.coefficients);
        Some(Affine { coefficients, constant: self.constant.clone() })
    }
}

/// The forms of every value of a graph.
pub(super) struct Forms {
    forms: Vec<Option<Form>>,
    ranges: Vec<SymbolRange>,
}

impl Forms {
    /// Finds them, in one pass over the nodes.
    pub(super) fn of(graph: &Graph) -> Forms {
        let ranges = graph.symbols.iter().map(|s| s.range).collect();
        let mut forms = Forms { forms: vec![None; graph.values.len()], ranges };
        for weight in &graph.weights {
            if let (WeightData::Inline(bytes), false) = (&weight.data, weight.mutable) {
                let form = constant_form(graph.ty(weight.value), bytes.as_slice());
                forms.forms[weight.value.0 as usize] = form;
            }
        }
        for node in &graph.nodes {
            if let [output] = node.outputs[..] {
                forms.forms[output.0 as usize] = forms.node(graph, node);
            }
        }
        forms
    }

    /// The form of a value, if it is known.
    pub(super) fn get(&self, value: ValueId) -> Option<&Form> {
        self.forms.get(value.0 as usize)?.as_ref()
    }

    /// Whether an expression is never negative.
    pub(super) fn non_negative(&self, e: &Expr) -> bool {
        e.bounds(&self.ranges).min >= 0
    }

    fn int(&self, value: ValueId) -> Option<&Affine> {
        match self.get(value)? {
            Form::Int(affine) => Some(affine),
            _ => None,
        }
    }

    fn node(&self, graph: &Graph, node: &Node) -> Option<Form> {
        let ty = graph.ty(*node.outputs.first()?);
        let rank = ty.rank();
        if !matches!(ty.dtype, DType::Bool | DType::I64) {
            return None;
        }
        let input = |i: usize| node.inputs.get(i).copied();
        let form = match &node.op {
            Op::Full { dtype: DType::Bool, value, .. } => truth(*value != 0.0),
            Op::Full { value, .. } if value.fract() == 0.0 && value.abs() < 1e15 => {
                Form::Int(Affine::constant(rank, Expr::constant(*value as i64)))
            }
            Op::FullInt { value, .. } => Form::Int(Affine::constant(rank, value.clone())),
            Op::Iota { start, step, .. } => {
                Form::Int(Affine { coefficients: vec![*step], constant: start.clone() })
            }
            Op::Cast(to) => self.cast(*to, rank, input(0)?)?,
            Op::Unary(UnaryOp::LogicalNot) => negated(self.get(input(0)?)?)?,
            Op::Unary(UnaryOp::Neg) => {
                let zero = Affine::constant(rank, Expr::constant(0));
                Form::Int(zero.plus(-1, self.int(input(0)?)?)?)
            }
            Op::Binary(op) => self.binary(graph, *op, rank, input(0)?, input(1)?)?,
            Op::Where => match self.get(input(0)?)? {
                Form::All(c) if c.is_empty() => self.stretched(graph, input(1)?, rank)?,
                Form::Never => self.stretched(graph, input(2)?, rank)?,
                _ => return None,
            },
            Op::CumSum { axis } => {
                let x = self.int(input(0)?)?;
                let step = x.constant.as_const().filter(|_| x.is_constant())?;
                let mut sum = Affine::constant(rank, Expr::constant(step));
                sum.coefficients[*axis] = step;
                Form::Int(sum)
            }
            Op::IndexSelect { axis } => {
                self.indexed(graph, input(0)?, &[*axis], &node.inputs[1..], rank)?
            }
            Op::IndexMulti { axes } => {
                self.indexed(graph, input(0)?, axes, &node.inputs[1..], rank)?
            }
            Op::Concat { axis } => self.concat(graph, *axis, &node.inputs)?,
            Op::Reshape(_) => {
                let map = axes_kept(&graph.ty(input(0)?).shape, &ty.shape);
                map_form(self.get(input(0)?)?, |a| {
                    if a.is_constant() {
                        return Some(Affine::constant(rank, a.constant.clone()));
                    }
                    let mut out = Affine::constant(rank, a.constant.clone());
                    for &(from, to) in map.as_ref()? {
                        out.coefficients[to] = a.coefficients[from];
                    }
                    Some(out)
                })?
            }
            Op::Permute(perm) => map_form(self.get(input(0)?)?, |a| {
                let coefficients = perm.iter().map(|&p| a.coefficients[p]).collect();
                Some(Affine { coefficients, constant: a.constant.clone() })
            })?,
            Op::Expand(_) => self.stretched(graph, input(0)?, rank)?,
            Op::Slice { axis, start, step, .. } => map_form(self.get(input(0)?)?, |a| {
                let mut a = a.clone();
                let c = a.coefficients[*axis];
                a.constant = a.constant + Expr::constant(c) * start.clone();
                a.coefficients[*axis] = c.checked_mul(*step)?;
                Some(a)
            })?,
            Op::Flip(axes) => map_form(self.get(input(0)?)?, |a| {
                let mut a = a.clone();
                for &axis in axes {
                    let c = a.coefficients[axis];
                    let last = ty.shape[axis].clone() - Expr::constant(1);
                    a.constant = a.constant + Expr::constant(c) * last;
                    a.coefficients[axis] = c.checked_neg()?;
                }
                Some(a)
            })?,
            _ => return None,
        };
        Some(self.tidy(form, ty))
    }

    /// Drops coefficients of axes of size 1 and conditions that always hold.
    fn tidy(&self, form: Form, ty: &TensorType) -> Form {
        let plain = |mut a: Affine| {
            for (c, n) in a.coefficients.iter_mut().zip(&ty.shape) {
                if n.is(1) {
                    *c = 0;
                }
            }
            a
        };
        let conditions = match form {
            Form::Int(a) => return Form::Int(plain(a)),
            Form::Never => return Form::Never,
            Form::All(conditions) => conditions,
        };
        let mut kept: Vec<Affine> = Vec::new();
        for condition in conditions.into_iter().map(plain) {
            let (low, high) = condition.extremes(&ty.shape);
            if self.non_negative(&(-high - Expr::constant(1))) {
                return Form::Never;
            }
            if !self.non_negative(&low) && !kept.contains(&condition) {
                kept.push(condition);
            }
        }
        Form::All(kept)
    }

    /// The form of a value broadcast to `rank` axes; stretched axes had size 1, so coefficient 0.
    fn stretched(&self, graph: &Graph, value: ValueId, rank: usize) -> Option<Form> {
        debug_assert!(graph.ty(value).rank() <= rank);
        map_form(self.get(value)?, |a| a.broadcast(rank))
    }

    fn cast(&self, to: DType, rank: usize, x: ValueId) -> Option<Form> {
        let one = |v: i64| Form::Int(Affine::constant(rank, Expr::constant(v)));
        Some(match (self.get(x)?, to) {
            (Form::All(c), DType::I64) if c.is_empty() => one(1),
            (Form::Never, DType::I64) => one(0),
            (Form::Int(a), DType::Bool) if a.is_constant() => truth(a.constant.as_const()? != 0),
            (Form::Int(a), DType::I64) => Form::Int(a.clone()),
            (form @ (Form::All(_) | Form::Never), DType::Bool) => form.clone(),
            _ => return None,
        })
    }

    fn binary(
        &self,
        graph: &Graph,
        op: BinaryOp,
        rank: usize,
        a: ValueId,
        b: ValueId,
    ) -> Option<Form> {
        if matches!(op, BinaryOp::And | BinaryOp::Or) && graph.ty(a).dtype == DType::Bool {
            // One side may decide alone.
            let (a, b) = (self.stretched(graph, a, rank), self.stretched(graph, b, rank));
            let always = |f: &Option<Form>| matches!(f, Some(Form::All(c)) if c.is_empty());
            let never = |f: &Option<Form>| matches!(f, Some(Form::Never));
            return match op {
                BinaryOp::And if never(&a) || never(&b) => Some(Form::Never),
                BinaryOp::Or if always(&a) || always(&b) => Some(truth(true)),
                BinaryOp::Or if never(&a) => b,
                BinaryOp::Or if never(&b) => a,
                BinaryOp::And => {
                    let (Form::All(mut a), Form::All(b)) = (a?, b?) else { return None };
                    a.extend(b);
                    (a.len() <= MAX_CONDITIONS).then_some(Form::All(a))
                }
                _ => None,
            };
        }
        let a = self.int(a)?.broadcast(rank)?;
        let b = self.int(b)?.broadcast(rank)?;
        let one = Affine::constant(rank, Expr::constant(1));
        let less = |a: &Affine, b: &Affine| b.plus(-1, a)?.plus(-1, &one);
        let difference = a.plus(-1, &b)?;
        let same = difference.is_constant().then(|| difference.constant.as_const()).flatten();
        let only = |a: Affine| Form::All(vec![a]);
        Some(match op {
            BinaryOp::Add => Form::Int(a.plus(1, &b)?),
            BinaryOp::Sub => Form::Int(difference),
            BinaryOp::Mul => {
                let (factor, other) = match (a.is_constant(), b.is_constant()) {
                    (true, _) => (a.constant.as_const()?, b),
                    (_, true) => (b.constant.as_const()?, a),
                    _ => return None,
                };
                Form::Int(Affine::constant(rank, Expr::constant(0)).plus(factor, &other)?)
            }
            BinaryOp::Le => only(b.plus(-1, &a)?),
            BinaryOp::Ge => only(difference),
            BinaryOp::Lt => only(less(&a, &b)?),
            BinaryOp::Gt => only(less(&b, &a)?),
            BinaryOp::Eq => match same {
                Some(d) => truth(d == 0),
                None => Form::All(vec![b.plus(-1, &a)?, difference]),
            },
            BinaryOp::Ne => truth(same? != 0),
            _ => return None,
        })
    }

    /// `x` read at affine indices that are proved to be inside it: indices are then neither counted
    /// from the end nor clamped.
    fn indexed(
        &self,
        graph: &Graph,
        x: ValueId,
        axes: &[usize],
        indices: &[ValueId],
        rank: usize,
    ) -> Option<Form> {
        let x_ty = graph.ty(x);
        let mut block: Vec<Expr> = Vec::new();
        for &index in indices {
            block = broadcast_shapes(&block, &graph.ty(index).shape).ok()?;
        }
        let adjacent = axes.windows(2).all(|w| w[1] == w[0] + 1);
        let place = if adjacent { *axes.first()? } else { 0 };
        let mut functions = Vec::with_capacity(axes.len());
        for (&index, &axis) in indices.iter().zip(axes) {
            functions.push(self.inside(graph, index, &x_ty.shape[axis])?.broadcast(block.len())?);
        }
        let rest: Vec<usize> = (0..x_ty.rank()).filter(|a| !axes.contains(a)).collect();
        map_form(self.get(x)?, |a| {
            let mut out = Affine::constant(rank, a.constant.clone());
            // Axes that are kept stand around the block.
            for (i, &axis) in rest.iter().enumerate() {
                let to = if i < place { i } else { i + block.len() };
                *out.coefficients.get_mut(to)? = a.coefficients[axis];
            }
            for (function, &axis) in functions.iter().zip(axes) {
                let c = a.coefficients[axis];
                for (i, k) in function.coefficients.iter().enumerate() {
                    let slot = out.coefficients.get_mut(place + i)?;
                    *slot = slot.checked_add(k.checked_mul(c)?)?;
                }
                out.constant = out.constant + Expr::constant(c) * function.constant.clone();
            }
            Some(out)
        })
    }

    /// The function of an index tensor, if all its values are in `0..n`.
    pub(super) fn inside(&self, graph: &Graph, index: ValueId, n: &Expr) -> Option<Affine> {
        let function = self.int(index)?;
        let (low, high) = function.extremes(&graph.ty(index).shape);
        let room = n.clone() - Expr::constant(1) - high;
        (self.non_negative(&low) && self.non_negative(&room)).then(|| function.clone())
    }

    /// Pieces that continue each other along the axis.
    fn concat(&self, graph: &Graph, axis: usize, pieces: &[ValueId]) -> Option<Form> {
        let functions: Vec<&Affine> = pieces.iter().map(|&p| self.int(p)).collect::<Option<_>>()?;
        // A piece of one element has any slope; the others must agree on theirs.
        let long = |p: &&ValueId| !graph.ty(**p).shape[axis].is(1);
        let slope = match pieces.iter().position(|p| long(&p)) {
            Some(at) => functions[at].coefficients[axis],
            None => {
                let step = functions.get(1)?.constant.clone() - functions[0].constant.clone();
                step.as_const()?
            }
        };
        let mut out: Option<Affine> = None;
        let mut offset = Expr::constant(0);
        for (&piece, &function) in pieces.iter().zip(&functions) {
            let mut whole = function.clone();
            if graph.ty(piece).shape[axis].is(1) {
                whole.coefficients[axis] = slope;
            }
            whole.constant = whole.constant - Expr::constant(slope) * offset.clone();
            offset = offset + graph.ty(piece).shape[axis].clone();
            match &out {
                None => out = Some(whole),
                Some(first) if *first == whole => {}
                Some(_) => return None,
            }
        }
        out.map(Form::Int)
    }
}

fn truth(value: bool) -> Form {
    if value { Form::All(Vec::new()) } else { Form::Never }
}

/// The complement of what has at most one condition.
pub(super) fn negated(form: &Form) -> Option<Form> {
    match form {
        Form::Never => Some(truth(true)),
        Form::All(conditions) => match conditions.as_slice() {
            [] => Some(Form::Never),
            // not (a >= 0) is -a - 1 >= 0
            [a] => {
                let minus_one = Affine::constant(a.coefficients.len(), Expr::constant(-1));
                Some(Form::All(vec![minus_one.plus(-1, a)?]))
            }
            _ => None,
        },
        Form::Int(_) => None,
    }
}

fn map_form(form: &Form, f: impl Fn(&Affine) -> Option<Affine>) -> Option<Form> {
    Some(match form {
        Form::Int(a) => Form::Int(f(a)?),
        Form::All(conditions) => Form::All(conditions.iter().map(f).collect::<Option<_>>()?),
        Form::Never => Form::Never,
    })
}

/// Pairs of axes of a reshape that only adds and drops axes of size 1.
pub(super) fn axes_kept(from: &[Expr], to: &[Expr]) -> Option<Vec<(usize, usize)>> {
    let long =
        |shape: &[Expr]| -> Vec<usize> { (0..shape.len()).filter(|&a| !shape[a].is(1)).collect() };
    let (a, b) = (long(from), long(to));
    let same = a.len() == b.len() && a.iter().zip(&b).all(|(&i, &j)| from[i] == to[j]);
    same.then(|| a.into_iter().zip(b).collect())
}

/// A stored bool matrix that is a condition on row and column.
fn constant_form(ty: &TensorType, bytes: &[u8]) -> Option<Form> {
    if ty.dtype != DType::Bool || bytes.len() > MAX_CONSTANT {
        return None;
    }
    if bytes.iter().all(|b| *b != 0) {
        return Some(truth(true));
    }
    if bytes.iter().all(|b| *b == 0) {
        return Some(Form::Never);
    }
    let shape = ty.static_shape()?;
    let long: Vec<usize> = (0..shape.len()).filter(|&a| shape[a] != 1).collect();
    let [rows, columns] = long[..] else { return None };
    let width = shape[columns] as usize;
    let lines: Vec<&[u8]> = bytes.chunks(width).collect();
    // Visible columns of a row form one run; its end and start move by one per row until they leave
    // the matrix. A row where an end is inside the matrix tells where that end is.
    let run = |line: &[u8]| -> Option<(i64, i64)> {
        let first = line.iter().position(|b| *b != 0)? as i64;
        let last = line.iter().rposition(|b| *b != 0)? as i64;
        Some((first, last))
    };
    let runs: Vec<Option<(i64, i64)>> = lines.iter().map(|l| run(l)).collect();
    let end = runs.iter().enumerate().find_map(|(i, r)| {
        r.filter(|(_, last)| *last + 1 < width as i64).map(|(_, last)| last - i as i64)
    });
    let start = runs
        .iter()
        .enumerate()
        .find_map(|(i, r)| r.filter(|(first, _)| *first > 0).map(|(first, _)| first - i as i64));
    let visible =
        |i: i64, j: i64| end.is_none_or(|e| j <= i + e) && start.is_none_or(|s| j >= i + s);
    for (i, line) in lines.iter().enumerate() {
        for (j, b) in line.iter().enumerate() {
            if (*b != 0) != visible(i as i64, j as i64) {
                return None;
            }
        }
    }
    let condition = |row: i64, column: i64, constant: i64| {
        let mut coefficients = vec![0; shape.len()];
        coefficients[rows] = row;
        coefficients[columns] = column;
        Affine { coefficients, constant: Expr::constant(constant) }
    };
    let mut conditions = Vec::new();
    conditions.extend(end.map(|e| condition(1, -1, e)));
    conditions.extend(start.map(|s| condition(-1, 1, -s)));
    Some(Form::All(conditions))
}
