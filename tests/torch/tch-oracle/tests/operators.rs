//! One test per operator family; every test states torch's own call beside ours.

use anyhow::Result;
use tch::{Kind, Tensor};
use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::Op;
use zeroforge_graph::ir::Origin;
use zeroforge_graph::op::{BinaryOp, PadMode, PositionMask, ReduceOp, UnaryOp, UpsampleMode};
use zeroforge_tch_oracle::Place::{Argument, Weight};
use zeroforge_tch_oracle::{check, check_graph};

/// Seeded normal values.
fn randn(seed: i64, shape: &[i64]) -> Tensor {
    let _guard = SEED.lock().unwrap();
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, tch::Device::Cpu))
}

static SEED: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn sizes(shape: &[i64]) -> Vec<Expr> {
    shape.iter().map(|&n| Expr::from(n)).collect()
}

/// Collects every failure of a test, so that one run shows them all.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, what: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.0.push(format!("{what}: {error:#}"));
        }
    }
}

impl Drop for Failures {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} failures\n{}", self.0.len(), self.0.join("\n"));
        }
    }
}

#[test]
fn unary() {
    let mut failures = Failures::default();
    let x = randn(1, &[3, 37]) * 2.0;
    let positive = x.abs() + 0.1;
    type Case = (UnaryOp, fn(&Tensor) -> Tensor, bool);
    let cases: &[Case] = &[
        (UnaryOp::Neg, Tensor::neg, false),
        (UnaryOp::Abs, Tensor::abs, false),
        (UnaryOp::Sign, Tensor::sign, false),
        (UnaryOp::Exp, Tensor::exp, false),
        (UnaryOp::Expm1, Tensor::expm1, false),
        (UnaryOp::Log, Tensor::log, true),
        (UnaryOp::Log1p, Tensor::log1p, true),
        (UnaryOp::Sqrt, Tensor::sqrt, true),
        (UnaryOp::Rsqrt, Tensor::rsqrt, true),
        (UnaryOp::Recip, Tensor::reciprocal, true),
        (UnaryOp::Sin, Tensor::sin, false),
        (UnaryOp::Cos, Tensor::cos, false),
        (UnaryOp::Tanh, Tensor::tanh, false),
        (UnaryOp::Erf, Tensor::erf, false),
        (UnaryOp::Sigmoid, Tensor::sigmoid, false),
        (UnaryOp::Relu, Tensor::relu, false),
        (UnaryOp::Silu, Tensor::silu, false),
        (UnaryOp::Gelu, |t| t.gelu("none"), false),
        (UnaryOp::GeluTanh, |t| t.gelu("tanh"), false),
        (UnaryOp::Floor, Tensor::floor, false),
        (UnaryOp::Ceil, Tensor::ceil, false),
        (UnaryOp::Round, Tensor::round, false),
        (UnaryOp::Trunc, Tensor::trunc, false),
        (UnaryOp::IsNan, Tensor::isnan, false),
        (UnaryOp::IsInf, Tensor::isinf, false),
    ];
    for (op, torch, needs_positive) in cases {
        let x = if *needs_positive { &positive } else { &x };
        failures.note(&format!("{op:?}"), check(Op::Unary(*op), &[(x, Argument)], &torch(x)));
    }
}

#[test]
fn unary_extremes() {
    let mut failures = Failures::default();
    let x = Tensor::from_slice(&[
        0.0f32,
        -0.0,
        1e-30,
        -1e-30,
        1e30,
        -1e30,
        88.0,
        -88.0,
        104.0,
        -104.0,
        20.0,
        -20.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        0.5,
        1.5,
        2.5,
        -0.5,
        3.0e9,
    ]);
    type Case = (UnaryOp, fn(&Tensor) -> Tensor);
    let cases: &[Case] = &[
        (UnaryOp::Exp, Tensor::exp),
        (UnaryOp::Log, Tensor::log),
        (UnaryOp::Tanh, Tensor::tanh),
        (UnaryOp::Erf, Tensor::erf),
        (UnaryOp::Sigmoid, Tensor::sigmoid),
        (UnaryOp::Relu, Tensor::relu),
        (UnaryOp::Sqrt, Tensor::sqrt),
        (UnaryOp::Round, Tensor::round),
        (UnaryOp::Floor, Tensor::floor),
        (UnaryOp::Abs, Tensor::abs),
        (UnaryOp::IsNan, Tensor::isnan),
        (UnaryOp::IsInf, Tensor::isinf),
    ];
    for (op, torch) in cases {
        // One element at a time: a large result must not widen the tolerance of a small one.
        for i in 0..x.numel() as i64 {
            let one = x.narrow(0, i, 1).repeat([9]);
            let value = x.double_value(&[i]);
            failures.note(
                &format!("{op:?}({value})"),
                check(Op::Unary(*op), &[(&one, Argument)], &torch(&one)),
            );
        }
    }
}

