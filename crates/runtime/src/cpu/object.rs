//! A shared object loaded from bytes, without a file on disk.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use libloading::os::unix::Library;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::RunError;

/// `zf_cpu_entry` of `abi.h`: parameter block, first task, end of tasks, worker, scratch memory.
pub(crate) type Entry = unsafe extern "C" fn(*const u8, i64, i64, i64, *mut u8);

/// Native code in memory.
#[derive(Debug)]
pub struct Object {
    library: Library,
    /// Stays open as long as the library is loaded: the loader knows libraries by their path, and a
    /// later object must not get the same `/proc/self/fd/N`. Dropped after `library`.
    _file: File,
}

fn device(reason: String) -> RunError {
    RunError::Device { device: "cpu".to_owned(), reason }
}

impl Object {
    /// Maps an ELF shared object from an anonymous, sealed memory file.
    ///
    /// # Safety
    /// The bytes become code of this process: the caller must have checked that they are the ones
    /// whose hash the artifact records, for a target that the machine can execute. Artifacts from
    /// untrusted sources must have passed a signature policy.
    pub unsafe fn load(elf: &[u8]) -> Result<Object, RunError> {
        let memory = |e: rustix::io::Errno| device(format!("no memory file for native code: {e}"));
        let fd = memfd_create("zeroforge", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(memory)?;
        let mut file = File::from(fd);
        file.write_all(elf).map_err(|e| device(format!("no memory for native code: {e}")))?;
        // Nothing can change the code after its hash was checked.
        fcntl_add_seals(
            &file,
            SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )
        .map_err(memory)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_LOCAL;
        // SAFETY: the object has no initialisers (it is linked without any) and imports nothing;
        // what it contains is the caller's promise.
        let library = unsafe { Library::open(Some(&path), flags) }
            .map_err(|e| device(format!("native code could not be loaded: {e}")))?;
        Ok(Object { library, _file: file })
    }

    /// Looks up an entry point.
    pub(crate) fn entry(&self, name: &str) -> Result<Entry, RunError> {
        // SAFETY: every exported symbol of a kernel object has the type `zf_cpu_entry`.
        let symbol = unsafe { self.library.get::<Entry>(name.as_bytes()) }
            .map_err(|e| device(format!("entry `{name}` is not in the native code: {e}")))?;
        Ok(*symbol)
    }
}
