//! The machine code of the main instances keeps the limits of `kernels/gates.toml`, and a planted change does not.

use zeroforge_compiler::cuda::find_nvdisasm;
use zeroforge_conformance::bench::Bench;
use zeroforge_kernels::{Instance, attention, gemm};
use zeroforge_sass::gate::{Gate, Violation};
use zeroforge_sass::{Disassembler, Launch, Report, kernels, report};

const GATES: &str = include_str!("../../../kernels/gates.toml");

/// Name on the page of comparisons, and instance.
fn instances() -> Vec<(String, Instance)> {
    use attention::Element::{Bf16, E4m3};
    let mut list = Vec::new();
    for (element, dim) in [(Bf16, 64), (Bf16, 128), (Bf16, 256), (E4m3, 128)] {
        for (mask, causal) in [("full", false), ("causal", true)] {
            let dense = attention::Forward::dense(element, dim, dim);
            let spec = attention::Forward { window_right: causal, ..dense };
            let name = format!("attention {} {dim} {mask}", element.name());
            list.push((name, spec.instance().expect("inside the contract")));
        }
    }
    for name in ["pingpong_64x256", "pingpong_128x128", "cooperative_128x256"] {
        let variant = gemm::Variant::named(name).expect("a variant");
        let spec = gemm::Spec::new(gemm::Element::Bf16, gemm::Element::Bf16);
        let instance = gemm::instance(&spec, variant).expect("inside the contract");
        list.push((format!("gemm bf16 {name}"), instance));
    }
    list
}

struct Tools {
    bench: Bench,
    disassembler: Disassembler,
}

fn tools() -> Option<Tools> {
    let Some(found) = find_nvdisasm() else {
        eprintln!("skipped: no disassembler; run `zeroforge toolchain install --sass`");
        return None;
    };
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    Some(Tools { bench, disassembler: Disassembler::new(&found.path) })
}

impl Tools {
    fn report(&self, name: &str, instance: &Instance) -> Report {
        let compiled = self.bench.module(instance).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found = kernels(&compiled.code.cubin, &instance.entry, &self.disassembler);
        let mut kernel = found.unwrap_or_else(|e| panic!("{name}: {e}")).remove(0);
        kernel.entry.name = name.to_owned();
        let launch = Launch {
            threads: Some(instance.block),
            dynamic_shared: u64::from(instance.shared_bytes),
        };
        report(&kernel, &launch)
    }
}

fn gate() -> Gate {
    Gate::parse(GATES).expect("gates")
}

#[test]
fn the_main_instances_keep_their_limits() {
    let Some(tools) = tools() else { return };
    let reports: Vec<Report> =
        instances().iter().map(|(name, instance)| tools.report(name, instance)).collect();
    let gate = gate();
    assert_eq!(gate.unused(&reports.iter().collect::<Vec<_>>()), Vec::<&str>::new());
    let broken: Vec<Violation> = reports.iter().flat_map(|r| gate.check(r, None)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Without the vote that ends a block of instructions, ptxas moves exponentials behind the wait for P V.
#[test]
fn exponentials_out_of_the_shadow_are_found() {
    let Some(tools) = tools() else { return };
    let spec = attention::Forward::dense(attention::Element::Bf16, 128, 128);
    let mut instance = spec.instance().expect("inside the contract");
    let softmax = zeroforge_kernels::headers::DEVICE
        .iter()
        .find(|(name, _)| *name == "attention/softmax.cuh")
        .expect("the header")
        .1;
    let vote = "if (__any_sync(0xffffffffu, sum[0] < 0.0f || sum[1] < 0.0f)) __syncwarp();";
    assert!(softmax.contains(vote), "the vote is written differently");
    let planted = softmax.replace(vote, "");
    instance.source = instance.source.replace(&instance.entry, Instance::ENTRY);
    instance.source = inline(&instance.source, "attention/softmax.cuh", &planted);
    let instance = instance.named("planted");
    let broken = gate().check(&tools.report("attention bf16 128 full", &instance), None);
    assert!(broken.iter().any(|v| v.rule == "min_ex2_in_shadow"), "{broken:#?}");
}

/// A source with its headers in the places of their includes, each once, one of them another text.
fn inline(source: &str, changed: &str, text: &str) -> String {
    fn add(source: &str, seen: &mut Vec<String>, changed: (&str, &str), out: &mut String) {
        for line in source.lines() {
            let name = line.trim().strip_prefix("#include \"").and_then(|l| l.split('"').next());
            let Some(name) = name else {
                if line.trim() != "#pragma once" {
                    out.push_str(line);
                    out.push('\n');
                }
                continue;
            };
            if seen.iter().any(|s| s == name) {
                continue;
            }
            seen.push(name.to_owned());
            let known = zeroforge_kernels::headers::DEVICE.iter().find(|h| h.0 == name);
            let text = if name == changed.0 { changed.1 } else { known.expect("a header").1 };
            add(text, seen, changed, out);
        }
    }
    let mut out = String::new();
    add(source, &mut Vec::new(), (changed, text), &mut out);
    out
}