#[test]
fn binary_broadcast() {
    let mut failures = Failures::default();
    let a = randn(2, &[4, 1, 19]);
    let b = randn(3, &[5, 1]);
    let positive = a.abs() + 0.2;
    let cases: Vec<(BinaryOp, &Tensor, Tensor)> = vec![
        (BinaryOp::Add, &a, &a + &b),
        (BinaryOp::Sub, &a, &a - &b),
        (BinaryOp::Mul, &a, &a * &b),
        (BinaryOp::Div, &a, &a / &b),
        (BinaryOp::FloorDiv, &a, a.floor_divide(&b)),
        (BinaryOp::Rem, &a, a.remainder_tensor(&b)),
        (BinaryOp::Fmod, &a, a.fmod_tensor(&b)),
        (BinaryOp::Pow, &positive, positive.pow(&b)),
        (BinaryOp::Min, &a, a.minimum(&b)),
        (BinaryOp::Max, &a, a.maximum(&b)),
        (BinaryOp::Atan2, &a, a.atan2(&b)),
        (BinaryOp::Eq, &a, a.eq_tensor(&b)),
        (BinaryOp::Ne, &a, a.ne_tensor(&b)),
        (BinaryOp::Lt, &a, a.lt_tensor(&b)),
        (BinaryOp::Le, &a, a.le_tensor(&b)),
        (BinaryOp::Gt, &a, a.gt_tensor(&b)),
        (BinaryOp::Ge, &a, a.ge_tensor(&b)),
    ];
    for (op, a, expected) in &cases {
        failures.note(
            &format!("{op:?}"),
            check(Op::Binary(*op), &[(a, Argument), (&b, Argument)], expected),
        );
        failures.note(
            &format!("{op:?}, weight"),
            check(Op::Binary(*op), &[(a, Argument), (&b, Weight)], expected),
        );
    }
}

#[test]
fn binary_integers() {
    let mut failures = Failures::default();
    let a = Tensor::from_slice(&[7i64, -7, 5, -1, 0, 1 << 40, -9]);
    let b = Tensor::from_slice(&[2i64, 2, -3, 4, 5, 3, -9]);
    let cases: Vec<(BinaryOp, Tensor)> = vec![
        (BinaryOp::Add, &a + &b),
        (BinaryOp::Mul, &a * &b),
        (BinaryOp::FloorDiv, a.floor_divide(&b)),
        (BinaryOp::TruncDiv, a.divide_tensor_mode(&b, "trunc")),
        (BinaryOp::Rem, a.remainder_tensor(&b)),
        (BinaryOp::Fmod, a.fmod_tensor(&b)),
        (BinaryOp::And, a.bitwise_and_tensor(&b)),
        (BinaryOp::Or, a.bitwise_or_tensor(&b)),
        (BinaryOp::Xor, a.bitwise_xor_tensor(&b)),
        (BinaryOp::Min, a.minimum(&b)),
        (BinaryOp::Max, a.maximum(&b)),
        (BinaryOp::Le, a.le_tensor(&b)),
        (BinaryOp::Eq, a.eq_tensor(&b)),
    ];
    for (op, expected) in &cases {
        failures.note(
            &format!("{op:?}"),
            check(Op::Binary(*op), &[(&a, Argument), (&b, Argument)], expected),
        );
    }
}

