//! The text form: what is printed reads back, and what is broken is refused with its place.

use zeroforge_graph::text::{parse, print};
use zeroforge_graph::verify;

/// Every kind of op, attribute, weight and output.
const SAMPLE: &str = r##"graph "sample \"quoted\" \\ net" {
  symbol s0 "batch": 1..8
  symbol s1 "length": 2..inf
  assume -s1 + 512 >= 0: "at most 512"
  weight %net.w "net:w": f32[4, 3] = source "net.w"
  weight %steps: i64[3] = [-1, 0, 9223372036854775807]
  weight %flags: bool[2] = [true, false]
  weight %half: f16[3] = [0.5, -inf, 65504.0]
  weight %brain: bf16[2] = [1.0, -0.0]
  weight %nans: f32[2] = hex "0100c07f0000807f"
  weight %none: f32[0] = []
  weight %scalar: f32[] = [2.5]
  weight %image_filter: f32[8, 2, 3, 3] = unbound
  weight %up_filter: f32[4, 2, 2, 2] = unbound
  mutable weight %count: i64[] = [0]
  input %x: f32[s0, s1, 4]
  input %ids "the ids": i64[s0, s1]
  input %image: f32[s0, 4, 16, 16]
  input %heads: f32[s0, 4, s1, 8]
  input %kv: f32[s0, 2, s1, 8]
  %full = full(value: 1e-5): f32[4]
  %low = full(value: -inf): f32[]
  %size = full_int(value: s0*s1 + 1): i64[]
  %iota = iota(start: s0, step: -2): i64[s1]
  %fiota = iota(start: 0, step: 1): f32[4]
  %a = add(%x, %full): f32[s0, s1, 4] @ in "encoder.layer.0" from "model.py:12"
  %b = gelu_tanh(%a): f32[s0, s1, 4] @ "gelu" from "model.py:13"
  %is = lt(%a, %b): bool[s0, s1, 4] @
  %w = where(%is, %a, %b): f32[s0, s1, 4]
  %c = cast(%w): bf16[s0, s1, 4]
  %r = reduce_mean(%b, axes: [1, 2], keep_dims): f32[s0, 1, 1]
  %am = arg_max(%b, axes: [2]): i64[s0, s1]
  %cs = cumsum(%ids, axis: 1): i64[s0, s1]
  %sm = softmax(%b, axis: 2): f32[s0, s1, 4]
  %lsm = log_softmax(%b, axis: 2): f32[s0, s1, 4]
  %top, %at = top_k(%b, k: 2): f32[s0, s1, 2], i64[s0, s1, 2] @
  %ln = layer_norm(%b, %full, %full, axes: 1, eps: 1e-12, weight, bias): f32[s0, s1, 4]
  %rms = rms_norm(%b, axes: 1, eps: 1e-6): f32[s0, s1, 4]
  %gn = group_norm(%image, groups: 2, eps: 1e-5): f32[s0, 4, 16, 16]
  %mm = matmul(%b, %net.w): f32[s0, s1, 3]
  %mt = matmul(%mm, %net.w, transpose_b): f32[s0, s1, 4]
  %conv = conv(%image, %image_filter, stride: [2, 2], padding: [(1, 1), (0, 1)], dilation: [1, 1], groups: 2): f32[s0, 8, 8, 8]
  %ct = conv_transpose(%image, %up_filter, stride: [2, 2], padding: [0, 0], output_padding: [0, 0], dilation: [1, 1], groups: 1): f32[s0, 2, 32, 32]
  %at1 = attention(%heads, %kv, %kv, scale: 0.35): f32[s0, 4, s1, 8]
  %at2 = attention(%at1, %kv, %kv, scale: 0.35, causal, window: 4, offset: 0): f32[s0, 4, s1, 8]
  %pool = pool(%image, op: max, kernel: [2, 2], stride: [2, 2], padding: [(0, 0), (0, 0)], dilation: [1, 1]): f32[s0, 4, 8, 8]
  %mean = pool(%image, op: mean, kernel: [2, 2], stride: [2, 2], padding: [(0, 0), (0, 0)], dilation: [1, 1], count_include_pad): f32[s0, 4, 8, 8]
  %aap = adaptive_avg_pool(%image): f32[s0, 4, 1, 1]
  %up = upsample(%image, mode: linear_corners): f32[s0, 4, 32, 32]
  %up2 = upsample(%image, mode: nearest): f32[s0, 4, 32, 20]
  %is1 = index_select(%net.w, %ids, axis: 0): f32[s0, s1, 3]
  %ga = gather(%ids, %ids, axis: 1): i64[s0, s1]
  %im = index_multi(%x, %steps, %steps, axes: [0, 1]): f32[3, 4]
  %ic = index_copy(%x, %iota, %x, axis: 1): f32[s0, s1, 4]
  %ip = index_put(%x, %steps, %steps, %im, axes: [0, 1], accumulate): f32[s0, s1, 4]
  %sc = scatter(%ids, %ids, %ids, axis: 0, accumulate): i64[s0, s1]
  %ss = slice_scatter(%x, %x, axis: 1, start: 0, step: 1): f32[s0, s1, 4]
  %re = reshape(%x): f32[s0*s1, 4]
  %pe = permute(%x, perm: [0, 2, 1]): f32[s0, 4, s1]
  %ex = expand(%full): f32[s0, s1, 4]
  %sl = slice(%x, axis: 1, start: 0, end: s1 - 1, step: 1): f32[s0, s1 - 1, 4]
  %fl = flip(%x, axes: [0, 2]): f32[s0, s1, 4]
  %co = concat(%x, %x, axis: 1): f32[s0, 2*s1, 4]
  %pa = pad(%x, pads: [(0, 0), (0, floordiv(s1, 2)), (1, 1)], value: 0.0): f32[s0, s1 + floordiv(s1, 2), 6]
  %pr = pad(%image, pads: [(0, 0), (0, 0), (1, 1), (2, 2)], reflect): f32[s0, 4, 18, 20]
  %next = add(%count, %count): i64[]
  output "count" = %next updates weight 10
  output "ids" = %sc updates input 1
  output "y" = %a
  signature inputs "[1, {\"type\": \"tuple\"}]"
}
"##;

