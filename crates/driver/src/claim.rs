//! Being found under every name.
//!
//! After a load by path, `dlopen("libcuda.so.1")` finds this library by its soname. Some clients (cudarc among them) ask for
//! `libcuda.so` first, which on a machine with NVIDIA's driver is the real one. A library can have one soname
//! only; so a second one is loaded that has nothing but the soname `libcuda.so` and the need of `libcuda.so.1`.

use std::io::Write;

use rustix::fs::{MemfdFlags, memfd_create};

/// The name to take.
const NAME: &[u8] = b"libcuda.so\0";
/// The name of this library.
const OWN: &[u8] = b"libcuda.so.1\0";

/// A shared object of one writable segment: header, program headers, dynamic section, symbol table, hash table, strings
/// (System V ABI, chapters 4 and 5).
fn shared_object() -> Vec<u8> {
    const HEADER: u64 = 64;
    const PROGRAM: u64 = 56;
    let dynamic_at = HEADER + 2 * PROGRAM;
    let dynamic_len = 8 * 16u64;
    let symbols_at = dynamic_at + dynamic_len;
    let hash_at = symbols_at + 24;
    let strings_at = hash_at + 16;
    let mut strings = vec![0];
    strings.extend(NAME);
    let own = strings.len() as u64;
    strings.extend(OWN);
    let end = strings_at + strings.len() as u64;

    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // A shared object for this machine.
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    out.extend(3u16.to_le_bytes());
    out.extend(machine.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    // No entry; program headers behind the header; no sections.
    out.extend(0u64.to_le_bytes());
    out.extend(HEADER.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 2, 64, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    // PT_LOAD of all, PT_DYNAMIC; readable and writable, since the loader relocates the dynamic section in place.
    for (kind, at, len, align) in [(1u32, 0, end, 4096u64), (2, dynamic_at, dynamic_len, 8)] {
        out.extend(kind.to_le_bytes());
        out.extend(6u32.to_le_bytes());
        for word in [at, at, at, len, len, align] {
            out.extend(word.to_le_bytes());
        }
    }
    // DT_SONAME, DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_NULL.
    let entries = [
        (14, 1),
        (1, own),
        (4, hash_at),
        (5, strings_at),
        (6, symbols_at),
        (10, strings.len() as u64),
        (11, 24),
        (0, 0),
    ];
    for (tag, value) in entries {
        out.extend(u64::to_le_bytes(tag));
        out.extend(u64::to_le_bytes(value));
    }
    // The null symbol; one bucket, one chain, both empty.
    out.extend([0; 24]);
    for word in [1u32, 1, 0, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(strings);
    out
}

/// Makes a later `dlopen("libcuda.so")` of the process find this library, which must have been loaded so that others can
/// find it as `libcuda.so.1`.
pub fn claim() -> Result<(), String> {
    use std::os::fd::AsRawFd;
    // SAFETY: this library is loaded already, and has no initialisers.
    let own = unsafe {
        libloading::os::unix::Library::open(Some("libcuda.so.1"), libloading::os::unix::RTLD_NOW)
    };
    let own = own.map_err(|e| e.to_string())?;
    // SAFETY: only the address is taken.
    let found = unsafe { own.get::<usize>(b"zfClaimNames") };
    let found = found.map_err(|_| "libcuda.so.1 is another library".to_owned())?;
    if !std::ptr::eq(found.into_raw(), crate::extension::zfClaimNames as *const _) {
        return Err("libcuda.so.1 is another copy of this library".to_owned());
    }
    let file = memfd_create("libcuda.so", MemfdFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let mut file = std::fs::File::from(file);
    file.write_all(&shared_object()).map_err(|e| e.to_string())?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the object has no code, so loading it runs nothing.
    let library = unsafe {
        let flags = libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_GLOBAL;
        libloading::os::unix::Library::open(Some(path), flags)
    };
    // It stays for as long as the process.
    std::mem::forget(library.map_err(|e| e.to_string())?);
    Ok(())
}
