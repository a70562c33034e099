//! One command, one file.

pub(crate) mod analyze;
pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod emulate;
pub(crate) mod inspect;
pub(crate) mod interpret;
pub(crate) mod keys;
pub(crate) mod run;
pub(crate) mod toolchain;
pub(crate) mod verify;
