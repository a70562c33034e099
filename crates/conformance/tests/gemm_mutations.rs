//! Bugs planted in the device code: the cases and the emulator's checkers must find each.

use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::card::Card;
use zeroforge_conformance::gemm::{Filling, GemmCase, Sizes};
use zeroforge_emulator::{Options, Schedule};
use zeroforge_kernels::gemm::{Conv, Element, Epilogue, Extra, Spec, Step, Store, Variant};
use zeroforge_kernels::headers::DEVICE;

/// The source with the family's headers in the place of their includes.
fn inlined(source: &str) -> String {
    let mut text = String::new();
    for name in
        ["gemm/scheduler.cuh", "gemm/mainloop.cuh", "gemm/epilogue.cuh", "gemm/tensor_gemm.cuh"]
    {
        let header = DEVICE.iter().find(|h| h.0 == name).expect("a header").1;
        text.push_str(&header.replace("#pragma once", ""));
    }
    let text: Vec<&str> = text.lines().filter(|l| !l.starts_with("#include \"gemm/")).collect();
    source.replace("#include \"gemm/tensor_gemm.cuh\"", &text.join("\n"))
}

fn case(spec: Spec, variant: &str, (m, n, k): (i64, i64, i64)) -> GemmCase {
    let image = if spec.conv.is_some() { [9, 7, 1, 2] } else { [1; 4] };
    GemmCase {
        spec,
        variant: Variant::named(variant).expect("a variant"),
        sizes: Sizes {
            batch: [1, 1],
            shared: [[false; 2]; 2],
            m,
            n,
            k,
            gaps: [1, 0, 1],
            groups: Vec::new(),
            image,
        },
        filling: Filling::Normal,
        seed: 7,
    }
}

/// Whether the case, with its kernel edited, fails under one of the schedules.
fn is_found(bench: &Bench, case: &GemmCase, edit: &dyn Fn(String) -> String) -> bool {
    [Schedule::Late, Schedule::Eager, Schedule::Random(1)].into_iter().any(|schedule| {
        let options = Options { schedule, instruction_budget: 50_000_000, ..Options::default() };
        case.run_edited(bench, &mut Card::new(2), &options, edit).map_or_else(
            |e| panic!("the planted bug does not run: {e}"),
            |o| !o.failures().is_empty(),
        )
    })
}

#[test]
fn planted_bugs_are_found() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let bf16 = || Spec { store: Store::Copies, ..Spec::new(Element::Bf16, Element::Bf16) };
    let lanes = || Spec::new(Element::Bf16, Element::F32);
    let biased =
        || Spec { epilogue: Epilogue::of([Step::Add(Extra::Column(Element::F32))]), ..bf16() };
    let residual =
        || Spec { epilogue: Epilogue::of([Step::Add(Extra::Copied(Element::Bf16))]), ..bf16() };
    let image = || Spec {
        conv: Some(Conv {
            taps: [3, 3, 1],
            stride: [1; 3],
            padding: [1, 1, 0],
            dilation: [1; 3],
            patch: [8, 8, 1, 1],
        }),
        ..bf16()
    };
    let bugs: Vec<(&str, GemmCase, &str, &str)> = vec![
        (
            "a slot is given back before its products are done",
            case(bf16(), "cooperative_128x128", (140, 130, 900)),
            "        ptx::wgmma_wait_group<1>();\n        release(s, last);",
            "        release(s, state.slot);\n        ptx::wgmma_wait_group<1>();",
        ),
        (
            "products are not waited for before their sums are stored",
            case(bf16(), "cooperative_128x128", (140, 130, 300)),
            "    issued();\n    ptx::wgmma_wait_group<0>();",
            "    issued();\n    ptx::wgmma_wait_group<1>();",
        ),
        (
            "copies read panels without a proxy fence",
            case(bf16(), "pingpong_64x128_split", (100, 130, 70)),
            "            ptx::fence_proxy_async_shared();\n",
            "",
        ),
        (
            "the next residual is copied over a panel that is being stored",
            case(residual(), "pingpong_128x128", (100, 130, 64)),
            "                    ptx::bulk_wait_group_read<0>();\n",
            "",
        ),
        (
            "a panel is written while a copy may read it",
            case(bf16(), "pingpong_64x256", (200, 256, 70)),
            "            if (thread == 0) ptx::bulk_wait_group_read<1>();\n",
            "",
        ),
        (
            "the last band of tiles has the height of the others",
            case(bf16(), "pingpong_64x64_split", (700, 130, 16)),
            "const int height = min(p.band, rows - first);",
            "const int height = p.band;",
        ),
        (
            "a part is not added",
            case(bf16(), "pingpong_64x64_split", (60, 60, 700)),
            "for (int part = 0; part < w.parts; ++part)",
            "for (int part = 0; part < w.parts - 1; ++part)",
        ),
        (
            "parts are counted before they are written",
            case(bf16(), "cooperative_128x128_split", (60, 60, 700)),
            "    ptx::bar_sync(EPILOGUE + warpgroup, 128);\n    int *const counter",
            "    int *const counter",
        ),
        (
            "skipped slots do not change the phase",
            case(bf16(), "pingpong_128x128", (300, 300, 500)),
            "state.phase ^= to / STAGES & 1;",
            "",
        ),
        (
            "warpgroups do not take turns",
            case(bf16(), "pingpong_64x128_split", (300, 300, 500)),
            "            ptx::bar_sync(TURN + warpgroup, 256);\n        }\n",
            "        }\n",
        ),
        (
            "the epilogue reads a bias behind its end",
            case(biased(), "pingpong_128x128", (100, 130, 64)),
            "min(column + 1, p.n - 1)",
            "column + 1",
        ),
        (
            "a column too many is stored",
            case(lanes(), "cooperative_128x128", (100, 130, 64)),
            "if (row >= 0 && column < p.n) {",
            "if (row >= 0 && column <= p.n) {",
        ),
        (
            "blocks of a cluster leave while the other copies",
            case(bf16(), "pingpong_128x128_cluster2", (300, 130, 300)),
            "        __syncwarp();\n        ptx::barrier_cluster_arrive();\n        ptx::barrier_cluster_wait();\n    }\n}",
            "    }\n}",
        ),
        (
            "a cluster's slots are given back to one block",
            case(bf16(), "cooperative_128x256_cluster2", (200, 200, 600)),
            "if (threadIdx.x % 128 < Config::CLUSTER)",
            "if (threadIdx.x % 128 < 1)",
        ),
        (
            "taps are taken with the padding's wrong sign",
            case(image(), "cooperative_128x128", (0, 40, 30)),
            "patch.at[i] * Config::STRIDE[i] - Config::PADDING[i]",
            "patch.at[i] * Config::STRIDE[i] + Config::PADDING[i]",
        ),
    ];
    let mut missed = Vec::new();
    for (bug, case, from, to) in &bugs {
        assert!(
            !is_found(&bench, case, &|source| inlined(&source)),
            "without the bug it fails: {bug}"
        );
        let planted = |source: String| {
            let text = inlined(&source);
            assert!(text.contains(from), "the code has changed, plant it anew: {bug}");
            text.replace(from, to)
        };
        if !is_found(&bench, case, &planted) {
            missed.push(*bug);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
