//! Launches to time: f32 products of the sizes that models have, and skinny products that are bound by reading B.

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::gemm::tf32::Precision;
use zeroforge_kernels::gemm::{Element, Epilogue, Operand, Product, Weights, skinny, tf32};
use zeroforge_kernels::{Instance, Plan};

use crate::family::{Contents, Throughput};

/// SMs of the slice that tiles are chosen for.
const SMS: i64 = 60;

fn arguments([m, n, k]: [i64; 3], weights: Weights) -> Product {
    let constant = Expr::constant;
    let operand = |buffer: u32, row: i64| Operand {
        buffer,
        offset: constant(0),
        strides: [0, 0, row, 1].map(constant),
    };
    let b_row = match weights {
        Weights::Nk => k,
        Weights::Kn => n,
        Weights::Panels { columns } => k * i64::from(columns),
    };
    Product {
        batch: [constant(1), constant(1)],
        m: constant(m),
        n: constant(n),
        k: constant(k),
        a: operand(0, k),
        b: operand(1, b_row),
        c: operand(2, n),
        extra: Vec::new(),
    }
}

fn launch(
    name: String,
    [m, n, k]: [i64; 3],
    dtype: DType,
    instance: Instance,
    plan: Plan,
) -> Throughput {
    let size = dtype.size() as i64;
    Throughput {
        name,
        instance,
        plan,
        buffers: vec![
            Contents::Normal(dtype, (m * k) as usize, 1.0),
            Contents::Normal(dtype, (n * k) as usize, 1.0),
            Contents::Output((m * n * size) as usize),
        ],
        flops: 2.0 * (m * n) as f64 * k as f64,
        bytes: (size * (m * k + n * k + m * n)) as f64,
    }
}

/// Every kernel at sizes that fill a slice.
pub fn throughput() -> Vec<Throughput> {
    let panels = Weights::Panels { columns: 48 };
    let mut out = Vec::new();
    for size in [[4096, 4608, 4096], [1024, 1536, 384], [128, 1536, 576]] {
        let [m, n, k] = size;
        for weights in [Weights::Nk, panels] {
            for precision in [Precision::TwoTerms, Precision::Tf32] {
                let spec = tf32::Spec {
                    weights,
                    precision,
                    out: Element::F32,
                    epilogue: Epilogue::default(),
                };
                let tile = tf32::select(Some(1), Some(m), Some(n), Some(k), SMS);
                let args = arguments(size, weights);
                let (Ok(instance), Ok(plan)) =
                    (tf32::instance(&spec, &tile), tf32::plan(&spec, &tile, &args))
                else {
                    continue;
                };
                let name = format!("product/{precision:?} {weights:?}/f32 {m}x{n}x{k}");
                out.push(launch(name, size, DType::F32, instance, plan));
            }
        }
    }
    for size in [[1, 49_152, 576], [1, 12_288, 4096], [8, 12_288, 4096], [16, 12_288, 4096]] {
        let [m, n, k] = size;
        for (operands, dtype) in [(Element::F32, DType::F32), (Element::Bf16, DType::Bf16)] {
            for weights in [Weights::Nk, panels] {
                let spec = skinny::Spec {
                    operands,
                    out: operands,
                    weights,
                    epilogue: Epilogue::default(),
                };
                let args = arguments(size, weights);
                let made =
                    skinny::select(&spec, Some(1), m, Some(n), Some(k), SMS).and_then(|tile| {
                        Ok((skinny::instance(&spec, &tile)?, skinny::plan(&spec, &tile, &args)?))
                    });
                let Ok((instance, plan)) = made else { continue };
                let name = format!("product/skinny {weights:?}/{dtype} {m}x{n}x{k}");
                out.push(launch(name, size, dtype, instance, plan));
            }
        }
    }
    out
}
