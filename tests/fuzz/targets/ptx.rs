//! PTX: what parses can be verified, prints, and parses back to the same text.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| {
    if let Ok(module) = zeroforge_ptx::parse(data) {
        let _ = zeroforge_ptx::verify(&module);
        let printed = zeroforge_ptx::print(&module);
        let again = zeroforge_ptx::parse(&printed).expect("what is printed parses");
        assert_eq!(zeroforge_ptx::print(&again), printed);
    }
});
