//! Drops nodes and weights that no output depends on. Inputs stay: they are the calling convention.

use zeroforge_graph::Graph;
use zeroforge_graph::ir::WeightStore;

use super::Result;
use super::rewrite::rewrite;

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    rewrite("dce", graph, |_, _, _| Ok(None))
}
