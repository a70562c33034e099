//! The software device: a driver library that executes kernels on the host and checks what they do.
//!
//! It is loaded before the first use of the CUDA driver, under the driver's own name, so that everything after
//! takes it for the driver: there is one way of running on a GPU. What it can do beyond a driver is in the
//! functions that it exports besides, found here by name.

use std::ffi::{c_char, c_int, c_uint};
use std::path::Path;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::RunError;

/// The names under which cudarc looks for a driver and a driver may be installed, in its order.
const DRIVER_NAMES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];

type Register = unsafe extern "C" fn(*const u8, usize, *const u8, usize) -> c_uint;
type Claim = unsafe extern "C" fn() -> c_uint;
type Findings = unsafe extern "C" fn(*mut c_char, *mut usize) -> c_uint;

struct Software {
    register: Register,
    findings: Findings,
    /// Never unloaded: contexts and modules live in it.
    _library: Library,
}

static SOFTWARE: OnceLock<Software> = OnceLock::new();

fn refuse(reason: String) -> RunError {
    RunError::Device { device: "software".to_owned(), reason }
}

/// Number of NVIDIA GPUs that a driver of this machine offers; `None` without a driver. Leaves no driver
/// loaded.
pub fn gpu_count() -> Option<u32> {
    for name in DRIVER_NAMES {
        // SAFETY: loads the CUDA driver if the system has it; its initialisers are the driver's.
        let Ok(library) = (unsafe { Library::new(name) }) else { continue };
        // SAFETY: the signatures are those of cuda.h.
        let functions = unsafe {
            (
                library.get::<unsafe extern "C" fn(c_uint) -> c_uint>(b"cuInit\0"),
                library.get::<unsafe extern "C" fn(*mut c_int) -> c_uint>(b"cuDeviceGetCount\0"),
            )
        };
        let (Ok(init), Ok(count)) = functions else { continue };
        let mut found = 0;
        // SAFETY: no flags are defined, and the pointer is to a live integer.
        if unsafe { init(0) } != 0 || unsafe { count(&mut found) } != 0 {
            return Some(0);
        }
        return Some(found.unsigned_abs());
    }
    None
}

/// Loads the software device from a file, to be the CUDA driver of this process.
///
/// # Errors
/// [`RunError::Device`] if it cannot be loaded or is not the software device.
pub fn load_software_driver(path: &Path) -> Result<(), RunError> {
    if SOFTWARE.get().is_some() {
        return Ok(());
    }
    let failed = |e: libloading::Error| refuse(format!("loading `{}` failed: {e}", path.display()));
    // SAFETY: a library of this project, whose initialisers do nothing; the user names the file.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(failed)?;
    // SAFETY: the signatures are those that the software device documents for these names.
    let (register, findings, claim) = unsafe {
        (
            *library.get::<Register>(b"zfRegisterPtx\0").map_err(failed)?,
            *library.get::<Findings>(b"zfFindings\0").map_err(failed)?,
            *library.get::<Claim>(b"zfClaimNames\0").map_err(failed)?,
        )
    };
    // SAFETY: takes nothing and gives a CUresult.
    let claimed = unsafe { claim() };
    if claimed != 0 || is_shadowed(&library) {
        return Err(refuse(
            "another CUDA driver is in use in this process or would be found first; set LD_LIBRARY_PATH to the folder of the software device".to_owned(),
        ));
    }
    let _ = SOFTWARE.set(Software { register, findings, _library: library });
    Ok(())
}

/// Whether a driver other than this one is found by the names that cudarc looks for.
fn is_shadowed(software: &Library) -> bool {
    let address = |library: &Library| {
        // SAFETY: only the address is taken.
        unsafe { library.get::<unsafe extern "C" fn(c_uint) -> c_uint>(b"cuInit\0") }
            .map(|f| *f as usize)
            .ok()
    };
    // SAFETY: loads what cudarc will load.
    let first = DRIVER_NAMES.iter().find_map(|name| unsafe { Library::new(*name) }.ok());
    first.is_none_or(|first| address(&first) != address(software))
}

/// Whether the software device is this process's driver.
pub(crate) fn is_loaded() -> bool {
    SOFTWARE.get().is_some()
}

/// Tells the software device, if it is loaded, which PTX machine code was made from.
pub(crate) fn register(code: &[u8], ptx: &[u8]) -> Result<(), RunError> {
    let Some(software) = SOFTWARE.get() else { return Ok(()) };
    // SAFETY: both pointers are to as many bytes as the lengths say; the call copies what it keeps.
    let result = unsafe { (software.register)(code.as_ptr(), code.len(), ptx.as_ptr(), ptx.len()) };
    match result {
        0 => Ok(()),
        code => Err(refuse(format!("a kernel's PTX was refused (CUDA error {code})"))),
    }
}

/// What the software device has found so far, as JSON; `None` if it is not loaded.
pub fn software_findings() -> Option<Result<String, RunError>> {
    let software = SOFTWARE.get()?;
    let mut size = 0usize;
    // SAFETY: a null buffer asks for the size.
    let result = unsafe { (software.findings)(std::ptr::null_mut(), &mut size) };
    if result != 0 || size > 1 << 30 {
        return Some(Err(refuse(format!("its findings cannot be read (CUDA error {result})"))));
    }
    let mut buffer = vec![0u8; size];
    // SAFETY: the buffer has `size` bytes.
    let result = unsafe { (software.findings)(buffer.as_mut_ptr().cast(), &mut size) };
    if result != 0 {
        return Some(Err(refuse(format!("its findings cannot be read (CUDA error {result})"))));
    }
    buffer.truncate(buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len()));
    Some(String::from_utf8(buffer).map_err(|e| refuse(e.to_string())))
}