#[test]
fn the_sample_is_a_fixpoint() {
    let graph = parse(SAMPLE).unwrap_or_else(|e| panic!("{e}"));
    verify(&graph).unwrap_or_else(|e| panic!("{e}"));
    let text = print(&graph);
    assert_eq!(text, SAMPLE);
    assert_eq!(parse(&text).as_ref(), Ok(&graph));
}

#[test]
fn long_inline_data_is_named_by_its_hash() {
    let values: Vec<String> = (0..100).map(|i| format!("{i}.0")).collect();
    let text = format!("graph \"g\" {{\n  weight %w: f32[100] = [{}]\n}}\n", values.join(", "));
    let first = print(&parse(&text).unwrap());
    assert!(first.contains("= source \"blake3:"), "{first}");
    assert!(first.contains(":400\""), "{first}");
    assert_eq!(print(&parse(&first).unwrap()), first);
}

#[test]
fn errors_name_line_and_column() {
    let graph = |body: &str| format!("graph \"g\" {{\n  input %x: f32[2]\n{body}\n}}\n");
    let mut wrong = Vec::new();
    for (body, line, column, message) in [
        ("  %y = ad(%x, %x): f32[2]", 3, 8, "unknown op `ad`"),
        ("  %y = add(%x, %z): f32[2]", 3, 16, "`%z` is not defined"),
        ("  %y = add(%x, %y): f32[2]", 3, 16, "`%y` is not defined"),
        ("  %x = neg(%x): f32[2]", 3, 4, "`%x` is defined twice"),
        ("  %y = neg(%x): f3[2]", 3, 17, "unknown element type `f3`"),
        ("  %y = neg(%x): f32[2", 3, 20, "without `]`"),
        ("  %y = neg(%x): f32[2)", 3, 22, "expected `]`"),
        ("  %y = neg(%x): f32[2, s]", 3, 24, "malformed size"),
        ("  %y = neg(%x, axis: 1): f32[2]", 3, 16, "neg has no attribute `axis`"),
        ("  %y = softmax(%x): f32[2]", 3, 8, "softmax needs `axis`"),
        ("  %y = softmax(%x, axis: a): f32[2]", 3, 26, "expected a number"),
        ("  %y = softmax(%x, axis): f32[2]", 3, 20, "`axis` needs a value"),
        ("  %y = softmax(%x, axis: 0, axis: 0): f32[2]", 3, 29, "given twice"),
        ("  %y = matmul(%x, %x, transpose_b: 1): f32[2]", 3, 36, "takes no value"),
        ("  %y = pad(%x, pads: [1], value: 0.0): f32[2]", 3, 23, "expected `(...)`"),
        ("  %y, %z = neg(%x): f32[2]", 3, 12, "2 results, but 1 types"),
        ("  weight %w: f32[2] = [1.0, x]", 3, 23, "values of f32"),
        ("  weight %w: f32[2] = hex \"0\"", 3, 23, "hexadecimal"),
        ("  weight %w: f32[2] = later", 3, 23, "`unbound`"),
        ("  output \"y\" = %q", 3, 17, "`%q` is not defined"),
        ("  output \"y = %x", 3, 10, "without end"),
        ("  symbol s1 \"n\": 1..2", 3, 10, "expected `s0`"),
        ("  node", 3, 3, "unknown item `node`"),
        ("  assume s0: \"m\"", 3, 10, "`>=`"),
    ] {
        let error = parse(&graph(body)).expect_err(body);
        let found = (error.line, error.column, error.message.contains(message));
        if found != (line, column, true) {
            wrong.push(format!("{body}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(parse("").is_err());
    assert!(parse("graph \"g\" {").is_err());
    assert!(parse("graph \"g\" {} more").is_err());
}

/// A small generator of pseudorandom numbers (xorshift), seeded so that failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// Mutated text never panics the reader; what it accepts prints to text that reads back.
#[test]
fn mutated_text_does_not_panic() {
    let pieces = ["%", "(", ")", "[", "]", "\"", ",", ":", "s9", "-1", "é", "\\u{", "@", "\n", "#"];
    let mut random = Random(0x5eed);
    let mut accepted = 0;
    for _ in 0..4000 {
        let mut text: Vec<char> = SAMPLE.chars().collect();
        for _ in 0..=random.below(3) {
            let at = random.below(text.len());
            match random.below(4) {
                0 => drop(text.remove(at)),
                1 => text.truncate(at.max(1)),
                2 => {
                    let piece = pieces[random.below(pieces.len())];
                    text.splice(at..at, piece.chars());
                }
                _ => {
                    let other = random.below(text.len());
                    text.swap(at, other);
                }
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(graph) = parse(&text) {
            accepted += 1;
            // A graph with broken types is still a graph; verifying it must not panic either.
            let _ = verify(&graph);
            let printed = print(&graph);
            let again = parse(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
            assert_eq!(print(&again), printed);
        }
    }
    assert!(accepted > 20, "only {accepted} mutations were accepted");
}
