//! Graphs into text.

use std::fmt::Write;

use zeroforge_artifact::Expr;

use super::constant;
use crate::infer::{format_shape, op_name};
use crate::ir::{Graph, Input, Node, OutputKind, TensorType, ValueId, Weight, WeightData};
use crate::op::{Op, PadMode, ReduceOp, UpsampleMode};

/// A string as the text form quotes it.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn type_text(ty: &TensorType) -> String {
    format!("{}{}", ty.dtype, format_shape(&ty.shape))
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    format!("[{}]", items.join(", "))
}

fn pairs<T: std::fmt::Display>(items: &[(T, T)]) -> String {
    let items: Vec<String> = items.iter().map(|(a, b)| format!("({a}, {b})")).collect();
    format!("[{}]", items.join(", "))
}

/// Attributes as `key: value`, and flags, in the order in which they are written. What follows from
/// the result's type is left out.
struct Attributes(Vec<String>);

impl Attributes {
    fn with(mut self, key: &str, value: impl std::fmt::Display) -> Attributes {
        self.0.push(format!("{key}: {value}"));
        self
    }

    fn flag(mut self, key: &str, set: bool) -> Attributes {
        if set {
            self.0.push(key.to_owned());
        }
        self
    }
}

fn attributes(op: &Op) -> Attributes {
    let a = Attributes(Vec::new());
    match op {
        Op::Full { value, .. } => a.with("value", format!("{value:?}")),
        Op::FullInt { value, .. } => a.with("value", value),
        Op::Iota { start, step, .. } => a.with("start", start).with("step", step),
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Where
        | Op::Cast(_)
        | Op::AdaptiveAvgPool { .. }
        | Op::Reshape(_)
        | Op::Expand(_) => a,
        Op::Reduce { axes, keep_dims, .. } => {
            a.with("axes", list(axes)).flag("keep_dims", *keep_dims)
        }
        Op::CumSum { axis }
        | Op::Softmax { axis }
        | Op::LogSoftmax { axis }
        | Op::IndexSelect { axis }
        | Op::Gather { axis }
        | Op::Concat { axis } => a.with("axis", axis),
        Op::TopK { k } => a.with("k", k),
        Op::LayerNorm { axes, eps, weight, bias } => a
            .with("axes", axes)
            .with("eps", format!("{eps:?}"))
            .flag("weight", *weight)
            .flag("bias", *bias),
        Op::RmsNorm { axes, eps, weight } => {
            a.with("axes", axes).with("eps", format!("{eps:?}")).flag("weight", *weight)
        }
        Op::GroupNorm { groups, eps, weight, bias } => a
            .with("groups", groups)
            .with("eps", format!("{eps:?}"))
            .flag("weight", *weight)
            .flag("bias", *bias),
        Op::MatMul { transpose_b } => a.flag("transpose_b", *transpose_b),
        Op::Conv { stride, padding, dilation, groups, bias } => a
            .with("stride", list(stride))
            .with("padding", pairs(padding))
            .with("dilation", list(dilation))
            .with("groups", groups)
            .flag("bias", *bias),
        Op::ConvTranspose { stride, padding, output_padding, dilation, groups, bias } => a
            .with("stride", list(stride))
            .with("padding", list(padding))
            .with("output_padding", list(output_padding))
            .with("dilation", list(dilation))
            .with("groups", groups)
            .flag("bias", *bias),
        Op::Attention { scale, mask, position } => {
            let a = a.with("scale", format!("{scale:?}")).flag("mask", *mask);
            let Some(position) = position else { return a };
            let a = a.flag("causal", position.causal);
            let a = match position.window {
                Some(window) => a.with("window", window),
                None => a,
            };
            a.with("offset", &position.offset)
        }
        Op::Pool { op, kernel, stride, padding, dilation, count_include_pad } => a
            .with("op", if *op == ReduceOp::Max { "max" } else { "mean" })
            .with("kernel", list(kernel))
            .with("stride", list(stride))
            .with("padding", pairs(padding))
            .with("dilation", list(dilation))
            .flag("count_include_pad", *count_include_pad),
        Op::Upsample { mode, .. } => a.with(
            "mode",
            match mode {
                UpsampleMode::Nearest => "nearest",
                UpsampleMode::Linear { align_corners: false } => "linear",
                UpsampleMode::Linear { align_corners: true } => "linear_corners",
            },
        ),
        Op::IndexMulti { axes } => a.with("axes", list(axes)),
        Op::IndexCopy { axis, accumulate } | Op::Scatter { axis, accumulate } => {
            a.with("axis", axis).flag("accumulate", *accumulate)
        }
        Op::IndexPut { axes, accumulate } => {
            a.with("axes", list(axes)).flag("accumulate", *accumulate)
        }
        Op::SliceScatter { axis, start, step } => {
            a.with("axis", axis).with("start", start).with("step", step)
        }
        Op::Permute(perm) => a.with("perm", list(perm)),
        Op::Slice { axis, start, end, step } => {
            a.with("axis", axis).with("start", start).with("end", end).with("step", step)
        }
        Op::Flip(axes) => a.with("axes", list(axes)),
        Op::Pad { pads, mode } => {
            let a = a.with("pads", pairs::<Expr>(pads));
            match mode {
                PadMode::Constant(value) => a.with("value", format!("{value:?}")),
                PadMode::Reflect => a.flag("reflect", true),
                PadMode::Replicate => a.flag("replicate", true),
            }
        }
    }
}

