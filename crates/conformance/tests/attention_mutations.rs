//! Bugs planted in the attention kernel: the cases and the emulator's checkers must find each.

use zeroforge_conformance::attention::{AttentionCase, Values};
use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::card::Card;
use zeroforge_emulator::{Options, Schedule};
use zeroforge_kernels::Instance;
use zeroforge_kernels::attention::{Element, Forward, Lengths};
use zeroforge_kernels::headers::DEVICE;

/// The family's headers, each after those that it includes.
const HEADERS: [&str; 8] = [
    "attention/scheduler.cuh",
    "attention/softmax.cuh",
    "attention/mask.cuh",
    "attention/epilogue.cuh",
    "attention/tile.cuh",
    "attention/mainloop.cuh",
    "attention/transpose.cuh",
    "attention/forward.cuh",
];

/// An instance whose family's headers stand in its source.
fn inlined(mut instance: Instance) -> Instance {
    let mut includes = String::new();
    let mut text = String::new();
    for name in HEADERS {
        let header = DEVICE.iter().find(|h| h.0 == name).expect("a header").1;
        for line in header.lines().filter(|l| !l.starts_with("#pragma once")) {
            let to = if line.starts_with("#include") { &mut includes } else { &mut text };
            if !line.starts_with("#include \"attention/") {
                to.push_str(line);
                to.push('\n');
            }
        }
    }
    instance.source =
        instance.source.replace("#include \"attention/forward.cuh\"", &(includes + &text));
    instance
}

/// A bug: what it is, a case that meets it, text of the kernel and what it becomes.
struct Bug {
    what: &'static str,
    case: AttentionCase,
    from: &'static str,
    to: &'static str,
}

fn bugs() -> Vec<Bug> {
    let full = Forward { lse: true, ..Forward::dense(Element::Bf16, 64, 64) };
    let causal = Forward { window_right: true, ..full.clone() };
    let fp8 = Forward { element: Element::E4m3, ..full.clone() };
    let fixed = |spec: &Forward, queries, keys| {
        AttentionCase::fixed(spec.clone(), 1, 1, 1, queries, keys, 5)
    };
    let growing = AttentionCase { values: Values::Growing, ..fixed(&full, 70, 400) };
    let ragged = AttentionCase {
        lengths: vec![(70, 90), (20, 50), (64, 130)],
        // What lies behind the last sequence is NaN.
        spare: (0, 70),
        ..fixed(&Forward { queries: Lengths::Ragged, keys: Lengths::Ragged, ..full.clone() }, 1, 1)
    };
    let sinks = fixed(&Forward { sinks: true, ..full.clone() }, 30, 60);
    let bug = |what, case: &AttentionCase, from, to| Bug { what, case: case.clone(), from, to };
    vec![
        bug(
            "a key too many is visible",
            &fixed(&causal, 200, 200),
            "bool seen = 8 * j + e < high;",
            "bool seen = 8 * j + e <= high;",
        ),
        bug(
            "tiles at the diagonal are not masked",
            &fixed(&causal, 192, 400),
            "whole_end = a.high / C::N;",
            "whole_end = (a.high + C::N - 1) / C::N;",
        ),
        bug(
            "V is not waited for",
            &fixed(&full, 70, 400),
            "        shared.v_ring.wait_full(v);\n        multiply_values",
            "        multiply_values",
        ),
        bug(
            "K is given back before it was read",
            &fixed(&full, 70, 600),
            "        ptx::wgmma_wait_group<1>();\n        ptx::keep(score);\n        release(shared.k_ring, k);",
            "        release(shared.k_ring, k);\n        ptx::wgmma_wait_group<1>();\n        ptx::keep(score);",
        ),
        bug(
            "scores are read while they are computed",
            &fixed(&full, 70, 400),
            "        ptx::wgmma_wait_group<1>();\n        ptx::keep(score);",
            "        ptx::keep(score);",
        ),
        bug("sums keep an old base", &growing, "                    sum[h] *= factor[h];\n", ""),
        bug(
            "the result keeps an old base",
            &growing,
            "        if (moved) {\n#pragma unroll\n            for (int i = 0; i < C::DV / 2; ++i) out",
            "        if (false) {\n#pragma unroll\n            for (int i = 0; i < C::DV / 2; ++i) out",
        ),
        bug(
            "V of the next sequence is multiplied",
            &ragged,
            "const bool clear = C::CLEAR_TAIL && rows < C::N;",
            "const bool clear = false;",
        ),
        bug(
            "cleared rows are not shown to the products",
            &ragged,
            "            ptx::fence_proxy_async_shared();\n            __syncwarp();\n            if (leader) ptx::mbarrier_arrive(full);",
            "            __syncwarp();\n            if (leader) ptx::mbarrier_arrive(full);",
        ),
        bug(
            "rows of the next sequence are written",
            &ragged,
            "        const bool exists = rows.query[h] < s.queries;\n        const float inverse",
            "        const bool exists = rows.query[h] < p.queries;\n        const float inverse",
        ),
        bug(
            "rounds that run backwards skip a tile",
            &AttentionCase::fixed(causal.clone(), 1, 4, 4, 200, 200, 6),
            "gridDim.x - 1 - blockIdx.x",
            "gridDim.x - blockIdx.x",
        ),
        bug(
            "a sink is not in the sum",
            &sinks,
            "sum[h] = threadIdx.x % 4 == 0 ?",
            "sum[h] = threadIdx.x % 4 == 5 ?",
        ),
        bug(
            "columns of V are exchanged",
            &fixed(&fp8, 70, 200),
            "u < 4 ? 0x6420 : 0x7531, second",
            "u < 4 ? 0x7531 : 0x7531, second",
        ),
        bug(
            "turned values are not shown to the products",
            &fixed(&fp8, 70, 200),
            "                ptx::fence_proxy_async_shared();\n                __syncwarp();\n                if (threadIdx.x % 32 == 0) {",
            "                __syncwarp();\n                if (threadIdx.x % 32 == 0) {",
        ),
    ]
}

/// Whether the case, with its kernel edited, fails under one of the schedules.
fn is_found(bench: &Bench, bug: &Bug) -> bool {
    let edit = |instance: Instance| {
        let mut edited = inlined(instance);
        assert_eq!(
            edited.source.matches(bug.from).count(),
            1,
            "{}: its text is there once",
            bug.what
        );
        edited.source =
            edited.source.replace(bug.from, bug.to).replace(&edited.entry, Instance::ENTRY);
        edited.named("attention")
    };
    [Schedule::Late, Schedule::Eager, Schedule::Random(1)].into_iter().any(|schedule| {
        let options = Options { schedule, instruction_budget: 20_000_000, ..Options::default() };
        let outcome = bug.case.run_edited(bench, &mut Card::new(2), &options, &edit);
        let outcome = outcome.unwrap_or_else(|e| panic!("{}: does not run: {e}", bug.what));
        !outcome.failures().is_empty()
    })
}

#[test]
fn planted_bugs_are_found() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let missed: Vec<&str> =
        bugs().iter().filter(|b| !is_found(&bench, b)).map(|b| b.what).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Without a bug the cases pass: it is the bugs that are found.
#[test]
fn the_cases_of_the_bugs_pass() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    for bug in bugs() {
        let outcome = bug.case.run_edited(&bench, &mut Card::new(2), &Options::default(), &inlined);
        let failures = outcome.unwrap_or_else(|e| panic!("{}: {e}", bug.what)).failures();
        assert!(failures.is_empty(), "{}: {failures:?}", bug.what);
    }
}
