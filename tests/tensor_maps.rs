//! A program with tensor maps, clusters, counters and a persistent kernel, made by hand: inspected, verified, and run
//! on the software device of both sizes.
//!
//! Needs NVIDIA's compiler (`make test` installs it); without it the tests say that they are skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use half::bf16;
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::{Layout, ModuleEntry, Provenance, TargetEntry, WeightEntry};
use zeroforge_artifact::program::{
    Buffer, Kernel, Param, ParamValue, Place, Port, Signature, Step, SymbolDecl,
};
use zeroforge_artifact::tensor_map::{DataType, L2Promotion, Swizzle, TensorMap};
use zeroforge_artifact::{
    Artifact, ArtifactBuilder, DType, Expr, Manifest, Program, Symbol, SymbolRange, Target, abi,
};
use zeroforge_compiler::cuda::{CudaModule, Nvrtc, compile_source, find_nvrtc};
use zeroforge_compiler::kernel_spec::{BLayout, Epilogue, GemmSpec, KernelSpec};
use zeroforge_compiler::spec_file::{self, Arguments, Specs};
use zeroforge_runtime::{Tensor, tensor_io};

const SOURCE: &str = include_str!("tensor_maps/kernel.cu");
/// Columns, a whole number of 8 elements and not of tiles.
const N: i64 = 40;
/// Length of products: rows of 144 bytes, the second box of each half outside.
const K: i64 = 72;

fn c(v: i64) -> Expr {
    Expr::constant(v)
}

fn rows() -> Expr {
    Expr::symbol(Symbol(0))
}

/// Compiled code of a source; `None` without a compiler.
fn module(source: &str) -> Option<CudaModule> {
    let Some(nvrtc) = find_nvrtc().and_then(|found| Nvrtc::load(&found.path).ok()) else {
        eprintln!("skipped: no CUDA compiler; run `zeroforge toolchain install`");
        return None;
    };
    Some(compile_source(&nvrtc, "kernel.cu", source, Target::SM_90A, &[]).expect("code"))
}

/// Boxes of 64 by 16 of a contiguous bf16 matrix of `rows` rows.
fn map(buffer: u32, rows: Expr) -> ParamValue {
    ParamValue::TensorMap(Box::new(TensorMap {
        buffer,
        offset: c(0),
        data_type: DataType::Bf16,
        dims: vec![c(K), rows],
        strides: vec![c(2 * K)],
        box_dims: vec![64, 16],
        element_strides: vec![1, 1],
        swizzle: Swizzle::None,
        l2_promotion: L2Promotion::Bytes128,
    }))
}

fn program() -> Program {
    let address = |buffer| ParamValue::Address { buffer, offset: c(0) };
    let buffer = |name: &str, place, bytes| Buffer { name: name.to_owned(), place, bytes };
    let port = |name: &str, dtype, shape, buffer| Port {
        name: name.to_owned(),
        dtype,
        shape,
        buffer,
        mutates: None,
    };
    Program {
        target: Target::SM_90A,
        symbols: vec![SymbolDecl {
            name: "rows".to_owned(),
            range: SymbolRange { min: 1, max: 4096 },
        }],
        guards: Vec::new(),
        buffers: vec![
            buffer("x", Place::Input(0), c(2 * K) * rows()),
            buffer("w", Place::Weight(0), c(2 * K * N)),
            buffer("y", Place::Output(0), c(4 * N) * rows()),
            buffer("tiles", Place::Counters, c(8)),
        ],
        arena_slots: Vec::new(),
        inputs: vec![port("x", DType::Bf16, vec![rows(), c(K)], 0)],
        outputs: vec![port("y", DType::F32, vec![rows(), c(N)], 2)],
        kernels: vec![Kernel {
            entry: "tile_product".to_owned(),
            module: 0,
            param_bytes: 320,
            block: 256,
            shared_bytes: 0,
            cluster: 2,
            blocks_per_sm: Some(1),
            doc: "product by tensor maps".to_owned(),
        }],
        steps: vec![Step {
            kernel: 0,
            grid: [rows().ceil_div(&c(16)) * c(3), c(1), c(1)],
            params: vec![
                Param { at: 0, value: map(0, rows()) },
                Param { at: 128, value: map(1, c(N)) },
                Param { at: 256, value: address(2) },
                Param { at: 264, value: address(3) },
                Param { at: 272, value: ParamValue::I64(rows()) },
                Param { at: 280, value: ParamValue::I64(c(N)) },
                Param { at: 288, value: ParamValue::I64(c(K)) },
            ],
            reads: vec![0, 1],
            writes: vec![2],
            origin: "product".to_owned(),
            flops: c(2 * N * K) * rows(),
        }],
        signature: Signature::default(),
    }
}

