//! Exported nodes into graph operations.
//!
//! Every node is tried; what cannot be imported is collected and reported together. The result of
//! each node is compared with what the exporter recorded for it, so that a wrong rule here is found
//! at import and not in a wrong answer.

mod args;
mod creation;
pub(crate) mod dtype;
mod index;
mod nn;
mod pointwise;
mod reduce;
mod shape;

use std::collections::{BTreeMap, HashMap, HashSet};

use zeroforge_artifact::program::SymbolDecl;
use zeroforge_artifact::{DType, Expr, SymbolRange};
use zeroforge_graph::infer::{MAX_RANK, format_shape};
use zeroforge_graph::ir::{Origin, Output, OutputKind, TensorType, WeightData};
use zeroforge_graph::op::{BinaryOp, UnaryOp};
use zeroforge_graph::{Graph, Op, ValueId};

use crate::pt2::expression::{self, Symbols};
use crate::pt2::schema::{
    Argument, ExportedProgram, InputSpec, Node, OutputSpec, SymInt, SymIntArgument, TensorMeta,
};
use args::{Args, Scalar};

/// One thing that keeps a model from being imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The exporter's node name, or the argument or weight.
    pub node: String,
    /// The operation.
    pub op: String,
    /// `file.py:12`, if known.
    pub source: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.node)?;
        if !self.op.is_empty() {
            write!(f, " ({})", self.op)?;
        }
        if !self.source.is_empty() {
            write!(f, " at {}", self.source)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The state of one import.
pub(crate) struct Importer<'a> {
    program: &'a ExportedProgram,
    pub(crate) graph: Graph,
    symbols: Symbols,
    values: HashMap<String, ValueId>,
    sizes: HashMap<String, Expr>,
    /// Results that have no lowering, and the op they are of: an error only where they are read.
    uncomputed: HashMap<String, String>,
    /// Results of nodes that were reported: what reads them is not reported again.
    failed: HashSet<String>,
    origin: Origin,
    diagnostics: Vec<Diagnostic>,
}

/// Stands for an error that another node has reported.
const REPORTED: &str = "it depends on a part that is reported";

/// Operations whose result's shape or value decides sizes.
const DATA_DEPENDENT: &[&str] = &[
    "nonzero",
    "nonzero_static",
    "masked_select",
    "unique",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
    "item",
    "_local_scalar_dense",
    "bincount",
];

/// What a node gives: one value per tensor output, in order.
type Lowered = Result<Vec<ValueId>, String>;

/// A graph, and which of its values each of the exporter's names stands for.
pub(crate) type Named = (Graph, BTreeMap<String, ValueId>);

/// Imports a program. `weight_data` gives the data of each parameter, buffer and constant.
pub(crate) fn import(
    program: &ExportedProgram,
    name: &str,
    weight_data: &mut dyn FnMut(&str, &TensorType) -> WeightData,
) -> Result<Named, Vec<Diagnostic>> {
    let mut importer = Importer {
        program,
        graph: Graph { name: name.to_owned(), ..Graph::default() },
        symbols: Symbols::default(),
        values: HashMap::new(),
        sizes: HashMap::new(),
        uncomputed: HashMap::new(),
        failed: HashSet::new(),
        origin: Origin::default(),
        diagnostics: Vec::new(),
    };
    importer.inputs(weight_data);
    for node in &program.graph_module.graph.nodes {
        importer.node(node);
    }
    importer.outputs();
    importer.declare_symbols();
    if importer.diagnostics.is_empty() {
        Ok((importer.graph, importer.values.into_iter().collect()))
    } else {
        Err(importer.diagnostics)
    }
}

impl<'a> Importer<'a> {
    fn report(&mut self, node: &str, op: &str, message: String) {
        if message == REPORTED {
            return;
        }
        self.diagnostics.push(Diagnostic {
            node: node.to_owned(),
            op: op.to_owned(),
            source: self.origin.source.clone(),
            message,
        });
    }

    fn value(&self, name: &str) -> Result<ValueId, String> {
        if self.failed.contains(name) {
            return Err(REPORTED.to_owned());
        }
        self.values.get(name).copied().ok_or_else(|| match self.uncomputed.get(name) {
            Some(op) => format!("it reads `{name}`, a result of {op} that is not supported"),
            None => format!("value `{name}` is not defined"),
        })
    }

