//! Products of f32 in tf32 terms and skinny products on the emulator: every layout, type and tile, all checkers on, late,
//! eager and random schedules; planted bugs fail.

use zeroforge_artifact::Expr;
use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::card::Card;
use zeroforge_conformance::case::{Case, run_on_emulator, schedule};
use zeroforge_conformance::product::cases::{
    PANELS_32, PANELS_48, case, drawn, instances, listed, skinny_kernel, tf32_kernel,
};
use zeroforge_conformance::product::{After, Kernel, ProductCase, Values};
use zeroforge_emulator::Options;
use zeroforge_kernels::gemm::tf32::Precision::{self, ThreeTerms, TwoTerms};
use zeroforge_kernels::gemm::{Element, Epilogue, Operand, Product, Weights, skinny, tf32};
use zeroforge_kernels::{Instance, headers};

#[test]
fn every_case_is_right_and_no_checker_finds_anything() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let cases: Vec<ProductCase> = listed().into_iter().chain(drawn()).collect();
    assert!(cases.len() >= 150 + listed().len());
    let cases: Vec<&dyn Case> = cases.iter().map(|c| c as &dyn Case).collect();
    let failures = run_on_emulator(&bench, &cases, &|i| [3, 1, 8][i % 3]);
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

/// The instance with a line of a header changed.
fn planted(instance: &Instance, header: &str, from: &str, to: &str) -> Instance {
    let (_, text) = headers::DEVICE.iter().find(|(name, _)| *name == header).expect("a header");
    assert_eq!(text.matches(from).count(), 1, "`{from}` is in {header} once");
    let include = format!("#include \"{header}\"");
    let text = text.replace(from, to).replace("#pragma once", "");
    // What includes it too finds it behind its own guard.
    let mut source = instance.source.clone();
    for (name, outer) in headers::DEVICE {
        let own = format!("#include \"{name}\"");
        if outer.contains(&include) && source.contains(&own) {
            source = source.replace(&own, &outer.replace("#pragma once", ""));
        }
    }
    assert!(source.contains(&include), "the instance includes {header}");
    let source = source.replacen(&include, &text, 1).replace(&include, "");
    let source = source.replace(&instance.entry, Instance::ENTRY);
    Instance { source, ..instance.clone() }.named("planted")
}

#[test]
fn planted_bugs_are_found() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let f32 = Element::F32;
    let two = || ProductCase::new(tf32_kernel(TwoTerms, 32, 1, 1), PANELS_48, [40, 100, 300], 1);
    let split =
        || ProductCase::new(tf32_kernel(ThreeTerms, 16, 1, 2), Weights::Nk, [40, 100, 100], 2);
    let skinny = || ProductCase::new(skinny_kernel(f32, 2, 64, 2), Weights::Nk, [2, 37, 150], 3);
    let panels = || ProductCase::new(skinny_kernel(f32, 1, 64, 1), PANELS_48, [1, 50, 150], 4);
    let half =
        || ProductCase::new(skinny_kernel(Element::Bf16, 8, 128, 1), Weights::Kn, [5, 72, 190], 5);
    let special = |case: ProductCase| ProductCase { values: Values::Special, ..case };
    let bugs: [(&str, ProductCase, &str, &str, &str); 12] = [
        // With a split the cluster's barrier orders the same.
        (
            "barriers used before they are there",
            two(),
            "gemm/tf32_gemm.cuh",
            "    __syncthreads();\n",
            "",
        ),
        (
            "terms not shown to wgmma",
            two(),
            "gemm/tf32_gemm.cuh",
            "            ptx::fence_proxy_async_shared();\n",
            "",
        ),
        (
            "terms not waited for",
            two(),
            "gemm/tf32_gemm.cuh",
            "if constexpr (Config::TERMS > 1) ptx::mbarrier_wait(&s.ready[state.slot], state.phase);",
            "",
        ),
        (
            "one product of three",
            two(),
            "gemm/tf32_gemm.cuh",
            "int order = Config::TERMS - 1;",
            "int order = 0;",
        ),
        (
            "rows behind the last",
            two(),
            "gemm/tf32_gemm.cuh",
            "if (row < p.m && column < p.n) store(",
            "if (column < p.n) store(",
        ),
        (
            "a part read before it is there",
            split(),
            "gemm/tf32_gemm.cuh",
            "    ptx::mbarrier_wait_cluster(&s.filled, phase);\n",
            "",
        ),
        (
            "a part overwritten while it is read",
            split(),
            "gemm/tf32_gemm.cuh",
            "    ptx::mbarrier_wait_cluster(&s.drained, phase ^ 1);\n",
            "",
        ),
        (
            "infinity minus infinity",
            special(two()),
            "gemm/tf32_terms.cuh",
            "term[1] = infinite ? x : rest;",
            "term[1] = rest;",
        ),
        (
            "zero times infinity",
            special(two()),
            "gemm/tf32_terms.cuh",
            "fmaf(x, 0x1p-30f, x - tf32_seen(x))",
            "x - tf32_seen(x)",
        ),
        (
            "columns behind the last",
            skinny(),
            "gemm/skinny_f32.cuh",
            "return c < columns && at < count ?",
            "return at < count ?",
        ),
        (
            "partial sums read too early",
            panels(),
            "gemm/skinny.cuh",
            "    __syncthreads();\n    const int thread",
            "    const int thread",
        ),
        (
            "a piece of the wrong k",
            half(),
            "gemm/skinny_16bit.cuh",
            "16 * (wk + i * WK) + 4 * q + r)",
            "16 * (wk + i * WK) + 4 * q)",
        ),
    ];
    for (what, case, header, from, to) in bugs {
        let right = case.instance().expect("in the contract");
        let wrong = planted(&right, header, from, to);
        let failures = |instance: &Instance| -> Vec<String> {
            let run = |i: usize| {
                let options = Options { schedule: schedule(i), threads: 1, ..Options::default() };
                let outcome = case.run_instance(instance, &bench, &mut Card::new(2), &options);
                outcome.unwrap_or_else(|e| panic!("{what}: {e}")).failures()
            };
            (0..3).flat_map(run).collect()
        };
        assert_eq!(failures(&right), [""; 0], "{what}");
        assert!(!failures(&wrong).is_empty(), "{what}: nothing is found");
    }
}

