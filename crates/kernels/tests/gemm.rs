//! What products by tensor copies refuse, by name; what plans say for symbolic sizes.

use zeroforge_artifact::program::ParamValue;
use zeroforge_artifact::{Expr, Symbol};
use zeroforge_kernels::gemm::{
    Activation, Arguments, Conv, Element, Epilogue, Extra, Major, Operand, Spec, Step, Store,
    Variant, instance, plan, select, variants,
};

fn constant(n: i64) -> Expr {
    Expr::constant(n)
}

fn operand(buffer: u32, strides: [i64; 4]) -> Operand {
    Operand { buffer, offset: constant(0), strides: strides.map(constant) }
}

fn variant(name: &str) -> &'static Variant {
    Variant::named(name).expect("a variant")
}

/// Dense 64 x 64 x 64.
fn arguments() -> Arguments {
    Arguments {
        batch: [constant(1), constant(1)],
        m: constant(64),
        n: constant(64),
        k: constant(64),
        a: operand(0, [0, 0, 64, 1]),
        b: operand(1, [0, 0, 64, 1]),
        c: operand(2, [0, 0, 64, 1]),
        extra: Vec::new(),
        scales: None,
        row_squares: None,
        groups: None,
        images: None,
        split: None,
    }
}

fn bf16() -> Spec {
    Spec { store: Store::Copies, ..Spec::new(Element::Bf16, Element::Bf16) }
}

#[test]
fn specs_outside_the_contract_are_refused_by_name() {
    let conv = Conv {
        taps: [3, 1, 1],
        stride: [1; 3],
        padding: [0; 3],
        dilation: [1; 3],
        patch: [64, 1, 1, 1],
    };
    let copied = || Epilogue::of([Step::Add(Extra::Copied(Element::Bf16))]);
    let add = |n| Epilogue::of(vec![Step::Add(Extra::Scalar); n]);
    let gated = Epilogue { gate: Some(Activation::Silu), ..Epilogue::default() };
    let narrow = "pingpong_64x64_split";
    let wide = "cooperative_128x256";
    let cases = [
        (Spec::new(Element::F32, Element::F32), wide, "operands"),
        (Spec { a_major: Major::Mn, ..Spec::new(Element::E4m3, Element::F32) }, wide, "a"),
        (Spec { b_major: Major::Mn, ..Spec::new(Element::I8, Element::F32) }, wide, "b"),
        (Spec::new(Element::Bf16, Element::I32), wide, "c"),
        (Spec { epilogue: add(1), ..Spec::new(Element::I8, Element::I32) }, wide, "c"),
        (Spec { epilogue: add(7), ..bf16() }, wide, "extra"),
        (Spec { epilogue: copied(), store: Store::Lanes, ..bf16() }, wide, "extra"),
        (Spec { epilogue: copied(), ..Spec::new(Element::F16, Element::F16) }, wide, "extra"),
        (Spec { store: Store::Copies, ..Spec::new(Element::I8, Element::I8) }, narrow, "variant"),
        (
            Spec { store: Store::Transposed, ..Spec::new(Element::Bf16, Element::F32) },
            wide,
            "store",
        ),
        (
            Spec {
                epilogue: gated.clone(),
                b_major: Major::Mn,
                ..Spec::new(Element::Bf16, Element::F32)
            },
            narrow,
            "b",
        ),
        (Spec { block_scales: true, ..bf16() }, "pingpong_128x128", "a_scale"),
        (Spec { block_scales: true, ..Spec::new(Element::E4m3, Element::F32) }, wide, "a_scale"),
        (Spec { grouped: true, ..bf16() }, wide, "groups"),
        (Spec { conv: Some(Conv { patch: [32, 1, 1, 1], ..conv }), ..bf16() }, wide, "conv"),
        (Spec { conv: Some(Conv { stride: [9, 1, 1], ..conv }), ..bf16() }, wide, "conv"),
        (Spec { conv: Some(Conv { taps: [0, 1, 1], ..conv }), ..bf16() }, wide, "conv"),
        (Spec { conv: Some(conv), a_major: Major::Mn, ..bf16() }, wide, "conv"),
    ];
    for (spec, name, argument) in cases {
        let refusal = instance(&spec, variant(name)).expect_err(argument);
        assert_eq!(refusal.argument, argument, "{refusal} for {spec:?}");
        assert_eq!(plan(&spec, variant(name), &arguments()).map(|_| ()), Err(refusal));
    }
}

