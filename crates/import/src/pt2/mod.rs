//! The contents of a torch.export archive as data: graph, signature, weight tables, expressions.

pub(crate) mod expression;
#[expect(dead_code, reason = "the format as it is; unread payloads show up in messages")]
pub(crate) mod schema;
