//! Rewriting of graphs before they are lowered.
//!
//! Each pass reads one graph and builds another (`rewrite.rs`). A recogniser replaces what it can
//! prove equal and leaves everything else alone; each file says whether its pass is exact or equal
//! but for rounding. The order is fixed: structure first, while the graph still looks as the
//! exporter wrote it; constants last, when only needed ones are left.

mod affine;
mod constant_fold;
mod cse;
mod dce;
mod patchify_conv;
mod recognize_attention;
mod recognize_gqa;
mod recognize_mask;
mod recognize_norm;
mod rewrite;
mod simplify;

use zeroforge_graph::ir::WeightStore;
use zeroforge_graph::{Graph, GraphError, VerifyError, verify};

/// Why a pass failed. Both cases are faults of this compiler: a pass never refuses a valid graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PassError {
    /// A pass built a node that is not valid.
    #[error("pass `{pass}`: {source}; please report this")]
    Node {
        /// The pass.
        pass: &'static str,
        /// The node.
        source: Box<GraphError>,
    },
    /// The graph after a pass breaks a rule.
    #[error("pass `{pass}` made a graph that is not valid: {source}; please report this")]
    Graph {
        /// The pass.
        pass: &'static str,
        /// The rule.
        source: Box<VerifyError>,
    },
    /// A pass replaced a value by one of another type.
    #[error("pass `{pass}` changed the type of `%{value}`; please report this")]
    Type {
        /// The pass.
        pass: &'static str,
        /// The value.
        value: String,
    },
}

type Result<T> = std::result::Result<T, PassError>;

/// A pass by name, so that tests can run one alone.
#[derive(Clone, Copy)]
pub struct Pass {
    /// The name of its file.
    pub name: &'static str,
    run: fn(&Graph, Option<&dyn WeightStore>) -> Result<Graph>,
}

impl Pass {
    /// Rewrites a verified graph; `store` holds the weights that are not inline, where it is known.
    pub fn run(&self, graph: &Graph, store: Option<&dyn WeightStore>) -> Result<Graph> {
        (self.run)(graph, store)
    }
}

/// The passes in the order in which they run; some run more than once.
pub const PIPELINE: [Pass; 13] = [
    Pass { name: "simplify", run: simplify::run },
    Pass { name: "cse", run: cse::run },
    Pass { name: "recognize_attention", run: recognize_attention::run },
    Pass { name: "recognize_mask", run: recognize_mask::run },
    // What a recogniser leaves behind is often one step from its plainest form.
    Pass { name: "simplify", run: simplify::run },
    Pass { name: "recognize_gqa", run: recognize_gqa::run },
    Pass { name: "recognize_norm", run: recognize_norm::run },
    Pass { name: "patchify_conv", run: patchify_conv::run },
    Pass { name: "constant_fold", run: constant_fold::run },
    Pass { name: "simplify", run: simplify::run },
    Pass { name: "simplify", run: simplify::run },
    Pass { name: "cse", run: cse::run },
    Pass { name: "dce", run: dce::run },
];

/// Runs every pass. The result computes what `graph` computes, from the same inputs, under the same
/// names of inputs and outputs.
pub fn optimize(graph: &Graph, store: Option<&dyn WeightStore>) -> Result<Graph> {
    let mut current: Option<Graph> = None;
    for pass in PIPELINE {
        let before = current.as_ref().unwrap_or(graph);
        let after = pass.run(before, store)?;
        tracing::debug!(pass = pass.name, before = before.nodes.len(), after = after.nodes.len());
        verify(&after).map_err(|e| PassError::Graph { pass: pass.name, source: Box::new(e) })?;
        current = Some(after);
    }
    Ok(current.unwrap_or_else(|| graph.clone()))
}