#[test]
fn arguments_outside_the_contract_are_refused_by_name() {
    let wide = variant("cooperative_128x256");
    let change = |f: &dyn Fn(&mut Arguments)| {
        let mut a = arguments();
        f(&mut a);
        a
    };
    let cases: [(Arguments, &str); 12] = [
        (change(&|a| a.a.strides[2] = constant(65)), "a"),
        (change(&|a| a.a.offset = constant(8)), "a"),
        (change(&|a| a.a.strides[3] = constant(2)), "a"),
        (change(&|a| a.a.strides[2] = constant(0)), "a"),
        (change(&|a| a.b.strides[2] = constant(-64)), "b"),
        (change(&|a| a.b.strides[2] = Expr::symbol(Symbol(0))), "b"),
        (change(&|a| a.c.strides[2] = constant(66)), "c"),
        (change(&|a| a.k = constant(0)), "k"),
        (change(&|a| a.m = constant(1 << 31)), "m"),
        (change(&|a| a.extra.push(operand(3, [0; 4]))), "extra"),
        (change(&|a| a.row_squares = Some(3)), "row_squares"),
        (change(&|a| a.groups = Some((3, constant(2)))), "groups"),
    ];
    for (arguments, argument) in cases {
        let refusal = plan(&bf16(), wide, &arguments).expect_err(argument);
        assert_eq!(refusal.argument, argument, "{refusal}");
    }
    let refusal =
        plan(&bf16(), variant("pingpong_64x64_split"), &arguments()).expect_err("no workspace");
    assert_eq!(refusal.argument, "split");
}

#[test]
fn sizes_may_be_symbols() {
    let s0 = Expr::symbol(Symbol(0));
    let args = Arguments {
        m: s0.clone(),
        batch: [s0.clone(), constant(1)],
        a: Operand {
            buffer: 0,
            offset: constant(0),
            strides: [constant(64) * s0.clone(), constant(0), constant(64), constant(1)],
        },
        c: Operand {
            buffer: 2,
            offset: constant(0),
            strides: [constant(64) * s0, constant(0), constant(64), constant(1)],
        },
        ..arguments()
    };
    let plan = plan(&bf16(), variant("cooperative_128x256"), &args).expect("a plan");
    assert_eq!(plan.grid[0].eval(&[300]), Ok(300 * 3));
    let maps = plan.params.iter().filter(|p| matches!(p.value, ParamValue::TensorMap(_)));
    assert_eq!(maps.count(), 3);
    assert!(plan.params.is_sorted_by_key(|p| p.at));
}

#[test]
fn nothing_to_compute_has_an_empty_grid() {
    let args = Arguments { m: constant(0), ..arguments() };
    let plan = plan(&bf16(), variant("cooperative_128x256"), &args).expect("a plan");
    assert_eq!((plan.grid[0].as_const(), plan.params.len()), (Some(0), 0));
}

#[test]
fn patches_cover_64_outputs_and_waste_little() {
    for (output, positions) in [
        ([64, 64, 1, 1], 4096),
        ([7, 7, 1, 8], 448),
        ([100, 1, 1, 1], 128),
        ([14, 14, 14, 1], 14 * 14 * 16),
    ] {
        let patch = Conv::patch(output);
        assert_eq!(patch.iter().product::<u32>(), 64, "{patch:?}");
        let padded = |i: usize| {
            (output[i] + i64::from(patch[i]) - 1) / i64::from(patch[i]) * i64::from(patch[i])
        };
        assert!((0..4).map(padded).product::<i64>() <= positions, "{output:?} by {patch:?}");
    }
}

#[test]
fn a_selected_variant_can_compute_what_it_is_selected_for() {
    for sms in [60, 132] {
        for (m, n, k) in [(1, 1, 1), (64, 512, 512), (4096, 4096, 4096), (17, 12288, 4096)] {
            let chosen = select(&bf16(), 1, m, n, k, sms).expect("a variant");
            assert!(instance(&bf16(), chosen).is_ok());
        }
    }
    // Every form has a variant.
    for spec in [
        Spec { block_scales: true, ..Spec::new(Element::E4m3, Element::Bf16) },
        Spec { grouped: true, ..Spec::new(Element::Bf16, Element::Bf16) },
        Spec { store: Store::Transposed, ..bf16() },
    ] {
        assert!(select(&spec, 1, 100, 100, 100, 60).is_some(), "{spec:?}");
    }
    assert!(variants().len() >= 10);
}
