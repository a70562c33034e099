//! The `zeroforge` command line.
fn main() {}
