//! Decode attention on the emulator: all checkers on, late, eager and random schedules in turn.

use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::card::Card;
use zeroforge_conformance::case::{Case, run_on_emulator};
use zeroforge_conformance::decode::{DecodeCase, SPECS, Splits, drawn, example, listed};
use zeroforge_emulator::{Options, Schedule};
use zeroforge_kernels::Instance;
use zeroforge_kernels::decode::{combine_instance, decode_instance};
use zeroforge_kernels::headers::DEVICE;

fn bench() -> Bench {
    Bench::open().expect("a compiler: `zeroforge toolchain install`")
}

fn sms(case: usize) -> u32 {
    if case.is_multiple_of(2) { 132 } else { 60 }
}

fn run(cases: &[DecodeCase]) {
    let cases: Vec<&dyn Case> = cases.iter().map(|c| c as &dyn Case).collect();
    let failures = run_on_emulator(&bench(), &cases, &sms);
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// `ZEROFORGE_DECODE_CASE` runs one drawn case alone.
#[test]
fn drawn_cases_are_right() {
    match std::env::var("ZEROFORGE_DECODE_CASE").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => run(&[drawn(seed)]),
        None => run(&(0..240).map(drawn).collect::<Vec<_>>()),
    }
}

#[test]
fn listed_cases_are_right() {
    run(&listed());
}

/// The texts that an instance includes, the one with a bug changed, in the places of their includes.
fn with_bug(mut instance: Instance, header: &str, from: &str, to: &str) -> Instance {
    let text = |name: &str| -> String {
        let found = DEVICE.iter().find(|h| h.0 == name).unwrap_or_else(|| panic!("no {name}"));
        found.1.to_owned()
    };
    let include = |name: &str| format!("#include \"{name}\"\n");
    let good = text(header);
    assert_eq!(good.matches(from).count(), 1, "`{from}` in {header}");
    let bad = good.replace(from, to);
    let main = ["attention/decode.cuh", "attention/combine.cuh", "attention/append.cuh"]
        .into_iter()
        .find(|name| instance.source.contains(&include(name)))
        .expect("an instance of the family");
    let replacement = if header == main { bad } else { text(main).replace(&include(header), &bad) };
    if replacement == text(main) {
        return instance;
    }
    instance.source = instance.source.replace(&include(main), &replacement);
    let entry = instance.entry.clone();
    instance.source = instance.source.replace(&entry, Instance::ENTRY);
    instance.named("bug")
}

struct Bug {
    what: &'static str,
    header: &'static str,
    from: &'static str,
    to: &'static str,
    case: DecodeCase,
}

