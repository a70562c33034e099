//! torch.export archives: the zip, its JSON, its payloads.

use std::path::Path;

use serde_json::Value;
use zeroforge_graph::ir::Bytes;
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportError, ImportOptions, Imported, load_pt2_bytes};

use crate::harness::{Rng, attempt, cuts, fixture, mutate, mutate_json, read, refuse};
use crate::zip::{self, Entry};

const FILE: &str = "damaged.pt2";

fn load(bytes: &[u8]) -> Result<Imported, ImportError> {
    let bytes = Bytes::new(bytes.to_vec());
    load_pt2_bytes(Path::new(FILE), bytes, &WeightFiles::none(), &ImportOptions::default())
}

fn model_at(entries: &[Entry]) -> usize {
    let at = entries.iter().position(|e| e.name.ends_with(b"/models/model.json"));
    at.expect("a model in the fixture")
}

fn document(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.data).expect("JSON in the fixture")
}

/// An archive whose model was changed.
fn with_model(base: &[Entry], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut entries = base.to_vec();
    let at = model_at(&entries);
    let mut model = document(&entries[at]);
    change(&mut model);
    entries[at].data = serde_json::to_vec(&model).expect("JSON");
    zip::write(&entries)
}

#[test]
fn cut_archives_are_refused() {
    for name in ["mlp.pt2", "symbolic_shapes.pt2"] {
        let file = read(&fixture(name));
        for at in cuts(file.len(), &mut Rng(1)) {
            refuse(&format!("{name} cut at {at}"), at, &[FILE, "model"], || load(&file[..at]));
        }
    }
}

#[test]
fn flipped_bits_never_change_a_model_unseen() {
    for name in ["mlp.pt2", "strided_weights.pt2", "tensor_constants.pt2"] {
        let file = read(&fixture(name));
        let sound = load(&file).expect("the fixture").graph;
        let mut rng = Rng(2);
        for i in 0..300 {
            let mut damaged = file.clone();
            let at = rng.below(file.len());
            damaged[at] ^= 1 << rng.below(8);
            match attempt(&format!("{name}, flip {i} at {at}"), file.len(), || load(&damaged)) {
                // Dates, padding and unused entries do not matter.
                Ok(found) => {
                    assert_eq!(found.graph.nodes, sound.nodes, "{name}, flip {i} at {at}");
                    for (a, b) in found.graph.weights.iter().zip(&sound.weights) {
                        let same = match (&a.data, &b.data) {
                            (
                                zeroforge_graph::ir::WeightData::Inline(a),
                                zeroforge_graph::ir::WeightData::Inline(b),
                            ) => a.as_slice() == b.as_slice(),
                            // The payload's name changed: reported as missing.
                            _ => !found.weights.missing.is_empty(),
                        };
                        assert!(same, "{name}, flip {i} at {at}: `{}` differs", a.name);
                    }
                }
                Err(text) => assert!(text.contains(FILE), "{text}"),
            }
        }
    }
}

#[test]
fn edited_archives_are_refused_or_read() {
    for name in ["mlp.pt2", "kv_cache_index_copy_torch28.pt2"] {
        let file = read(&fixture(name));
        let mut rng = Rng(3);
        for i in 0..400 {
            let damaged = mutate(&file, &mut rng);
            let _ = attempt(&format!("{name}, edit {i}"), damaged.len(), || load(&damaged));
        }
    }
}

/// Documents with one or two places changed, checksums right: the importer's own checks.
#[test]
fn edited_models_are_refused_or_read() {
    let mut names: Vec<String> = std::fs::read_dir(fixture(""))
        .expect("fixtures")
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| n.ends_with(".pt2") && !n.contains("_torch"))
        .collect();
    names.sort();
    for (seed, name) in names.iter().enumerate() {
        let entries = zip::read(&read(&fixture(name)));
        let mut rng = Rng(seed as u64 + 100);
        for i in 0..24 {
            let damaged = with_model(&entries, |model| {
                // The node list is most of a document; half of the edits go there.
                let graph = &mut model["graph_module"]["graph"];
                let nodes = if i % 2 == 0 { &mut graph["nodes"] } else { graph };
                mutate_json(nodes, &mut rng);
                if i % 3 == 0 {
                    mutate_json(model, &mut rng);
                }
            });
            let what = format!("{name}, edit {i}");
            if let Err(text) = attempt(&what, damaged.len(), || load(&damaged)) {
                assert!(text.contains(FILE), "{what}: {text}");
            }
        }
    }
}

#[test]
fn edited_payload_tables_are_refused_or_read() {
    let base = zip::read(&read(&fixture("strided_weights.pt2")));
    let mut rng = Rng(5);
    for i in 0..300 {
        let mut entries = base.clone();
        for e in &mut entries {
            if e.name.ends_with(b"_config.json") {
                let mut table = document(e);
                mutate_json(&mut table, &mut rng);
                e.data = serde_json::to_vec(&table).expect("JSON");
            }
        }
        let damaged = zip::write(&entries);
        let _ = attempt(&format!("payload table, edit {i}"), damaged.len(), || load(&damaged));
    }
}