#[test]
fn weights_are_read_in_pieces_of_sixteen_bytes_and_nothing_spills() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    for of in instances() {
        let (kernel, weights, _, after) = of;
        let instance = case(of, [1, 1, 1], 0).instance().expect("in the contract");
        let compiled = bench.module(&instance).unwrap_or_else(|e| panic!("{}: {e}", instance.doc));
        let entries = zeroforge_sass::cubin::entries(&compiled.code.cubin).expect("a cubin");
        assert_eq!(
            entries.iter().map(|e| e.stack_bytes).max(),
            Some(0),
            "{}: spills",
            instance.doc
        );
        let text = std::str::from_utf8(&compiled.code.ptx).expect("text");
        if let Kernel::Skinny(operands, _) = kernel {
            let loads = || text.lines().map(str::trim).filter(|l| l.starts_with("ld.global"));
            let of_b = |l: &str| l.starts_with("ld.global.nc.L1::no_allocate.v4.u32");
            assert!(loads().any(of_b), "{}", instance.doc);
            // The rows of panels are whole pieces; what else is read is A, an element at a time.
            if matches!(weights, Weights::Panels { .. }) && after == After::Nothing {
                let bits = 8 * operands.bytes();
                let of_a = |l: &str| l.contains(&format!("{bits} ")) && !l.contains(".v");
                let stray = loads().find(|l| !of_b(l) && !of_a(l));
                assert_eq!(stray, None, "{}", instance.doc);
            }
        } else {
            assert!(
                text.contains("wgmma.mma_async") && text.contains("cp.async.bulk.tensor"),
                "{}",
                instance.doc
            );
        }
    }
}

/// Two launches of the same case give the same bytes, whatever the schedule: parts are added in their order.
#[test]
fn parts_of_k_are_added_in_one_order() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    for case in [
        ProductCase::new(tf32_kernel(ThreeTerms, 16, 1, 2), Weights::Nk, [20, 70, 200], 8),
        ProductCase::new(skinny_kernel(Element::F32, 1, 64, 8), PANELS_48, [1, 96, 700], 9),
    ] {
        let results: Vec<Vec<u8>> = (0..3)
            .map(|i| {
                let options = Options { schedule: schedule(i), threads: 1, ..Options::default() };
                let mut outcome =
                    case.run(&bench, &mut Card::new(1 + i as u32), &options).expect("runs");
                outcome.results.remove(0).bytes
            })
            .collect();
        assert!(results[0] == results[1] && results[1] == results[2], "{}", case.name());
    }
}

/// Words of a refusal, and what is refused with them.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Product));

