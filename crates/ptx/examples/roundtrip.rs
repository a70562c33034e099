//! Prints a PTX file as the printer writes it, and what the verifier says of it:
//! `cargo run -p zeroforge-ptx --example roundtrip FILE.ptx`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: roundtrip FILE.ptx")?;
    let start = std::time::Instant::now();
    let module = zeroforge_ptx::parse(&std::fs::read_to_string(path)?)?;
    eprintln!("parsed in {:.1?}", start.elapsed());
    print!("{}", zeroforge_ptx::print(&module));
    zeroforge_ptx::verify(&module)?;
    Ok(())
}
