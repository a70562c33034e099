//! `.zfa` artifacts: container, manifest, programs, and the runtime's own checks.

use std::sync::OnceLock;

use serde_json::Value;
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::{Artifact, ArtifactError, Program, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::pipeline::{CompileOptions, compile};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Model, OpenOptions, RunError, Session, SessionOptions, Tensor};

use crate::harness::{Rng, Scratch, attempt, cuts, fixture, mutate, mutate_json, refuse};

/// A sound artifact, compiled once.
pub(crate) fn sound() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let none = WeightFiles::none();
        let imported = load_pt2(&fixture("mlp.pt2"), &none, &ImportOptions::default());
        let options = CompileOptions {
            targets: vec![Target::X86_64_V3],
            model_hash: "0".repeat(64),
            external_weights: false,
            sms: None,
            cache: Cache::none(),
        };
        compile(&imported.expect("the fixture").graph, &none, &options, &|_| {})
            .expect("compile")
            .to_bytes()
    })
}

/// Everything that reading an artifact checks, short of running it.
fn read(bytes: &[u8]) -> Result<(), ArtifactError> {
    let artifact = Artifact::parse(bytes)?;
    artifact.verify_all()?;
    (0..artifact.manifest().targets.len()).try_for_each(|i| artifact.program(i).map(drop))
}

struct Part {
    kind: u32,
    bytes: Vec<u8>,
}

fn parts(file: &[u8]) -> Vec<Part> {
    let artifact = Artifact::parse(file).expect("sound");
    let sections = artifact.sections().iter().enumerate();
    sections
        .map(|(i, s)| Part {
            kind: u32::from_le_bytes(file[128 + 64 * i..][..4].try_into().expect("4 bytes")),
            bytes: file[s.offset as usize..(s.offset + s.len) as usize].to_vec(),
        })
        .collect()
}

/// The file of some sections, with right hashes: what an attacker without a key can make.
fn assemble(parts: &[Part]) -> Vec<u8> {
    let mut offset = (128 + 64 * parts.len()).next_multiple_of(4096);
    let mut table = Vec::new();
    let mut total = offset;
    for p in parts {
        table.extend(p.kind.to_le_bytes());
        table.extend([0; 4]);
        table.extend((offset as u64).to_le_bytes());
        table.extend((p.bytes.len() as u64).to_le_bytes());
        let hash = if p.kind == 6 { [0; 32] } else { *blake3::hash(&p.bytes).as_bytes() };
        table.extend(hash);
        table.extend([0; 8]);
        total = offset + p.bytes.len();
        offset = total.next_multiple_of(4096);
    }
    let mut file = b"ZFORGE\r\n\x01\0\0\0".to_vec();
    file.extend((parts.len() as u32).to_le_bytes());
    file.extend((total as u64).to_le_bytes());
    file.resize(128, 0);
    file.extend(table);
    seal(&mut file, parts.len());
    for p in parts {
        file.resize(file.len().next_multiple_of(4096), 0);
        file.extend(&p.bytes);
    }
    file
}

/// Writes the root hash over header and table.
fn seal(file: &mut [u8], sections: usize) {
    let end = 128 + 64 * sections;
    let mut signed = file[..end].to_vec();
    signed[24..128].fill(0);
    let root = blake3::hash(&signed);
    file[24..56].copy_from_slice(root.as_bytes());
}

/// The sound artifact with its manifest or program changed and hashed anew.
fn with_json(kind: SectionKind, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut parts = parts(sound());
    let code = if kind == SectionKind::Manifest { 1 } else { 2 };
    let part = parts.iter_mut().find(|p| p.kind == code).expect("the section");
    let mut value: Value = serde_json::from_slice(&part.bytes).expect("JSON");
    change(&mut value);
    part.bytes = serde_json::to_vec(&value).expect("JSON");
    assemble(&parts)
}

#[test]
fn assembling_gives_the_same_artifact() {
    assert_eq!(assemble(&parts(sound())), sound());
    read(sound()).expect("sound");
}

#[test]
fn cut_artifacts_are_refused() {
    let file = sound();
    let mut places = cuts(file.len(), &mut Rng(11));
    places.extend((0..file.len()).step_by(4096));
    for at in places {
        refuse(&format!("cut at {at}"), at, &["compile"], || read(&file[..at]));
    }
}

