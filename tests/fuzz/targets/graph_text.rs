//! The graph's text form: what parses is a sound graph, prints, and parses back to the same text.
#![no_main]

use zeroforge_graph::{text, verify};

libfuzzer_sys::fuzz_target!(|data: &str| {
    if let Ok(graph) = text::parse(data) {
        if verify(&graph).is_ok() {
            let printed = text::print(&graph);
            let again = text::parse(&printed).expect("what is printed parses");
            assert_eq!(text::print(&again), printed);
        }
    }
});
