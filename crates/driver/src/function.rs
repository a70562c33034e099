//! Functions: attributes and parameters of kernels.

use zeroforge_emulator::{Device, Kernel, LaunchConfig};

use crate::abi::Out;
use crate::device::SHARED_WITHOUT_OPT_IN;
use crate::error::{Error, Res};
use crate::state::{Function, State, lock};
use crate::types::Handle;

/// Shared memory of a block with the opt-in, of which the driver keeps a kibibyte beyond.
const SHARED_WITH_OPT_IN: u32 = 227 * 1024;

impl Function {
    /// The kernel.
    pub fn kernel(&self) -> Res<&Kernel> {
        self.program.kernel(&self.name).ok_or(Error::INVALID_HANDLE)
    }

    /// Dynamic shared memory that a launch may ask for.
    pub fn max_dynamic(&self) -> Res<u32> {
        let default = SHARED_WITHOUT_OPT_IN.saturating_sub(self.kernel()?.static_shared);
        Ok(self.max_dynamic.unwrap_or(default))
    }

    /// Whether clusters of more than 8 blocks were asked for.
    pub fn non_portable_cluster(&self) -> bool {
        self.attributes.get(&14).is_some_and(|&v| v != 0)
    }

    /// Threads that a block may have. The number of registers is a guess, so that no launch is refused for it.
    pub fn max_threads(&self) -> Res<u32> {
        let limits = &self.kernel()?.limits;
        let declared = [limits.max_threads, limits.required_threads];
        let declared = declared.iter().flatten().map(|t| t.iter().product::<u32>()).min();
        Ok(1024.min(declared.unwrap_or(1024)))
    }

    /// Blocks of a shape that an SM holds; 0 only if one needs more shared memory or threads than there are. ptxas would
    /// use no more registers than let one block run if told the block's size.
    pub fn blocks_per_sm(&self, config: &LaunchConfig, device: &Device) -> Res<u32> {
        let kernel = self.kernel()?;
        let unlimited = Device { registers_per_sm: u32::MAX, ..*device };
        let fits = kernel.blocks_per_sm(config, &unlimited).min(1);
        Ok(kernel.blocks_per_sm(config, device).max(fits))
    }
}

/// An attribute of a function.
pub fn attribute(f: &Function, which: u32) -> Res<i32> {
    let kernel = f.kernel()?;
    let cluster = kernel.limits.required_cluster;
    let set = |default: i32| f.attributes.get(&which).copied().unwrap_or(default);
    Ok(match which {
        0 => f.max_threads()? as i32,
        1 => kernel.static_shared as i32,
        2 => 0,
        3 => kernel.local_bytes as i32,
        4 => kernel.registers as i32,
        5 | 6 => 90,
        7 => 0,
        8 => f.max_dynamic()? as i32,
        9 => set(-1),
        10 => i32::from(cluster.is_some()),
        11..=13 => cluster.map_or_else(|| set(0), |c| c[which as usize - 11] as i32),
        14 | 15 => set(0),
        _ => return Err(Error::INVALID_VALUE),
    })
}

/// Sets an attribute of a function.
pub fn set_attribute(s: &mut State, handle: Handle, which: u32, value: i32) -> Res<()> {
    let f = s.functions.get_mut(&handle).ok_or(Error::INVALID_HANDLE)?;
    let kernel = f.program.kernel(&f.name).ok_or(Error::INVALID_HANDLE)?;
    let fine = match which {
        8 => {
            let most = SHARED_WITH_OPT_IN.saturating_sub(kernel.static_shared);
            let value =
                u32::try_from(value).ok().filter(|&v| v <= most).ok_or(Error::INVALID_VALUE)?;
            f.max_dynamic = Some(value);
            true
        }
        9 => (-1..=100).contains(&value),
        11..=13 if kernel.limits.required_cluster.is_some() => return Err(Error::NOT_PERMITTED),
        11..=13 => value >= 0,
        14 => matches!(value, 0 | 1),
        15 => (0..=2).contains(&value),
        _ => false,
    };
    if !fine {
        return Err(Error::INVALID_VALUE);
    }
    f.attributes.insert(which, value);
    Ok(())
}

/// Offset and size of a parameter.
pub fn param(f: &Function, index: usize, offset: Out<usize>, size: Out<usize>) -> Res<()> {
    let param = f.kernel()?.params.get(index).ok_or(Error::INVALID_VALUE)?;
    offset.set(param.offset as usize)?;
    size.set_if(param.size as usize);
    Ok(())
}

api! {
    fn cuFuncGetAttribute(to: Out<i32>, which: u32, function: Handle) {
        let s = lock();
        s.ready()?;
        to.set(attribute(s.function(function)?, which)?)
    }

    fn cuFuncSetAttribute(function: Handle, which: u32, value: i32) {
        let mut s = lock();
        s.ready()?;
        set_attribute(&mut s, function, which, value)
    }

    fn cuFuncSetCacheConfig(function: Handle, config: u32) {
        let s = lock();
        s.ready()?;
        s.function(function)?;
        if config > 3 { Err(Error::INVALID_VALUE) } else { Ok(()) }
    }

    fn cuFuncSetSharedMemConfig(function: Handle, config: u32) {
        let s = lock();
        s.ready()?;
        s.function(function)?;
        if config > 2 { Err(Error::INVALID_VALUE) } else { Ok(()) }
    }

    fn cuFuncGetModule(to: Out<Handle>, function: Handle) {
        let s = lock();
        s.ready()?;
        let module = s.function(function)?.module;
        let found = s.module(module)?;
        to.set(if found.library { found.alias.ok_or(Error::INVALID_HANDLE)? } else { module })
    }

    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        let s = lock();
        s.ready()?;
        param(s.function(function)?, index, offset, size)
    }

    fn cuFuncIsLoaded(to: Out<u32>, function: Handle) {
        let s = lock();
        s.ready()?;
        s.function(function)?;
        to.set(1)
    }

    fn cuFuncLoad(function: Handle) {
        let s = lock();
        s.active()?;
        s.function(function).map(|_| ())
    }
}
