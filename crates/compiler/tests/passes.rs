//! Golden tests of the graph passes: every file of `tests/passes` is `PASS.CASE.txt` with a graph, a line
//! `=====>`, and what the pass makes of it. Both are also interpreted on random inputs.
//!
//! `BLESS=1` writes what is found; `CASE=name` runs the files whose name contains `name`.

use std::path::{Path, PathBuf};

use zeroforge_artifact::{CpuIsa, DType, Target};
use zeroforge_compiler::cpu::CpuBackend;
use zeroforge_compiler::passes::{PIPELINE, optimize};
use zeroforge_compiler::pipeline::schedule_for;
use zeroforge_graph::interpret::{Data, InterpretOptions, Interpreter, Tensor};
use zeroforge_graph::text::{parse, print};
use zeroforge_graph::{Graph, verify};

const ARROW: &str = "=====>\n";

/// A small generator of pseudorandom numbers (xorshift), seeded so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Inputs of one call: every symbol between its bounds, elements small.
fn inputs(graph: &Graph, random: &mut Random) -> Vec<(String, Tensor)> {
    let symbols: Vec<i64> = graph
        .symbols
        .iter()
        .map(|s| {
            let span = (s.range.max.min(s.range.min + 6) - s.range.min + 1) as u64;
            s.range.min + (random.next() % span) as i64
        })
        .collect();
    let tensor = |random: &mut Random, dtype: DType, shape: Vec<usize>| {
        let count: usize = shape.iter().product();
        let data = match dtype {
            DType::Bool => {
                Data::Int((0..count).map(|_| (!random.next().is_multiple_of(3)).into()).collect())
            }
            dtype if dtype.is_float() => {
                Data::Float((0..count).map(|_| (random.next() % 65) as f64 / 16.0 - 2.0).collect())
            }
            _ => Data::Int((0..count).map(|_| (random.next() % 8) as i64).collect()),
        };
        Tensor { dtype, shape, data }
    };
    graph
        .inputs
        .iter()
        .map(|input| {
            let ty = graph.ty(input.value);
            let shape = ty.shape.iter().map(|e| e.eval(&symbols).unwrap() as usize).collect();
            (input.name.clone(), tensor(random, ty.dtype, shape))
        })
        .collect()
}

/// Both graphs give the same on random inputs, but for rounding.
fn assert_equal(name: &str, before: &Graph, after: &Graph) {
    let mut random = Random(0x9a55);
    for _ in 0..6 {
        let inputs = inputs(before, &mut random);
        let run = |graph: &Graph| {
            let run = Interpreter::new(graph, None, InterpretOptions::default()).run(&inputs);
            run.unwrap_or_else(|e| panic!("{name}: {e}")).outputs
        };
        for (a, b) in run(before).iter().zip(run(after)) {
            assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape), "{name}");
            for (x, y) in a.to_f64().iter().zip(b.to_f64()) {
                let close = *x == y || x.is_nan() && y.is_nan();
                assert!(close || (x - y).abs() <= 1e-5 * (1.0 + x.abs()), "{name}: {x} and {y}");
            }
        }
    }
}

fn check(path: &Path, wrong: &mut Vec<String>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).unwrap();
    let (source, golden) = text.split_once(ARROW).unwrap_or_else(|| panic!("{name}: no arrow"));
    let before = parse(source).unwrap_or_else(|e| panic!("{name}:{e}"));
    verify(&before).unwrap_or_else(|e| panic!("{name}: {e}"));
    let pass = name.split('.').next().unwrap_or_default();
    let pass = PIPELINE.iter().find(|p| p.name == pass);
    let pass = pass.unwrap_or_else(|| panic!("{name}: no pass of that name"));
    let after = pass.run(&before, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    verify(&after).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_equal(&name, &before, &after);
    let whole = optimize(&before, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_equal(&format!("{name}, all passes"), &before, &whole);
    // What passes make can be lowered.
    let schedule = schedule_for(&whole, &CpuBackend::new(CpuIsa::X86_64V3), Target::X86_64_V3);
    schedule.unwrap_or_else(|e| panic!("{name}: {e}"));
    let found = print(&after);
    if found == golden {
        return;
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, format!("{source}{ARROW}{found}")).unwrap();
    } else {
        wrong.push(format!("{name} gives\n{found}"));
    }
}

#[test]
fn passes_give_what_is_stored() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    let filter = std::env::var("CASE").unwrap_or_default();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.to_string_lossy().contains(&filter));
    paths.sort();
    let mut wrong = Vec::new();
    paths.iter().for_each(|p| check(p, &mut wrong));
    assert!(wrong.is_empty(), "{}\nBLESS=1 rewrites the files", wrong.join("\n"));
    if filter.is_empty() {
        for pass in PIPELINE {
            let of_pass = |p: &PathBuf| {
                p.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with(&format!("{}.", pass.name)))
            };
            assert!(paths.iter().any(of_pass), "no case of `{}`", pass.name);
        }
    }
}
