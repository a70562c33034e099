//! Every imported fixture and example model as text and back.

use std::path::{Path, PathBuf};

use zeroforge_graph::Graph;
use zeroforge_graph::ir::WeightData;
use zeroforge_graph::text::{parse, print};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};

fn archives() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["tests/fixtures", "examples/models"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder of archives");
        paths.extend(entries.map(|e| e.expect("an entry").path()));
    }
    paths.retain(|p| p.extension().is_some_and(|e| e == "pt2"));
    paths.sort();
    paths
}

/// The graph with inline data as the text form keeps it.
fn without_long_data(mut graph: Graph, read: &Graph) -> Graph {
    for (weight, read) in graph.weights.iter_mut().zip(&read.weights) {
        if let (WeightData::Inline(bytes), WeightData::Source(key)) = (&weight.data, &read.data) {
            let hash = blake3::hash(bytes.as_slice()).to_hex();
            assert_eq!(*key, format!("blake3:{hash}:{}", bytes.as_slice().len()));
            weight.data = read.data.clone();
        }
    }
    graph
}

#[test]
fn imported_graphs_read_back() {
    let mut count = 0;
    for path in archives() {
        // What cannot be imported is the subject of other tests.
        let Ok(imported) = load_pt2(&path, &WeightFiles::none(), &ImportOptions::default()) else {
            continue;
        };
        count += 1;
        let name = path.display();
        let text = print(&imported.graph);
        let graph = parse(&text).unwrap_or_else(|e| panic!("{name}:{e}"));
        assert_eq!(print(&graph), text, "{name}");
        assert!(without_long_data(imported.graph, &graph) == graph, "{name} changed");
    }
    assert!(count > 60, "only {count} archives were read");
}
