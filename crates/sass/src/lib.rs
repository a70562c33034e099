//! Hopper machine code (SASS) as data.
//!
//! [`cubin`] reads what the loader knows of a kernel, [`disassemble`] its instructions with control codes, [`flow`] its loops,
//! [`shadow`] what runs while the tensor cores do, and [`kernel`] puts it together in a [`Report`]. Nothing here
//! executes: what is reported is what the machine code shows.

#![forbid(unsafe_code)]

pub mod cubin;
pub mod disassemble;
mod error;
pub mod flow;
pub mod gate;
pub mod instruction;
pub mod kernel;
pub mod occupancy;
pub mod path;
pub mod pipe;
pub mod shadow;
pub mod text;
pub mod timeline;

pub use cubin::{Entry, entries, is_cubin};
pub use disassemble::Disassembler;
pub use error::SassError;
pub use instruction::{Control, Instruction, Wgmma};
pub use kernel::{Kernel, Launch, LoopReport, Report, report};

/// Whether a kernel's name contains every word of a filter; an empty filter takes all.
pub fn matches(name: &str, filter: &str) -> bool {
    filter.split_whitespace().all(|word| name.contains(word))
}

/// The kernels of a cubin whose names match a filter, disassembled.
///
/// # Errors
///
/// The cubin is damaged, no kernel has such a name, or the disassembler fails.
pub fn kernels(
    cubin: &[u8],
    name: &str,
    disassembler: &Disassembler,
) -> Result<Vec<Kernel>, SassError> {
    let all = entries(cubin)?;
    let chosen: Vec<&Entry> = all.iter().filter(|e| matches(&e.name, name)).collect();
    if chosen.is_empty() {
        let have = all.iter().map(|e| e.name.clone()).collect();
        return Err(SassError::NoKernel { name: name.to_owned(), have });
    }
    let mut code = disassembler.run(cubin, &chosen)?;
    chosen
        .into_iter()
        .map(|e| match code.remove(&e.name) {
            Some(code) => Ok(Kernel::new(e.clone(), code)),
            None => Err(SassError::Disassembler(format!("it printed no code of `{}`", e.name))),
        })
        .collect()
}