#[test]
fn hostile_containers_are_refused() {
    let base = zip::read(&read(&fixture("mlp.pt2")));
    let with = |e: Entry| {
        let mut entries = base.clone();
        entries.push(e);
        zip::write(&entries)
    };
    let check = |what: &str, file: Vec<u8>, words: &[&str]| {
        let mut all = vec![FILE];
        all.extend(words);
        refuse(what, file.len(), &all, || load(&file));
    };
    let first = std::str::from_utf8(&base[0].name).expect("a name").to_owned();
    check("two entries of a name", with(Entry::new(&first, b"x")), &[&first, "occurs twice"]);
    for name in ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", ""] {
        check("an escaping name", with(Entry::new(name, b"x")), &["leaves the archive"]);
    }
    let odd = Entry { name: vec![0xff, 0xfe], ..Entry::new("", b"x") };
    check("a name that is no text", with(odd), &["not UTF-8", "byte"]);
    let packed = Entry { method: 8, ..Entry::new("x", b"x") };
    check("a compressed entry", with(packed), &["`x` is compressed", "save the model again"]);
    let encrypted = Entry { flags: 1, ..Entry::new("x", b"x") };
    check("an encrypted entry", with(encrypted), &["`x` is encrypted"]);
    // A quine-like bomb: many entries over the same bytes.
    let mut bomb = base.clone();
    bomb.extend(
        (0..50).map(|i| Entry { local: Some(0), ..Entry::new(&format!("b{i:05}/.."), b"") }),
    );
    check("escaping entries over one place", zip::write(&bomb), &["leaves the archive"]);
    let same = Entry { local: Some(0), data: base[0].data.clone(), ..Entry::new(&first, b"") };
    let mut name = same.name.clone();
    name[0] ^= 1;
    check("two entries over the same bytes", with(Entry { name, ..same }), &["overlaps"]);
    check(
        "an entry outside",
        with(Entry { local: Some(u32::MAX - 1), ..Entry::new("x", b"x") }),
        &["damaged at byte"],
    );
    // The end record promises more entries, or a directory that is not there.
    let file = zip::write(&base);
    let end = file.len() - 22;
    for (at, value) in [(10, [0xff, 0xff, 0, 0]), (12, [0xff; 4]), (16, [0xff; 4])] {
        let mut lie = file.clone();
        let n = if at == 10 { 2 } else { 4 };
        lie[end + at..end + at + n].copy_from_slice(&value[..n]);
        check("a wrong end record", lie, &["damaged at byte"]);
    }
    check("no zip", b"\x80\x02}q\x00.".repeat(20), &["not a zip archive"]);
    check("an empty file", Vec::new(), &["not a zip archive"]);
    check("an archive of nothing", zip::write(&[]), &["no `models/model.json`"]);
}

#[test]
fn hostile_models_are_refused() {
    let base = zip::read(&read(&fixture("mlp.pt2")));
    let at = model_at(&base);
    let raw = |text: Vec<u8>| {
        let mut entries = base.clone();
        entries[at].data = text;
        zip::write(&entries)
    };
    for open in ["[", "{\"a\":", "{\"graph_module\":{\"graph\":{\"nodes\":["] {
        let file = raw(open.repeat(100_000).into_bytes());
        refuse("deep nesting", file.len(), &[FILE, "model.json", "line 1"], || load(&file));
    }
    refuse("no JSON", 0, &[FILE, "model.json", "line 1"], || load(&raw(b"pickle".to_vec())));
    refuse("no text", 0, &[FILE, "model.json"], || load(&raw(vec![0xff; 64])));

    let types = |model: &mut Value, change: &dyn Fn(&mut Value)| {
        let values = model["graph_module"]["graph"]["tensor_values"].as_object_mut();
        for (_, meta) in values.expect("types") {
            change(meta);
        }
    };
    let sizes =
        |sizes: Value| with_model(&base, |m| types(m, &|meta| meta["sizes"] = sizes.clone()));
    let size = |text: &str| serde_json::json!([{"as_expr": {"expr_str": text, "hint": null}}]);
    for (sizes, word) in [
        (sizes(serde_json::json!([{"as_int": -5}])), "size of -5"),
        (sizes(serde_json::json!(vec![serde_json::json!({"as_int": 1}); 40])), "40 axes"),
        (sizes(size(&"Add(".repeat(3000))), "nested deeper"),
        (sizes(size(&"x".repeat(20_000))), "longer than"),
        (sizes(size("__import__('os').system('true')")), "expected"),
        (sizes(size("Integer(99999999999999999999)")), "64-bit"),
        (sizes(size("Pow(Symbol('s0'), Integer(1000000))")), "exponent"),
        (sizes(size("Symbol('u0', integer=True)")), "depends on data"),
    ] {
        refuse(word, sizes.len(), &[FILE, word], || load(&sizes));
    }
    // Absurd but representable: refused or read, never computed with by panic.
    for n in [i64::MAX, i64::MAX / 2, 1 << 62, 1 << 40] {
        let file = sizes(serde_json::json!([{"as_int": n}, {"as_int": n}]));
        let _ = attempt("absurd sizes", file.len(), || load(&file));
    }
    // Every level repeats an operand; without a limit that is 2^60 copies.
    for level in ["CeilDiv(Symbol('s0'), ", "Mul(Add(Symbol('s1'), Integer(1)), ", "Pow("] {
        let (close, inner) = match level {
            "Pow(" => (", Integer(16))", "Symbol('s0')"),
            _ => (")", "Symbol('s0')"),
        };
        let text = format!("{}{inner}{}", level.repeat(60), close.repeat(60));
        let file = sizes(size(&text));
        let _ = attempt("a growing size", file.len(), || load(&file));
    }
    let inverted = with_model(&zip::read(&read(&fixture("symbolic_shapes.pt2"))), |m| {
        let ranges = m["range_constraints"].as_object_mut().expect("ranges");
        for (_, r) in ranges {
            *r = serde_json::json!({"min_val": 100, "max_val": 2});
        }
    });
    refuse("an inverted range", inverted.len(), &[FILE, "100 to 2 is empty"], || load(&inverted));
    for (major, minor) in [(7, 9), (8, 1), (9, 0), (i64::MAX, i64::MIN)] {
        let file = with_model(&base, |m| {
            m["schema_version"] = serde_json::json!({"major": major, "minor": minor});
        });
        refuse("another schema", file.len(), &[FILE, "schema", "save the model again"], || {
            load(&file)
        });
    }
}