#[test]
fn where_and_cast() {
    let mut failures = Failures::default();
    let (a, b) = (randn(4, &[3, 17]), randn(5, &[17]));
    let mask = a.gt(0.0);
    failures.note(
        "where",
        check(
            Op::Where,
            &[(&mask, Argument), (&a, Argument), (&b, Argument)],
            &b.where_self(&mask.logical_not(), &a),
        ),
    );
    let x = &a * 100.0;
    for (to, kind) in [
        (DType::I64, Kind::Int64),
        (DType::I32, Kind::Int),
        (DType::F16, Kind::Half),
        (DType::Bf16, Kind::BFloat16),
        (DType::F64, Kind::Double),
        (DType::Bool, Kind::Bool),
    ] {
        failures.note(
            &format!("f32 to {to}"),
            check(Op::Cast(to), &[(&x, Argument)], &x.to_kind(kind)),
        );
        let y = x.to_kind(kind);
        failures.note(
            &format!("{to} to f32"),
            check(Op::Cast(DType::F32), &[(&y, Argument)], &y.to_kind(Kind::Float)),
        );
    }
}

#[test]
fn reductions() {
    let mut failures = Failures::default();
    let x = randn(6, &[5, 7, 33]);
    let reduce = |op, axes: &[usize], keep_dims| Op::Reduce { op, axes: axes.to_vec(), keep_dims };
    let none = None::<Kind>;
    for axes in [vec![2usize], vec![0], vec![1], vec![0, 2], vec![0, 1, 2]] {
        let dims: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        for keep in [false, true] {
            let cases = [
                (ReduceOp::Sum, x.sum_dim_intlist(&dims[..], keep, none)),
                (ReduceOp::Mean, x.mean_dim(&dims[..], keep, none)),
                (ReduceOp::Max, x.amax(&dims[..], keep)),
                (ReduceOp::Min, x.amin(&dims[..], keep)),
            ];
            for (op, expected) in &cases {
                let what = format!("{op:?} over {axes:?}, keep {keep}");
                failures.note(&what, check(reduce(*op, &axes, keep), &[(&x, Argument)], expected));
            }
        }
    }
    failures.note(
        "prod",
        check(
            reduce(ReduceOp::Prod, &[2], false),
            &[(&x, Argument)],
            &x.prod_dim_int(2, false, none),
        ),
    );
    failures.note(
        "argmax",
        check(reduce(ReduceOp::ArgMax, &[1], false), &[(&x, Argument)], &x.argmax(1, false)),
    );
    failures.note(
        "argmin",
        check(reduce(ReduceOp::ArgMin, &[2], true), &[(&x, Argument)], &x.argmin(2, true)),
    );
    let m = x.gt(0.5);
    failures.note(
        "any",
        check(reduce(ReduceOp::Any, &[2], false), &[(&m, Argument)], &m.any_dim(2, false)),
    );
    failures.note(
        "all",
        check(reduce(ReduceOp::All, &[0], false), &[(&m, Argument)], &m.all_dim(0, false)),
    );
    failures.note("cumsum", check(Op::CumSum { axis: 1 }, &[(&x, Argument)], &x.cumsum(1, none)));
    for axis in 0..3i64 {
        let at = axis as usize;
        failures.note(
            "softmax",
            check(Op::Softmax { axis: at }, &[(&x, Argument)], &x.softmax(axis, none)),
        );
        failures.note(
            "log_softmax",
            check(Op::LogSoftmax { axis: at }, &[(&x, Argument)], &x.log_softmax(axis, none)),
        );
    }
    let large = &x * 1000.0;
    failures.note(
        "softmax, large",
        check(Op::Softmax { axis: 2 }, &[(&large, Argument)], &large.softmax(2, none)),
    );
    failures.note(
        "topk",
        check(Op::TopK { k: Expr::from(4) }, &[(&x, Argument)], &x.topk(4, 2, true, true).0),
    );
}

