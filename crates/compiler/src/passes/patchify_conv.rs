//! Convolutions that cut an image into patches become matrix products.
//!
//! With a stride of the kernel's size, no padding, no dilation and one group, every input element
//! belongs to one patch: the patches are a reshape and a permutation of the image, and their product
//! with the filters is one large matrix product. Equal but for rounding.

use zeroforge_artifact::Expr;
use zeroforge_graph::ir::WeightStore;
use zeroforge_graph::op::BinaryOp;
use zeroforge_graph::{Graph, Op, ValueId};

use super::Result;
use super::rewrite::{Rewriter, rewrite};

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    rewrite("patchify_conv", graph, |r, _, node| {
        let Op::Conv { stride, padding, dilation, groups: 1, bias } = &node.op else {
            return Ok(None);
        };
        let kernel: Option<Vec<i64>> =
            graph.ty(node.inputs[1]).shape[2..].iter().map(Expr::as_const).collect();
        let Some(kernel) = kernel else { return Ok(None) };
        let sizes = &graph.ty(node.inputs[0]).shape[2..];
        let patches = kernel.iter().zip(stride).all(|(&k, &s)| k == s as i64)
            && padding.iter().all(|p| *p == (0, 0))
            && dilation.iter().all(|d| *d == 1)
            && sizes.iter().zip(&kernel).all(|(n, &k)| n.modulo(&Expr::constant(k)).is(0));
        // A 1x1 convolution reads the image as it is already.
        if !patches || kernel.iter().all(|&k| k == 1) {
            return Ok(None);
        }
        let bias = bias.then(|| node.inputs[2]);
        let operands = (node.inputs[0], node.inputs[1], bias);
        build(r, operands, &kernel, node.outputs[0]).map(|v| Some(vec![v]))
    })
}

fn build(
    r: &mut Rewriter<'_>,
    (x, w, bias): (ValueId, ValueId, Option<ValueId>),
    kernel: &[i64],
    output: ValueId,
) -> Result<ValueId> {
    let spatial = kernel.len();
    let (x, w) = (r.get(x), r.get(w));
    let shape = r.ty(x).shape.clone();
    let out = r.old.ty(output).shape.clone();
    let filters = out[1].clone();
    let taps = Expr::product(&r.ty(w).shape[1..]);
    let positions = Expr::product(&out[2..]);
    // [N, C, y, ky, x, kx]
    let mut split = shape[..2].to_vec();
    for (n, &k) in out[2..].iter().zip(kernel) {
        split.extend([n.clone(), Expr::constant(k)]);
    }
    let cut = r.reshape(x, &split)?;
    // [N, y, x, C, ky, kx]
    let mut perm = vec![0];
    perm.extend((0..spatial).map(|i| 2 + 2 * i));
    perm.push(1);
    perm.extend((0..spatial).map(|i| 3 + 2 * i));
    let patches = r.emit(Op::Permute(perm), &[cut])?;
    let patches = r.reshape(patches, &[shape[0].clone(), positions, taps.clone()])?;
    let w = r.reshape(w, &[filters.clone(), taps])?;
    let mut product = r.emit(Op::MatMul { transpose_b: true }, &[patches, w])?;
    if let Some(bias) = bias {
        let bias = r.get(bias);
        product = r.emit(Op::Binary(BinaryOp::Add), &[product, bias])?;
    }
    // [N, positions, O] to [N, O, positions]
    let product = r.emit(Op::Permute(vec![0, 2, 1]), &[product])?;
    r.reshape(product, &out)
}
