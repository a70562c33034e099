//! Launches of these kernels that are large enough to time.

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::rows::{
    Array, Norm, NormArgs, NormKind, Rows, Sample, SampleArgs, TopK, TopKArgs, norm, sample, top_k,
};
use zeroforge_kernels::{Instance, Plan, Refusal};

use crate::family::{Contents, Throughput};

fn rows(buffer: u32, stride: i64) -> Rows {
    Rows { buffer, offset: Expr::constant(0), stride: Expr::constant(stride) }
}

fn array(buffer: u32) -> Array {
    Array { buffer, offset: Expr::constant(0) }
}

fn norms(count: i64, width: i64) -> Result<Throughput, Refusal> {
    let dtype = DType::Bf16;
    let spec =
        Norm { kind: NormKind::Rms, dtype, weight_dtype: dtype, width, eps: 1e-6, quantise: None };
    let args = NormArgs {
        rows: Expr::constant(count),
        x: rows(0, width),
        residual: Some(rows(1, width)),
        sum: Some(rows(2, width)),
        weight: Some(array(3)),
        bias: None,
        out: rows(4, width),
        scales: None,
    };
    let (instance, plan) = norm(spec, &args)?;
    let elements = (count * width) as usize;
    let normal = Contents::Normal(dtype, elements, 1.0);
    let weight = Contents::Normal(dtype, width as usize, 1.0);
    let output = Contents::Output(2 * elements);
    let buffers = vec![normal.clone(), normal, output.clone(), weight, output];
    let name = format!("rows/add_rms_norm/{count}x{width}");
    Ok(launch(name, (instance, plan), buffers, (4 * elements + width as usize) * 2))
}

fn launch(
    name: String,
    (instance, plan): (Instance, Plan),
    buffers: Vec<Contents>,
    bytes: usize,
) -> Throughput {
    Throughput { name, instance, plan, buffers, flops: 0.0, bytes: bytes as f64 }
}

fn selections(count: i64, length: i64) -> Result<[Throughput; 2], Refusal> {
    let dtype = DType::Bf16;
    let elements = (count * length) as usize;
    let logits = Contents::Normal(dtype, elements, 3.0);
    let k = 50;
    let args = TopKArgs {
        rows: Expr::constant(count),
        length: Expr::constant(length),
        x: rows(0, length),
        values: rows(1, k),
        indices: rows(2, k),
    };
    let outputs = (count * k) as usize;
    let buffers =
        vec![logits.clone(), Contents::Output(2 * outputs), Contents::Output(8 * outputs)];
    let best = launch(
        format!("rows/top_k_{k}/{count}x{length}"),
        top_k(TopK { dtype, k }, &args)?,
        buffers,
        2 * elements + 10 * outputs,
    );
    let spec = Sample { dtype, temperature: 0.8, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let args = SampleArgs {
        rows: Expr::constant(count),
        length: Expr::constant(length),
        logits: rows(0, length),
        tokens: array(1),
        seed: Expr::constant(1),
        offset: Expr::constant(0),
    };
    let buffers = vec![logits, Contents::Output(8 * count as usize)];
    let name = format!("rows/sample/{count}x{length}");
    Ok([best, launch(name, sample(spec, &args)?, buffers, 2 * elements + 8 * count as usize)])
}

/// A norm with a residual, and selections from a vocabulary.
///
/// # Panics
/// If a contract refuses its own launches.
pub fn throughput() -> Vec<Throughput> {
    let accepted = "these arguments are within the contracts, see the test";
    let mut all: Vec<Throughput> = [(4096, 4096), (16_384, 1024)]
        .into_iter()
        .map(|(count, width)| norms(count, width).expect(accepted))
        .collect();
    for (count, length) in [(1, 131_072), (64, 131_072)] {
        all.extend(selections(count, length).expect(accepted));
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn launches_have_a_buffer_per_operand() {
        for launch in super::throughput() {
            assert!(launch.bytes > 0.0 && launch.buffers.len() >= 2, "{}", launch.name);
        }
    }
}
