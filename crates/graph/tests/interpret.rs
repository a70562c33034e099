//! The interpreter: meaning of the ops where models seldom go, sizes, limits, errors.

use zeroforge_artifact::DType;
use zeroforge_graph::Graph;
use zeroforge_graph::interpret::{
    Data, InterpretError, InterpretOptions, Interpreter, Precision, Tensor,
};
use zeroforge_graph::text::parse;
use zeroforge_graph::verify;

fn graph(body: &str) -> Graph {
    let text = format!("graph \"g\" {{\n{body}\n}}\n");
    let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    verify(&graph).unwrap_or_else(|e| panic!("{e}\n{text}"));
    graph
}

fn floats(name: &str, shape: &[usize], values: &[f64]) -> (String, Tensor) {
    let data = Data::Float(values.to_vec());
    (name.to_owned(), Tensor { dtype: DType::F32, shape: shape.to_vec(), data })
}

fn ints(name: &str, dtype: DType, values: &[i64]) -> (String, Tensor) {
    let data = Data::Int(values.to_vec());
    (name.to_owned(), Tensor { dtype, shape: vec![values.len()], data })
}

fn outputs(body: &str, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, InterpretError> {
    let graph = graph(body);
    let run = Interpreter::new(&graph, None, InterpretOptions::default()).run(inputs)?;
    Ok(run.outputs.iter().map(|t| (**t).clone()).collect())
}

fn output(body: &str, inputs: &[(String, Tensor)]) -> Data {
    outputs(body, inputs).unwrap_or_else(|e| panic!("{e}")).remove(0).data
}

#[test]
fn integer_functions_keep_their_corners() {
    let a = ints("a", DType::I32, &[-7, 7, 5, i32::MIN.into(), 1]);
    let b = ints("b", DType::I32, &[2, -2, 0, -1, 40]);
    for (op, expected) in [
        ("floor_div", [-4, -4, 0, i32::MIN.into(), 0]),
        ("trunc_div", [-3, -3, 0, i32::MIN.into(), 0]),
        ("rem", [1, -1, 0, 0, 1]),
        ("fmod", [-1, 1, 0, 0, 1]),
        ("shl", [-28, 0, 5, 0, 0]),
        ("shr", [-2, 0, 5, -1, 0]),
        ("add", [-5, 5, 5, i32::MAX.into(), 41]),
        ("pow", [49, 0, 1, 0, 1]),
    ] {
        let body = format!(
            "input %a: i32[5]\ninput %b: i32[5]\n%c = {op}(%a, %b): i32[5]\noutput \"c\" = %c"
        );
        assert_eq!(output(&body, &[a.clone(), b.clone()]), Data::Int(expected.into()), "{op}");
    }
}

#[test]
fn casts_saturate_and_wrap() {
    let x = floats("x", &[4], &[300.7, -1.5, f64::NAN, f64::INFINITY]);
    let body = "input %x: f32[4]\n%y = cast(%x): u8[4]\noutput \"y\" = %y";
    assert_eq!(output(body, &[x]), Data::Int(vec![255, 0, 0, 255]));
    let x = ints("x", DType::I64, &[300, -1, 2]);
    let body = "input %x: i64[3]\n%y = cast(%x): u8[3]\noutput \"y\" = %y";
    assert_eq!(output(body, &[x]), Data::Int(vec![44, 255, 2]));
}

#[test]
fn attention_hides_rows_and_positions() {
    let q = floats("q", &[1, 1, 3, 1], &[0.0; 3]);
    let v = floats("v", &[1, 1, 3, 1], &[1.0, 2.0, 4.0]);
    let body = |attributes: &str| {
        format!(
            "input %q: f32[1, 1, 3, 1]\ninput %v: f32[1, 1, 3, 1]\n%y = attention(%q, %q, %v, scale: 1.0{attributes}): f32[1, 1, 3, 1]\noutput \"y\" = %y"
        )
    };
    let inputs = [q, v];
    for (attributes, expected) in [
        (", causal, offset: 0", [1.0, 1.5, f64::from(7.0f32 / 3.0)]),
        (", causal, window: 1, offset: 0", [1.0, 2.0, 4.0]),
        // No key is visible to the first row.
        (", causal, offset: -1", [0.0, 1.0, 1.5]),
        (", window: 2, offset: 1", [f64::from(7.0f32 / 3.0), 3.0, 4.0]),
    ] {
        assert_eq!(output(&body(attributes), &inputs), Data::Float(expected.into()));
    }
}

#[test]
fn precision_is_a_choice() {
    let graph = graph(
        "weight %third: f32[] = [0.1]\n%y = mul(%third, %third): f32[]\n%h = cast(%y): f16[]\noutput \"h\" = %h",
    );
    let run = |precision| {
        let options = InterpretOptions { precision, keep_values: true, ..Default::default() };
        let run = Interpreter::new(&graph, None, options).run(&[]).unwrap();
        assert!(run.values.iter().all(Option::is_some));
        run.outputs[0].to_f64()[0]
    };
    let tenth = f64::from(0.1f32);
    assert_eq!(run(Precision::Exact), tenth * tenth);
    assert_eq!(run(Precision::Rounded), half::f16::from_f64(tenth * tenth).to_f64());
}

#[test]
fn buffers_live_across_calls() {
    let graph = graph(
        "mutable weight %n: i64[] = [5]\n%one = full_int(value: 1): i64[]\n%m = add(%n, %one): i64[]\noutput \"n\" = %m updates weight 0",
    );
    let mut interpreter = Interpreter::new(&graph, None, InterpretOptions::default());
    for expected in [6, 7, 8] {
        interpreter.run(&[]).unwrap();
        assert_eq!(interpreter.state("n").unwrap().data, Data::Int(vec![expected]));
    }
}

#[test]
fn bad_calls_are_refused() {
    let body = "symbol s0 \"n\": 2..4\nassume s0 - 3 >= 0: \"at least three\"\ninput %x: f32[s0, 2*s0]\noutput \"x\" = %x";
    let x = |shape: &[usize]| floats("x", shape, &vec![0.0; shape.iter().product()]);
    for (inputs, message) in [
        (vec![], "`x`: it is missing"),
        (vec![floats("z", &[1], &[0.0])], "`z`: the graph has no such input"),
        (vec![x(&[3])], "[3] is not [s0, 2*s0]"),
        (vec![x(&[3, 5])], "[3, 5] is not [s0, 2*s0]"),
        (vec![x(&[9, 18])], "`n` is 9, allowed are 2 to 4"),
        (vec![x(&[2, 4])], "at least three"),
        (vec![ints("x", DType::I64, &[1])], "another element type"),
        (vec![floats("x", &[3, 6], &[0.0])], "do not fill"),
    ] {
        let error = outputs(body, &inputs).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(outputs(body, &[x(&[3, 6])]).is_ok());
}

#[test]
fn sizes_are_limited_before_they_are_allocated() {
    let vast = "%x = full(value: 0.0): f32[1099511627776, 1099511627776, 4]\noutput \"x\" = %x";
    let error = outputs(vast, &[]).unwrap_err().to_string();
    assert!(error.contains("elements are needed"), "{error}");
    let sum = graph("input %x: f32[8]\n%y = add(%x, %x): f32[8]\noutput \"y\" = %y");
    let options = InterpretOptions { max_elements: 15, ..Default::default() };
    let run = Interpreter::new(&sum, None, options).run(&[floats("x", &[8], &[0.0; 8])]);
    assert!(run.unwrap_err().to_string().contains("8 elements are needed, 7 are allowed"));
}

#[test]
fn reads_outside_are_errors() {
    let body = "symbol s0 \"n\": 1..9\ninput %x: f32[s0]\n%y = slice(%x, axis: 0, start: 0, end: 5, step: 1): f32[5]\noutput \"y\" = %y";
    let error = outputs(body, &[floats("x", &[3], &[0.0; 3])]).unwrap_err().to_string();
    assert!(error.contains("slice 0..5 of 3 elements"), "{error}");
    let body = "input %x: f32[2, 0]\n%y = reduce_max(%x, axes: [1]): f32[2]\noutput \"y\" = %y";
    assert!(outputs(body, &[floats("x", &[2, 0], &[])]).is_err());
    let body = "weight %w: f32[2] = unbound\noutput \"w\" = %w";
    let error = outputs(body, &[]).unwrap_err().to_string();
    assert!(error.contains("weight `w`: it has no data"), "{error}");
}