/// `conv(stride: [2], padding: [(0, 0)], dilation: [1], groups: 1)`, without operands.
pub fn print_op(op: &Op) -> String {
    format!("{}({})", op_name(op), attributes(op).0.join(", "))
}

fn name_of(graph: &Graph, value: ValueId) -> &str {
    &graph.value(value).name
}

fn node_line(out: &mut String, graph: &Graph, node: &Node) {
    let results: Vec<String> =
        node.outputs.iter().map(|&v| format!("%{}", name_of(graph, v))).collect();
    let types: Vec<String> = node.outputs.iter().map(|&v| type_text(graph.ty(v))).collect();
    let mut arguments: Vec<String> =
        node.inputs.iter().map(|&v| format!("%{}", name_of(graph, v))).collect();
    arguments.extend(attributes(&node.op).0);
    let (results, arguments, types) = (results.join(", "), arguments.join(", "), types.join(", "));
    let _ = write!(out, "  {results} = {}({arguments}): {types}", op_name(&node.op));
    let origin = &node.origin;
    if !origin.node.is_empty() || !origin.module.is_empty() || !origin.source.is_empty() {
        out.push_str(" @");
        if node.outputs.first().is_none_or(|&v| name_of(graph, v) != origin.node) {
            let _ = write!(out, " {}", quote(&origin.node));
        }
        if !origin.module.is_empty() {
            let _ = write!(out, " in {}", quote(&origin.module));
        }
        if !origin.source.is_empty() {
            let _ = write!(out, " from {}", quote(&origin.source));
        }
    }
    out.push('\n');
}

/// The value's name, and the caller's name for it where that is another.
fn declared(graph: &Graph, value: ValueId, name: &str) -> String {
    let own = name_of(graph, value);
    if own == name { format!("%{own}") } else { format!("%{own} {}", quote(name)) }
}

fn input_line(out: &mut String, graph: &Graph, input: &Input) {
    let name = declared(graph, input.value, &input.name);
    let _ = writeln!(out, "  input {name}: {}", type_text(graph.ty(input.value)));
}

fn weight_line(out: &mut String, graph: &Graph, weight: &Weight) {
    let (ty, name) = (graph.ty(weight.value), declared(graph, weight.value, &weight.name));
    let data = match &weight.data {
        WeightData::Inline(bytes) => constant::print(ty.dtype, bytes.as_slice()),
        WeightData::Source(key) => format!("source {}", quote(key)),
        WeightData::Unbound => "unbound".to_owned(),
    };
    let mutable = if weight.mutable { "mutable " } else { "" };
    let _ = writeln!(out, "  {mutable}weight {name}: {} = {data}", type_text(ty));
}

/// The text form. Inline data above a few elements is written as a source named by its hash.
///
/// # Panics
/// If the graph has ids out of range; [`verify`](fn@crate::verify) finds those.
pub fn print(graph: &Graph) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "graph {} {{", quote(&graph.name));
    for (i, symbol) in graph.symbols.iter().enumerate() {
        let max = match symbol.range.max {
            i64::MAX => "inf".to_owned(),
            max => max.to_string(),
        };
        let name = quote(&symbol.name);
        let _ = writeln!(out, "  symbol s{i} {name}: {}..{max}", symbol.range.min);
    }
    for assumption in &graph.assumptions {
        let message = quote(&assumption.message);
        let _ = writeln!(out, "  assume {} >= 0: {message}", assumption.non_negative);
    }
    // Inputs and weights in the order of their values, as far as their own orders allow it.
    let (mut inputs, mut weights) = (graph.inputs.iter().peekable(), graph.weights.iter());
    for weight in weights.by_ref() {
        while let Some(input) = inputs.next_if(|i| i.value < weight.value) {
            input_line(&mut out, graph, input);
        }
        weight_line(&mut out, graph, weight);
    }
    inputs.for_each(|input| input_line(&mut out, graph, input));
    graph.nodes.iter().for_each(|node| node_line(&mut out, graph, node));
    for output in &graph.outputs {
        let name = quote(&output.name);
        let _ = write!(out, "  output {name} = %{}", name_of(graph, output.value));
        let _ = match output.kind {
            OutputKind::User => writeln!(out),
            OutputKind::InputMutation(i) => writeln!(out, " updates input {i}"),
            OutputKind::BufferMutation(i) => writeln!(out, " updates weight {i}"),
        };
    }
    for (side, text) in [("inputs", &graph.signature.inputs), ("outputs", &graph.signature.outputs)]
    {
        if let Some(text) = text {
            let _ = writeln!(out, "  signature {side} {}", quote(text));
        }
    }
    out.push_str("}\n");
    out
}