#[test]
fn arguments_outside_of_the_contract_are_refused_by_name() {
    let size = |n: i64| Expr::constant(n);
    let operand =
        |strides: [i64; 4]| Operand { buffer: 0, offset: size(0), strides: strides.map(size) };
    let args = Product {
        batch: [size(1), size(1)],
        m: size(3),
        n: size(40),
        k: size(20),
        a: operand([0, 0, 20, 1]),
        b: operand([0, 0, 20, 1]),
        c: operand([0, 0, 40, 1]),
        extra: Vec::new(),
    };
    let spec = tf32::Spec {
        weights: Weights::Nk,
        precision: TwoTerms,
        out: Element::F32,
        epilogue: Epilogue::default(),
    };
    let tile = tf32::Tile { rows: 8, warpgroups: 1, split: 1 };
    assert!(tf32::plan(&spec, &tile, &args).is_ok());
    let thin = skinny::Spec {
        operands: Element::F32,
        out: Element::F32,
        weights: Weights::Nk,
        epilogue: Epilogue::default(),
    };
    let of_rows = skinny::Tile { rows: 4, chunk: 64, split: 1 };
    assert!(skinny::plan(&thin, &of_rows, &args).is_ok());
    let changes: [Change<'_>; 6] = [
        ("`a` has a stride of `76` bytes", &|p| p.a.strides[2] = size(19)),
        ("`b` has a stride of", &|p| p.b.strides[2] = size(19)),
        ("`k` is 0", &|p| p.k = size(0)),
        ("`c` has stride `2` along its contiguous axis", &|p| p.c.strides[3] = size(2)),
        ("`extra` has 1 operands", &|p| p.extra.push(p.c.clone())),
        ("`b` starts at byte `4`", &|p| p.b.offset = size(4)),
    ];
    for (words, change) in changes {
        let mut wrong = args.clone();
        change(&mut wrong);
        let refusal = tf32::plan(&spec, &tile, &wrong).expect_err(words).to_string();
        assert!(refusal.contains(words), "{refusal}");
        // A is copied element by element there.
        if !words.starts_with("`a`") {
            let refusal = skinny::plan(&thin, &of_rows, &wrong).expect_err(words).to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
    }
    let many = Product { m: size(5), ..args.clone() };
    assert!(
        skinny::plan(&thin, &of_rows, &many).expect_err("rows").to_string().contains("`m` is `5`")
    );
    assert!(skinny::select(&thin, Some(1), 17, None, None, 60).is_err());
    for weights in [Weights::Panels { columns: 20 }, Weights::Panels { columns: 0 }] {
        let wrong = tf32::Spec { weights, ..spec.clone() };
        assert!(
            tf32::instance(&wrong, &tile)
                .expect_err("panels")
                .to_string()
                .contains("`b` has panels")
        );
        let wrong = skinny::Spec { weights, ..thin.clone() };
        assert!(
            skinny::instance(&wrong, &of_rows)
                .expect_err("panels")
                .to_string()
                .contains("`b` has panels")
        );
    }
    let tall = tf32::Tile { rows: 136, ..tile };
    assert!(
        tf32::instance(&spec, &tall).expect_err("rows").to_string().contains("`tile` has 136 rows")
    );
}

/// What is chosen for the models' shapes is what can be made and launched.
#[test]
fn chosen_tiles_are_in_the_contract() {
    for sms in [60, 132] {
        for (n, k) in
            [(384, 384), (1536, 384), (384, 1536), (576, 576), (1536, 576), (49_152, 576), (7, 5)]
        {
            for m in [1, 2, 3, 16, 17, 100, 128, 1000, 4096] {
                let precision = Precision::f32(Some(k));
                let tile = tf32::select(Some(1), Some(m), Some(n), Some(k), sms);
                for weights in [Weights::Nk, Weights::Kn, PANELS_32, PANELS_48] {
                    let spec = tf32::Spec {
                        weights,
                        precision,
                        out: Element::F32,
                        epilogue: Epilogue::default(),
                    };
                    let instance =
                        tf32::instance(&spec, &tile).unwrap_or_else(|e| panic!("{tile:?}: {e}"));
                    assert!(instance.shared_bytes <= 227 * 1024, "{tile:?}");
                    for operands in [Element::F32, Element::Bf16] {
                        let spec = skinny::Spec {
                            operands,
                            out: operands,
                            weights,
                            epilogue: Epilogue::default(),
                        };
                        let Ok(tile) = skinny::select(&spec, Some(1), m, Some(n), Some(k), sms)
                        else {
                            assert!(m > skinny::MAX_ROWS);
                            continue;
                        };
                        skinny::instance(&spec, &tile).unwrap_or_else(|e| panic!("{tile:?}: {e}"));
                    }
                }
            }
        }
    }
}
