//! Size expressions and target names as text.

use zeroforge_artifact::{Expr, SymbolRange, Target};

use crate::harness::{Rng, attempt, refuse};

#[test]
fn random_text_never_panics() {
    const WORDS: [&str; 20] = [
        "s0",
        "s1",
        "s4294967295",
        "s4294967296",
        "+",
        "-",
        "*",
        "(",
        ")",
        ",",
        "floordiv(",
        "mod(",
        "min(",
        "max(",
        "0",
        "1",
        "9223372036854775807",
        "9223372036854775808",
        " ",
        "é",
    ];
    let mut rng = Rng(7);
    let ranges = [SymbolRange { min: i64::MIN, max: i64::MAX }, SymbolRange { min: 5, max: -5 }];
    for i in 0..20_000 {
        let text: String = (0..rng.below(24)).map(|_| WORDS[rng.below(WORDS.len())]).collect();
        let what = format!("expression {i} `{text}`");
        if let Ok(e) = attempt(&what, text.len(), || text.parse::<Expr>()) {
            let _ = attempt(&what, text.len(), || {
                let bounds = e.bounds(&ranges);
                e.eval(&[3, 0]).map(|v| (v, bounds))
            });
            for values in [[0, 0], [i64::MIN, -1], [i64::MAX, i64::MIN]] {
                let _ = attempt(&what, text.len(), || e.eval(&values));
            }
            // The text form of what was read is read again.
            let again: Result<Expr, _> = e.to_string().parse();
            if let (Ok(again), false) = (again, text.contains("922337203685477580")) {
                assert_eq!(again, e, "{what}");
            }
        }
    }
}

#[test]
fn nesting_and_length_are_limited() {
    let deep = format!("{}s0{}", "(".repeat(2000), ")".repeat(2000));
    refuse("parentheses", deep.len(), &["nested too deeply", "byte"], || deep.parse::<Expr>());
    let deep = format!("{}s0{}", "min(s1,".repeat(500), ")".repeat(500));
    refuse("calls", deep.len(), &["nested too deeply"], || deep.parse::<Expr>());
    let long = "s0+".repeat(2000);
    refuse("length", long.len(), &["longer than the limit"], || long.parse::<Expr>());
    // Short texts that multiply.
    for level in [("floordiv((", "+1)*(s1+2),3)"), ("(", "*s0)"), ("((", "+s1)*s2)")] {
        let text = format!("{}s0{}", level.0.repeat(60), level.1.repeat(60));
        let _ = attempt("growth", text.len(), || text.parse::<Expr>());
    }
    let text = "(s0+s1+s2+s3)".to_owned() + &"*(s0+s1+s2+s3)".repeat(200);
    let _ = attempt("products", text.len(), || text.parse::<Expr>());
}

#[test]
fn json_forms_are_checked() {
    for bad in ["null", "1.5", "[]", "{}", "\"s0 +\"", "\"\"", "1e400", "99999999999999999999"] {
        refuse(bad, bad.len(), &[], || serde_json::from_str::<Expr>(bad));
    }
    for bad in ["{\"kind\":\"cuda\"}", "{\"kind\":\"cpu\",\"isa\":\"x87\"}", "\"sm_90\"", "{}"] {
        refuse(bad, bad.len(), &[], || serde_json::from_str::<Target>(bad));
    }
}
