//! The kernels over rows on the emulator: drawn cases with every checker on, in several orders, and bad arguments.
//!
//! Needs NVIDIA's compiler (`make test` installs it); without it the drawn cases say that they are skipped.

use zeroforge_artifact::{DType, Expr};
use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::case::{Case, run_on_emulator};
use zeroforge_conformance::rows::{FAMILIES, drawn, frequencies, philox};
use zeroforge_kernels::Refusal;
use zeroforge_kernels::rows::{
    ArgMaxArgs, Array, Embedding, EmbeddingArgs, Norm, NormArgs, NormKind, Quantise, Rotary,
    RotaryArgs, Rows, Sample, SampleArgs, TopK, TopKArgs, arg_max, embedding, norm, rotary, sample,
    top_k,
};

/// Runs the cases of a kernel.
fn run(family: &str) {
    let Ok(bench) = Bench::open() else {
        eprintln!("skipped: no CUDA compiler; run `zeroforge toolchain install`");
        return;
    };
    let (_, count) = FAMILIES.into_iter().find(|f| f.0 == family).expect("a family");
    let cases = drawn(family, count);
    let cases: Vec<&dyn Case> = cases.iter().map(|c| c as &dyn Case).collect();
    let failures = run_on_emulator(&bench, &cases, &|_| 132);
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn arg_max_cases() {
    run("arg_max");
}

#[test]
fn top_k_cases() {
    run("top_k");
}

#[test]
fn sample_cases() {
    run("sample");
}

#[test]
fn rotary_cases() {
    run("rotary");
}

#[test]
fn embedding_cases() {
    run("embedding");
}

#[test]
fn norm_cases() {
    run("norm");
}

#[test]
fn at_least_200_cases_are_drawn() {
    assert!(FAMILIES.iter().map(|f| f.1).sum::<u64>() >= 200);
}

#[test]
fn tokens_come_as_often_as_they_are_likely() {
    let Ok(bench) = Bench::open() else { return };
    let case = frequencies(2000).expect("a case");
    let failures = run_on_emulator(&bench, &[&case as &dyn Case], &|_| 132);
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn philox_gives_the_published_words() {
    // Known answers of Random123 1.14.
    let ones = philox([u32::MAX; 4], u64::MAX);
    assert_eq!(philox([0; 4], 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
}

fn c(value: i64) -> Expr {
    Expr::constant(value)
}

fn rows(buffer: u32, stride: i64) -> Rows {
    Rows { buffer, offset: c(0), stride: c(stride) }
}

fn array(buffer: u32) -> Array {
    Array { buffer, offset: c(0) }
}

/// The argument that is refused, and the rule.
fn refused<T>(result: Result<T, Refusal>) -> (String, String) {
    match result {
        Ok(_) => panic!("it was accepted"),
        Err(e) => (e.argument.clone(), e.to_string()),
    }
}

fn top_k_args() -> TopKArgs {
    TopKArgs {
        rows: c(4),
        length: c(100),
        x: rows(0, 100),
        values: rows(1, 8),
        indices: rows(2, 8),
    }
}

#[test]
fn selections_outside_of_their_contract_are_refused() {
    let spec = TopK { dtype: DType::F32, k: 8 };
    assert!(top_k(spec, &top_k_args()).is_ok());
    let with = |change: &dyn Fn(&mut TopK, &mut TopKArgs)| {
        let (mut spec, mut args) = (spec, top_k_args());
        change(&mut spec, &mut args);
        refused(top_k(spec, &args))
    };
    assert_eq!(with(&|s, _| s.k = 0).0, "k");
    assert_eq!(with(&|s, _| s.k = 1025).0, "k");
    assert_eq!(with(&|s, _| s.dtype = DType::F64).0, "dtype");
    assert_eq!(with(&|_, a| a.length = c(7)).0, "length");
    assert_eq!(with(&|_, a| a.rows = c(-1)).0, "rows");
    assert_eq!(with(&|_, a| a.values.stride = c(7)).0, "values");
    assert_eq!(with(&|_, a| a.indices.offset = c(4)).0, "indices");
    let (argument, message) = with(&|_, a| a.x.offset = c(2));
    assert_eq!(argument, "x");
    assert!(message.contains("top_k: `x` begins 2 bytes into its buffer"), "{message}");
    let args = ArgMaxArgs { rows: c(1), length: c(0), x: rows(0, 5), indices: array(1) };
    assert_eq!(refused(arg_max(DType::F32, &args)).0, "length");
}

#[test]
fn samplings_outside_of_their_contract_are_refused() {
    let spec = Sample { dtype: DType::F32, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let args = SampleArgs {
        rows: c(1),
        length: c(10),
        logits: rows(0, 10),
        tokens: array(1),
        seed: c(1),
        offset: c(0),
    };
    assert!(sample(spec, &args).is_ok());
    let with = |change: &dyn Fn(&mut Sample)| {
        let mut spec = spec;
        change(&mut spec);
        refused(sample(spec, &args)).0
    };
    for bad in [-1.0, f32::NAN, f32::INFINITY, 1e-40] {
        assert_eq!(with(&|s| s.temperature = bad), "temperature", "{bad}");
    }
    for bad in [0.0, 1.1, f32::NAN] {
        assert_eq!(with(&|s| s.top_p = bad), "top_p", "{bad}");
    }
    for bad in [-0.1, 1.1, f32::NAN] {
        assert_eq!(with(&|s| s.min_p = bad), "min_p", "{bad}");
    }
    assert_eq!(with(&|s| s.top_k = -1), "top_k");
}

#[test]
fn rotations_outside_of_their_contract_are_refused() {
    let spec = Rotary { dtype: DType::Bf16, dim: 64, rotary_dim: 32, interleaved: false };
    let args = || RotaryArgs {
        tokens: c(3),
        heads: c(2),
        x: array(0),
        x_strides: [c(128), c(64)],
        out: array(1),
        out_strides: [c(128), c(64)],
        cosine: rows(2, 16),
        sine: rows(3, 16),
        table_rows: c(10),
        positions: None,
        first: c(0),
    };
    assert!(rotary(spec, &args()).is_ok());
    let with = |change: &dyn Fn(&mut Rotary, &mut RotaryArgs)| {
        let (mut spec, mut args) = (spec, args());
        change(&mut spec, &mut args);
        refused(rotary(spec, &args)).0
    };
    assert_eq!(with(&|s, _| s.rotary_dim = 31), "rotary_dim");
    assert_eq!(with(&|s, _| s.rotary_dim = 66), "rotary_dim");
    assert_eq!(with(&|s, _| s.dim = 2000), "dim");
    assert_eq!(with(&|_, a| a.out = Array { buffer: 0, offset: c(2) }), "out");
    assert_eq!(
        with(&|_, a| {
            a.out = a.x.clone();
            a.out_strides = [c(256), c(64)];
        }),
        "out"
    );
    assert_eq!(with(&|_, a| a.out_strides[1] = c(60)), "out_strides");
    assert_eq!(with(&|_, a| a.cosine.offset = c(2)), "cosine");
    let odd = |s: &mut Rotary, a: &mut RotaryArgs| {
        s.interleaved = true;
        a.x.offset = c(2);
    };
    assert_eq!(with(&odd), "x");
}

#[test]
fn lookups_and_norms_outside_of_their_contract_are_refused() {
    let spec = Embedding { dtype: DType::F32, index: DType::I64, width: 8 };
    let args = EmbeddingArgs {
        table: rows(0, 8),
        table_rows: c(10),
        indices: array(1),
        count: c(4),
        out: rows(2, 8),
    };
    assert!(embedding(spec, &args).is_ok());
    assert_eq!(refused(embedding(Embedding { index: DType::F32, ..spec }, &args)).0, "indices");
    assert_eq!(refused(embedding(Embedding { width: 0, ..spec }, &args)).0, "width");
    let narrow = EmbeddingArgs { out: rows(2, 4), ..args };
    assert_eq!(refused(embedding(spec, &narrow)).0, "out");

    let spec = Norm {
        kind: NormKind::Rms,
        dtype: DType::Bf16,
        weight_dtype: DType::Bf16,
        width: 768,
        eps: 1e-6,
        quantise: None,
    };
    let args = || NormArgs {
        rows: c(5),
        x: rows(0, 768),
        residual: None,
        sum: None,
        weight: Some(array(1)),
        bias: None,
        out: rows(2, 768),
        scales: None,
    };
    assert!(norm(spec, &args()).is_ok());
    let with = |change: &dyn Fn(&mut Norm, &mut NormArgs)| {
        let (mut spec, mut args) = (spec, args());
        change(&mut spec, &mut args);
        refused(norm(spec, &args)).0
    };
    assert_eq!(with(&|s, _| s.width = 40_000), "width");
    assert_eq!(with(&|s, _| s.eps = -1.0), "eps");
    assert_eq!(with(&|s, _| s.quantise = Some(Quantise::S8)), "scales");
    assert_eq!(with(&|_, a| a.sum = Some(rows(3, 768))), "sum");
    assert_eq!(with(&|_, a| a.out.stride = c(700)), "out");
    assert_eq!(with(&|s, _| s.weight_dtype = DType::I64), "weight");
}