#[test]
fn every_flipped_bit_that_is_used_is_found() {
    let file = sound();
    let artifact = Artifact::parse(file).expect("sound");
    let sections = artifact.sections().iter();
    let mut used: Vec<_> =
        sections.map(|s| s.offset as usize..(s.offset + s.len) as usize).collect();
    used.push(0..128 + 64 * used.len());
    // Weights have hashes of their own; the padding between them has none.
    let weights = artifact.sections().iter().find(|s| s.kind == SectionKind::Weights);
    let weights = weights.map_or(0..0, |s| s.offset as usize..(s.offset + s.len) as usize);
    let mut rng = Rng(12);
    for i in 0..1000 {
        let range = &used[rng.below(used.len())];
        let at = range.start + rng.below(range.len());
        let mut damaged = file.to_vec();
        damaged[at] ^= 1 << rng.below(8);
        let found = attempt(&format!("flip {i} at {at}"), file.len(), || read(&damaged));
        assert!(found.is_err() || weights.contains(&at), "flip {i} at {at} was not found");
    }
    for i in 0..500 {
        let damaged = mutate(file, &mut rng);
        let _ = attempt(&format!("edit {i}"), file.len(), || read(&damaged));
    }
}

#[test]
fn hostile_headers_are_refused() {
    // A field of the header or the first table entry, its new value, what the error says.
    let patch = |at: usize, value: &[u8]| {
        let mut file = sound().to_vec();
        file[at..at + value.len()].copy_from_slice(value);
        let count = u32::from_le_bytes(file[12..16].try_into().expect("4 bytes")) as usize;
        if (1..100).contains(&count) {
            seal(&mut file, count);
        }
        file
    };
    let max = u64::MAX.to_le_bytes();
    for (what, at, value, words) in [
        ("magic", 0, &b"ZFORGE\n\n"[..], &["not a zeroforge artifact", "compile"][..]),
        ("a newer version", 8, &[2, 0], &["format 2.0", "upgrade zeroforge"]),
        ("version 0", 8, &[0, 0], &["byte 8", "version 0"]),
        ("no sections", 12, &[0; 4], &["byte 12", "0 sections"]),
        ("many sections", 12, &[0xff; 4], &["byte 12", "4294967295 sections"]),
        ("a huge length", 16, &max, &["byte 16", "the file has"]),
        ("a short length", 16, &[0; 8], &["byte 16"]),
        ("a reserved byte", 100, &[1], &["byte 72", "reserved"]),
        ("a signature inside", 56, &[1, 0, 0, 0, 0, 0, 0, 0, 1], &["byte 56", "signature"]),
        ("a signature outside", 56, &max, &["byte 56", "signature"]),
        ("a section that is no manifest", 128, &[2], &["byte 128", "not a manifest"]),
        ("a section outside", 136, &max, &["byte 128", "leaves the file"]),
        ("a misaligned section", 136, &[1], &["byte 128", "misaligned"]),
        ("a section over the header", 136, &[0; 8], &["byte 128", "overlaps"]),
        ("a section of all bytes", 144, &max, &["byte 128", "leaves the file"]),
    ] {
        let file = patch(at, value);
        refuse(what, file.len(), words, || read(&file));
    }
}

#[test]
fn edited_manifests_are_refused_or_read() {
    let mut rng = Rng(13);
    for i in 0..300 {
        let file = with_json(SectionKind::Manifest, |m| mutate_json(m, &mut rng));
        let _ = attempt(&format!("manifest, edit {i}"), file.len(), || read(&file));
    }
}

