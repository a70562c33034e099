//! Modules: images made programs.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;

use zeroforge_emulator::{LoadError, Program};
use zeroforge_ptx::StateSpace;

use crate::abi::{In, InStr, Out};
use crate::error::{Error, Res};
use crate::image::{self, ImageError};
use crate::link::Jit;
use crate::log;
use crate::state::{Allocation, Function, Kind, MemoryKind, Module, State, lock};
use crate::types::{DevicePtr, Handle};

/// Parses and checks a PTX text. What is wrong comes back as a message for the error log.
pub fn parse(text: &str) -> Result<zeroforge_ptx::Module, ImageError> {
    let fail = |error, message| Err(ImageError { error, message });
    let module = match zeroforge_ptx::parse(text) {
        Ok(module) => module,
        Err(e) => {
            let mut message = format!("ptx input, line {}; error: {}", e.line, e.message);
            if let Some(mnemonic) = &e.mnemonic {
                message += &format!(" (in `{mnemonic}`)");
            }
            if !e.nearest.is_empty() {
                message += &format!("; nearest: {}", e.nearest.join(", "));
            }
            return fail(Error::INVALID_PTX, message);
        }
    };
    if module.version >= (10, 0) {
        let (major, minor) = module.version;
        return fail(
            Error::UNSUPPORTED_PTX_VERSION,
            format!("PTX {major}.{minor} is newer than 9.x, which this driver knows"),
        );
    }
    if let Some(target) = module.targets.first().filter(|t| !runs(t)) {
        return fail(
            Error::NO_BINARY_FOR_GPU,
            format!("the PTX is for {target}; the emulated card has compute capability 9.0"),
        );
    }
    if let Err(e) = zeroforge_ptx::verify(&module) {
        return fail(Error::INVALID_PTX, e.to_string());
    }
    Ok(module)
}

/// Whether a card of compute capability 9.0 takes PTX for a target.
fn runs(target: &str) -> bool {
    let Some(arch) = target.strip_prefix("sm_") else { return true };
    match arch.parse::<u32>() {
        Ok(number) => number <= 90,
        // Architecture- and family-specific targets run on their own architecture only.
        Err(_) => arch == "90a",
    }
}

/// Loads the texts of an image on a device.
pub fn load(
    texts: &[String],
    context: Handle,
    device: usize,
    library: bool,
) -> Result<Module, ImageError> {
    let parsed = texts.iter().map(|t| parse(t)).collect::<Result<Vec<_>, _>>()?;
    let mut s = lock();
    let mut module = Module {
        context,
        device,
        programs: Vec::new(),
        ptx_version: parsed.first().map_or((0, 0), |m| m.version),
        bytes: 0,
        functions: BTreeMap::new(),
        library,
        alias: None,
    };
    for text in &parsed {
        let before = s.memory.info().0;
        let program = Program::load(text, &s.memory);
        let taken = before.saturating_sub(s.memory.info().0);
        let charged = s.charge(device, taken);
        match (program, charged) {
            (Ok(program), Ok(())) => {
                module.bytes += taken;
                for v in &text.variables {
                    let Some((address, size)) = program.global(&v.name) else { continue };
                    debug_assert!(matches!(v.space, StateSpace::Global | StateSpace::Const));
                    let id = s.buffer_id();
                    s.allocations.insert(
                        address,
                        Allocation {
                            size,
                            kind: MemoryKind::Global,
                            device,
                            context,
                            pool: None,
                            flags: 0,
                            id,
                            host: None,
                            freeing: false,
                        },
                    );
                }
                module.programs.push(Arc::new(program));
            }
            (Ok(program), Err(e)) => {
                program.unload(&s.memory);
                discard(&mut s, &module);
                return Err(ImageError {
                    error: e,
                    message: "the module's variables do not fit".to_owned(),
                });
            }
            (Err(e), _) => {
                discard(&mut s, &module);
                let error = match e {
                    LoadError::Memory(_) => Error::OUT_OF_MEMORY,
                    _ => Error::INVALID_PTX,
                };
                return Err(ImageError { error, message: e.to_string() });
            }
        }
    }
    Ok(module)
}

/// Gives the memory of a module back.
fn discard(s: &mut State, module: &Module) {
    for program in &module.programs {
        program.unload(&s.memory);
    }
    let memory = Arc::clone(&s.memory);
    s.allocations.retain(|&base, a| a.kind != MemoryKind::Global || memory.range(base).is_some());
    s.devices[module.device].used -= module.bytes;
}

/// Unloads a module or a library with its functions.
pub fn unload(s: &mut State, handle: Handle) {
    let Some(module) = s.modules.remove(&handle) else { return };
    discard(s, &module);
    s.functions.retain(|_, f| f.module != handle);
    if let Some(alias) = module.alias.filter(|_| module.library) {
        s.modules.remove(&alias);
    }
}

