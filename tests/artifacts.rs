//! Artifacts of earlier versions, kept for ever: they open, verify and give torch's results, and a reader that was
//! written from the specification alone agrees.

use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::SafeTensors;
use zeroforge_artifact::{DType, Target};
use zeroforge_runtime::{Model, OpenOptions, Session, SessionOptions, Tensor};

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artifacts").join(name)
}

fn f32_tensor(file: &SafeTensors<'_>, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Tensor::from_bytes(DType::F32, &shape, view.data()).unwrap()
}

#[test]
fn version_1_0_opens_verifies_and_runs() {
    let model = opens_verifies_and_runs("v1");
    assert!(model.artifact().kernel_specs(1).unwrap().is_none());
}

#[test]
fn version_1_1_opens_verifies_and_runs() {
    let model = opens_verifies_and_runs("v1.1");
    // The processor's kernels are not listed, the GPU's are.
    assert!(model.artifact().kernel_specs(0).unwrap().is_none());
    let specs = model.artifact().kernel_specs(1).unwrap().unwrap();
    let program = model.artifact().program(1).unwrap();
    let specs = zeroforge_compiler::spec_file::decode(specs, &program).unwrap();
    assert_eq!((specs.kernels.len(), specs.arguments.len()), (2, 0));
    // And they are still what the kernels compute.
    let options = zeroforge_verify::Options::default();
    let summary = zeroforge_verify::verify(&model, &options, &mut |_| {}).unwrap();
    assert!(summary.passed() && summary.kernels.len() == 2, "{summary:?}");
}

/// What 1.2 added is all in one program; it has no code for processors.
#[test]
fn version_1_2_opens_and_verifies() {
    let options = OpenOptions { verify_all: true, ..OpenOptions::default() };
    let model = Model::open(&kept("v1.2/product.zfa"), &options).unwrap();
    let program = model.artifact().program(0).unwrap();
    assert_eq!(program.minor_version(), 2);
    assert_eq!((program.kernels[0].cluster, program.kernels[0].blocks_per_sm), (2, Some(1)));
    let options = zeroforge_verify::Options { sms: Some(4), ..Default::default() };
    let summary = zeroforge_verify::verify(&model, &options, &mut |_| {}).unwrap();
    assert!(summary.passed() && summary.kernels.len() == 1, "{summary:?}");
}

fn opens_verifies_and_runs(folder: &str) -> Model {
    let key = std::fs::read_to_string(kept(&format!("{folder}/mlp.pub"))).unwrap();
    let options = OpenOptions { verify_all: true, trusted_keys: vec![key] };
    let model = Model::open(&kept(&format!("{folder}/mlp.zfa")), &options).unwrap();
    let targets: Vec<Target> = model.manifest().targets.iter().map(|t| t.target).collect();
    assert_eq!(targets, [Target::X86_64_V3, Target::SM_90A]);
    let mut session = Session::cpu(&model, SessionOptions::default()).unwrap();
    let expected = kept("../fixtures/mlp.safetensors");
    let expected = std::fs::read(expected).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let input = f32_tensor(&expected, "0/input/x");
    let outputs = session.run(vec![("x".to_owned(), input)]).unwrap();
    let torch = f32_tensor(&expected, "0/output/0");
    assert_eq!((outputs[0].0.as_str(), outputs[0].1.shape()), ("output_0", torch.shape()));
    for (a, b) in outputs[0].1.to_f64().into_iter().zip(torch.to_f64()) {
        assert!((a - b).abs() < 1e-5, "{a} instead of {b}");
    }
    model
}

fn read_with_python(path: &Path) -> Option<Result<serde_json::Value, String>> {
    let output = match Command::new("python3").arg(kept("read_zfa.py")).arg(path).output() {
        Ok(output) => output,
        Err(e) => {
            eprintln!("skipped: python3 cannot be run ({e})");
            return None;
        }
    };
    Some(if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    })
}

#[test]
fn a_reader_made_from_the_specification_agrees() {
    let weights = ["up.weight", "up.bias", "down.weight", "down.bias"];
    let mlp =
        Outline { name: "mlp", signed: true, weights: &weights, shape: ["s0", "12"], code: 2 };
    agrees(&kept("v1/mlp.zfa"), &mlp);
    agrees(&kept("v1.1/mlp.zfa"), &mlp);
    let product =
        Outline { name: "product", signed: false, weights: &["w"], shape: ["s0", "72"], code: 3 };
    agrees(&kept("v1.2/product.zfa"), &product);
}

/// What is known of an artifact.
struct Outline<'a> {
    name: &'a str,
    signed: bool,
    weights: &'a [&'a str],
    /// Of input `x`.
    shape: [&'a str; 2],
    /// A section that holds code.
    code: usize,
}

fn agrees(path: &Path, known: &Outline<'_>) {
    let Some(outline) = read_with_python(path) else { return };
    let outline = outline.unwrap();
    assert_eq!(outline["name"], known.name);
    assert_eq!(outline["signed"], known.signed);
    assert_eq!(outline["weights"], serde_json::json!(known.weights));
    let model = Model::open(path, &OpenOptions::default()).unwrap();
    for (i, target) in outline["targets"].as_array().unwrap().iter().enumerate() {
        let program = model.artifact().program(i).unwrap();
        assert_eq!(target["steps"], program.steps.len());
        let columns: i64 = known.shape[1].parse().unwrap();
        assert_eq!(target["ports"]["x"], serde_json::json!([known.shape[0], columns]));
    }
    // It does check: one wrong byte in the code of a target.
    let mut bytes = std::fs::read(path).unwrap();
    let code = model.artifact().sections()[known.code].offset as usize;
    bytes[code + 100] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.zfa");
    std::fs::write(&damaged, bytes).unwrap();
    let reason = read_with_python(&damaged).unwrap().unwrap_err();
    assert!(reason.contains(&format!("section {}: hash", known.code)), "{reason}");
}