#[test]
fn hostile_manifests_are_refused() {
    let weight = |change: &dyn Fn(&mut Value)| {
        with_json(SectionKind::Manifest, |m| change(&mut m["weights"][0]))
    };
    for (what, file, words) in [
        (
            "a weight outside",
            weight(&|w| w["storage"]["embedded"]["offset"] = (1u64 << 62).into()),
            &["outside its section"][..],
        ),
        (
            "a misaligned weight",
            weight(&|w| w["storage"]["embedded"]["offset"] = 4.into()),
            &["misaligned"],
        ),
        ("a wrong size", weight(&|w| w["bytes"] = 3.into()), &["3 bytes", "its shape says"]),
        (
            "an absurd shape",
            weight(&|w| w["shape"] = serde_json::json!([i64::MAX, i64::MAX])),
            &["its shape says None"],
        ),
        (
            "a negative shape",
            weight(&|w| w["shape"] = serde_json::json!([-1, -1])),
            &["its shape says None"],
        ),
        (
            "panels of no columns",
            weight(&|w| w["layout"] = serde_json::json!({"panels": {"nr": 0, "transposed": true}})),
            &["its shape says None"],
        ),
        ("an unknown layout", weight(&|w| w["layout"] = "spiral".into()), &["manifest", "spiral"]),
        (
            "a wrong hash",
            weight(&|w| w["storage"]["embedded"]["hash"] = "00".into()),
            &["corrupt", "weight `"],
        ),
        (
            "a weight that is not there",
            with_json(SectionKind::Manifest, |m| m["targets"][0]["weights"][0] = 999.into()),
            &["weight 999"],
        ),
        (
            "a program that is not there",
            with_json(SectionKind::Manifest, |m| m["targets"][0]["program"] = 999.into()),
            &["section 999", "Program"],
        ),
        (
            "a manifest as program",
            with_json(SectionKind::Manifest, |m| m["targets"][0]["program"] = 0.into()),
            &["section 0", "Program"],
        ),
        (
            "another target",
            with_json(SectionKind::Manifest, |m| {
                m["targets"][0]["target"]["isa"] = "x86-64-v4".into()
            }),
            &["another target"],
        ),
    ] {
        refuse(what, file.len(), words, || read(&file));
    }
    let mut parts = parts(sound());
    parts[0].bytes = b"[".repeat(1 << 20);
    let file = assemble(&parts);
    refuse("deep nesting", file.len(), &["manifest", "line 1"], || read(&file));
    parts[0].bytes = b"\xff\xfe".to_vec();
    let file = assemble(&parts);
    refuse("no text", file.len(), &["manifest"], || read(&file));
}

#[test]
fn edited_programs_are_refused_or_read() {
    let scratch = Scratch::new();
    let mut rng = Rng(14);
    let mut accepted = 0;
    for i in 0..300 {
        let file = with_json(SectionKind::Program, |p| mutate_json(p, &mut rng));
        let what = format!("program, edit {i}");
        if attempt(&what, file.len(), || read(&file)).is_err() {
            continue;
        }
        // What passes validation can be loaded. It is not run: its native code is sound, the
        // arguments that the program gives it may not be.
        accepted += 1;
        if accepted % 8 == 0 {
            let path = scratch.write("edited.zfa", &file);
            let _ = attempt(&what, file.len(), || {
                let model = Model::open(&path, &OpenOptions::default())?;
                let options = SessionOptions { threads: Some(2), ..Default::default() };
                Session::cpu(&model, options).map(drop)
            });
        }
    }
    assert!(accepted > 15, "only {accepted} edits were harmless: the edits are too coarse");
}