/// The handle of a kernel, the same every time.
pub fn function(s: &mut State, module: Handle, name: &str) -> Res<Handle> {
    let module = match s.modules.get(&module).ok_or(Error::INVALID_HANDLE)? {
        Module { library: false, alias: Some(library), .. } => *library,
        _ => module,
    };
    let found = s.module(module)?;
    if let Some(&handle) = found.functions.get(name) {
        return Ok(handle);
    }
    let program = found.programs.iter().find(|p| p.kernel(name).is_some());
    let program = Arc::clone(program.ok_or(Error::NOT_FOUND)?);
    let c_name = CString::new(name).map_err(|_| Error::NOT_FOUND)?;
    let handle = s.handle(Kind::Function);
    let function = Function {
        module,
        program,
        name: name.to_owned(),
        c_name: Box::leak(c_name.into_boxed_c_str()),
        max_dynamic: None,
        attributes: BTreeMap::new(),
    };
    s.functions.insert(handle, function);
    if let Some(m) = s.modules.get_mut(&module) {
        m.functions.insert(name.to_owned(), handle);
    }
    Ok(handle)
}

/// Names of a module's kernels in order.
pub fn kernels(module: &Module) -> Vec<String> {
    module.programs.iter().flat_map(|p| p.kernels()).map(|k| k.name.clone()).collect()
}

/// Address and size of a variable.
pub fn global(module: &Module, name: &str) -> Res<(u64, u64)> {
    module.programs.iter().find_map(|p| p.global(name)).ok_or(Error::NOT_FOUND)
}

/// Loads the image at an address into the current context.
fn load_image(to: Out<Handle>, image: usize, jit: &Jit) -> Res<()> {
    if to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let (context, device) = {
        let s = lock();
        let context = s.active()?;
        (context, s.contexts[&context].device)
    };
    let loaded = image::texts(image).and_then(|texts| load(&texts, context, device, false));
    let module = jit.report(loaded)?;
    let mut s = lock();
    let handle = s.handle(Kind::Module);
    s.modules.insert(handle, module);
    to.set(handle)
}

/// Reads a file as an image: text gets the NUL that ends it.
pub fn file(path: InStr) -> Res<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.bytes()?)).to_owned();
    let mut bytes = std::fs::read(&path).map_err(|e| {
        log::error(|| format!("{}: {e}", path.display()));
        Error::FILE_NOT_FOUND
    })?;
    // Headers say how long an image is; a damaged one must not be read past its end.
    bytes.push(0);
    Ok(bytes)
}

api! {
    fn cuModuleLoad(to: Out<Handle>, path: InStr) {
        if to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let bytes = file(path)?;
        let (context, device) = {
            let s = lock();
            let context = s.active()?;
            (context, s.contexts[&context].device)
        };
        let loaded = image::texts_in(&bytes).and_then(|texts| load(&texts, context, device, false));
        let module = Jit::default().report(loaded)?;
        let mut s = lock();
        let handle = s.handle(Kind::Module);
        s.modules.insert(handle, module);
        to.set(handle)
    }

    fn cuModuleLoadData(to: Out<Handle>, image: usize) {
        load_image(to, image, &Jit::default())
    }

    fn cuModuleLoadDataEx(
        to: Out<Handle>, image: usize, count: u32, options: In<u32>, values: In<u64>,
    ) {
        load_image(to, image, &Jit::new(count, options, values)?)
    }

    fn cuModuleLoadFatBinary(to: Out<Handle>, image: usize) {
        load_image(to, image, &Jit::default())
    }

    fn cuModuleUnload(handle: Handle) {
        crate::stream::pump();
        let mut s = lock();
        s.current()?;
        let found = s.modules.get(&handle).filter(|m| !m.library && m.alias.is_none());
        found.ok_or(Error::INVALID_HANDLE)?;
        unload(&mut s, handle);
        Ok(())
    }

    fn cuModuleGetLoadingMode(to: Out<u32>) {
        // Eager: a module is decoded as a whole, and what cannot run is refused at the load.
        to.set(1)
    }

    fn cuModuleGetFunction(to: Out<Handle>, module: Handle, name: InStr) {
        let name = name.get()?;
        let mut s = lock();
        s.active()?;
        to.set(function(&mut s, module, &name)?)
    }

    fn cuModuleGetFunctionCount(to: Out<u32>, module: Handle) {
        to.set(kernels(lock().module(module)?).len() as u32)
    }

    fn cuModuleEnumerateFunctions(to: Out<Handle>, count: u32, module: Handle) {
        let mut s = lock();
        let names = kernels(s.module(module)?);
        for (i, name) in names.iter().take(count as usize).enumerate() {
            to.set_at(i, function(&mut s, module, name)?)?;
        }
        Ok(())
    }

    fn cuModuleGetGlobal_v2(address: Out<DevicePtr>, size: Out<usize>, module: Handle, name: InStr) {
        let name = name.get()?;
        let s = lock();
        s.active()?;
        let (start, bytes) = global(s.module(module)?, &name)?;
        address.set_if(start);
        size.set_if(bytes as usize);
        Ok(())
    }
}
