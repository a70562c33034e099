//! What comes in and goes out through C pointers.
//!
//! The exported functions take these transparent wrappers instead of raw pointers, so that every access to a
//! caller's memory is in this file and in `hostmem`. A null pointer is an error or an absent value, never an access. That a pointer
//! which is not null points to what the API says is the C caller's promise, as with NVIDIA's library; a program
//! that breaks it has undefined behaviour there too.

use std::ffi::{CStr, c_char, c_void};

use crate::error::{Error, Res};

/// Where a result goes.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    /// Whether the caller does not want it.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Stores a result that the caller must want.
    pub fn set(self, value: T) -> Res<()> {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller promises room for a `T` there; the place need not be aligned.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Stores a result that the caller may not want.
    pub fn set_if(self, value: T) {
        let _ = self.set(value);
    }

    /// Stores one element of an array that the caller sized.
    pub fn set_at(self, index: usize, value: T) -> Res<()> {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises an array longer than `index`, by the count that it gave.
        unsafe { self.0.wrapping_add(index).write_unaligned(value) };
        Ok(())
    }

    /// The value there, for places that are read and written.
    pub fn get(self) -> Res<T>
    where
        T: Copy,
    {
        In(self.0.cast_const()).get()
    }

    /// The place as another type's.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// The address.
    pub fn address(self) -> usize {
        self.0 as usize
    }

    /// A place by its address.
    pub fn at(address: usize) -> Out<T> {
        Out(address as *mut T)
    }
}

/// Where an argument lies.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    /// Whether there is none.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The value, which must be there.
    pub fn get(self) -> Res<T> {
        self.opt().ok_or(Error::INVALID_VALUE)
    }

    /// The value, if there is one. `T` must be valid for every bit pattern: integers, pointers, structs of them.
    pub fn opt(self) -> Option<T> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: not null, and the caller promises a `T` there; the place need not be aligned.
        Some(unsafe { self.0.read_unaligned() })
    }

    /// An array of a length that the caller gave. More than a thousand million elements are nonsense.
    pub fn list(self, count: usize) -> Res<Vec<T>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.0.is_null() || count > 1 << 30 {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises an array of `count` elements.
        Ok((0..count).map(|i| unsafe { self.0.wrapping_add(i).read_unaligned() }).collect())
    }

    /// The place as another type's.
    pub fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }

    /// The address.
    pub fn address(self) -> usize {
        self.0 as usize
    }

    /// A place by its address.
    pub fn at(address: usize) -> In<T> {
        In(address as *const T)
    }
}

/// A C string that comes in.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct InStr(*const c_char);

impl InStr {
    /// The text.
    pub fn get(self) -> Res<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Error::INVALID_VALUE)
    }

    /// The bytes before the NUL.
    pub fn bytes(self) -> Res<&'static [u8]> {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller promises a string that ends with NUL and lives for the call; nobody keeps the
        // slice longer.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// The string at an address.
    pub fn at(address: usize) -> InStr {
        InStr(address as *const c_char)
    }
}

/// A C string that goes out and lives as long as the process.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct CStrPtr(*const c_char);

impl CStrPtr {
    /// No string.
    pub const NULL: CStrPtr = CStrPtr(std::ptr::null());

    /// A text that ends with NUL.
    pub fn of(text: &'static str) -> CStrPtr {
        debug_assert!(text.ends_with('\0'));
        CStrPtr(text.as_ptr().cast())
    }

    /// A C string kept for ever: names are few and handed out again.
    pub fn forever(text: &'static CStr) -> CStrPtr {
        CStrPtr(text.as_ptr())
    }
}

/// Copies a text with its NUL into a buffer, cut to its length.
pub fn set_text(to: Out<c_char>, len: usize, text: &str) -> Res<()> {
    if to.is_null() || len == 0 {
        return Err(Error::INVALID_VALUE);
    }
    let bytes = text.as_bytes();
    let n = bytes.len().min(len - 1);
    for (i, &b) in bytes[..n].iter().enumerate() {
        to.set_at(i, b as c_char)?;
    }
    to.set_at(n, 0)
}

/// A function of the caller with its argument.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// The function.
    pub function: HostFn,
    /// What it is given.
    pub data: usize,
}

/// `CUhostFn`.
pub type HostFn = unsafe extern "C" fn(*mut c_void);
/// `CUstreamCallback`.
pub type StreamCallback = unsafe extern "C" fn(usize, u32, *mut c_void);
/// `CUoccupancyB2DSize`.
pub type BlockToShared = unsafe extern "C" fn(i32) -> usize;

impl HostCall {
    /// Calls it.
    pub fn call(self) {
        // SAFETY: the caller of cuLaunchHostFunc promises that the function may be called with its data.
        unsafe { (self.function)(self.data as *mut c_void) }
    }
}

/// Calls a stream callback.
pub fn call_callback(f: StreamCallback, stream: u64, status: u32, data: usize) {
    // SAFETY: the caller of cuStreamAddCallback promises that the function may be called with its data.
    unsafe { f(stream as usize, status, data as *mut c_void) }
}

/// Asks the caller how much shared memory blocks of a size need.
pub fn call_block_to_shared(f: BlockToShared, block: i32) -> usize {
    // SAFETY: the caller of the occupancy function promises that it may be called with a block size.
    unsafe { f(block) }
}

/// Reads memory of the caller.
pub fn read_host(address: usize, len: usize) -> Res<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::OUT_OF_MEMORY)?;
    with_host(address, len, |from| bytes.extend_from_slice(from))?;
    Ok(bytes)
}

/// Lends memory of the caller for reading.
pub fn with_host<R>(address: usize, len: usize, f: impl FnOnce(&[u8]) -> R) -> Res<R> {
    if len == 0 {
        return Ok(f(&[]));
    }
    if address == 0 || isize::try_from(len).is_err() || address.checked_add(len).is_none() {
        return Err(Error::INVALID_VALUE);
    }
    // SAFETY: the caller promises `len` readable bytes there, which nobody writes during the copy.
    Ok(f(unsafe { std::slice::from_raw_parts(address as *const u8, len) }))
}

/// Lends memory of the caller for writing.
pub fn with_host_mut<R>(address: usize, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Res<R> {
    if len == 0 {
        return Ok(f(&mut []));
    }
    if address == 0 || isize::try_from(len).is_err() || address.checked_add(len).is_none() {
        return Err(Error::INVALID_VALUE);
    }
    // SAFETY: the caller promises `len` writable bytes there, which nobody else uses during the copy.
    Ok(f(unsafe { std::slice::from_raw_parts_mut(address as *mut u8, len) }))
}

/// Copies between memory of the caller; ranges may overlap.
pub fn copy_host(to: usize, from: usize, len: usize) -> Res<()> {
    if len == 0 {
        return Ok(());
    }
    if to == 0 || from == 0 {
        return Err(Error::INVALID_VALUE);
    }
    // SAFETY: the caller promises `len` readable and writable bytes; `copy` allows overlap.
    unsafe { std::ptr::copy(from as *const u8, to as *mut u8, len) };
    Ok(())
}

/// A function of the caller by its address, as node parameters hold it.
pub fn host_fn(address: usize) -> Res<HostFn> {
    if address == 0 {
        return Err(Error::INVALID_VALUE);
    }
    // SAFETY: the caller promises a function of this type there; null was excluded.
    Ok(unsafe { std::mem::transmute::<usize, HostFn>(address) })
}
