//! Every row of the table can be written, read, verified and printed.

use zeroforge_ptx::table::{self, sample};

#[test]
fn every_row_can_be_written() {
    let mut text = format!(
        ".version 8.8\n.target sm_90a\n.address_size 64\n{}\n.entry k() {{ {}\n",
        sample::VARIABLE,
        sample::REGISTERS
    );
    let mut count = 0;
    for form in table::forms() {
        for instruction in sample::samples(form, 40) {
            text.push_str(&instruction);
            text.push('\n');
            count += 1;
        }
    }
    text.push_str("END: ret; }\n");
    let module = zeroforge_ptx::parse(&text).unwrap_or_else(|e| {
        let line = text.lines().nth(e.line as usize - 1).unwrap_or_default();
        panic!("{e}\n{line}")
    });
    let body = module.functions[0].body.as_ref().expect("a body");
    assert_eq!(body.instructions.len(), count + 1);
    zeroforge_ptx::verify(&module).unwrap_or_else(|e| panic!("{e}"));
    let printed = zeroforge_ptx::print(&module);
    let again = zeroforge_ptx::parse(&printed).unwrap_or_else(|e| panic!("printed:{e}"));
    assert_eq!(zeroforge_ptx::print(&again), printed);
}
