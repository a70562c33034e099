//! Matrix products and convolutions on the emulator, all checkers on.

use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::case::{Case, run_on_emulator};
use zeroforge_conformance::gemm::{cases, instances};

/// SMs by case: few, so that blocks take several tiles and the last wave is cut, and the real slices.
fn sms(case: usize) -> u32 {
    [1, 3, 2, 60, 5, 132, 4][case % 7]
}

#[test]
fn every_case_passes() {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let cases = cases();
    let chosen: Vec<&dyn Case> = match std::env::var("ZF_CASES") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("`FROM..TO`");
            let (from, to) =
                (from.parse::<usize>().expect("a number"), to.parse::<usize>().expect("a number"));
            cases[from..to.min(cases.len())].iter().map(|c| c as &dyn Case).collect()
        }
        Err(_) => cases.iter().map(|c| c as &dyn Case).collect(),
    };
    let failures = run_on_emulator(&bench, &chosen, &sms);
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        chosen.len(),
        failures.join("\n")
    );
}

#[test]
fn kernels_are_few_enough_to_compile() {
    assert!(instances().len() <= 70);
}
