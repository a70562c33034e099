//! Arguments outside of a kernel's contract.

/// What a kernel does not accept, by the name of the argument and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kernel}: `{argument}` {rule}")]
pub struct Refusal {
    /// The kernel or family.
    pub kernel: String,
    /// The argument.
    pub argument: String,
    /// What it is, what is allowed, and what to do, as the end of a sentence.
    pub rule: String,
}

impl Refusal {
    /// `kernel`: `argument` `rule`.
    pub fn new(kernel: &str, argument: &str, rule: impl Into<String>) -> Refusal {
        Refusal { kernel: kernel.to_owned(), argument: argument.to_owned(), rule: rule.into() }
    }
}
