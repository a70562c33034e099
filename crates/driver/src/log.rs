//! Messages on standard error. `ZEROFORGE_SOFTWARE_LOG` says how many: `off`, `error`, `warn` (the default), `info`,
//! `debug` (calls that fail), `trace` (every call).

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

fn level() -> u8 {
    static LEVEL: OnceLock<u8> = OnceLock::new();
    *LEVEL.get_or_init(|| match std::env::var("ZEROFORGE_SOFTWARE_LOG").as_deref() {
        Ok("off") => 0,
        Ok("error") => 1,
        Ok("info") => 3,
        Ok("debug") => 4,
        Ok("trace") => 5,
        _ => 2,
    })
}

fn write(at: u8, message: impl FnOnce() -> String) {
    if level() >= at {
        eprintln!("zeroforge software device: {}", message());
    }
}

/// Something is wrong.
pub fn error(message: impl FnOnce() -> String) {
    write(1, message);
}

/// Something is likely not what the user wants.
pub fn warn(message: impl FnOnce() -> String) {
    write(2, message);
}

/// Something worth knowing.
pub fn info(message: impl FnOnce() -> String) {
    write(3, message);
}

/// A call that fails.
pub fn debug(message: impl FnOnce() -> String) {
    write(4, message);
}

/// A call.
pub fn trace(message: impl FnOnce() -> String) {
    write(5, message);
}

/// Says something the first time only.
pub fn once(key: &str, message: impl FnOnce() -> String) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let first = SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
    if first {
        warn(message);
    }
}
