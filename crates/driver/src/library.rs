//! Libraries and kernels: modules that belong to no context.
//!
//! A library is loaded on the device of the context that is current then, or on the first device; its
//! variables exist once.

use crate::abi::{CStrPtr, In, InStr, Out};
use crate::error::{Error, Res};
use crate::function;
use crate::image::{self, ImageError};
use crate::link::Jit;
use crate::module;
use crate::state::{Kind, Module, lock};
use crate::types::{DevicePtr, Handle};

/// Keeps a library that was loaded.
fn keep(to: Out<Handle>, jit: &Jit, texts: Result<Vec<String>, ImageError>) -> Res<()> {
    if to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let device = {
        let s = lock();
        s.ready()?;
        s.current_device().unwrap_or(0)
    };
    let library = jit.report(texts.and_then(|t| module::load(&t, 0, device, true)))?;
    let mut s = lock();
    let handle = s.handle(Kind::Library);
    s.modules.insert(handle, library);
    to.set(handle)
}

fn library_options(count: u32, options: In<u32>) -> Res<()> {
    let known = options.list(count as usize)?.iter().all(|&o| o <= 1);
    known.then_some(()).ok_or(Error::INVALID_VALUE)
}

fn find(s: &crate::state::State, library: Handle) -> Res<&Module> {
    s.ready()?;
    s.modules.get(&library).filter(|m| m.library).ok_or(Error::INVALID_HANDLE)
}

api! {
    fn cuLibraryLoadData(
        to: Out<Handle>, code: usize, jit: In<u32>, jit_values: In<u64>, jit_count: u32,
        options: In<u32>, _values: In<u64>, count: u32,
    ) {
        let jit = Jit::new(jit_count, jit, jit_values)?;
        library_options(count, options)?;
        lock().ready()?;
        keep(to, &jit, image::texts(code))
    }

    fn cuLibraryLoadFromFile(
        to: Out<Handle>, path: InStr, jit: In<u32>, jit_values: In<u64>, jit_count: u32,
        options: In<u32>, _values: In<u64>, count: u32,
    ) {
        let jit = Jit::new(jit_count, jit, jit_values)?;
        library_options(count, options)?;
        lock().ready()?;
        keep(to, &jit, image::texts_in(&module::file(path)?))
    }

    fn cuLibraryUnload(library: Handle) {
        crate::stream::pump();
        let mut s = lock();
        find(&s, library)?;
        module::unload(&mut s, library);
        Ok(())
    }

    fn cuLibraryGetKernel(to: Out<Handle>, library: Handle, name: InStr) {
        let name = name.get()?;
        let mut s = lock();
        find(&s, library)?;
        to.set(module::function(&mut s, library, &name)?)
    }

    fn cuLibraryGetKernelCount(to: Out<u32>, library: Handle) {
        to.set(module::kernels(find(&lock(), library)?).len() as u32)
    }

    fn cuLibraryEnumerateKernels(to: Out<Handle>, count: u32, library: Handle) {
        let mut s = lock();
        let names = module::kernels(find(&s, library)?);
        for (i, name) in names.iter().take(count as usize).enumerate() {
            to.set_at(i, module::function(&mut s, library, name)?)?;
        }
        Ok(())
    }

    fn cuLibraryGetModule(to: Out<Handle>, library: Handle) {
        let mut s = lock();
        s.active()?;
        let found = find(&s, library)?;
        if let Some(alias) = found.alias {
            return to.set(alias);
        }
        let (device, version) = (found.device, found.ptx_version);
        let alias = s.handle(Kind::Module);
        s.modules.insert(alias, Module {
            context: 0,
            device,
            programs: Vec::new(),
            ptx_version: version,
            bytes: 0,
            functions: Default::default(),
            library: false,
            alias: Some(library),
        });
        if let Some(m) = s.modules.get_mut(&library) {
            m.alias = Some(alias);
        }
        to.set(alias)
    }

    fn cuLibraryGetGlobal(address: Out<DevicePtr>, size: Out<usize>, library: Handle, name: InStr) {
        let name = name.get()?;
        let s = lock();
        s.active()?;
        let (start, bytes) = module::global(find(&s, library)?, &name)?;
        address.set_if(start);
        size.set_if(bytes as usize);
        Ok(())
    }

    fn cuLibraryGetManaged(_address: Out<DevicePtr>, _size: Out<usize>, library: Handle, name: InStr) {
        name.get()?;
        find(&lock(), library)?;
        // `.attribute(.managed)` variables are refused at the load, so there is none.
        Err(Error::NOT_FOUND)
    }

    fn cuLibraryGetUnifiedFunction(_to: Out<usize>, library: Handle, symbol: InStr) {
        symbol.get()?;
        find(&lock(), library)?;
        Err(Error::NOT_FOUND)
    }

    fn cuKernelGetFunction(to: Out<Handle>, kernel: Handle) {
        let s = lock();
        s.active()?;
        s.function(kernel)?;
        // A kernel is a function wherever one is wanted.
        to.set(kernel)
    }

    fn cuKernelGetLibrary(to: Out<Handle>, kernel: Handle) {
        let s = lock();
        s.ready()?;
        let library = s.function(kernel)?.module;
        find(&s, library)?;
        to.set(library)
    }

    fn cuKernelGetName(to: Out<CStrPtr>, kernel: Handle) [cuFuncGetName] {
        let s = lock();
        s.ready()?;
        to.set(CStrPtr::forever(s.function(kernel)?.c_name))
    }

    fn cuKernelGetAttribute(to: Out<i32>, which: u32, kernel: Handle, device: i32) {
        let s = lock();
        s.device(device)?;
        to.set(function::attribute(s.function(kernel)?, which)?)
    }

    fn cuKernelSetAttribute(which: u32, value: i32, kernel: Handle, device: i32) {
        let mut s = lock();
        s.device(device)?;
        function::set_attribute(&mut s, kernel, which, value)
    }

    fn cuKernelSetCacheConfig(kernel: Handle, config: u32, device: i32) {
        let s = lock();
        s.device(device)?;
        s.function(kernel)?;
        if config > 3 { Err(Error::INVALID_VALUE) } else { Ok(()) }
    }

    fn cuKernelGetParamInfo(kernel: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        let s = lock();
        s.ready()?;
        function::param(s.function(kernel)?, index, offset, size)
    }

    fn cuKernelGetParamCount(kernel: Handle, to: Out<usize>) [cuFuncGetParamCount] {
        let s = lock();
        s.ready()?;
        to.set(s.function(kernel)?.kernel()?.params.len())
    }
}
