//! Counted memory, a seeded generator and mutations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The system's allocator, counting per thread.
pub(crate) struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(change: i64) {
    // A thread that is being torn down has no counters left.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is passed on unchanged; counting touches only plain thread-local cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            count(layout.size() as i64);
        }
        pointer
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.realloc(ptr, layout, new_size) };
        if !pointer.is_null() {
            count(new_size as i64 - layout.size() as i64);
        }
        pointer
    }
}

/// Memory that any reader may use besides a multiple of its input.
const BASE_BYTES: i64 = 96 << 20;
/// Memory per byte of input; parsed JSON is the largest.
const BYTES_PER_BYTE: i64 = 64;

/// Runs a reader on `len` bytes of hostile input: it must return, and stay within its memory.
/// Gives the error's text, if it is one.
pub(crate) fn attempt<T, E: std::fmt::Display>(
    what: &str,
    len: usize,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    let before = LIVE.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let result = catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| panic!("{what}: the reader panicked"));
    let used = PEAK.with(Cell::get) - before;
    let allowed = BASE_BYTES + BYTES_PER_BYTE * len as i64;
    assert!(used <= allowed, "{what}: {used} bytes of memory for {len} bytes of input");
    result.map_err(|e| {
        let text = e.to_string();
        assert!(text.len() > 12, "{what}: `{text}` explains nothing");
        text
    })
}

/// As [`attempt`], for input that must be refused; the text must hold every one of `words`.
pub(crate) fn refuse<T, E: std::fmt::Display>(
    what: &str,
    len: usize,
    words: &[&str],
    read: impl FnOnce() -> Result<T, E>,
) {
    match attempt(what, len, read) {
        Ok(_) => panic!("{what} was accepted"),
        Err(text) => {
            for word in words {
                assert!(text.contains(word), "{what}: `{word}` is not in: {text}");
            }
        }
    }
}

/// splitmix64: small, and the same everywhere.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`, which is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A copy with one to four edits: flipped bits, overwritten runs, and a few removed or repeated.
pub(crate) fn mutate(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        if out.is_empty() {
            break;
        }
        let at = rng.below(out.len());
        let run = (1 + rng.below(16)).min(out.len() - at);
        match rng.below(6) {
            0..=2 => out[at] ^= 1 << rng.below(8),
            3 => out[at..at + run].fill([0, 0xff, 0x7f, 0x80][rng.below(4)]),
            4 => drop(out.drain(at..at + run)),
            _ => {
                let copy = out[at..at + run].to_vec();
                out.splice(at..at, copy);
            }
        }
    }
    out
}

/// Places where a file is cut: all near both ends, some between.
pub(crate) fn cuts(len: usize, rng: &mut Rng) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..len.min(160)).chain(len.saturating_sub(160)..len).collect();
    if len > 0 {
        cuts.extend((0..200).map(|_| rng.below(len)));
    }
    cuts
}

/// Values that JSON readers meet rarely.
fn odd(rng: &mut Rng) -> Value {
    match rng.below(14) {
        0 => Value::Null,
        1 => (-1).into(),
        2 => 0.into(),
        3 => i64::MAX.into(),
        4 => i64::MIN.into(),
        5 => u64::MAX.into(),
        6 => (1i64 << 40).into(),
        7 => 1e308.into(),
        8 => "".into(),
        9 => "Mul(Symbol('s0'), Integer(9223372036854775807))".into(),
        10 => "NaN".into(),
        11 => Value::Array(Vec::new()),
        12 => serde_json::json!({}),
        _ => serde_json::json!([[[[[1]]]]]),
    }
}

/// Changes one place of a document: another value, one less, or one twice.
pub(crate) fn mutate_json(value: &mut Value, rng: &mut Rng) {
    let count = nodes(value);
    let mut left = rng.below(count);
    edit(value, &mut left, rng);
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum::<usize>(),
        _ => 0,
    }
}

/// Walks to the node `left` and edits it; returns whether it was here.
fn edit(value: &mut Value, left: &mut usize, rng: &mut Rng) -> bool {
    if *left == 0 {
        match value {
            Value::Array(list) if !list.is_empty() && rng.below(3) > 0 => {
                let at = rng.below(list.len());
                if rng.below(2) == 0 {
                    list.remove(at);
                } else {
                    let copy = list[at].clone();
                    list.push(copy);
                }
            }
            Value::Object(map) if !map.is_empty() && rng.below(3) > 0 => {
                let at = rng.below(map.len());
                let key = map.keys().nth(at).cloned().unwrap_or_default();
                let old = map.remove(&key);
                if rng.below(2) == 0 {
                    map.insert(format!("{key}_"), old.unwrap_or_default());
                }
            }
            Value::Number(n) if rng.below(2) == 0 => {
                let step = [1, -1, 2, 64][rng.below(4)];
                *value = n.as_i64().unwrap_or(0).saturating_add(step).into();
            }
            _ => *value = odd(rng),
        }
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|v| edit(v, left, rng)),
        Value::Object(map) => map.values_mut().any(|v| edit(v, left, rng)),
        _ => false,
    }
}

/// `tests/fixtures/NAME`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A file in a fresh folder, which goes away with it.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        path
    }
}