#[test]
fn hostile_programs_are_refused() {
    let program = |change: &dyn Fn(&mut Value)| with_json(SectionKind::Program, change);
    let nested = |open: &str, close: &str| format!("{}s0{}", open.repeat(100), close.repeat(100));
    for (what, file, words) in [
        (
            "an inverted range",
            program(&|p| p["symbols"][0]["range"] = serde_json::json!({"min": 9, "max": 1})),
            &["symbol 0", "empty"][..],
        ),
        (
            "an undeclared symbol",
            program(&|p| p["steps"][0]["grid"][0] = "s77".into()),
            &["step 0", "undeclared s77"],
        ),
        (
            "a buffer that is not there",
            program(&|p| p["steps"][0]["reads"] = serde_json::json!([u32::MAX])),
            &["step 0", "buffer 4294967295"],
        ),
        (
            "a kernel that is not there",
            program(&|p| p["steps"][0]["kernel"] = 999.into()),
            &["step 0", "kernel 999"],
        ),
        (
            "a module that is not there",
            program(&|p| p["kernels"][0]["module"] = 7.into()),
            &["kernel 0", "module 7 of 1"],
        ),
        (
            "absurd scratch",
            program(&|p| p["kernels"][0]["shared_bytes"] = u32::MAX.into()),
            &["kernel 0", "scratch"],
        ),
        (
            "absurd parameters",
            program(&|p| p["kernels"][0]["param_bytes"] = u32::MAX.into()),
            &["kernel 0", "parameter bytes"],
        ),
        (
            "a parameter outside",
            program(&|p| p["steps"][0]["params"][0]["at"] = 4096.into()),
            &["step 0", "byte 4096"],
        ),
        (
            "a misaligned parameter",
            program(&|p| p["steps"][0]["params"][0]["at"] = 3.into()),
            &["step 0", "byte 3"],
        ),
        (
            "a duplicate input",
            program(&|p| {
                let first = p["inputs"][0].clone();
                p["inputs"].as_array_mut().expect("inputs").push(first);
            }),
            &["input 1", "name of another"],
        ),
        (
            "an output that is a weight",
            program(&|p| {
                let b = p["outputs"][0]["buffer"].as_u64().expect("a buffer") as usize;
                p["buffers"][b]["place"] = serde_json::json!({"weight": 0});
            }),
            &["output 0", "not the caller's"],
        ),
        (
            "deep expression nesting",
            program(&|p| p["steps"][0]["flops"] = nested("min(s0,", ")").into()),
            &["program", "nested too deeply"],
        ),
        (
            "a long expression",
            program(&|p| p["steps"][0]["flops"] = "s0+".repeat(5000).into()),
            &["program", "longer than the limit"],
        ),
        ("a fractional size", program(&|p| p["steps"][0]["flops"] = 0.5.into()), &["program"]),
        (
            "a missing field",
            program(&|p| drop(p.as_object_mut().expect("a program").remove("steps"))),
            &["program", "steps"],
        ),
    ] {
        refuse(what, file.len(), words, || read(&file));
    }
    // No symbol can have a NaN: JSON has none, and text is no number.
    let nan = program(&|p| p["symbols"][0]["range"]["max"] = "NaN".into());
    refuse("a range that is no number", nan.len(), &["program", "NaN"], || read(&nan));
}

/// The sound program as one for a GPU, changed. Only its rules are asked for: there is no code.
fn gpu_program(change: &dyn Fn(&mut Value)) -> Result<(), String> {
    let artifact = Artifact::parse(sound()).expect("sound");
    let mut program = serde_json::to_value(artifact.program(0).expect("a program")).expect("JSON");
    program["target"] = serde_json::to_value(Target::SM_90A).expect("JSON");
    program["kernels"][0]["param_bytes"] = 1024.into();
    change(&mut program);
    let text = serde_json::to_vec(&program).expect("JSON");
    let program: Program = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    program.validate(1, artifact.manifest().weights.len()).map_err(|e| e.to_string())
}

/// A tensor map of the first input, `f32 [s0, 12]`.
fn tensor_map() -> Value {
    serde_json::json!({
        "buffer": 0, "offset": 0, "data_type": "f32", "dims": [12, "s0"], "strides": [48], "box": [4, 8],
        "element_strides": [1, 1], "swizzle": "none", "l2_promotion": "bytes128",
    })
}

