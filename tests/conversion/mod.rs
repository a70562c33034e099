//! Tensors of the runtime as the interpreter holds them, and back.

use libtest_mimic::Failed;
use zeroforge_graph::interpret;
use zeroforge_runtime::Tensor;

/// As the interpreter holds it.
pub(crate) fn into_interpreter(tensor: &Tensor) -> Result<interpret::Tensor, Failed> {
    let shape: Vec<usize> = tensor.shape().iter().map(|&n| n as usize).collect();
    let converted = interpret::Tensor::from_bytes(tensor.dtype(), &shape, tensor.bytes());
    converted.ok_or_else(|| "a stored tensor is inconsistent".into())
}

/// As the runtime holds it.
pub(crate) fn from_interpreter(tensor: &interpret::Tensor) -> Result<Tensor, Failed> {
    let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::from_bytes(tensor.dtype, &shape, &tensor.to_bytes())?)
}
