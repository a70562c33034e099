//! The linker, and the options that it shares with module loading.
//!
//! It takes PTX; what it makes holds the PTX texts side by side, and a kernel may use what its own text defines.

use crate::abi::{In, InStr, Out, read_host};
use crate::error::{Error, Res};
use crate::image::{self, ImageError};
use crate::state::{Kind, lock};
use crate::types::Handle;
use crate::{log, module};

/// Where the caller wants messages.
#[derive(Clone, Debug, Default)]
pub struct Jit {
    error: Buffer,
    info: Buffer,
}

#[derive(Clone, Debug, Default)]
struct Buffer {
    address: usize,
    len: usize,
    /// Where the number of bytes written goes: the option's value.
    written: usize,
}

impl Buffer {
    fn write(&self, text: &str) {
        if self.address == 0 || self.len == 0 {
            return;
        }
        let cut = crate::abi::set_text(Out::at(self.address), self.len, text);
        if cut.is_ok() && self.written != 0 {
            let n = text.len().min(self.len - 1) as u64;
            Out::<u64>::at(self.written).set_if(n);
        }
    }
}

impl Jit {
    /// Reads options.
    pub fn new(count: u32, options: In<u32>, values: In<u64>) -> Res<Jit> {
        let keys = options.list(count as usize)?;
        let list = values.list(count as usize)?;
        let mut jit = Jit::default();
        for (i, (&key, &value)) in keys.iter().zip(&list).enumerate() {
            let place = values.address() + 8 * i;
            match key {
                3 => jit.info.address = value as usize,
                4 => (jit.info.len, jit.info.written) = (value as u32 as usize, place),
                5 => jit.error.address = value as usize,
                6 => (jit.error.len, jit.error.written) = (value as u32 as usize, place),
                // A wall time in milliseconds, as a float in the option's value.
                2 => Out::<f32>::at(place).set_if(0.0),
                0..=35 => {}
                _ => return Err(Error::INVALID_VALUE),
            }
        }
        jit.info.write("");
        jit.error.write("");
        Ok(jit)
    }

    /// Puts the reason of a failure in the error log and on standard error.
    pub fn report<T>(&self, result: Result<T, ImageError>) -> Res<T> {
        result.map_err(|e| {
            log::error(|| e.message.clone());
            self.error.write(&e.message);
            e.error
        })
    }
}

/// A linker invocation.
#[derive(Debug, Default)]
pub struct Link {
    jit: Jit,
    texts: Vec<String>,
    /// What cuLinkComplete made, which the caller reads until the invocation ends.
    image: Vec<u8>,
}

fn add(handle: Handle, kind: u32, bytes: &[u8]) -> Res<()> {
    let jit = lock().links.get(&handle).ok_or(Error::INVALID_HANDLE)?.jit.clone();
    let refused = |what: &str| {
        let message = format!("the software device links PTX, not {what}");
        Err(ImageError { error: Error::NO_BINARY_FOR_GPU, message })
    };
    let texts = jit.report(match kind {
        0..=2 => image::texts_in(bytes),
        3 => refused("objects"),
        4 => refused("libraries"),
        5 => refused("NVVM bitcode"),
        _ => return Err(Error::INVALID_VALUE),
    })?;
    for text in &texts {
        jit.report(module::parse(text))?;
    }
    let mut s = lock();
    s.links.get_mut(&handle).ok_or(Error::INVALID_HANDLE)?.texts.extend(texts);
    Ok(())
}

api! {
    fn cuLinkCreate_v2(count: u32, options: In<u32>, values: In<u64>, to: Out<Handle>) [cuLinkCreate] {
        let jit = Jit::new(count, options, values)?;
        let mut s = lock();
        s.active()?;
        let handle = s.handle(Kind::Link);
        to.set(handle)?;
        s.links.insert(handle, Link { jit, ..Link::default() });
        Ok(())
    }

    fn cuLinkAddData_v2(
        handle: Handle, kind: u32, data: usize, size: usize, _name: usize,
        count: u32, options: In<u32>, values: In<u64>,
    ) [cuLinkAddData] {
        Jit::new(count, options, values)?;
        lock().ready()?;
        add(handle, kind, &read_host(data, size)?)
    }

    fn cuLinkAddFile_v2(
        handle: Handle, kind: u32, path: InStr, count: u32, options: In<u32>, values: In<u64>,
    ) [cuLinkAddFile] {
        Jit::new(count, options, values)?;
        lock().ready()?;
        add(handle, kind, &module::file(path)?)
    }

    fn cuLinkComplete(handle: Handle, image_to: Out<usize>, size: Out<usize>) {
        let mut s = lock();
        s.ready()?;
        let link = s.links.get_mut(&handle).ok_or(Error::INVALID_HANDLE)?;
        if link.texts.is_empty() {
            return Err(Error::INVALID_VALUE);
        }
        let parsed = link.texts.iter().map(|t| module::parse(t)).collect::<Result<Vec<_>, _>>();
        let parsed = link.jit.clone().report(parsed)?;
        // Two kernels of one name would be one too many.
        let mut names: Vec<&str> =
            parsed.iter().flat_map(|m| m.entries()).map(|f| f.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|w| w[0] == w[1]) {
            let message = format!("multiple definition of `{}`", pair[0]);
            return link.jit.clone().report(Err(ImageError { error: Error::INVALID_PTX, message }));
        }
        link.image = image::linked(&link.texts);
        size.set_if(link.image.len());
        image_to.set(link.image.as_ptr() as usize)
    }

    fn cuLinkDestroy(handle: Handle) {
        let mut s = lock();
        s.ready()?;
        s.links.remove(&handle).map(|_| ()).ok_or(Error::INVALID_HANDLE)
    }
}
