//! NVRTC, loaded from a file at run time (NVRTC documentation, "User Interface").
//!
//! The types are cudarc's; the functions are looked up in the library that was found, because
//! cudarc's own loader takes a library by name from wherever the system has one.

#![expect(unsafe_code, reason = "calls into NVIDIA's compiler library")]

use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};

use cudarc::nvrtc::sys::{nvrtcProgram, nvrtcResult};
use libloading::Library;

use super::compile::CudaCompileError;

/// Oldest version that knows everything generated kernels use (sm_90a).
const OLDEST: (i32, i32) = (12, 0);
/// Largest text or code object accepted from the library.
const MAX_BYTES: usize = 256 << 20;

type Create = unsafe extern "C" fn(
    *mut nvrtcProgram,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> nvrtcResult;
type Compile = unsafe extern "C" fn(nvrtcProgram, c_int, *const *const c_char) -> nvrtcResult;
type GetSize = unsafe extern "C" fn(nvrtcProgram, *mut usize) -> nvrtcResult;
type Get = unsafe extern "C" fn(nvrtcProgram, *mut c_char) -> nvrtcResult;
type Destroy = unsafe extern "C" fn(*mut nvrtcProgram) -> nvrtcResult;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> nvrtcResult;

/// The loaded library. Safe to use from several threads at once, as NVRTC is.
#[derive(Debug)]
pub struct Nvrtc {
    path: PathBuf,
    version: (i32, i32),
    create: Create,
    compile: Compile,
    destroy: Destroy,
    ptx: (GetSize, Get),
    cubin: (GetSize, Get),
    log: (GetSize, Get),
    /// Keeps the functions mapped; dropped last.
    _library: Library,
}

/// PTX and machine code of one program.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compiled {
    pub(super) ptx: Vec<u8>,
    pub(super) cubin: Vec<u8>,
}

impl Nvrtc {
    /// Loads the library from a file.
    pub fn load(path: &Path) -> Result<Nvrtc, CudaCompileError> {
        let unusable =
            |reason: String| CudaCompileError::Unusable { path: path.to_owned(), reason };
        // SAFETY: loading runs the library's initialisers; that it is NVIDIA's compiler is the word of
        // whoever installed it, as with any compiler.
        let library = unsafe { Library::new(path) }.map_err(|e| unusable(e.to_string()))?;
        macro_rules! function {
            ($ty:ty, $name:literal) => {
                // SAFETY: the type is the one that nvrtc.h declares for this name.
                *unsafe { library.get::<$ty>($name) }.map_err(|e| unusable(e.to_string()))?
            };
        }
        let version_of = function!(Version, b"nvrtcVersion\0");
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both pointers are to live integers.
        let result = unsafe { version_of(&mut major, &mut minor) };
        if result != nvrtcResult::NVRTC_SUCCESS {
            return Err(unusable(format!("nvrtcVersion gave {result:?}")));
        }
        if (major, minor) < OLDEST {
            return Err(unusable(format!(
                "it is version {major}.{minor}, at least {}.{} is needed",
                OLDEST.0, OLDEST.1
            )));
        }
        Ok(Nvrtc {
            path: path.to_owned(),
            version: (major, minor),
            create: function!(Create, b"nvrtcCreateProgram\0"),
            compile: function!(Compile, b"nvrtcCompileProgram\0"),
            destroy: function!(Destroy, b"nvrtcDestroyProgram\0"),
            ptx: (function!(GetSize, b"nvrtcGetPTXSize\0"), function!(Get, b"nvrtcGetPTX\0")),
            cubin: (function!(GetSize, b"nvrtcGetCUBINSize\0"), function!(Get, b"nvrtcGetCUBIN\0")),
            log: (
                function!(GetSize, b"nvrtcGetProgramLogSize\0"),
                function!(Get, b"nvrtcGetProgramLog\0"),
            ),
            _library: library,
        })
    }

    /// Name and version, for provenance and cache keys.
    pub fn version(&self) -> String {
        format!("NVRTC {}.{}", self.version.0, self.version.1)
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Compiles one source with the headers that it includes by name.
    pub(super) fn compile(
        &self,
        name: &str,
        source: &str,
        headers: &[(String, String)],
        options: &[String],
    ) -> Result<Compiled, CudaCompileError> {
        let text = |s: &str| {
            CString::new(s).map_err(|_| CudaCompileError::Unusable {
                path: self.path.clone(),
                reason: format!("`{name}` contains a zero byte"),
            })
        };
        let source = text(source)?;
        let file = text(name)?;
        let names = headers.iter().map(|h| text(&h.0)).collect::<Result<Vec<_>, _>>()?;
        let texts = headers.iter().map(|h| text(&h.1)).collect::<Result<Vec<_>, _>>()?;
        let options = options.iter().map(|o| text(o)).collect::<Result<Vec<_>, _>>()?;
        let pointers = |list: &[CString]| list.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();
        let (names, texts) = (pointers(&names), pointers(&texts));
        let flags = pointers(&options);
        let mut program: nvrtcProgram = std::ptr::null_mut();
        // SAFETY: every string outlives the program, which is destroyed before this returns; the two
        // arrays have as many elements as the count says.
        let result = unsafe {
            (self.create)(
                &mut program,
                source.as_ptr(),
                file.as_ptr(),
                names.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        self.check(name, "nvrtcCreateProgram", result)?;
        let program = Program { nvrtc: self, handle: program };
        // SAFETY: the program is live and the array has as many elements as the count says.
        let result =
            unsafe { (self.compile)(program.handle, flags.len() as c_int, flags.as_ptr()) };
        if result != nvrtcResult::NVRTC_SUCCESS {
            let log = program.read(self.log, "the log").unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            return Err(CudaCompileError::Failed {
                unit: name.to_owned(),
                log: log.trim_end_matches('\0').lines().take(40).collect::<Vec<_>>().join("\n"),
            });
        }
        let mut ptx = program.read(self.ptx, "PTX")?;
        // The library counts the terminating zero.
        while ptx.last() == Some(&0) {
            ptx.pop();
        }
        Ok(Compiled { ptx, cubin: program.read(self.cubin, "machine code")? })
    }

    fn check(&self, unit: &str, call: &str, result: nvrtcResult) -> Result<(), CudaCompileError> {
        if result == nvrtcResult::NVRTC_SUCCESS {
            return Ok(());
        }
        Err(CudaCompileError::Failed {
            unit: unit.to_owned(),
            log: format!("{call} gave {result:?}"),
        })
    }
}

/// A program that is destroyed when it goes out of scope.
struct Program<'a> {
    nvrtc: &'a Nvrtc,
    handle: nvrtcProgram,
}

impl Program<'_> {
    fn read(&self, (size, get): (GetSize, Get), what: &str) -> Result<Vec<u8>, CudaCompileError> {
        let mut bytes = 0usize;
        // SAFETY: the program is live and the pointer is to a live integer.
        self.nvrtc.check(what, "its size", unsafe { size(self.handle, &mut bytes) })?;
        if bytes > MAX_BYTES {
            return Err(CudaCompileError::Failed {
                unit: what.to_owned(),
                log: format!("it would have {bytes} bytes, at most {MAX_BYTES} are accepted"),
            });
        }
        let mut buffer = vec![0u8; bytes];
        // SAFETY: the buffer has the size that the library just gave for this program.
        let result = unsafe { get(self.handle, buffer.as_mut_ptr().cast()) };
        self.nvrtc.check(what, "reading it", result)?;
        Ok(buffer)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: created by this library and not destroyed before.
        let _ = unsafe { (self.nvrtc.destroy)(&mut self.handle) };
    }
}