    fn size(&self, size: &SymIntArgument) -> Result<Expr, String> {
        match size {
            SymIntArgument::AsInt(v) => Ok(Expr::constant(*v)),
            SymIntArgument::AsName(name) if self.failed.contains(name) => Err(REPORTED.to_owned()),
            SymIntArgument::AsName(name) => self.sizes.get(name).cloned().ok_or_else(|| {
                format!("size `{name}` depends on data; only sizes of inputs are supported")
            }),
        }
    }

    fn parse_size(&mut self, size: &SymInt) -> Result<Expr, String> {
        match size {
            SymInt::AsInt(v) => Ok(Expr::constant(*v)),
            SymInt::AsExpr(e) => {
                let before = self.symbols.names.len();
                let parsed = expression::parse(&e.expr_str, &mut self.symbols)
                    .map_err(|m| format!("size expression `{}`: {m}", short(&e.expr_str)))?;
                // Unbacked symbols (u0, u1, ...) come from data.
                if let Some(name) = self.symbols.names[before..].iter().find(|n| n.starts_with('u'))
                {
                    return Err(format!(
                        "size `{name}` depends on data; make the shape static or a function of input shapes"
                    ));
                }
                Ok(parsed)
            }
        }
    }

    fn type_of_meta(&mut self, meta: &TensorMeta) -> Result<TensorType, String> {
        let dtype = dtype::dtype_from_code(meta.dtype)?;
        if meta.sizes.len() > MAX_RANK {
            return Err(format!("{} axes are more than the limit of {MAX_RANK}", meta.sizes.len()));
        }
        let shape: Vec<Expr> =
            meta.sizes.iter().map(|s| self.parse_size(s)).collect::<Result<_, _>>()?;
        if let Some(n) = shape.iter().find(|n| n.as_const().is_some_and(|n| n < 0)) {
            return Err(format!("a size of {n}; the archive is damaged, export the model again"));
        }
        Ok(TensorType::new(dtype, shape))
    }

    fn recorded_type(&mut self, name: &str) -> Result<TensorType, String> {
        let meta = self.program.graph_module.graph.tensor_values.get(name);
        let meta = meta.ok_or_else(|| format!("the archive has no type for `{name}`"))?;
        self.type_of_meta(meta)
    }

    fn inputs(&mut self, weight_data: &mut dyn FnMut(&str, &TensorType) -> WeightData) {
        let program = self.program;
        for spec in &program.graph_module.signature.input_specs {
            let (arg, weight) = match spec {
                InputSpec::UserInput { arg: Argument::AsTensor(t) } => (t, None),
                InputSpec::Parameter { arg, parameter_name: n }
                | InputSpec::Buffer { arg, buffer_name: n, .. }
                | InputSpec::TensorConstant { arg, tensor_constant_name: n } => (arg, Some(n)),
                // A value that the exporter fixed; nothing depends on it any more.
                InputSpec::ConstantInput { .. } => continue,
                InputSpec::UserInput {
                    arg:
                        Argument::AsNone(_)
                        | Argument::AsInt(_)
                        | Argument::AsFloat(_)
                        | Argument::AsBool(_)
                        | Argument::AsString(_),
                } => continue,
                InputSpec::UserInput { arg } => {
                    self.report(
                        "input",
                        "",
                        format!("arguments of kind {arg:?} are not supported; pass tensors"),
                    );
                    continue;
                }
                InputSpec::CustomObj(_) | InputSpec::Token(_) => {
                    self.report(
                        "input",
                        "",
                        "custom objects and effect tokens are not supported".into(),
                    );
                    continue;
                }
            };
            match self.recorded_type(&arg.name) {
                Ok(ty) => {
                    let value = match weight {
                        Some(name) => {
                            let data = weight_data(name, &ty);
                            self.graph.add_weight(name, ty, data)
                        }
                        None => self.graph.add_input(&arg.name, ty),
                    };
                    self.values.insert(arg.name.clone(), value);
                }
                Err(message) => self.report(&arg.name, "", message),
            }
        }
    }

