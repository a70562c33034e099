//! Graphs to look at: Graphviz ([`dot`]) and a page for a browser ([`html`]).

mod dot;
mod html;

use crate::infer::format_shape;
use crate::ir::{Graph, Node, TensorType};
use crate::text::print_op;

pub use dot::dot;
pub use html::html;

/// Operations as the views colour them.
fn family(node: &Node) -> &'static str {
    use crate::op::Op;
    match &node.op {
        Op::Full { .. } | Op::FullInt { .. } | Op::Iota { .. } => "creation",
        Op::Unary(_) | Op::Binary(_) | Op::Where | Op::Cast(_) => "pointwise",
        Op::Reduce { .. }
        | Op::CumSum { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::TopK { .. }
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. }
        | Op::GroupNorm { .. } => "reduction",
        Op::MatMul { .. }
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::Attention { .. }
        | Op::Pool { .. }
        | Op::AdaptiveAvgPool { .. }
        | Op::Upsample { .. } => "contraction",
        Op::IndexSelect { .. }
        | Op::Gather { .. }
        | Op::IndexMulti { .. }
        | Op::IndexCopy { .. }
        | Op::IndexPut { .. }
        | Op::Scatter { .. }
        | Op::SliceScatter { .. } => "indexing",
        Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Flip(_)
        | Op::Concat { .. }
        | Op::Pad { .. } => "layout",
    }
}

fn type_text(ty: &TensorType) -> String {
    format!("{} {}", ty.dtype, format_shape(&ty.shape))
}

/// Name and attributes of an op, the latter empty where there are none.
fn op_parts(node: &Node) -> (String, String) {
    let text = print_op(&node.op);
    match text.split_once('(') {
        Some((name, attributes)) => {
            (name.to_owned(), attributes.strip_suffix(')').unwrap_or(attributes).to_owned())
        }
        None => (text, String::new()),
    }
}

/// A step through the nodes in execution order, by the modules that they belong to.
enum Event<'a> {
    /// A module begins; its full path and its last component.
    Open(&'a str, &'a str),
    /// A node of the module that is open.
    Node(usize),
    /// The innermost module ends.
    Close,
}

/// Nodes in execution order; a module that execution comes back to opens again.
fn walk(graph: &Graph) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let module = node.origin.module.as_str();
        let path: Vec<&str> = module.split('.').filter(|c| !c.is_empty()).collect();
        let common = open.iter().zip(&path).take_while(|(a, b)| a == b).count();
        (common..open.len()).for_each(|_| events.push(Event::Close));
        open.truncate(common);
        for component in &path[common..] {
            open.push(component);
            // The component is part of `module`, so the path up to its end is too.
            let end = component.as_ptr() as usize - module.as_ptr() as usize + component.len();
            events.push(Event::Open(&module[..end], component));
        }
        events.push(Event::Node(i));
    }
    open.iter().for_each(|_| events.push(Event::Close));
    events
}
