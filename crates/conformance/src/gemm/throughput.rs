//! Products large enough to time.

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::gemm::{
    Arguments, COUNTER_BYTES, Element, Operand, Spec, Store, instance, plan, variants,
};

use crate::family::{Contents, Throughput};

/// Every variant that computes a plain bf16 product, at 4096 and at the projections of a 4096-wide model.
pub fn throughput() -> Vec<Throughput> {
    let spec = Spec { store: Store::Copies, ..Spec::new(Element::Bf16, Element::Bf16) };
    let mut out = Vec::new();
    for variant in variants() {
        for (m, n, k) in [(4096, 4096, 4096), (2048, 12288, 4096), (512, 4096, 14336)] {
            let constant = Expr::constant;
            let view = |buffer: u32, row: i64| Operand {
                buffer,
                offset: constant(0),
                strides: [0, 0, row, 1].map(constant),
            };
            let arguments = Arguments {
                batch: [constant(1), constant(1)],
                m: constant(m),
                n: constant(n),
                k: constant(k),
                a: view(0, k),
                b: view(1, k),
                c: view(2, n),
                extra: Vec::new(),
                scales: None,
                row_squares: None,
                groups: None,
                images: None,
                split: variant.split.then_some([3, 4]),
            };
            let (Ok(instance), Ok(plan)) =
                (instance(&spec, variant), plan(&spec, variant, &arguments))
            else {
                continue;
            };
            let mut buffers = vec![
                Contents::Normal(DType::Bf16, (m * k) as usize, 1.0),
                Contents::Normal(DType::Bf16, (n * k) as usize, 1.0),
                Contents::Output((m * n * 2) as usize),
            ];
            if variant.split {
                buffers.push(Contents::Output(plan.workspace.eval(&[]).unwrap_or(0) as usize));
                buffers.push(Contents::Bytes(vec![0; COUNTER_BYTES as usize]));
            }
            out.push(Throughput {
                name: format!("gemm/{}/bf16 {m}x{n}x{k}", variant.name),
                instance,
                plan,
                buffers,
                flops: 2.0 * (m * n) as f64 * k as f64,
                bytes: 2.0 * (m * k + n * k + m * n) as f64,
            });
        }
    }
    out
}
