//! Which cases there are: every form of the product once by hand, the rest drawn.

use zeroforge_kernels::gemm::{
    Activation, Conv, Element, Epilogue, Extra, Major, Spec, Step, Store, Variant,
};

use super::run::{Filling, GemmCase, Sizes};
use crate::random::Random;

/// Cases that are drawn.
const DRAWN: usize = 620;

fn named(name: &str) -> &'static Variant {
    Variant::named(name).unwrap_or_else(|| panic!("no variant {name}"))
}

fn product(operands: Element, out: Element, store: Store) -> Spec {
    Spec { store, ..Spec::new(operands, out) }
}

fn with(spec: Spec, steps: impl IntoIterator<Item = Step>) -> Spec {
    Spec { epilogue: Epilogue::of(steps), ..spec }
}

fn majors(spec: Spec, a: Major, b: Major) -> Spec {
    Spec { a_major: a, b_major: b, ..spec }
}

fn gated(spec: Spec, gate: Activation, steps: &[Step], gated_steps: &[Step]) -> Spec {
    let epilogue = Epilogue {
        steps: steps.to_vec(),
        gate: Some(gate),
        gated_steps: gated_steps.to_vec(),
        text: None,
    };
    Spec { epilogue, ..spec }
}

/// An epilogue as text; `GemmCase::value` knows what it computes.
fn texted(spec: Spec) -> Spec {
    let text = "        const float v = acc * 0.5f + zf::load(x0[b0 * p.extra[0].stride[0] + b1 * p.extra[0].stride[1] + row * p.extra[0].stride[2] + column]);\n        \
                return zf_to_bf16(row % 3 == 0 ? v : v + (float)(column % 5 - b0));\n";
    let text = Some((vec![Element::F32], text.to_owned()));
    Spec { epilogue: Epilogue { text, ..Epilogue::default() }, ..spec }
}

fn conv(
    spec: Spec,
    taps: [u32; 3],
    stride: [u32; 3],
    padding: [u32; 3],
    dilation: [u32; 3],
    patch: [u32; 4],
) -> Spec {
    Spec { conv: Some(Conv { taps, stride, padding, dilation, patch }), ..spec }
}

