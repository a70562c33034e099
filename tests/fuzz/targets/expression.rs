//! Size expressions: what parses prints, parses back to the same, and evaluates without a panic.
#![no_main]

use zeroforge_artifact::{Expr, MAX_EXPR_LEN};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(e) = text.parse::<Expr>() {
        let printed = e.to_string();
        // Multiplied out, an expression may be longer than what is read.
        if printed.len() <= MAX_EXPR_LEN {
            assert_eq!(printed.parse::<Expr>().as_ref(), Ok(&e), "{printed}");
        }
        let _ = e.eval(&[i64::MAX, i64::MIN, 0, 7]);
        let _ = e.as_linear();
    }
});
