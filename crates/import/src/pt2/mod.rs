//! The contents of a torch.export archive as data: graph, signature, weight tables, expressions.

pub(crate) mod expression;
pub(crate) mod schema;
