//! Attention large enough to time: the lengths of FlashAttention-3's figures (16k tokens in all, hidden size 2048).

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::attention::{Element, Forward, Operands, Sizes, View};

use crate::family::{Contents, Throughput};

/// Tokens of a launch over all sequences.
const TOKENS: i64 = 16_384;
/// Columns of all heads.
const HIDDEN: i64 = 2048;

/// bf16, head dimensions 64, 128 and 256, full and causal, from 512 to 16k tokens a sequence.
pub fn throughput() -> Vec<Throughput> {
    let mut out = Vec::new();
    for dim in [64, 128, 256] {
        for causal in [false, true] {
            for length in [512, 1024, 2048, 4096, 8192, 16_384] {
                out.extend(launch(dim, causal, length));
            }
        }
    }
    out
}

/// `None` if the contract refuses it, which tests of the contract would show.
fn launch(dim: i64, causal: bool, length: i64) -> Option<Throughput> {
    let (batch, heads) = (TOKENS / length, HIDDEN / dim);
    let d = u32::try_from(dim).ok()?;
    let spec = Forward { window_right: causal, ..Forward::dense(Element::Bf16, d, d) };
    let constant = Expr::constant;
    // [batch, length, heads, dim], as models have them.
    let view = |buffer: u32| View {
        buffer,
        offset: constant(0),
        strides: [length * HIDDEN, dim, HIDDEN, 1].map(constant),
    };
    let sizes = Sizes::dense(
        constant(batch),
        constant(heads),
        constant(heads),
        constant(length),
        constant(length),
        1.0 / (dim as f32).sqrt(),
    );
    let operands = Operands {
        q: view(0),
        k: view(1),
        v: view(2),
        o: view(3),
        lse: None,
        mask: None,
        slopes: None,
        sinks: None,
        queries: None,
        keys: None,
        descales: None,
    };
    let instance = spec.instance().ok()?;
    let plan = spec.plan(&sizes, &operands).ok()?;
    let elements = TOKENS * HIDDEN;
    let drawn = || Contents::Normal(DType::Bf16, elements as usize, 1.0);
    let mask = if causal { "causal" } else { "full" };
    let products = 4.0 * (TOKENS * length) as f64 * HIDDEN as f64;
    Some(Throughput {
        name: format!(
            "attention/bf16_d{dim}_{mask}/b{batch}_h{heads}_kv{heads}_q{length}_k{length}"
        ),
        instance,
        plan,
        buffers: vec![drawn(), drawn(), drawn(), Contents::Output(2 * elements as usize)],
        flops: if causal { products / 2.0 } else { products },
        bytes: 8.0 * elements as f64,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_refused() {
        assert_eq!(super::throughput().len(), 36);
    }
}
