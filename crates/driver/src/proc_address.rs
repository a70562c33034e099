//! Functions by name.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::abi::{InStr, Out};
use crate::device::VERSION;
use crate::error::{Error, Res};
use crate::versions::VERSIONS;

/// `CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM`.
const PER_THREAD: u64 = 2;

fn addresses() -> &'static HashMap<&'static str, usize> {
    static TABLE: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    TABLE.get_or_init(|| crate::exports().map(|e| (e.name, e.function as usize)).collect())
}

/// What a lookup gives.
enum Found {
    Address(usize),
    /// The function is newer than the version asked for.
    TooOld,
    Unknown,
}

/// The export of a name in a CUDA version. Programs name a function without the suffix of a variant, and get the
/// variant that the headers of that version have.
fn find(name: &str, version: i32, per_thread: bool) -> Found {
    let export = match VERSIONS.iter().find(|v| v.0 == name) {
        Some((_, variants)) => match variants.iter().rev().find(|v| v.0 <= version) {
            Some(variant) => variant.1,
            None => return Found::TooOld,
        },
        None => name,
    };
    let table = addresses();
    let own = ["_ptds", "_ptsz"]
        .iter()
        .find_map(|suffix| table.get(format!("{export}{suffix}").as_str()));
    let found = own.filter(|_| per_thread).or_else(|| table.get(export));
    found.map_or(Found::Unknown, |&a| Found::Address(a))
}

fn lookup(name: InStr, to: Out<usize>, version: i32, flags: u64, status: Out<u32>) -> Res<()> {
    if to.is_null() || flags > 3 {
        return Err(Error::INVALID_VALUE);
    }
    let name = name.get()?;
    let result = match version > VERSION {
        true => Found::TooOld,
        false => find(&name, version, flags & PER_THREAD != 0),
    };
    let (address, code) = match result {
        Found::Address(address) => (address, 0),
        Found::Unknown => (0, 1),
        Found::TooOld => (0, 2),
    };
    to.set(address)?;
    if !status.is_null() {
        return status.set(code);
    }
    (code == 0).then_some(()).ok_or(Error::NOT_FOUND)
}

api! {
    fn cuGetProcAddress(name: InStr, to: Out<usize>, version: i32, flags: u64) {
        lookup(name, to, version, flags, Out::at(0))
    }

    fn cuGetProcAddress_v2(name: InStr, to: Out<usize>, version: i32, flags: u64, status: Out<u32>) {
        lookup(name, to, version, flags, status)
    }
}