#[test]
fn norms() {
    let mut failures = Failures::default();
    for width in [8i64, 33, 384] {
        let x = randn(7, &[6, width]) * 3.0 + 1.0;
        let (w, b) = (randn(8, &[width]), randn(9, &[width]));
        let op = Op::LayerNorm { axes: 1, eps: 1e-5, weight: true, bias: true };
        let expected = x.layer_norm([width], Some(&w), Some(&b), 1e-5, false);
        failures.note(
            &format!("layer_norm {width}"),
            check(op, &[(&x, Argument), (&w, Weight), (&b, Weight)], &expected),
        );
        let op = Op::LayerNorm { axes: 1, eps: 1e-12, weight: false, bias: false };
        let expected = x.layer_norm([width], None::<&Tensor>, None::<&Tensor>, 1e-12, false);
        failures.note("layer_norm, plain", check(op, &[(&x, Argument)], &expected));
        let mean_square = (&x * &x).mean_dim(-1, true, None::<Kind>);
        let expected = &x * (mean_square + 1e-6).rsqrt() * &w;
        let op = Op::RmsNorm { axes: 1, eps: 1e-6, weight: true };
        failures.note(
            &format!("rms_norm {width}"),
            check(op, &[(&x, Argument), (&w, Weight)], &expected),
        );
    }
    let x = randn(10, &[2, 12, 5, 7]);
    let (w, b) = (randn(11, &[12]), randn(12, &[12]));
    let op = Op::GroupNorm { groups: 4, eps: 1e-6, weight: true, bias: true };
    let expected = x.group_norm(4, Some(&w), Some(&b), 1e-6, false);
    failures
        .note("group_norm", check(op, &[(&x, Argument), (&w, Weight), (&b, Weight)], &expected));
}

#[test]
fn matmul() {
    let mut failures = Failures::default();
    // Edges of the register tile and of the blocks, and a vector times a matrix.
    for (m, k, n) in [
        (1i64, 64i64, 64i64),
        (7, 13, 5),
        (6, 16, 16),
        (65, 129, 33),
        (128, 384, 96),
        (1, 577, 130),
        (2, 1, 3),
    ] {
        let a = randn(13, &[m, k]);
        let b = randn(14, &[n, k]);
        let expected = a.matmul(&b.tr());
        let bt = b.tr().contiguous();
        for place in [Weight, Argument] {
            let what = format!("{m}x{k}x{n}, b as {place:?}");
            failures.note(
                &what,
                check(Op::MatMul { transpose_b: true }, &[(&a, Argument), (&b, place)], &expected),
            );
            failures.note(
                &what,
                check(
                    Op::MatMul { transpose_b: false },
                    &[(&a, Argument), (&bt, place)],
                    &expected,
                ),
            );
        }
    }
    let a = randn(15, &[2, 3, 9, 20]);
    let b = randn(16, &[3, 20, 11]);
    failures.note(
        "batched",
        check(Op::MatMul { transpose_b: false }, &[(&a, Argument), (&b, Argument)], &a.matmul(&b)),
    );
    let w = randn(17, &[11, 20]);
    failures.note(
        "batch by weight",
        check(
            Op::MatMul { transpose_b: true },
            &[(&a, Argument), (&w, Weight)],
            &a.matmul(&w.tr()),
        ),
    );
    for kind in [Kind::BFloat16, Kind::Half] {
        let a = randn(18, &[9, 64]).to_kind(kind);
        let w = randn(19, &[24, 64]).to_kind(kind);
        let expected = a.to_kind(Kind::Float).matmul(&w.to_kind(Kind::Float).tr()).to_kind(kind);
        failures.note(
            &format!("{kind:?}"),
            check(Op::MatMul { transpose_b: true }, &[(&a, Argument), (&w, Weight)], &expected),
        );
    }
}

#[test]
fn linear_gelu_residual() {
    let mut failures = Failures::default();
    for (rows, k, n) in [(1i64, 48i64, 64i64), (5, 48, 33), (128, 96, 96)] {
        let (x, w, b) = (randn(20, &[rows, k]), randn(21, &[n, k]), randn(22, &[n]));
        let r = randn(23, &[rows, n]);
        let expected = x.linear(&w, Some(&b)).gelu("none") + &r;
        let outcome = check_graph(
            &[(&x, Argument), (&w, Weight), (&b, Weight), (&r, Argument)],
            |graph, v| {
                let y = graph.push(
                    Op::MatMul { transpose_b: true },
                    &[v[0], v[1]],
                    Origin::default(),
                )?[0];
                let y = graph.push(Op::Binary(BinaryOp::Add), &[y, v[2]], Origin::default())?[0];
                let y = graph.push(Op::Unary(UnaryOp::Gelu), &[y], Origin::default())?[0];
                Ok(graph.push(Op::Binary(BinaryOp::Add), &[y, v[3]], Origin::default())?[0])
            },
            &expected,
        );
        failures.note(&format!("{rows}x{k}x{n}"), outcome);
    }
}

fn sdpa(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    causal: bool,
    scale: f64,
) -> Tensor {
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale, true)
}