/// The kernels that cases are drawn for: every variant, every form.
pub fn instances() -> Vec<(Spec, &'static Variant)> {
    use Activation::{Gelu, GeluTanh, Relu, Sigmoid, Silu, Tanh};
    use Element::{Bf16, E4m3, F16, F32, I8, I32};
    use Step::{Activate, Add, Multiply};
    use Store::{Copies, Lanes, Transposed};
    let bf16 = || product(Bf16, Bf16, Copies);
    let (k, mn) = (Major::K, Major::Mn);
    let residual = |e| Add(Extra::Full(e));
    let copied = |e| Add(Extra::Copied(e));
    let bias = |e| Add(Extra::Column(e));
    let scales = [Multiply(Extra::Row(F32)), Multiply(Extra::Column(F32))];
    let list = vec![
        // Every variant, plain.
        (bf16(), "cooperative_128x256"),
        (bf16(), "cooperative_128x256_cluster2"),
        (bf16(), "cooperative_256x128_split"),
        (bf16(), "cooperative_128x128"),
        (bf16(), "cooperative_128x128_split"),
        (bf16(), "pingpong_64x256"),
        (bf16(), "pingpong_128x128"),
        (bf16(), "pingpong_128x128_cluster2"),
        (bf16(), "pingpong_64x128_split"),
        (bf16(), "pingpong_64x64_split"),
        // Layouts, f16, results of other types.
        (majors(bf16(), k, mn), "cooperative_128x256"),
        (majors(bf16(), mn, k), "pingpong_128x128"),
        (majors(bf16(), mn, mn), "cooperative_256x128_split"),
        (majors(product(F16, F16, Copies), k, mn), "pingpong_128x128_cluster2"),
        (majors(product(F16, F32, Lanes), mn, mn), "pingpong_64x64_split"),
        (product(F16, F16, Lanes), "pingpong_64x128_split"),
        (product(Bf16, F32, Copies), "pingpong_128x128"),
        (product(Bf16, F32, Lanes), "cooperative_128x256_cluster2"),
        (product(Bf16, Bf16, Transposed), "cooperative_128x128"),
        (product(F16, F16, Transposed), "pingpong_64x64_split"),
        // Epilogues.
        (with(bf16(), [bias(Bf16), Activate(Gelu)]), "pingpong_128x128"),
        (with(bf16(), [bias(F32), Activate(GeluTanh)]), "cooperative_128x256"),
        (with(bf16(), [bias(Bf16), Activate(Silu), residual(Bf16)]), "pingpong_64x128_split"),
        (
            with(product(Bf16, Bf16, Lanes), [bias(F32), residual(Bf16), Activate(Relu)]),
            "cooperative_128x128",
        ),
        (
            with(product(F16, F16, Lanes), [Multiply(Extra::Scalar), bias(F16), Activate(Sigmoid)]),
            "pingpong_64x64_split",
        ),
        (with(product(F16, F32, Copies), [bias(F32), Activate(Tanh)]), "pingpong_64x128_split"),
        (
            with(
                product(Bf16, E4m3, Copies),
                [bias(Bf16), Activate(Silu), Multiply(Extra::Scalar)],
            ),
            "pingpong_128x128",
        ),
        (with(product(Bf16, I8, Lanes), [Multiply(Extra::Row(F32))]), "cooperative_128x128_split"),
        (with(product(Bf16, I8, Copies), [Multiply(Extra::Scalar)]), "pingpong_64x128_split"),
        (Spec { row_squares: true, ..with(bf16(), [residual(Bf16)]) }, "pingpong_128x128"),
        (
            Spec { row_squares: true, ..with(product(Bf16, F32, Lanes), [bias(F32)]) },
            "cooperative_128x128_split",
        ),
        (gated(bf16(), Silu, &[], &[]), "cooperative_128x256"),
        (gated(bf16(), Gelu, &[bias(F32)], &[]), "pingpong_128x128_cluster2"),
        (
            gated(product(F16, F16, Lanes), Silu, &[bias(F16)], &[residual(F16)]),
            "pingpong_64x128_split",
        ),
        (majors(gated(bf16(), GeluTanh, &[], &[]), k, mn), "cooperative_256x128_split"),
        // Residuals by tensor copies.
        (with(bf16(), [copied(Bf16)]), "cooperative_128x256_cluster2"),
        (with(bf16(), [bias(Bf16), Activate(Silu), copied(Bf16)]), "pingpong_64x128_split"),
        (with(product(F16, F16, Copies), [copied(F16)]), "cooperative_256x128_split"),
        (gated(bf16(), Silu, &[], &[copied(Bf16)]), "pingpong_128x128"),
        (
            conv(
                with(bf16(), [bias(Bf16), copied(Bf16)]),
                [3, 3, 1],
                [1; 3],
                [1, 1, 0],
                [1; 3],
                [8, 8, 1, 1],
            ),
            "cooperative_128x128_split",
        ),
        // Text, as compiled models give it.
        (texted(product(Bf16, Bf16, Lanes)), "cooperative_128x128_split"),
        (texted(bf16()), "pingpong_128x128"),
        // 8-bit operands.
        (with(product(E4m3, Bf16, Copies), scales), "pingpong_128x128"),
        (
            with(product(E4m3, F32, Lanes), [Multiply(Extra::Scalar)]),
            "cooperative_128x256_cluster2",
        ),
        (with(product(E4m3, E4m3, Copies), [Multiply(Extra::Scalar)]), "cooperative_128x128_split"),
        (Spec { block_scales: true, ..product(E4m3, Bf16, Copies) }, "pingpong_64x128_split"),
        (Spec { block_scales: true, ..product(E4m3, F32, Lanes) }, "cooperative_128x128"),
        (
            with(Spec { block_scales: true, ..product(E4m3, Bf16, Copies) }, [residual(Bf16)]),
            "pingpong_128x128",
        ),
        (product(I8, I32, Lanes), "cooperative_128x128_split"),
        (product(I8, I32, Copies), "pingpong_128x128"),
        (with(product(I8, Bf16, Copies), scales), "cooperative_128x256"),
        (with(product(I8, F32, Lanes), scales), "pingpong_64x64_split"),
        // Groups.
        (Spec { grouped: true, ..product(Bf16, Bf16, Lanes) }, "cooperative_128x128"),
        (Spec { grouped: true, ..product(Bf16, Bf16, Lanes) }, "pingpong_128x128_cluster2"),
        (
            Spec {
                grouped: true,
                ..majors(gated(product(Bf16, Bf16, Lanes), Silu, &[], &[]), k, mn)
            },
            "cooperative_128x256",
        ),
        (
            Spec { grouped: true, block_scales: true, ..product(E4m3, Bf16, Lanes) },
            "pingpong_64x128",
        ),
        // Convolutions.
        (conv(bf16(), [3, 3, 1], [1; 3], [1, 1, 0], [1; 3], [8, 8, 1, 1]), "cooperative_128x128"),
        (
            conv(
                with(bf16(), [bias(Bf16), Activate(Silu)]),
                [3, 3, 1],
                [2, 2, 1],
                [1, 1, 0],
                [1; 3],
                [8, 4, 1, 2],
            ),
            "pingpong_64x64_split",
        ),
        (
            conv(
                with(product(F16, F16, Copies), [bias(F16), residual(F16)]),
                [3, 1, 1],
                [1; 3],
                [2, 0, 0],
                [2, 1, 1],
                [32, 1, 1, 2],
            ),
            "pingpong_128x128",
        ),
        (
            conv(product(Bf16, F32, Lanes), [3, 3, 3], [1; 3], [1; 3], [1; 3], [4, 4, 4, 1]),
            "cooperative_128x128_split",
        ),
        (
            conv(
                with(product(Bf16, Bf16, Lanes), [bias(F32)]),
                [4, 4, 1],
                [4, 4, 1],
                [0; 3],
                [1; 3],
                [4, 4, 1, 4],
            ),
            "pingpong_64x128_split",
        ),
        (
            conv(bf16(), [1, 1, 1], [1; 3], [0; 3], [1; 3], [16, 4, 1, 1]),
            "pingpong_128x128_cluster2",
        ),
        (
            conv(
                with(product(I8, Bf16, Copies), [Multiply(Extra::Column(F32))]),
                [3, 3, 1],
                [1; 3],
                [1, 1, 0],
                [1; 3],
                [8, 8, 1, 1],
            ),
            "cooperative_128x128",
        ),
    ];
    list.into_iter().map(|(spec, name)| (spec, named(name))).collect()
}