#[test]
fn what_gpus_alone_have_is_checked() {
    let at = |at: u32, change: &dyn Fn(&mut Value)| {
        let mut map = tensor_map();
        change(&mut map);
        gpu_program(&|p| {
            p["steps"][0]["params"] =
                serde_json::json!([{"at": at, "value": {"tensor_map": map.clone()}}]);
        })
    };
    let map = |change: &dyn Fn(&mut Value)| at(64, change);
    map(&|_| ()).expect("sound");
    gpu_program(&|p| p["kernels"][0]["cluster"] = 8.into()).expect("sound");
    let counters = |bytes: Value| {
        gpu_program(&|p| {
            p["buffers"].as_array_mut().expect("buffers").push(
                serde_json::json!({"name": "tiles", "place": "counters", "bytes": bytes.clone()}),
            );
        })
    };
    counters(64.into()).expect("sound");
    let persistent = |n: u32, grid: Value| {
        gpu_program(&|p| {
            p["kernels"][0]["blocks_per_sm"] = n.into();
            for step in p["steps"].as_array_mut().expect("steps") {
                step["grid"] = grid.clone();
            }
        })
    };
    persistent(2, serde_json::json!(["s0", 1, 1])).expect("sound");
    for (what, found, words) in [
        ("a map at 8", at(8, &|_| ()), &["step 0", "byte 8"][..]),
        ("a map that leaves the block", at(960, &|_| ()), &["step 0", "byte 960"]),
        ("another's buffer", map(&|m| m["buffer"] = 999.into()), &["byte 64", "buffer 999"]),
        ("no dimension", map(&|m| m["dims"] = serde_json::json!([])), &["0 dimensions"]),
        ("a symbol", map(&|m| m["dims"][1] = "s9".into()), &["undeclared s9"]),
        ("a negative box", map(&|m| m["box"][0] = (-4).into()), &["-4"]),
        ("a huge box", map(&|m| m["box"][1] = u32::MAX.into()), &["box size 1 is 4294967295"]),
        ("no stride", map(&|m| m["element_strides"][0] = 0.into()), &["element stride 0 is 0"]),
        ("a short row", map(&|m| m["box"][0] = 3.into()), &["12 bytes"]),
        ("a type", map(&|m| m["data_type"] = "f8".into()), &["f8"]),
        ("a swizzle", map(&|m| m["swizzle"] = "bytes256".into()), &["bytes256"]),
        ("an odd start", map(&|m| m["offset"] = "4*s0".into()), &["starts at byte `4*s0`"]),
        ("an odd stride", map(&|m| m["strides"][0] = "s0".into()), &["stride of dimension 1"]),
        ("beyond its end", map(&|m| m["dims"][1] = "s0 + 1".into()), &["ends at byte"]),
        ("far beyond", map(&|m| m["strides"][0] = (1i64 << 62).into()), &["2^40"]),
        ("saturated", map(&|m| m["dims"][1] = i64::MAX.into()), &["2^32"]),
        (
            "no cluster",
            gpu_program(&|p| p["kernels"][0]["cluster"] = 0.into()),
            &["kernel 0", "clusters of 0"],
        ),
        (
            "a large cluster",
            gpu_program(&|p| p["kernels"][0]["cluster"] = 16.into()),
            &["kernel 0", "clusters of 16"],
        ),
        ("no blocks", persistent(0, serde_json::json!([1, 1, 1])), &["0 blocks per SM"]),
        ("many blocks", persistent(33, serde_json::json!([1, 1, 1])), &["33 blocks per SM"]),
        ("tiles in y", persistent(1, serde_json::json!([1, 2, 1])), &["grid [1, 2, 1]"]),
        ("many counters", counters("s0".into()), &["counters of `s0` bytes"]),
        ("fewer than none", counters((-4).into()), &["counters of `-4` bytes"]),
    ] {
        let reason = found.expect_err(what);
        for word in words {
            assert!(reason.contains(word), "{what}: `{word}` is not in `{reason}`");
        }
    }
}

/// Programs for processors have none of it.
#[test]
fn what_gpus_alone_have_is_refused_elsewhere() {
    for (what, words, change) in [
        (
            "a tensor map",
            &["tensor maps are for CUDA"][..],
            (|p| {
                p["kernels"][0]["param_bytes"] = 1024.into();
                p["steps"][0]["params"] =
                    serde_json::json!([{"at": 0, "value": {"tensor_map": tensor_map()}}]);
            }) as fn(&mut Value),
        ),
        ("a cluster", &["clusters"], |p| p["kernels"][0]["cluster"] = 2.into()),
        ("a persistent kernel", &["persistent"], |p| p["kernels"][0]["blocks_per_sm"] = 1.into()),
        ("counters", &["counters are for CUDA"], |p| {
            p["buffers"][0]["place"] = "counters".into();
        }),
    ] {
        let file = with_json(SectionKind::Program, change);
        refuse(what, file.len(), words, || read(&file));
    }
}

/// Random edits of a program that has a tensor map: what validation takes can be bound or is refused, for any sizes.
#[test]
fn edited_tensor_maps_are_refused_or_bound() {
    let mut rng = Rng(15);
    let mut bound = 0;
    for _ in 0..600 {
        let mut map = tensor_map();
        mutate_json(&mut map, &mut rng);
        let artifact = Artifact::parse(sound()).expect("sound");
        let mut program = artifact.program(0).expect("a program");
        program.target = Target::SM_90A;
        program.kernels[0].param_bytes = 1024;
        let mut value = serde_json::to_value(&program).expect("JSON");
        value["steps"][0]["params"] = serde_json::json!([{"at": 0, "value": {"tensor_map": map}}]);
        let found = attempt("an edited tensor map", 1000, || {
            let program: Program =
                serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
            program.validate(1, artifact.manifest().weights.len()).map_err(|e| e.to_string())?;
            for n in [1, 7, 4096] {
                if zeroforge_runtime::bind::bind(&program, vec![n]).is_ok() {
                    bound += 1;
                }
            }
            Ok::<(), String>(())
        });
        drop(found);
    }
    assert!(bound > 100, "only {bound} maps were bound: the edits are too coarse");
}