    fn outputs(&mut self) {
        self.origin = Origin::default();
        let program = self.program;
        let mut user = 0;
        for spec in &program.graph_module.signature.output_specs {
            let weight_at = |im: &Importer<'_>, name: &str| {
                im.graph.weights.iter().position(|w| w.name == name).map(|i| i as u32)
            };
            let (value, kind, name) = match spec {
                OutputSpec::UserOutput { arg: Argument::AsTensor(t) } => {
                    user += 1;
                    (&t.name, OutputKind::User, format!("output_{}", user - 1))
                }
                OutputSpec::BufferMutation { arg, buffer_name: n }
                | OutputSpec::ParameterMutation { arg, parameter_name: n } => {
                    let Some(at) = weight_at(self, n) else {
                        self.report(n, "", "a mutated buffer that the model does not have".into());
                        continue;
                    };
                    self.graph.weights[at as usize].mutable = true;
                    (&arg.name, OutputKind::BufferMutation(at), n.clone())
                }
                OutputSpec::UserInputMutation { arg, user_input_name: n } => {
                    let Some(at) = self.graph.inputs.iter().position(|i| i.name == *n) else {
                        self.report(n, "", "a mutated input that the model does not have".into());
                        continue;
                    };
                    (&arg.name, OutputKind::InputMutation(at as u32), n.clone())
                }
                // Constants in the result are the caller's business.
                OutputSpec::UserOutput {
                    arg:
                        Argument::AsNone(_)
                        | Argument::AsInt(_)
                        | Argument::AsFloat(_)
                        | Argument::AsBool(_)
                        | Argument::AsString(_),
                } => continue,
                OutputSpec::UserOutput { arg } => {
                    self.report(
                        "output",
                        "",
                        format!("results of kind {arg:?} are not supported; return tensors"),
                    );
                    continue;
                }
                _ => {
                    self.report(
                        "output",
                        "",
                        "losses, gradients and tokens are not supported; export for inference"
                            .into(),
                    );
                    continue;
                }
            };
            match self.value(value) {
                Ok(value) => self.graph.outputs.push(Output { name, value, kind }),
                Err(message) => self.report("output", "", message),
            }
        }
        let root = program.graph_module.module_call_graph.iter().find(|m| m.fqn.is_empty());
        if let Some(signature) = root.and_then(|m| m.signature.as_ref()) {
            self.graph.signature.inputs = signature.in_spec.clone();
            self.graph.signature.outputs = signature.out_spec.clone();
        }
    }

    fn declare_symbols(&mut self) {
        let mut ranges: HashMap<String, SymbolRange> = HashMap::new();
        for (key, range) in &self.program.range_constraints {
            // Keys that are expressions restate the ranges of their symbols.
            ranges.insert(
                key.clone(),
                SymbolRange {
                    min: range.min_val.unwrap_or(0).max(0),
                    max: range.max_val.unwrap_or(i64::MAX),
                },
            );
        }
        for name in &self.symbols.names {
            let range = ranges.get(name).copied().unwrap_or(SymbolRange { min: 1, max: i64::MAX });
            if range.min > range.max {
                let message = format!("its range {} to {} is empty", range.min, range.max);
                self.diagnostics.push(Diagnostic {
                    node: name.clone(),
                    op: String::new(),
                    source: String::new(),
                    message,
                });
            }
            self.graph.symbols.push(SymbolDecl { name: name.clone(), range });
        }
    }

    fn node(&mut self, node: &Node) {
        let name = node.name.clone().unwrap_or_else(|| first_output(node));
        self.origin =
            Origin { node: name.clone(), module: module_of(node), source: source_of(node) };
        let op = node.target.trim_start_matches("torch.ops.").to_owned();
        let names = output_names(node);
        match self.lower(node) {
            Ok(results) => {
                for (i, output) in names.iter().enumerate() {
                    let Some(output) = output else { continue };
                    let Some(&value) = results.get(i) else {
                        self.uncomputed.insert(output.clone(), op.clone());
                        continue;
                    };
                    if let Err(message) = self.check_result(output, value) {
                        self.report(&name, &op, message);
                    }
                    self.values.insert(output.clone(), value);
                }
            }
            Err(message) => {
                self.report(&name, &op, message);
                for output in names.iter().flatten() {
                    self.stand_in(output);
                }
                if let Some(Argument::AsSymInt(SymIntArgument::AsName(size))) = node.outputs.first()
                {
                    self.failed.insert(size.clone());
                }
            }
        }
    }

    /// Lets later nodes be judged although this value could not be computed.
    fn stand_in(&mut self, output: &str) {
        if let Ok(ty) = self.recorded_type(output) {
            let op = Op::Full { dtype: ty.dtype, shape: ty.shape.clone(), value: 0.0 };
            let value = self.graph.add_node(op, &[], vec![ty], self.origin.clone())[0];
            self.values.insert(output.to_owned(), value);
        } else {
            self.failed.insert(output.to_owned());
        }
    }

    /// Compares a result with what the exporter recorded.
    fn check_result(&mut self, output: &str, value: ValueId) -> Result<(), String> {
        let recorded = self.recorded_type(output)?;
        let found = self.graph.ty(value).clone();
        let same = |a: &Expr, b: &Expr| match (a.as_const(), b.as_const()) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let ok = found.dtype == recorded.dtype
            && found.rank() == recorded.rank()
            && found.shape.iter().zip(&recorded.shape).all(|(a, b)| same(a, b));
        if ok {
            return Ok(());
        }
        Err(format!(
            "zeroforge computes {} {} where torch recorded {} {}; please report this",
            found.dtype,
            format_shape(&found.shape),
            recorded.dtype,
            format_shape(&recorded.shape)
        ))
    }

    fn lower(&mut self, node: &Node) -> Lowered {
        let args = Args { node };
        if let Some(op) = node.target.strip_prefix("torch.ops.aten.") {
            let base = op.split('.').next().unwrap_or(op);
            let families = [
                pointwise::lower,
                reduce::lower,
                shape::lower,
                index::lower,
                creation::lower,
                nn::lower,
            ];
            for family in families {
                if let Some(result) = family(self, base, op, args) {
                    return result;
                }
            }
            if DATA_DEPENDENT.contains(&base) {
                return Err(
                    "its shape depends on data; use torch.where, masked_fill or a fixed size"
                        .to_owned(),
                );
            }
            return Err("this operation is not supported; decompose it with run_decompositions() before saving, or replace it".to_owned());
        }
        if let Some(op) = node.target.strip_prefix("_operator.") {
            return self.size_arithmetic(op, args);
        }
        if node.target.contains("sym_") || node.target.starts_with("torch.sym") {
            let op = node.target.rsplit('.').next().unwrap_or_default().to_owned();
            return self.size_arithmetic(&op, args);
        }
        if node.target.starts_with("torch.ops.higher_order") {
            return Err("control flow and other higher-order operators are not supported; run_decompositions({}) removes autocast and no_grad regions".to_owned());
        }
        Err("custom operators cannot be compiled; express the operation with torch functions"
            .to_owned())
    }

    /// Python arithmetic on sizes.
    fn size_arithmetic(&mut self, op: &str, args: Args<'_>) -> Lowered {
        let operand = |i: usize| -> Result<Expr, String> {
            let arg = args.node.inputs.get(i).ok_or("an operand is missing")?;
            match &arg.arg {
                Argument::AsInt(v) => Ok(Expr::constant(*v)),
                Argument::AsSymInt(s) => self.size(s),
                other => Err(format!("operand {i} is {other:?}, expected a size")),
            }
        };
        let result = match op {
            "add" => operand(0)? + operand(1)?,
            "sub" => operand(0)? - operand(1)?,
            "mul" => operand(0)? * operand(1)?,
            "neg" => -operand(0)?,
            "floordiv" => operand(0)?.floor_div(&operand(1)?),
            "mod" => operand(0)?.modulo(&operand(1)?),
            "sym_min" | "min" => operand(0)?.minimum(&operand(1)?),
            "sym_max" | "max" => operand(0)?.maximum(&operand(1)?),
            // Comparisons feed assertions only; the ranges already hold what was proved.
            "ge"
            | "le"
            | "gt"
            | "lt"
            | "eq"
            | "ne"
            | "and_"
            | "or_"
            | "not_"
            | "sym_not"
            | "sym_constrain_range_for_size"
            | "sym_constrain_range" => return Ok(Vec::new()),
            _ => return Err(format!("`{op}` on sizes is not supported")),
        };
        self.define_size(args.node, result);
        Ok(Vec::new())
    }

    fn define_size(&mut self, node: &Node, size: Expr) {
        if let Some(Argument::AsSymInt(SymIntArgument::AsName(name))) = node.outputs.first() {
            self.sizes.insert(name.clone(), size);
        }
    }

    // ---- construction -------------------------------------------------------------------------

    fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    fn dtype(&self, value: ValueId) -> DType {
        self.graph.ty(value).dtype
    }

    fn shape(&self, value: ValueId) -> Vec<Expr> {
        self.graph.ty(value).shape.clone()
    }

    /// The size of one axis; scalars have none.
    fn extent(&self, value: ValueId, axis: usize) -> Result<Expr, String> {
        let ty = self.graph.ty(value);
        let n = ty.shape.get(axis).cloned();
        n.ok_or_else(|| format!("axis {axis} of a tensor with {} axes", ty.rank()))
    }

    fn rank(&self, value: ValueId) -> usize {
        self.graph.ty(value).rank()
    }

    /// The dtype that the exporter recorded for the first result.
    fn result_dtype(&mut self, args: Args<'_>) -> Result<DType, String> {
        let name = output_names(args.node).into_iter().flatten().next();
        let name = name.ok_or("the node has no result")?;
        Ok(self.recorded_type(&name)?.dtype)
    }

    fn result_shape(&mut self, args: Args<'_>) -> Result<Vec<Expr>, String> {
        let name = output_names(args.node).into_iter().flatten().next();
        let name = name.ok_or("the node has no result")?;
        Ok(self.recorded_type(&name)?.shape)
    }

    fn push(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, String> {
        self.push_all(op, inputs).map(|v| v[0])
    }

    fn push_all(&mut self, op: Op, inputs: &[ValueId]) -> Lowered {
        self.graph.push(op, inputs, self.origin.clone()).map_err(|e| e.source.to_string())
    }

    fn unary(&mut self, op: UnaryOp, x: ValueId) -> Result<ValueId, String> {
        self.push(Op::Unary(op), &[x])
    }

    fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> Result<ValueId, String> {
        self.push(Op::Binary(op), &[a, b])
    }

    fn cast(&mut self, x: ValueId, dtype: DType) -> Result<ValueId, String> {
        if self.dtype(x) == dtype {
            return Ok(x);
        }
        self.push(Op::Cast(dtype), &[x])
    }

    fn reshape(&mut self, x: ValueId, shape: Vec<Expr>) -> Result<ValueId, String> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.push(Op::Reshape(shape), &[x])
    }

    /// A scalar tensor.
    fn scalar(&mut self, value: Scalar, dtype: DType) -> Result<ValueId, String> {
        self.full(value, dtype, Vec::new())
    }

    fn full(&mut self, value: Scalar, dtype: DType, shape: Vec<Expr>) -> Result<ValueId, String> {
        match value {
            Scalar::Int(v) if dtype.is_int() => {
                self.push(Op::FullInt { dtype, shape, value: Expr::constant(v) }, &[])
            }
            v => self.push(Op::Full { dtype, shape, value: v.as_f64() }, &[]),
        }
    }

    fn float(&mut self, value: f64, dtype: DType) -> Result<ValueId, String> {
        self.scalar(Scalar::Float(value), dtype)
    }

    /// A dimension argument: negative counts from the end.
    fn axis(&self, dim: i64, rank: usize) -> Result<usize, String> {
        let rank_i = rank.max(1) as i64;
        let axis = if dim < 0 { dim + rank_i } else { dim };
        if (0..rank_i).contains(&axis) {
            return Ok(axis as usize);
        }
        Err(format!("dimension {dim} is out of range for {rank} axes"))
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Names of tensor results; `None` where a result is absent. Sizes are no tensors and left out.
fn output_names(node: &Node) -> Vec<Option<String>> {
    let mut names = Vec::new();
    for output in &node.outputs {
        match output {
            Argument::AsTensor(t) => names.push(Some(t.name.clone())),
            Argument::AsTensors(list) => names.extend(list.iter().map(|t| Some(t.name.clone()))),
            Argument::AsNone(_) => names.push(None),
            _ => {}
        }
    }
    names
}

fn first_output(node: &Node) -> String {
    output_names(node).into_iter().flatten().next().unwrap_or_else(|| node.target.clone())
}

/// `file.py:12` from a stack trace, folders stripped: the last frame of the model's own code, or else the
/// last one of torch's.
fn source_of(node: &Node) -> String {
    let trace = node.metadata.get("stack_trace").and_then(|t| t.as_str()).unwrap_or_default();
    let frames = || trace.lines().rev().filter(|l| l.trim_start().starts_with("File \""));
    let is_file = |l: &&str| l.contains(".py\"");
    let own = frames().filter(is_file).find(|l| !l.contains("/torch/"));
    let Some(frame) = own.or_else(|| frames().find(is_file)).or_else(|| frames().next()) else {
        return String::new();
    };
    let mut parts = frame.trim_start().trim_start_matches("File \"").splitn(2, '"');
    let path = parts.next().unwrap_or_default();
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let line: String = parts
        .next()
        .and_then(|rest| rest.split("line ").nth(1))
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect())
        .unwrap_or_default();
    if line.is_empty() { file.to_owned() } else { format!("{file}:{line}") }
}

/// The innermost module's path.
fn module_of(node: &Node) -> String {
    let stack = node.metadata.get("nn_module_stack").and_then(|t| t.as_str()).unwrap_or_default();
    // Entries `key,path,type`, innermost last.
    let last = stack.rsplit(';').next().unwrap_or_default();
    let path = last.split(',').nth(1).unwrap_or_default();
    if path.starts_with("_empty_nn_module_stack") { String::new() } else { path.to_owned() }
}
