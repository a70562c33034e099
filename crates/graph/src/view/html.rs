//! One page for a browser: it loads nothing, and reads without scripts too.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Event, family, op_parts, type_text, walk};
use crate::ir::{Def, Graph, OutputKind, ValueId, WeightData};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A link to where the value is defined.
fn link(graph: &Graph, value: ValueId) -> String {
    let v = graph.value(value);
    let class = match v.def {
        Def::Weight(_) => "weight",
        Def::Input(_) => "input",
        Def::Node { .. } => "value",
    };
    let (name, ty) = (escape(&v.name), escape(&type_text(&v.ty)));
    format!("<a class=\"{class}\" href=\"#v{}\" title=\"{ty}\">{name}</a>", value.0)
}

fn row(out: &mut String, class: &str, anchors: &[ValueId], cells: [&str; 4]) {
    let anchors: String =
        anchors.iter().map(|v| format!("<span id=\"v{}\"></span>", v.0)).collect();
    let [name, what, ty, source] = cells;
    let _ = writeln!(
        out,
        "<div class=\"row {class}\">{anchors}<span class=\"name\">{name}</span><span class=\"what\">{what}</span><span class=\"type\">{ty}</span><span class=\"source\">{source}</span></div>"
    );
}

fn node_row(out: &mut String, graph: &Graph, index: usize) {
    let node = &graph.nodes[index];
    let join = |texts: Vec<String>| texts.join(", ");
    let names = join(node.outputs.iter().map(|&v| escape(&graph.value(v).name)).collect());
    let types = join(node.outputs.iter().map(|&v| escape(&type_text(graph.ty(v)))).collect());
    let operands = join(node.inputs.iter().map(|&v| link(graph, v)).collect());
    let (op, attributes) = op_parts(node);
    let what = format!("<b>{}</b>({operands}) <i>{}</i>", escape(&op), escape(&attributes));
    let mut source = escape(&node.origin.source);
    if !node.origin.node.is_empty() {
        source = format!("<span title=\"{}\">{source}</span>", escape(&node.origin.node));
    }
    row(out, family(node), &node.outputs, [&names, &what, &types, &source]);
}

/// `1.2 M`.
fn amount(n: i64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} G", n as f64 / 1e9),
        1_000_000.. => format!("{:.2} M", n as f64 / 1e6),
        10_000.. => format!("{:.1} k", n as f64 / 1e3),
        _ => n.to_string(),
    }
}

fn section(out: &mut String, title: &str, count: usize, open: bool, rows: &str) {
    let open = if open { " open" } else { "" };
    let _ = writeln!(
        out,
        "<details class=\"module\"{open}><summary>{title} <small>{count}</small></summary>\n{rows}</details>"
    );
}

/// The graph as a self-contained page: nodes in execution order, collapsible by module, searchable.
///
/// # Panics
/// If the graph has ids out of range; [`verify`](fn@crate::verify) finds those.
pub fn html(graph: &Graph) -> String {
    let title = escape(&graph.name);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>"
    );
    let parameters =
        graph.weights.iter().filter_map(|w| graph.ty(w.value).numel().as_const()).sum::<i64>();
    let _ = writeln!(
        out,
        "<header><h1>{title}</h1><p>{} nodes, {} inputs, {} outputs, {} weights with {} elements</p>",
        graph.nodes.len(),
        graph.inputs.len(),
        graph.outputs.len(),
        graph.weights.len(),
        amount(parameters)
    );
    let mut ops: BTreeMap<String, usize> = BTreeMap::new();
    graph.nodes.iter().for_each(|n| *ops.entry(op_parts(n).0).or_default() += 1);
    let mut ops: Vec<_> = ops.into_iter().collect();
    ops.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let ops: Vec<String> =
        ops.iter().map(|(op, n)| format!("<button>{}</button> {n}", escape(op))).collect();
    let _ = writeln!(out, "<p class=\"ops\">{}</p>", ops.join(" "));
    out.push_str("<p class=\"tools\"><input id=\"search\" type=\"search\" placeholder=\"name, op, shape, file...\" aria-label=\"Search\"> <button id=\"expand\">Expand all</button> <button id=\"collapse\">Collapse all</button> <span id=\"found\"></span></p></header>\n<main>\n");

    let mut rows = String::new();
    for symbol in &graph.symbols {
        let max = if symbol.range.max == i64::MAX {
            "unbounded".into()
        } else {
            symbol.range.max.to_string()
        };
        let range = format!("{} to {max}", symbol.range.min);
        row(&mut rows, "creation", &[], [&escape(&symbol.name), "size", &range, ""]);
    }
    for input in &graph.inputs {
        let ty = escape(&type_text(graph.ty(input.value)));
        row(&mut rows, "creation", &[input.value], [&escape(&input.name), "input", &ty, ""]);
    }
    section(&mut out, "Inputs", graph.inputs.len(), true, &rows);
    rows.clear();
    for weight in &graph.weights {
        let ty = escape(&type_text(graph.ty(weight.value)));
        let data = match &weight.data {
            WeightData::Inline(_) => "in the model",
            WeightData::Source(_) => "in a weight file",
            WeightData::Unbound => "not bound",
        };
        let kind = if weight.mutable { "state" } else { "weight" };
        row(&mut rows, "creation", &[weight.value], [&escape(&weight.name), kind, &ty, data]);
    }
    section(&mut out, "Weights", graph.weights.len(), false, &rows);

    for event in walk(graph) {
        match event {
            Event::Open(path, name) => {
                let _ = writeln!(
                    out,
                    "<details class=\"module\" open><summary title=\"{}\">{}</summary>",
                    escape(path),
                    escape(name)
                );
            }
            Event::Close => out.push_str("</details>\n"),
            Event::Node(i) => node_row(&mut out, graph, i),
        }
    }

    rows.clear();
    for output in &graph.outputs {
        let ty = escape(&type_text(graph.ty(output.value)));
        let kind = match output.kind {
            OutputKind::User => "output",
            OutputKind::InputMutation(_) => "new value of an input",
            OutputKind::BufferMutation(_) => "new value of a buffer",
        };
        let what = format!("{kind} {}", link(graph, output.value));
        row(&mut rows, "creation", &[], [&escape(&output.name), &what, &ty, ""]);
    }
    section(&mut out, "Outputs", graph.outputs.len(), true, &rows);
    let _ = writeln!(out, "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>");
    out
}