/// What ranges leave open is refused with the argument's name and value.
#[test]
fn tensor_maps_are_checked_again_with_numbers() {
    for (change, n, words) in [
        ((|m| m["dims"][1] = "s0 - 1".into()) as fn(&mut Value), 1, "dimension 1 is 0; 1 to 2^32"),
        (|m| m["offset"] = "16*s0 - 32".into(), 1, "the start is -16; it lies in its buffer"),
        (|m| m["strides"][0] = "48*s0 - 96".into(), 1, "the stride of dimension 1 is -48"),
        (|m| m["strides"][0] = "48*s0".into(), 3, "the end is 336; it lies in its buffer"),
    ] {
        let artifact = Artifact::parse(sound()).expect("sound");
        let mut program = artifact.program(0).expect("a program");
        program.target = Target::SM_90A;
        program.kernels[0].param_bytes = 1024;
        let mut map = tensor_map();
        change(&mut map);
        let value = serde_json::json!({"at": 128, "value": {"tensor_map": map}});
        program.steps[0].params = vec![serde_json::from_value(value).expect("a parameter")];
        program.validate(1, artifact.manifest().weights.len()).expect("some sizes are right");
        let error = zeroforge_runtime::bind::bind(&program, vec![n]).expect_err(words).to_string();
        assert!(error.contains(words) && error.contains("byte 128"), "{error}");
    }
}

/// Sizes are only known when a call binds them: then they are refused before memory is asked for.
#[test]
fn absurd_sizes_are_refused_when_bound() {
    let scratch = Scratch::new();
    for (what, change) in [
        ("the arena", (|p| p["arena_slots"][0] = (1i64 << 61).into()) as fn(&mut Value)),
        ("a slot", |p| p["arena_slots"][0] = "s0*9000000000000000000".into()),
        ("a slot that is negative", |p| p["arena_slots"][0] = "s0 - 1000000".into()),
        ("a slot that divides by zero", |p| p["arena_slots"][0] = "floordiv(s0, s0 - s0)".into()),
        ("a grid", |p| p["steps"][0]["grid"][0] = i64::MAX.into()),
        ("a buffer", |p| p["buffers"][0]["bytes"] = (1i64 << 60).into()),
    ] {
        let file = with_json(SectionKind::Program, change);
        let path = scratch.write("absurd.zfa", &file);
        refuse(what, file.len(), &[], || -> Result<(), RunError> {
            let model = Model::open(&path, &OpenOptions::default())?;
            let options = SessionOptions { threads: Some(1), ..Default::default() };
            let mut session = Session::cpu(&model, options)?;
            let inputs = session.program().inputs.clone();
            let inputs = inputs
                .iter()
                .map(|p| {
                    let shape: Vec<i64> =
                        p.shape.iter().map(|n| n.eval(&[3]).unwrap_or(3)).collect();
                    Ok((p.name.clone(), Tensor::zeros(p.dtype, &shape)?))
                })
                .collect::<Result<Vec<_>, RunError>>()?;
            session.run(inputs).map(drop)
        });
    }
}

#[test]
fn the_runtime_names_the_file() {
    let scratch = Scratch::new();
    let open = |path: &std::path::Path| Model::open(path, &OpenOptions::default());
    let cut = scratch.write("cut.zfa", &sound()[..5000]);
    refuse("a cut file", 5000, &["cut.zfa", "byte 16"], || open(&cut));
    let empty = scratch.write("empty.zfa", b"");
    refuse("an empty file", 0, &["empty.zfa"], || open(&empty));
    refuse("a folder", 0, &["failed"], || open(&fixture("")));
    refuse("no file", 0, &["opening", "missing.zfa"], || open(&fixture("missing.zfa")));
}
