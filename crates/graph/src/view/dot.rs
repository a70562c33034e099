//! Graphviz.

use std::fmt::Write;

use super::{Event, family, op_parts, type_text, walk};
use crate::ir::{Def, Graph, ValueId};

fn colour(family: &str) -> &'static str {
    match family {
        "contraction" => "#f4b183",
        "reduction" => "#c5b3e6",
        "indexing" => "#f7d774",
        "pointwise" => "#a9d08e",
        "layout" => "#d9d9d9",
        _ => "#bdd7ee",
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn id_of(graph: &Graph, value: ValueId) -> String {
    match graph.value(value).def {
        Def::Node { node, .. } => format!("n{}", node.0),
        Def::Input(i) => format!("i{i}"),
        Def::Weight(i) => format!("w{i}"),
    }
}

/// The graph in Graphviz's language, modules as clusters. Weights are named inside the nodes that
/// read them.
///
/// # Panics
/// If the graph has ids out of range; [`verify`](fn@crate::verify) finds those.
pub fn dot(graph: &Graph) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quote(&graph.name));
    out.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=10, color=\"#666666\"];\n");
    out.push_str("  edge [fontname=\"Helvetica\", fontsize=8, color=\"#666666\"];\n");
    for (i, input) in graph.inputs.iter().enumerate() {
        let label = format!("{}\n{}", input.name, type_text(graph.ty(input.value)));
        let _ = writeln!(
            out,
            "  i{i} [shape=ellipse, fillcolor=\"#ffffff\", label={}];",
            quote(&label)
        );
    }
    let mut depth = 1;
    let mut clusters = 0;
    for event in walk(graph) {
        let indent = "  ".repeat(depth);
        match event {
            Event::Open(path, name) => {
                let _ = writeln!(out, "{indent}subgraph cluster_{clusters} {{");
                let (name, path) = (quote(name), quote(path));
                let _ = writeln!(
                    out,
                    "{indent}  label={name}; tooltip={path}; fontname=\"Helvetica\"; fontsize=10; color=\"#999999\"; style=rounded;"
                );
                clusters += 1;
                depth += 1;
            }
            Event::Close => {
                depth -= 1;
                let _ = writeln!(out, "{}}}", "  ".repeat(depth));
            }
            Event::Node(i) => {
                let node = &graph.nodes[i];
                let (op, attributes) = op_parts(node);
                let mut label = op;
                for v in &node.inputs {
                    if let Def::Weight(w) = graph.value(*v).def {
                        label.push('\n');
                        label.push_str(&graph.weights[w as usize].name);
                    }
                }
                if let Some(&result) = node.outputs.first() {
                    label.push('\n');
                    label.push_str(&type_text(graph.ty(result)));
                }
                let tooltip = format!("{} {attributes} {}", node.origin.node, node.origin.source);
                let _ = writeln!(
                    out,
                    "{indent}n{i} [fillcolor=\"{}\", label={}, tooltip={}];",
                    colour(family(node)),
                    quote(&label),
                    quote(tooltip.trim())
                );
            }
        }
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        for &v in &node.inputs {
            if !matches!(graph.value(v).def, Def::Weight(_)) {
                let _ = writeln!(out, "  {} -> n{i};", id_of(graph, v));
            }
        }
    }
    for (i, output) in graph.outputs.iter().enumerate() {
        let _ = writeln!(
            out,
            "  o{i} [shape=ellipse, fillcolor=\"#ffffff\", label={}];",
            quote(&output.name)
        );
        if let Def::Weight(w) = graph.value(output.value).def {
            let name = quote(&graph.weights[w as usize].name);
            let _ = writeln!(out, "  w{w} [fillcolor=\"#ffffff\", label={name}];");
        }
        let _ = writeln!(out, "  {} -> o{i};", id_of(graph, output.value));
    }
    out.push_str("}\n");
    out
}