/// Pieces, repetitions and windows whose number the document chooses.
#[test]
fn counts_do_not_choose_the_memory() {
    for (name, op) in [("split_chunk_cat_stack.pt2", "split"), ("tiny_llama.pt2", "unbind")] {
        let base = zip::read(&read(&fixture(name)));
        let file = with_model(&base, |m| {
            let values = m["graph_module"]["graph"]["tensor_values"].as_object_mut();
            for (_, meta) in values.expect("types") {
                meta["sizes"] = serde_json::json!([{"as_int": 1i64 << 60}, {"as_int": 4}]);
            }
        });
        let _ = attempt(op, file.len(), || load(&file));
    }
}

#[test]
fn hostile_payloads_are_refused() {
    let base = zip::read(&read(&fixture("mlp.pt2")));
    let table = |change: &dyn Fn(&mut Value)| {
        let mut entries = base.clone();
        for e in &mut entries {
            if e.name.ends_with(b"model_weights_config.json") {
                let mut config = document(e);
                for (_, payload) in config["config"].as_object_mut().expect("payloads") {
                    change(payload);
                }
                e.data = serde_json::to_vec(&config).expect("JSON");
            }
        }
        zip::write(&entries)
    };
    let int = |v: i64| serde_json::json!({"as_int": v});
    let far = table(&|p| p["tensor_meta"]["storage_offset"] = int(i64::MAX));
    refuse("an offset outside", far.len(), &[FILE, "payload"], || load(&far));
    let negative = table(&|p| p["tensor_meta"]["storage_offset"] = int(-4));
    refuse("a negative offset", negative.len(), &[FILE, "impossible strides"], || load(&negative));
    let pickled = table(&|p| p["use_pickle"] = true.into());
    refuse("a pickle", pickled.len(), &[FILE, "never executed", "plain tensor"], || load(&pickled));
    let wide = table(&|p| {
        for s in p["tensor_meta"]["strides"].as_array_mut().expect("strides") {
            *s = int(i64::MAX);
        }
    });
    refuse("strides that overflow", wide.len(), &[FILE, "too short"], || load(&wide));

    // Stride 0 over a few bytes: any size fits the storage.
    let mut entries = base.clone();
    let huge = serde_json::json!([int(1 << 30), int(1 << 10)]);
    for e in &mut entries {
        if e.name.ends_with(b"model_weights_config.json") {
            let mut config = document(e);
            for (_, p) in config["config"].as_object_mut().expect("payloads") {
                p["tensor_meta"]["sizes"] = huge.clone();
                p["tensor_meta"]["strides"] = serde_json::json!([int(0), int(0)]);
            }
            e.data = serde_json::to_vec(&config).expect("JSON");
        }
    }
    let at = model_at(&entries);
    let mut model = document(&entries[at]);
    for (_, meta) in model["graph_module"]["graph"]["tensor_values"].as_object_mut().expect("types")
    {
        meta["sizes"] = huge.clone();
    }
    entries[at].data = serde_json::to_vec(&model).expect("JSON");
    let bomb = zip::write(&entries);
    refuse("repeating strides", bomb.len(), &[FILE, "save it contiguous"], || load(&bomb));
}