/// What the kernel must compute, and of what.
fn specs() -> Specs {
    use std::mem::offset_of;
    let spec = GemmSpec {
        a: DType::Bf16,
        b: DType::Bf16,
        c: DType::F32,
        b_layout: BLayout::RowMajorNk,
        m: None,
        n: Some(N),
        k: Some(K),
        epilogue: Epilogue::default(),
    };
    let mut params = Vec::new();
    let operands = [
        (offset_of!(abi::zf_gemm_params, a), 0, K),
        (offset_of!(abi::zf_gemm_params, b), 1, K),
        (offset_of!(abi::zf_gemm_params, c), 2, N),
    ];
    let int = |at: usize, value| Param { at: at as u32, value: ParamValue::I64(value) };
    for (at, buffer, row) in operands {
        let value = ParamValue::Address { buffer, offset: c(0) };
        params.push(Param { at: at as u32, value });
        params.push(int(at + 8 + 16, c(row)));
        params.push(int(at + 8 + 24, c(1)));
    }
    let batch = offset_of!(abi::zf_gemm_params, batch);
    let sizes = [c(1), c(1), rows(), c(N), c(K)];
    params.extend(sizes.into_iter().enumerate().map(|(i, size)| int(batch + 8 * i, size)));
    Specs { kernels: vec![KernelSpec::Gemm(spec)], arguments: vec![Arguments { step: 0, params }] }
}

/// Numbers that look random and have few bits, so that sums are exact.
fn values(count: i64, seed: i64) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 23 - 11) as f32 / 8.0).collect()
}

fn as_bf16(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
}

fn artifact(module: &CudaModule) -> Vec<u8> {
    let program = program();
    let mut builder = ArtifactBuilder::new();
    let weight = as_bf16(&values(N * K, 2));
    let manifest = Manifest {
        name: "product".to_owned(),
        provenance: Provenance::default(),
        targets: vec![TargetEntry {
            target: Target::SM_90A,
            program: builder.add_program(&program).expect("a program"),
            kernels: Some(builder.add_section(SectionKind::Kernels, spec_file::encode(&specs()))),
            modules: vec![ModuleEntry::Cuda {
                cubin: builder.add_section(SectionKind::Cubin, module.cubin.clone()),
                ptx: builder.add_section(SectionKind::Ptx, module.ptx.clone()),
            }],
            weights: vec![0],
            abi_version: abi::ZF_ABI_VERSION,
        }],
        weights: vec![WeightEntry {
            name: "w".to_owned(),
            dtype: DType::Bf16,
            shape: vec![N, K],
            layout: Layout::RowMajor,
            bytes: weight.len() as u64,
            storage: {
                let hash = blake3::hash(&weight);
                builder.add_weight(Box::new(weight), &hash)
            },
        }],
    };
    builder.finish(&manifest).expect("an artifact").to_bytes()
}

/// The artifact of the right kernel in a folder of its own.
fn sound() -> Option<PathBuf> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tensor_maps.zfa");
        std::fs::write(&path, artifact(&module(SOURCE)?)).expect("a file");
        Some(path)
    };
    PATH.get_or_init(make).clone()
}

