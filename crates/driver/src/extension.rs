//! Functions beyond NVIDIA's: `zf...`, for the product's own tools. They need no cuInit.

use std::ffi::c_char;

use serde_json::{Value, json};
use zeroforge_emulator::{Finding, Party};

use crate::abi::{InStr, Out, read_host, set_text};
use crate::error::{Error, Res};
use crate::image;
use crate::log;
use crate::state::lock;

fn party(p: &Party) -> Value {
    json!({
        "block": p.cta,
        "warp": p.warp,
        "lanes": p.lanes,
        "file": p.at.source.as_ref().map(|s| &s.0),
        "line": p.at.source.as_ref().map(|s| s.1),
        "ptx_line": p.at.ptx_line,
        "instruction": p.at.instruction,
    })
}

/// A finding as JSON.
fn finding(f: &Finding) -> Value {
    json!({
        "kind": f.kind.name(),
        "severity": format!("{:?}", f.kind.severity()).to_lowercase(),
        "kernel": f.kernel,
        "message": f.message,
        "address": f.address,
        "count": f.count,
        "at": party(&f.party),
        "other": f.other.as_ref().map(party),
    })
}

/// All findings so far: `{"dropped": 0, "findings": [...]}`. Stores the bytes needed, with the NUL, in `size`, and the text in
/// `buffer` if it fits into the size given there.
fn findings(buffer: Out<c_char>, size: Out<usize>) -> Res<()> {
    let text = {
        let s = lock();
        let list: Vec<Value> = s.findings.iter().map(finding).collect();
        json!({ "dropped": s.dropped_findings, "findings": list }).to_string()
    };
    let needed = text.len() + 1;
    if buffer.is_null() {
        return size.set(needed);
    }
    let room = size.get()?;
    size.set(needed)?;
    if room < needed {
        return Err(Error::INVALID_VALUE);
    }
    set_text(buffer, room, &text)
}

/// Exports a function of this file.
macro_rules! extension {
    ($(#[$doc:meta])* fn $name:ident($($a:ident : $t:ty),*) $body:block) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($a: $t),*) -> u32 {
            crate::guard(stringify!($name), move || $body)
        }
    };
}

extension! {
    /// Says that machine code of `code_len` bytes was compiled from a PTX text of `ptx_len` bytes: loading that very code
    /// executes the PTX.
    fn zfRegisterPtx(code: usize, code_len: usize, ptx: usize, ptx_len: usize) {
        let text = read_host(ptx, ptx_len)?;
        let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        let text = String::from_utf8(text[..end].to_vec()).map_err(|_| Error::INVALID_PTX)?;
        image::register(&read_host(code, code_len)?, text)
    }
}

extension! {
    /// Gives what the checkers found since the start or the last zfClearFindings as JSON. With a null `buffer` only the
    /// bytes needed are stored in `size`; otherwise `size` has the room of the buffer.
    fn zfFindings(buffer: Out<c_char>, size: Out<usize>) {
        findings(buffer, size)
    }
}

extension! {
    /// Makes a later `dlopen("libcuda.so")` of the process find this library, as `dlopen("libcuda.so.1")` does.
    fn zfClaimNames() {
        crate::claim::claim().map_err(|e| {
            log::error(|| format!("zfClaimNames: {e}"));
            Error::OPERATING_SYSTEM
        })
    }
}

extension! {
    /// Forgets what the checkers found.
    fn zfClearFindings() {
        let mut s = lock();
        s.findings.clear();
        s.dropped_findings = 0;
        Ok(())
    }
}

extension! {
    /// Sets options from a JSON object; all or none. Keys: `checks` ("off", "warn", "error"), `schedule` ("late", "eager",
    /// "random:SEED"), `threads`, `budget`, `timeout`, `max_findings`, and `uninitialised`, `races`, `protocol`, `performance`
    /// (booleans).
    fn zfSetOptions(text: InStr) {
        let text = text.get()?;
        let set = lock().settings.set_json(&text);
        set.map_err(|e| {
            log::error(|| format!("zfSetOptions: {e}"));
            Error::INVALID_VALUE
        })
    }
}
