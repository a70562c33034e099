//! What the attention family accepts and refuses.

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::attention::{Element, Forward, Lengths, Mask, Operands, Sizes, View};

fn n(value: i64) -> Expr {
    Expr::constant(value)
}

fn view(buffer: u32, strides: [i64; 4]) -> View {
    View { buffer, offset: n(0), strides: strides.map(n) }
}

/// Batch 2, 4 heads of 2 KV heads, 100 queries, 200 keys, head dimension 64.
fn sizes() -> Sizes {
    Sizes::dense(n(2), n(4), n(2), n(100), n(200), 0.125)
}

fn operands() -> Operands {
    let keys = [200 * 2 * 64, 64, 2 * 64, 1];
    let queries = [100 * 4 * 64, 64, 4 * 64, 1];
    Operands {
        q: view(0, queries),
        k: view(1, keys),
        v: view(2, keys),
        o: view(3, queries),
        lse: None,
        mask: None,
        slopes: None,
        sinks: None,
        descales: None,
        queries: None,
        keys: None,
    }
}

fn dense() -> Forward {
    Forward::dense(Element::Bf16, 64, 64)
}

#[test]
fn instances_fit_an_sm_and_equal_ones_are_one_kernel() {
    for element in [Element::Bf16, Element::F16, Element::E4m3] {
        for (head, value) in
            [(64, 64), (80, 80), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256)]
        {
            for spec in [
                Forward::dense(element, head, value),
                Forward { window_right: true, ..Forward::dense(element, head, value) },
                Forward { softcap: true, ..Forward::dense(element, head, value) },
            ] {
                let instance = spec.instance().unwrap_or_else(|e| panic!("{e}"));
                assert!(instance.shared_bytes <= 227 * 1024, "{spec}");
                assert_eq!(instance, spec.instance().expect("again"));
                assert!(instance.source.contains(&instance.entry));
            }
        }
    }
    assert_ne!(
        dense().instance().expect("one").entry,
        Forward { lse: true, ..dense() }.instance().expect("another").entry
    );
}

#[test]
fn a_plan_has_a_tile_for_every_block_of_rows() {
    let tiles =
        |spec: &Forward| spec.plan(&sizes(), &operands()).expect("a plan").grid[0].as_const();
    // 100 of 192 rows; packed, 200 rows of each KV head.
    assert_eq!(tiles(&dense()), Some(8));
    assert_eq!(tiles(&Forward { pack: 2, ..dense() }), Some(2 * 2 * 2));
}

#[test]
fn what_is_outside_of_the_contract_is_refused_by_name() {
    let spec_refusals = [
        ("head_dim", Forward::dense(Element::Bf16, 60, 64)),
        ("head_dim", Forward::dense(Element::Bf16, 264, 64)),
        ("value_dim", Forward::dense(Element::F16, 64, 0)),
        ("value_dim", Forward::dense(Element::E4m3, 64, 72)),
        ("mask", Forward { mask: Mask::Additive(DType::I32), ..dense() }),
        ("prefix", Forward { prefix: true, ..dense() }),
        ("pack", Forward { pack: 3, ..dense() }),
    ];
    for (argument, spec) in spec_refusals {
        assert_eq!(spec.instance().expect_err("refused").argument, argument);
    }
    let plan = |spec: &Forward, sizes: &Sizes, operands: &Operands| {
        spec.plan(sizes, operands).expect_err("refused").argument
    };
    let spec = dense();
    assert_eq!(plan(&spec, &Sizes { scale: 0.0, ..sizes() }, &operands()), "scale");
    assert_eq!(plan(&spec, &Sizes { scale: f32::NAN, ..sizes() }, &operands()), "scale");
    assert_eq!(plan(&spec, &Sizes { heads: n(3), ..sizes() }, &operands()), "heads");
    assert_eq!(plan(&Forward { pack: 4, ..dense() }, &sizes(), &operands()), "pack");
    assert_eq!(plan(&Forward { softcap: true, ..dense() }, &sizes(), &operands()), "softcap");
    assert_eq!(
        plan(&Forward { chunk: true, ..dense() }, &Sizes { chunk: n(0), ..sizes() }, &operands()),
        "chunk"
    );
    assert_eq!(plan(&Forward { lse: true, ..dense() }, &sizes(), &operands()), "lse");
    assert_eq!(plan(&Forward { keys: Lengths::Used, ..dense() }, &sizes(), &operands()), "keys");
    assert_eq!(
        plan(&Forward { element: Element::E4m3, ..dense() }, &sizes(), &operands()),
        "descales"
    );
    let sinks = Operands { sinks: Some(view(4, [0, 1, 0, 0])), ..operands() };
    assert_eq!(plan(&spec, &sizes(), &sinks), "sinks");
    let columns = Operands { q: view(0, [25_600, 64, 256, 2]), ..operands() };
    assert_eq!(plan(&spec, &sizes(), &columns), "q");
    let rows = Operands { v: view(2, [25_600, 64, 130, 1]), ..operands() };
    assert_eq!(plan(&spec, &sizes(), &rows), "v");
    let start = Operands { o: View { offset: n(8), ..operands().o }, ..operands() };
    assert_eq!(plan(&spec, &sizes(), &start), "o");
}