fn zeroforge(path: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zeroforge"))
        .args(args)
        .arg(path)
        .envs(env.iter().copied())
        .env_remove("ZEROFORGE_DEVICE")
        .output()
        .expect("the binary")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_file_says_which_version_it_needs() {
    let Some(path) = sound() else { return };
    let file = std::fs::read(path).expect("the artifact");
    assert_eq!(file[8..12], [1, 0, 2, 0]);
    let artifact = Artifact::parse(&file[..]).expect("sound");
    assert_eq!(artifact.program(0).expect("a program"), program());
    let listed = artifact.kernel_specs(0).expect("sound").expect("a list");
    assert_eq!(spec_file::decode(listed, &program()), Ok(specs()));
}

#[test]
fn inspect_shows_the_launch() {
    let Some(path) = sound() else { return };
    let shown = text(&zeroforge(&path, &["inspect", "--steps"], &[]).stdout);
    for words in [
        "product by tensor maps  product",
        "persistent, 1 block per SM, clusters of 2",
        "tensor map at 0 of `x`: bf16 [72, s0], strides [144], box [64, 16]",
        "tensor map at 128 of `w`: bf16 [72, 40], strides [144], box [64, 16]",
    ] {
        assert!(shown.contains(words), "`{words}` is not in\n{shown}");
    }
}

#[test]
fn verify_executes_tensor_maps_and_persistent_grids() {
    let Some(path) = sound() else { return };
    // With 3 SMs there is one cluster, whose two blocks take all 9 tiles.
    for sms in ["1", "3", "132"] {
        let args = ["verify", "--size", "rows=35", "--schedule", "random:3", "--sms", sms];
        let output = zeroforge(&path, &args, &[]);
        assert!(
            output.status.success(),
            "{sms} SMs: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

/// Bugs in what the new parts are for, each found.
#[test]
fn verify_finds_planted_bugs() {
    for (from, to, words) in [
        // The counter is left as it is: the next launch would find no tiles.
        ("atomicExch(p.counter, 0);", "", "tiles"),
        // The transfer is larger than what the barrier waits for.
        ("\"r\"(2 * TILE * DEPTH * 2)", "\"r\"(TILE * DEPTH * 2)", "mbarrier"),
        // Rows of another tile.
        ("load(a, &p.a, &full, k0, m0);", "load(a, &p.a, &full, k0, 0);", "wrong"),
    ] {
        assert!(SOURCE.contains(from), "{from}");
        let Some(module) = module(&SOURCE.replace(from, to)) else { return };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("planted.zfa");
        std::fs::write(&path, artifact(&module)).expect("a file");
        let output = zeroforge(&path, &["verify", "--size", "rows=35", "--sms", "3"], &[]);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(10), "`{from}`: {said}");
        assert!(said.contains(words), "`{from}`: `{words}` is not in\n{said}");
    }
}

#[test]
fn the_software_device_runs_it_on_every_slice() {
    let Some(path) = sound() else { return };
    // More tiles than either slice has SMs.
    let m = 16 * 50 + 5;
    let x = values(m * K, 1);
    let w = values(N * K, 2);
    let input = Tensor::from_bytes(DType::Bf16, &[m, K], &as_bf16(&x)).expect("a tensor");
    let folder = tempfile::tempdir().expect("a folder");
    let inputs = folder.path().join("inputs.safetensors");
    let bytes = tensor_io::to_safetensors(&[("x".to_owned(), input)]).expect("a file");
    std::fs::write(&inputs, bytes).expect("a file");
    let result = folder.path().join("outputs.safetensors");
    let paths = [&inputs, &result].map(|p| p.to_str().expect("UTF-8"));
    for slice in ["h200-3g.71gb", "h200"] {
        let args = ["run", "--device", "software", "--input", paths[0], "--output", paths[1]];
        let output = zeroforge(&path, &args, &[("ZEROFORGE_SOFTWARE_DEVICE", slice)]);
        let said = text(&output.stderr);
        assert!(output.status.success() && said.trim().is_empty(), "{slice}: {said}");
        let outputs = tensor_io::read_safetensors(&result).expect("outputs");
        let found = outputs[0].1.to_f64();
        assert_eq!(outputs[0].1.shape(), [m, N]);
        for (i, &found) in found.iter().enumerate() {
            let (row, column) = (i as i64 / N, i as i64 % N);
            let products = (0..K).map(|k| {
                f64::from(x[(row * K + k) as usize]) * f64::from(w[(column * K + k) as usize])
            });
            assert_eq!(found, products.sum::<f64>(), "{slice}: row {row}, column {column}");
        }
    }
}