/// A size: small, or near a multiple of what tiles have.
fn size(random: &mut Random, most: i64) -> i64 {
    match random.range(0, 5) {
        0 => random.range(1, 8),
        1 => 1,
        2 => random.range(1, most),
        _ => {
            let near = random.pick(&[8, 16, 32, 64, 128, 192, 256]).min(most);
            (near + random.range(-1, 1)).clamp(1, most)
        }
    }
}

fn draw(random: &mut Random, spec: &Spec, variant: &'static Variant, seed: u64) -> GemmCase {
    let batch = match random.range(0, 5) {
        _ if spec.conv.is_some() || spec.grouped => [1, 1],
        0 => [random.range(1, 3), 1],
        1 => [1, random.range(1, 3)],
        2 => [2, 2],
        _ => [1, 1],
    };
    let batches = batch[0] * batch[1];
    let deep = random.one_in(5);
    let most = if batches > 1 || deep { 130 } else { 280 };
    let mut sizes = Sizes {
        batch,
        shared: [[random.one_in(4), random.one_in(4)], [random.one_in(3), random.one_in(3)]],
        m: size(random, most),
        n: size(random, most),
        k: if deep { random.range(300, 900) } else { size(random, 256) },
        gaps: [random.range(0, 2), random.range(0, 2), random.range(0, 2)],
        groups: Vec::new(),
        image: [1; 4],
    };
    if spec.grouped {
        sizes.groups = (0..random.range(1, 6))
            .map(|_| if random.one_in(3) { 0 } else { random.range(1, 150) })
            .collect();
    }
    if let Some(conv) = &spec.conv {
        sizes.k = random.range(1, if deep { 200 } else { 80 });
        sizes.n = size(random, 140);
        sizes.image[3] = random.range(1, 3);
        for i in 0..3 {
            let least = i64::from((conv.taps[i] - 1) * conv.dilation[i] + 1)
                - 2 * i64::from(conv.padding[i]);
            let room = if conv.taps[i] > 1 || conv.patch[i] > 1 {
                12 * i64::from(conv.stride[i])
            } else {
                1
            };
            sizes.image[i] = random.range(least.max(1), room.max(least.max(1)));
        }
    }
    let filling = match random.range(0, 11) {
        0 => Filling::Huge,
        1 | 2 if spec.operands != Element::I8 => Filling::Special,
        3 => Filling::Zero,
        _ => Filling::Normal,
    };
    // Special values and finite results do not mix in sums that are stored as integers or quantised.
    let filling = match spec.out {
        Element::I8 | Element::E4m3 if filling != Filling::Zero => Filling::Normal,
        _ if spec.row_squares && filling == Filling::Huge => Filling::Normal,
        _ => filling,
    };
    GemmCase { spec: spec.clone(), variant, sizes, filling, seed }
}

/// Sizes that have gone wrong before, or might: the same for every kernel they fit.
fn listed() -> Vec<GemmCase> {
    let list = instances();
    let plain =
        list.iter().filter(|(s, _)| *s == product(Element::Bf16, Element::Bf16, Store::Copies));
    let mut cases = Vec::new();
    for (spec, variant) in plain {
        for (m, n, k) in
            [(1, 1, 1), (0, 5, 7), (5, 0, 7), (130, 257, 1), (300, 40, 520), (64, 64, 64)]
        {
            cases.push(GemmCase {
                spec: spec.clone(),
                variant,
                sizes: Sizes {
                    batch: [1, 1],
                    shared: [[false; 2]; 2],
                    m,
                    n,
                    k,
                    gaps: [0; 3],
                    groups: Vec::new(),
                    image: [1; 4],
                },
                filling: Filling::Normal,
                seed: 1,
            });
        }
    }
    cases
}

/// The fixed list and the drawn cases.
pub fn cases() -> Vec<GemmCase> {
    let mut random = Random::new(0x6e6d_6d67);
    let list = instances();
    let drawn = (0..DRAWN).map(|i| {
        let (spec, variant) = &list[i % list.len()];
        draw(&mut random, spec, variant, i as u64)
    });
    listed().into_iter().chain(drawn).collect()
}
