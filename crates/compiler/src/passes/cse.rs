//! Equal operations on equal operands are computed once. Every op is a pure function, so this is
//! exact.

use std::collections::HashMap;

use zeroforge_graph::ir::WeightStore;
use zeroforge_graph::{Graph, ValueId};

use super::Result;
use super::rewrite::rewrite;

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    // By text, because floats among the attributes have no equality that suits; text keeps -0 and 0
    // apart.
    let mut seen: HashMap<(String, Vec<ValueId>), Vec<ValueId>> = HashMap::new();
    rewrite("cse", graph, |r, _, node| {
        let inputs = node.inputs.iter().map(|&v| r.get(v)).collect();
        let key = (format!("{:?}", node.op), inputs);
        if let Some(outputs) = seen.get(&key) {
            return Ok(Some(outputs.iter().map(|&v| r.get(v)).collect()));
        }
        seen.insert(key, node.outputs.clone());
        Ok(None)
    })
}