fn bugs() -> Vec<Bug> {
    let [plain, padded, windows, sinks, appended, latent, tensor] =
        ["plain", "padded", "windows", "sinks", "appended", "latent", "tensor"].map(example);
    let decode = "attention/decode.cuh";
    let bug = |what, header, from, to, case: &DecodeCase| Bug {
        what,
        header,
        from,
        to,
        case: case.clone(),
    };
    vec![
        bug(
            "copies and queries are not fenced for wgmma",
            decode,
            "                ptx::fence_proxy_async_shared();\n                __syncthreads();\n            }",
            "                __syncthreads();\n            }",
            &plain,
        ),
        bug(
            "warps multiply what others have not copied yet",
            decode,
            "                ptx::fence_proxy_async_shared();\n                __syncthreads();\n            }",
            "                ptx::fence_proxy_async_shared();\n            }",
            &plain,
        ),
        bug(
            "a tile is used before its copies are complete",
            decode,
            "cp_async_wait_group<C::STAGES - 2>",
            "cp_async_wait_group<C::STAGES - 1>",
            &plain,
        ),
        bug(
            "the output is not rescaled",
            decode,
            "o[i] *= rescale[i / 2 % 2];",
            "o[i] *= 1.0f;",
            &plain,
        ),
        bug(
            "a row sees one key too many",
            "attention/decode_softmax.cuh",
            "place >= rows.to[i / 2 % 2]",
            "place > rows.to[i / 2 % 2]",
            &windows,
        ),
        bug("a window's first tile is not masked", decode, "row < work.all_from || ", "", &windows),
        bug(
            "rows behind a sequence's end are read",
            "attention/decode_cache.cuh",
            "(uint32_t)(first + row) < count ? 16 : 0",
            "first + row >= 0 ? 16 : 0",
            &plain,
        ),
        bug(
            "padding is read",
            "attention/decode_cache.cuh",
            "(uint32_t)(first + row) < count ? 16 : 0",
            "first + row < (int)count ? 16 : 0",
            &padded,
        ),
        bug(
            "splits overlap",
            decode,
            "w.tiles = min(w.tile + share, end);",
            "w.tiles = min(w.tile + share + 1, end);",
            &plain,
        ),
        bug(
            "outputs of splits that saw nothing are read",
            "attention/combine.cuh",
            "if (!(used[i] >> split & 1)) continue;",
            "",
            &padded,
        ),
        bug(
            "a sink is forgotten where splits are added up",
            "attention/combine.cuh",
            "if (p.sinks) {",
            "if (false) {",
            &sinks,
        ),
        bug(
            "new keys are rotated by the position before",
            "attention/append.cuh",
            "min((int64_t)row, p.rotary_positions - 1)",
            "min((int64_t)row - 1, p.rotary_positions - 1)",
            &appended,
        ),
        bug(
            "new rows overwrite the last one",
            "attention/append.cuh",
            "const int row = s.filled + token;",
            "const int row = max(s.filled + token - 1, 0);",
            &appended,
        ),
        bug(
            "queries are rotated the wrong way",
            "attention/decode_rotary.cuh",
            "second ? x[i] * c[i] + partner[i] * s[i] : x[i] * c[i] - partner[i] * s[i]",
            "second ? x[i] * c[i] - partner[i] * s[i] : x[i] * c[i] + partner[i] * s[i]",
            &appended,
        ),
        bug(
            "what lies around a sequence stays in tiles of tensor copies",
            "attention/decode_tensor.cuh",
            "if (place < s.begin || place >= s.length)",
            "if (false)",
            &tensor,
        ),
        bug(
            "the parity of the ring's barriers does not change",
            decode,
            "if (slot == C::STAGES - 1) phase ^= 1;",
            "",
            &tensor,
        ),
        bug(
            "warpgroups do not exchange maxima",
            decode,
            "most[0] = fmaxf(most[0], exchange[(warpgroup ^ 1) * DECODE_ROWS + block_row(0)]);",
            "",
            &latent,
        ),
        bug(
            "probabilities are read before the other warpgroup has written them",
            decode,
            "                ptx::fence_proxy_async_shared();\n                __syncthreads();\n                multiply_values_shared",
            "                ptx::fence_proxy_async_shared();\n                multiply_values_shared",
            &latent,
        ),
    ]
}

#[test]
fn planted_bugs_are_found() {
    let bench = bench();
    let mut missed = Vec::new();
    for (i, bug) in bugs().iter().enumerate() {
        let mutate = |instance| with_bug(instance, bug.header, bug.from, bug.to);
        let found = [Schedule::Late, Schedule::Eager].into_iter().any(|schedule| {
            let options = Options { schedule, ..Options::default() };
            let outcome = bug.case.run_mutated(&bench, &mut Card::new(sms(i)), &options, &mutate);
            !outcome.unwrap_or_else(|e| panic!("{}: {e}", bug.what)).failures().is_empty()
        });
        if !found {
            missed.push(bug.what);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

#[test]
fn no_instance_spills() {
    let bench = bench();
    let mut instances = Vec::new();
    for (spec, splits) in SPECS {
        for partial in [false, true] {
            if *splits == Splits::Any || (*splits == Splits::Several) == partial {
                instances.push(decode_instance(spec, partial));
            }
        }
        instances.push(combine_instance(spec.dtype, spec.value_dim));
    }
    for instance in instances {
        let compiled = bench.module(&instance).unwrap_or_else(|e| panic!("{e}"));
        let entries = zeroforge_sass::cubin::entries(&compiled.code.cubin).expect("a cubin");
        for entry in entries {
            println!(
                "{:>3} registers, {} bytes of stack: {}",
                entry.registers, entry.stack_bytes, instance.doc
            );
            assert_eq!(entry.stack_bytes, 0, "{} uses the stack", instance.doc);
        }
    }
}
