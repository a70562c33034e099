//! The views hold every node and survive odd names.

use zeroforge_graph::text::parse;
use zeroforge_graph::view::{dot, html};

const GRAPH: &str = r##"graph "a <b> & \"c\"" {
  symbol s0 "batch": 1..8
  weight %w "fc.weight": f32[3, 3] = unbound
  input %x: f32[s0, 3]
  %y = matmul(%x, %w): f32[s0, 3] @ in "net.layers.0.fc" from "net.py:1"
  %z = relu(%y): f32[s0, 3] @ in "net.layers.0" from "net.py:2"
  %t = softmax(%z, axis: 1): f32[s0, 3] @ in "net.layers.1" from "<net>.py:3"
  %u = add(%t, %x): f32[s0, 3]
  output "u" = %u
}
"##;

#[test]
fn dot_has_every_node_edge_and_cluster() {
    let text = dot(&parse(GRAPH).unwrap());
    for part in [
        "digraph \"a <b> & \\\"c\\\"\" {",
        "n0 [fillcolor=",
        "matmul\\nfc.weight\\nf32 [s0, 3]",
        "n0 -> n1;",
        "i0 -> n3;",
        "n3 -> o0;",
        "label=\"layers\"",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert_eq!(text.matches("subgraph").count(), 5, "net, layers, 0, fc, 1:\n{text}");
    assert_eq!(text.matches('{').count(), text.matches('}').count());
}

#[test]
fn html_is_one_escaped_file() {
    let page = html(&parse(GRAPH).unwrap());
    for part in [
        "<title>a &lt;b&gt; &amp; &quot;c&quot;</title>",
        "4 nodes, 1 inputs, 1 outputs, 1 weights with 9 elements",
        "<summary title=\"net.layers.0.fc\">fc</summary>",
        "&lt;net&gt;.py:3",
        "href=\"#v0\"",
        "id=\"v0\"",
        "axis: 1",
    ] {
        assert!(page.contains(part), "`{part}` is not in\n{page}");
    }
    assert_eq!(page.matches("<details").count(), page.matches("</details>").count());
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page refers to `{outside}`");
    }
}
