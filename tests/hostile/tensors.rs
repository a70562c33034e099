//! Tensor inputs: `.npy`, safetensors, JSON literals.

use safetensors::tensor::{Dtype, TensorView};
use zeroforge_artifact::DType;
use zeroforge_runtime::{Tensor, tensor_io};

use crate::harness::{Rng, Scratch, attempt, mutate, refuse};

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

#[test]
fn damaged_npy_files_are_refused() {
    let scratch = Scratch::new();
    let sound = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n", &[0; 24]);
    let load = |bytes: &[u8]| {
        let path = scratch.write("x.npy", bytes);
        move || tensor_io::read_npy(&path)
    };
    load(&sound)().expect("sound");
    for cut in 0..sound.len() {
        refuse(&format!("cut at {cut}"), cut, &["x.npy"], load(&sound[..cut]));
    }
    let mut rng = Rng(31);
    for i in 0..1500 {
        let damaged = mutate(&sound, &mut rng);
        if let Err(text) = attempt(&format!("edit {i}"), damaged.len(), load(&damaged)) {
            assert!(text.contains("x.npy"), "{text}");
        }
    }
    let of = |descr: &str, order: &str, shape: &str, n: usize| {
        npy(
            &format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}}}"),
            &vec![0; n],
        )
    };
    for (file, word) in [
        (of("<f4", "False", "(9223372036854775807, 9223372036854775807)", 8), "bytes do not make"),
        (of("<f4", "False", "(-1, -4)", 16), "bytes do not make"),
        (of("<f4", "False", "(99999999999999999999,)", 4), "is no size"),
        (of("<f4", "False", "(NaN,)", 4), "is no size"),
        (of("<f4", "False", "(0, 4611686018427387904)", 4), "bytes do not make"),
        (of("<f4", "True", "(1,)", 4), "C-contiguous"),
        (of(">f4", "False", "(1,)", 4), "element type `>f4`"),
        (of("|O", "False", "(1,)", 4), "element type `|O`"),
        (of("<f4", "False", "(1,)", 5), "5 bytes"),
        (npy("{}", &[]), "`descr`"),
        (npy("'descr'", &[]), "`descr`"),
    ] {
        refuse(word, file.len(), &["x.npy", word], load(&file));
    }
    let mut two = of("|b1", "False", "(3,)", 3);
    *two.last_mut().expect("a byte") = 2;
    refuse("a bool of 2", two.len(), &["x.npy", "element 2 is 2"], load(&two));
    let mut version2 = b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec();
    version2.extend([b' '; 40]);
    refuse("a huge header", version2.len(), &["cut off"], load(&version2));
}

#[test]
fn damaged_safetensors_inputs_are_refused() {
    let scratch = Scratch::new();
    let data = [0u8; 24];
    let view = TensorView::new(Dtype::F32, vec![2, 3], &data).expect("a view");
    let sound = safetensors::serialize([("x", view)], None).expect("a file");
    let load = |bytes: &[u8]| {
        let path = scratch.write("x.safetensors", bytes);
        move || tensor_io::read_safetensors(&path)
    };
    load(&sound)().expect("sound");
    for cut in 0..sound.len() {
        refuse(&format!("cut at {cut}"), cut, &["x.safetensors"], load(&sound[..cut]));
    }
    let mut rng = Rng(32);
    for i in 0..1500 {
        let damaged = mutate(&sound, &mut rng);
        if let Err(text) = attempt(&format!("edit {i}"), damaged.len(), load(&damaged)) {
            assert!(text.contains("x.safetensors"), "{text}");
        }
    }
    for header in HOSTILE_HEADERS {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend([0; 16]);
        refuse(header, file.len(), &["x.safetensors"], load(&file));
    }
    let deep = "[".repeat(200_000);
    let mut file = (deep.len() as u64).to_le_bytes().to_vec();
    file.extend(deep.as_bytes());
    refuse("deep nesting", file.len(), &["x.safetensors"], load(&file));
    refuse("a huge header", 64, &["x.safetensors"], load(&[0xff; 64]));
}

/// Headers over 16 bytes of data.
pub(crate) const HOSTILE_HEADERS: [&str; 6] = [
    r#"{"x":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,16]}}"#,
    r#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#,
    r#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}"#,
    r#"{"x":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}"#,
    r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
    r#"{"x":{"dtype":"Q7","shape":[4],"data_offsets":[0,16]}}"#,
];

#[test]
fn hostile_literals_are_refused() {
    for (text, dtype, word) in [
        ("", DType::F32, "malformed"),
        ("[1, 2", DType::F32, "malformed"),
        ("[[1], [2, 3]]", DType::F32, "ragged"),
        ("[1, [2]]", DType::F32, "ragged"),
        ("[null]", DType::F32, "no number"),
        ("{\"a\": 1}", DType::F32, "no number"),
        ("[1.5]", DType::I64, "1.5"),
        ("[NaN]", DType::F32, "malformed"),
        ("[1e999]", DType::F32, "malformed"),
        ("[300]", DType::U8, "300"),
        ("[300]", DType::I8, "300"),
        ("[70000]", DType::I16, "70000"),
        ("[3000000000]", DType::I32, "3000000000"),
        ("[18446744073709551615]", DType::I64, "18446744073709551615"),
        ("[2]", DType::Bool, "a bool is 0 or 1"),
    ] {
        refuse(text, text.len(), &[word], || tensor_io::from_json(text, dtype));
    }
    let deep = "[".repeat(1 << 20);
    refuse("deep nesting", deep.len(), &["recursion"], || tensor_io::from_json(&deep, DType::F32));
    const WORDS: [&str; 12] =
        ["[", "]", ",", "1", "-", ".", "e9", "true", "null", "\"", "{", "1e308"];
    let mut rng = Rng(33);
    for i in 0..5000 {
        let text: String = (0..rng.below(16)).map(|_| WORDS[rng.below(WORDS.len())]).collect();
        let dtype = [DType::F32, DType::F16, DType::Bf16, DType::I8, DType::Bool][rng.below(5)];
        let _ = attempt(&format!("literal {i} `{text}`"), text.len(), || {
            tensor_io::from_json(&text, dtype)
        });
    }
}

#[test]
fn tensors_that_cannot_exist_are_refused() {
    for shape in [&[i64::MAX][..], &[-1], &[1 << 40, 1 << 40], &[i64::MIN, 0]] {
        refuse(&format!("{shape:?}"), 0, &["shape"], || Tensor::zeros(DType::F64, shape));
    }
    // Representable, but more than any machine has.
    refuse("2^60 bytes", 0, &["memory"], || Tensor::zeros(DType::U8, &[1 << 60]));
}