#[test]
fn attention() {
    let mut failures = Failures::default();
    for (b, h, kv, sq, sk, d) in [
        (2i64, 4i64, 4i64, 9i64, 9i64, 16i64),
        (1, 9, 3, 37, 37, 64),
        (1, 2, 1, 1, 70, 32),
        (1, 3, 3, 130, 130, 24),
    ] {
        let scale = 1.0 / (d as f64).sqrt();
        let (q, k, v) =
            (randn(24, &[b, h, sq, d]), randn(25, &[b, kv, sk, d]), randn(26, &[b, kv, sk, d]));
        let qkv = [(&q, Argument), (&k, Argument), (&v, Argument)];
        let what = format!("b{b} h{h}/{kv} {sq}x{sk} d{d}");
        let full = Op::Attention { scale, mask: false, position: None };
        failures.note(&what, check(full, &qkv, &sdpa(&q, &k, &v, None, false, scale)));
        if sq == sk {
            let position = Some(PositionMask { causal: true, window: None, offset: Expr::from(0) });
            let causal = Op::Attention { scale, mask: false, position };
            failures.note(
                &format!("{what}, causal"),
                check(causal, &qkv, &sdpa(&q, &k, &v, None, true, scale)),
            );
            let i = Tensor::arange(sq, (Kind::Int64, tch::Device::Cpu));
            let (row, column) = (i.unsqueeze(1), i.unsqueeze(0));
            let window = column.le_tensor(&row).logical_and(&column.gt_tensor(&(&row - 5)));
            let position =
                Some(PositionMask { causal: true, window: Some(5), offset: Expr::from(0) });
            let op = Op::Attention { scale, mask: false, position };
            failures.note(
                &format!("{what}, window"),
                check(op, &qkv, &sdpa(&q, &k, &v, Some(&window), false, scale)),
            );
        }
        let keep = randn(27, &[b, 1, 1, sk]).gt(-0.5);
        let op = Op::Attention { scale, mask: true, position: None };
        let operands = [(&q, Argument), (&k, Argument), (&v, Argument), (&keep, Argument)];
        failures.note(
            &format!("{what}, bool mask"),
            check(op.clone(), &operands, &sdpa(&q, &k, &v, Some(&keep), false, scale)),
        );
        let bias = randn(28, &[1, h, sq, sk]);
        let operands = [(&q, Argument), (&k, Argument), (&v, Argument), (&bias, Argument)];
        failures.note(
            &format!("{what}, bias"),
            check(op, &operands, &sdpa(&q, &k, &v, Some(&bias), false, scale)),
        );
    }
}

#[test]
fn attention_hides_everything() {
    // A row with no visible key gives zeros.
    let (q, k, v) = (randn(29, &[1, 2, 4, 8]), randn(30, &[1, 2, 6, 8]), randn(31, &[1, 2, 6, 8]));
    let mask = Tensor::ones([1, 1, 4, 6], (Kind::Bool, tch::Device::Cpu));
    let _ = mask.select(2, 1).fill_(0i64);
    let expected = sdpa(&q, &k, &v, Some(&mask), false, 0.5).nan_to_num(0.0, None, None);
    let op = Op::Attention { scale: 0.5, mask: true, position: None };
    check(op, &[(&q, Argument), (&k, Argument), (&v, Argument), (&mask, Argument)], &expected)
        .unwrap();
}

