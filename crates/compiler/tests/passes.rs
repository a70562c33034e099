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

/// Both graphs give the same on random inputs, but for rounding; `None` if the first cannot be run.
/// Without `strict`, a result that is no number may become anything: masks of `-inf` are recognised for
/// scores that are numbers.
fn difference(before: &Graph, after: &Graph, strict: bool) -> Option<Result<(), String>> {
    let mut random = Random(0x9a55);
    for _ in 0..6 {
        let inputs = inputs(before, &mut random);
        let run = |graph: &Graph| {
            let mut interpreter = Interpreter::new(graph, None, InterpretOptions::default());
            interpreter.run(&inputs).map(|run| run.outputs)
        };
        let expected = run(before).ok()?;
        let found = match run(after) {
            Ok(found) => found,
            Err(e) => return Some(Err(e.to_string())),
        };
        for (a, b) in expected.iter().zip(found) {
            if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
                return Some(Err(format!("{:?} and {:?}", a.shape, b.shape)));
            }
            let tolerance = if a.dtype.size() == 2 { 2e-2 } else { 1e-5 };
            for (x, y) in a.to_f64().into_iter().zip(b.to_f64()) {
                let same = x == y || x.is_nan() && y.is_nan() || !strict && !x.is_finite();
                // A difference that is no number is not close.
                let close = (x - y).abs() <= tolerance * (1.0 + x.abs());
                if !same && !close {
                    return Some(Err(format!("{x} and {y}")));
                }
            }
        }
    }
    Some(Ok(()))
}

fn assert_equal(name: &str, before: &Graph, after: &Graph) {
    match difference(before, after, true) {
        Some(result) => result.unwrap_or_else(|e| panic!("{name}: {e}")),
        None => panic!("{name}: it cannot be interpreted"),
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

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    let filter = std::env::var("CASE").unwrap_or_default();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.to_string_lossy().contains(&filter));
    paths.sort();
    paths
}

/// One or two words of a graph changed: an operand, a number, an operation.
fn mutated(source: &str, random: &mut Random) -> String {
    let mut pick = |n: usize| (random.next() % n.max(1) as u64) as usize;
    let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
    for _ in 0..=pick(2) {
        let at = pick(lines.len());
        let names: Vec<String> = lines[..at]
            .iter()
            .filter_map(|l| l.trim_start().trim_start_matches("input ").strip_prefix('%'))
            .filter_map(|l| l.split([' ', ':']).next().map(|n| format!("%{n}")))
            .collect();
        let line = &lines[at];
        let Some((head, tail)) = line.split_once('(') else { continue };
        let Some((arguments, ty)) = tail.rsplit_once(')') else { continue };
        let mut words: Vec<String> = arguments.split(", ").map(str::to_owned).collect();
        let word = pick(words.len());
        let numbers = ["0", "1", "2", "3", "-1", "0.0", "1.0", "-inf", "-0.0", "0.5"];
        let mut head = head.to_owned();
        match words[word].split_once(": ").map(|(key, _)| key.to_owned()) {
            Some(key) => words[word] = format!("{key}: {}", numbers[pick(numbers.len())]),
            None if pick(3) == 0 => {
                let ops =
                    ["add", "sub", "mul", "div", "le", "lt", "gt", "ge", "eq", "ne", "and", "or"];
                let op = ops[pick(ops.len())];
                head = format!("{}= {op}", head.split('=').next().unwrap_or_default());
            }
            None if !names.is_empty() => words[word] = names[pick(names.len())].clone(),
            None => {}
        }
        lines[at] = format!("{head}({}){ty}", words.join(", "));
    }
    lines.join("\n")
}

/// Passes keep the meaning of graphs that look almost like those that they are made for.
#[test]
fn mutated_graphs_keep_their_meaning() {
    let mut random = Random(0xfa57);
    let mut valid = 0;
    for path in cases() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (source, _) = text.split_once(ARROW).unwrap();
        for _ in 0..40 {
            let text = mutated(source, &mut random);
            let Ok(before) = parse(&text) else { continue };
            if verify(&before).is_err() {
                continue;
            }
            let after = optimize(&before, None).unwrap_or_else(|e| panic!("{e}\n{text}"));
            let Some(result) = difference(&before, &after, false) else { continue };
            result.unwrap_or_else(|e| panic!("{e}\n{text}\n{}", print(&after)));
            valid += 1;
        }
    }
    assert!(valid > 500, "only {valid} mutations are graphs");
}

#[test]
fn passes_give_what_is_stored() {
    let filter = std::env::var("CASE").unwrap_or_default();
    let paths = cases();
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
