//! Lists of what kernels compute, whose contents lie: refused, or computed within bounds.

use serde_json::Value;
use zeroforge_artifact::Target;
use zeroforge_artifact::program::Program;
use zeroforge_compiler::cuda::CudaBackend;
use zeroforge_compiler::kernel_spec::KernelSpec;
use zeroforge_compiler::loop_ir::Extent;
use zeroforge_compiler::pipeline::{prepare, schedule_for};
use zeroforge_compiler::reference::{Memory, compute};
use zeroforge_compiler::spec_file::{self, Arguments, Specs};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};

use crate::harness::{Rng, attempt, cuts, fixture, mutate, mutate_json};

/// The specs and program of a fixture.
fn specs(name: &str) -> (Specs, Program) {
    let files = WeightFiles::none();
    let graph = load_pt2(&fixture(name), &files, &ImportOptions::default()).expect("a model").graph;
    let graph = prepare(&graph, &files).expect("passes");
    let target = Target::SM_90A;
    let schedule = schedule_for(&graph, &CudaBackend::new(target), target).expect("kernels");
    (schedule.specs, schedule.program)
}

/// One region, so that some accesses are inside.
struct Small([u8; 256]);

impl Memory for Small {
    fn region(&self, address: u64) -> Option<(u64, &[u8])> {
        (address < 256).then_some((0, &self.0))
    }
}

/// Whether the constant part of an index space is small enough for a test.
fn is_small(spec: &KernelSpec) -> bool {
    let KernelSpec::Loop(kernel) = spec else { return true };
    let sizes = kernel.outer.iter().chain(&kernel.inner);
    let constant = sizes.map(|e| if let Extent::Const(n) = e { *n as f64 } else { 4.0 });
    constant.product::<f64>() < 1e5
}

#[test]
fn lists_of_kernels_are_checked_before_anything_is_computed() {
    let mut rng = Rng(0x5eed);
    let memory = Small([1; 256]);
    let (mut accepted, mut refused) = (0, 0);
    for name in ["tiny_bert.pt2", "reductions.pt2", "kv_cache_index_put.pt2", "indexing.pt2"] {
        let (mut specs, program) = specs(name);
        // Some more arguments that say what the steps' own blocks do.
        for (step, info) in program.steps.iter().enumerate().step_by(2) {
            if specs.arguments(step).is_none() {
                let (step, params) = (step as u32, info.params.clone());
                specs.arguments.push(Arguments { step, params });
                specs.arguments.sort_by_key(|a| a.step);
            }
        }
        let bytes = spec_file::encode(&specs);
        assert_eq!(spec_file::decode(&bytes, &program), Ok(specs));
        for cut in cuts(bytes.len() - 1, &mut rng) {
            let read = || spec_file::decode(&bytes[..cut], &program);
            assert!(attempt("a list that is cut", cut, read).is_err());
        }
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        for round in 0..400 {
            let text = if round % 2 == 0 {
                let mut value = value.clone();
                mutate_json(&mut value, &mut rng);
                serde_json::to_vec(&value).expect("JSON")
            } else {
                mutate(&bytes, &mut rng)
            };
            let what = format!("{name}, round {round}");
            let Ok(specs) = attempt(&what, text.len(), || spec_file::decode(&text, &program))
            else {
                refused += 1;
                continue;
            };
            accepted += 1;
            for (spec, kernel) in
                specs.kernels.iter().zip(&program.kernels).filter(|(s, _)| is_small(s))
            {
                let word = rng.below(4) as u64;
                let words = vec![word; kernel.param_bytes as usize / 8];
                let params: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                let _ = attempt(&what, text.len(), || compute(spec, &params, &memory));
            }
        }
    }
    assert!(accepted > 50 && refused > 400, "{accepted} accepted, {refused} refused");
}