#[test]
fn convolution() {
    let mut failures = Failures::default();
    for (channels, out, groups, kernel, stride, padding, dilation) in [
        (3i64, 8i64, 1i64, 3i64, 1i64, 1i64, 1i64),
        (3, 16, 1, 16, 16, 0, 1),
        (8, 8, 8, 3, 2, 1, 1),
        (8, 12, 4, 3, 1, 2, 2),
        (5, 7, 1, 1, 1, 0, 1),
    ] {
        let x = randn(32, &[2, channels, 32, 33]);
        let w = randn(33, &[out, channels / groups, kernel, kernel]);
        let b = randn(34, &[out]);
        let expected = x.conv2d(&w, Some(&b), [stride; 2], [padding; 2], [dilation; 2], groups);
        let op = Op::Conv {
            stride: vec![stride as usize; 2],
            padding: vec![(padding as usize, padding as usize); 2],
            dilation: vec![dilation as usize; 2],
            groups: groups as usize,
            bias: true,
        };
        let what =
            format!("{channels}->{out} /{groups} k{kernel} s{stride} p{padding} d{dilation}");
        failures.note(&what, check(op, &[(&x, Argument), (&w, Weight), (&b, Weight)], &expected));
    }
    let (x, w) = (randn(35, &[2, 4, 19]), randn(36, &[6, 4, 3]));
    let op = Op::Conv {
        stride: vec![1],
        padding: vec![(1, 1)],
        dilation: vec![1],
        groups: 1,
        bias: false,
    };
    failures.note(
        "conv1d",
        check(op, &[(&x, Argument), (&w, Weight)], &x.conv1d(&w, None::<&Tensor>, 1, 1, 1, 1)),
    );
    let (x, w) = (randn(37, &[1, 3, 5, 6]), randn(38, &[3, 4, 4, 4]));
    let expected = x.conv_transpose2d(&w, None::<&Tensor>, [2; 2], [1; 2], [0; 2], 1, [1; 2]);
    let op = Op::ConvTranspose {
        stride: vec![2; 2],
        padding: vec![1; 2],
        output_padding: vec![0; 2],
        dilation: vec![1; 2],
        groups: 1,
        bias: false,
    };
    failures.note("conv_transpose2d", check(op, &[(&x, Argument), (&w, Weight)], &expected));
}

#[test]
fn pooling_and_resampling() {
    let mut failures = Failures::default();
    let x = randn(39, &[2, 3, 11, 14]);
    let pool = |op, kernel: usize, stride: usize, pad: usize| Op::Pool {
        op,
        kernel: vec![kernel; 2],
        stride: vec![stride; 2],
        padding: vec![(pad, pad); 2],
        dilation: vec![1; 2],
        count_include_pad: true,
    };
    failures.note(
        "max_pool2d",
        check(
            pool(ReduceOp::Max, 3, 2, 1),
            &[(&x, Argument)],
            &x.max_pool2d([3; 2], [2; 2], [1; 2], [1; 2], false),
        ),
    );
    failures.note(
        "avg_pool2d",
        check(
            pool(ReduceOp::Mean, 2, 2, 0),
            &[(&x, Argument)],
            &x.avg_pool2d([2; 2], [2; 2], [0; 2], false, true, None),
        ),
    );
    failures.note(
        "adaptive",
        check(
            Op::AdaptiveAvgPool { out: sizes(&[4, 5]) },
            &[(&x, Argument)],
            &x.adaptive_avg_pool2d([4, 5]),
        ),
    );
    let nearest = Op::Upsample { out: sizes(&[22, 28]), mode: UpsampleMode::Nearest };
    failures.note(
        "nearest",
        check(nearest, &[(&x, Argument)], &x.upsample_nearest2d([22, 28], None, None)),
    );
    for align_corners in [false, true] {
        let op =
            Op::Upsample { out: sizes(&[17, 9]), mode: UpsampleMode::Linear { align_corners } };
        failures.note(
            "bilinear",
            check(
                op,
                &[(&x, Argument)],
                &x.upsample_bilinear2d([17, 9], align_corners, None, None),
            ),
        );
    }
}

