//! Checks single operators of zeroforge against libtorch.
//!
//! [`check`] builds a graph of one node, compiles it for this machine, runs it and compares every
//! element with what libtorch computed. Operands are arguments or weights, so both the plain and
//! the packed paths of the compiler are met.

use anyhow::{Context, Result, bail, ensure};
use tch::{Kind, Tensor};
use zeroforge_artifact::{CpuIsa, DType, Expr, Target};
use zeroforge_compiler::pipeline::{CompileOptions, compile};
use zeroforge_graph::ir::{Bytes, Origin, Output, OutputKind, TensorType, WeightData, WeightStore};
use zeroforge_graph::{Graph, Op, ValueId};
use zeroforge_runtime::{Model, OpenOptions, Session, SessionOptions};

/// How an operand reaches the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Given at each call.
    Argument,
    /// Known at compile time.
    Weight,
}

/// Largest difference allowed, relative to the largest expected magnitude.
pub fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::Half => 2e-3,
        Kind::BFloat16 => 1.6e-2,
        Kind::Double => 1e-10,
        _ => 2e-5,
    }
}

struct NoStore;

impl WeightStore for NoStore {
    fn bytes(&self, key: &str) -> Result<Bytes, String> {
        Err(format!("there is no weight file, and `{key}` was asked of it"))
    }
}

fn dtype(kind: Kind) -> Result<DType> {
    Ok(match kind {
        Kind::Bool => DType::Bool,
        Kind::Uint8 => DType::U8,
        Kind::Int => DType::I32,
        Kind::Int64 => DType::I64,
        Kind::Half => DType::F16,
        Kind::BFloat16 => DType::Bf16,
        Kind::Float => DType::F32,
        Kind::Double => DType::F64,
        other => bail!("no element type for {other:?}"),
    })
}

/// Row-major bytes of a tensor.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

fn to_f64(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1]))?)
}

/// Runs a graph of one `op` on the operands and compares with `expected`.
pub fn check(op: Op, operands: &[(&Tensor, Place)], expected: &Tensor) -> Result<()> {
    check_graph(
        operands,
        |graph, values| {
            let origin = Origin { node: "op".to_owned(), ..Origin::default() };
            Ok(graph.push(op.clone(), values, origin)?[0])
        },
        expected,
    )
    .with_context(|| format!("{op:?} on {operands:?}"))
}

/// Runs the graph that `build` makes of the operands and compares with `expected`.
pub fn check_graph(
    operands: &[(&Tensor, Place)],
    build: impl Fn(&mut Graph, &[ValueId]) -> Result<ValueId>,
    expected: &Tensor,
) -> Result<()> {
    let mut graph = Graph { name: "oracle".to_owned(), ..Graph::default() };
    let mut values = Vec::new();
    let mut arguments = Vec::new();
    for (i, (tensor, place)) in operands.iter().enumerate() {
        let shape = tensor.size().into_iter().map(Expr::from).collect();
        let ty = TensorType::new(dtype(tensor.kind())?, shape);
        let name = format!("x{i}");
        values.push(match place {
            Place::Argument => {
                let value = zeroforge_runtime::Tensor::from_bytes(
                    ty.dtype,
                    &tensor.size(),
                    &bytes(tensor),
                )?;
                arguments.push((name.clone(), value));
                graph.add_input(&name, ty)
            }
            Place::Weight => {
                graph.add_weight(&name, ty, WeightData::Inline(Bytes::new(bytes(tensor))))
            }
        });
    }
    let value = build(&mut graph, &values)?;
    graph.outputs.push(Output { name: "y".to_owned(), value, kind: OutputKind::User });

    let isa = if zeroforge_runtime::host_has(CpuIsa::X86_64V4) {
        CpuIsa::X86_64V4
    } else {
        CpuIsa::X86_64V3
    };
    let options = CompileOptions {
        targets: vec![Target::Cpu { isa }],
        model_hash: String::new(),
        external_weights: false,
        sms: None,
        cache: zeroforge_compiler::cache::Cache::none(),
    };
    let artifact = compile(&graph, &NoStore, &options, &|_| {})?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("oracle.zfa");
    artifact.write_atomically(&path)?;
    let model = Model::open(&path, &OpenOptions::default())?;
    let mut session =
        Session::cpu(&model, SessionOptions { threads: Some(2), ..SessionOptions::default() })?;
    let outputs = session.run(arguments)?;
    compare(&outputs[0].1, expected)
}

fn compare(ours: &zeroforge_runtime::Tensor, expected: &Tensor) -> Result<()> {
    ensure!(
        ours.shape() == expected.size() && ours.dtype() == dtype(expected.kind())?,
        "result is {} {:?}, torch has {:?} {:?}",
        ours.dtype(),
        ours.shape(),
        expected.kind(),
        expected.size()
    );
    let (ours, theirs) = (ours.to_f64(), to_f64(expected)?);
    let scale = theirs.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
    let allowed =
        if expected.is_floating_point() { tolerance(expected.kind()) * scale } else { 0.0 };
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= allowed;
        ensure!(same, "element {i}: {a}, torch has {b} (allowed difference {allowed:e})");
    }
    Ok(())
}