#[test]
fn gather_and_scatter() {
    let mut failures = Failures::default();
    let x = randn(40, &[5, 6, 7]);
    let i = Tensor::from_slice(&[0i64, 4, 2, 2]);
    failures.note(
        "index_select",
        check(
            Op::IndexSelect { axis: 1 },
            &[(&x, Argument), (&i, Argument)],
            &x.index_select(1, &i),
        ),
    );
    let ids = Tensor::from_slice(&[3i64, 0, 1, 4, 4, 2]).view([2, 3]);
    let table = randn(41, &[5, 16]);
    failures.note(
        "embedding",
        check(
            Op::IndexSelect { axis: 0 },
            &[(&table, Weight), (&ids, Argument)],
            &Tensor::embedding(&table, &ids, -1, false, false),
        ),
    );
    let g = Tensor::from_slice(&[0i64, 1, 5, 2, 3, 3])
        .view([3, 2, 1])
        .expand([3, 2, 7], false)
        .contiguous();
    failures.note(
        "gather",
        check(Op::Gather { axis: 1 }, &[(&x, Argument), (&g, Argument)], &x.gather(1, &g, false)),
    );
    let (a, b) = (Tensor::from_slice(&[0i64, 4, 2]), Tensor::from_slice(&[5i64, 0, 1]));
    let expected = x.index(&[Some(a.shallow_clone()), Some(b.shallow_clone())]);
    failures.note(
        "index",
        check(
            Op::IndexMulti { axes: vec![0, 1] },
            &[(&x, Argument), (&a, Argument), (&b, Argument)],
            &expected,
        ),
    );
    let expected = x.index(&[Some(a.shallow_clone()), None, Some(b.shallow_clone())]);
    failures.note(
        "index, apart",
        check(
            Op::IndexMulti { axes: vec![0, 2] },
            &[(&x, Argument), (&a, Argument), (&b, Argument)],
            &expected,
        ),
    );
    let src = randn(42, &[5, 3, 7]);
    let p = Tensor::from_slice(&[4i64, 0, 2]);
    failures.note(
        "index_copy",
        check(
            Op::IndexCopy { axis: 1, accumulate: false },
            &[(&x, Argument), (&p, Argument), (&src, Argument)],
            &x.index_copy(1, &p, &src),
        ),
    );
    let rows = randn(43, &[3, 7]);
    let expected = x.index_put(&[Some(a.shallow_clone()), Some(b.shallow_clone())], &rows, false);
    failures.note(
        "index_put",
        check(
            Op::IndexPut { axes: vec![0, 1], accumulate: false },
            &[(&x, Argument), (&a, Argument), (&b, Argument), (&rows, Argument)],
            &expected,
        ),
    );
    let s = randn(44, &[3, 2, 7]);
    failures.note(
        "scatter",
        check(
            Op::Scatter { axis: 1, accumulate: false },
            &[(&x, Argument), (&g, Argument), (&s, Argument)],
            &x.scatter(1, &g, &s),
        ),
    );
}

#[test]
fn layout() {
    let mut failures = Failures::default();
    let x = randn(45, &[4, 6, 10]);
    let one = [(&x, Argument)];
    failures.note("reshape", check(Op::Reshape(sizes(&[8, 30])), &one, &x.reshape([8, 30])));
    failures.note("permute", check(Op::Permute(vec![2, 0, 1]), &one, &x.permute([2, 0, 1])));
    failures.note("flip", check(Op::Flip(vec![0, 2]), &one, &x.flip([0, 2])));
    let y = randn(46, &[6, 1]);
    failures.note(
        "expand",
        check(Op::Expand(sizes(&[3, 6, 5])), &[(&y, Argument)], &y.expand([3, 6, 5], false)),
    );
    let slice = Op::Slice { axis: 2, start: Expr::from(1), end: Expr::from(9), step: 3 };
    failures.note("slice", check(slice, &one, &x.slice(2, 1, 9, 3)));
    let z = randn(47, &[4, 2, 10]);
    failures.note(
        "concat",
        check(
            Op::Concat { axis: 1 },
            &[(&x, Argument), (&z, Argument)],
            &Tensor::cat(&[&x, &z], 1),
        ),
    );
    let pads = |a: i64, b: i64, c: i64, d: i64| {
        vec![
            (Expr::from(0), Expr::from(0)),
            (Expr::from(a), Expr::from(b)),
            (Expr::from(c), Expr::from(d)),
        ]
    };
    let op = Op::Pad { pads: pads(1, 0, 2, 3), mode: PadMode::Constant(0.5) };
    failures.note(
        "pad",
        check(
            op,
            &one,
            &(x.constant_pad_nd([2, 3, 1, 0])
                + (Tensor::ones_like(&x).constant_pad_nd([2, 3, 1, 0]) * -0.5 + 0.5)),
        ),
    );
    let op = Op::Pad { pads: pads(0, 0, 2, 3), mode: PadMode::Reflect };
    failures.note("reflect", check(op, &one, &x.reflection_pad1d([2, 3])));
    let op = Op::Pad { pads: pads(0, 0, 2, 3), mode: PadMode::Replicate };
    failures.note("replicate", check(op, &one, &x.replication_pad1d([2, 3])));
    let src = randn(48, &[4, 2, 10]);
    let op = Op::SliceScatter { axis: 1, start: Expr::from(1), step: 2 };
    failures.note(
        "slice_scatter",
        check(op, &[(&x, Argument), (&src, Argument)], &x.slice_scatter(&src, 1, 1, 5, 2)),
    );
}
