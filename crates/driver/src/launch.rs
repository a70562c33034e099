//! Launches: arguments and attributes checked, made a call.

use std::collections::BTreeMap;

use zeroforge_emulator::{LaunchConfig, LaunchError, launch};

use crate::abi::{In, read_host};
use crate::error::{Error, Res};
use crate::log;
use crate::state::{Function, State, lock};
use crate::stream;
use crate::types::{AttributeValue, Handle, LaunchAttribute, LaunchConfigC};
use crate::work::{KernelCall, Work};

/// Launch attributes by their numbers.
pub mod attribute {
    /// All blocks run at once.
    pub const COOPERATIVE: u32 = 2;
    /// Blocks of a cluster.
    pub const CLUSTER: u32 = 4;
    /// An event recorded when blocks trigger it.
    pub const PROGRAMMATIC_EVENT: u32 = 7;
    /// Stream priority.
    pub const PRIORITY: u32 = 8;
    /// Blocks of a cluster where they fit.
    pub const PREFERRED_CLUSTER: u32 = 11;
    /// An event recorded when all blocks have started.
    pub const COMPLETION_EVENT: u32 = 12;
    /// A node that kernels update.
    pub const DEVICE_UPDATABLE: u32 = 13;
    /// The last that is known.
    pub const LAST: u32 = 16;
}

/// The parameter block of a kernel out of `kernelParams` or `extra`.
pub fn params(f: &Function, kernel_params: usize, extra: usize) -> Res<Vec<u8>> {
    let kernel = f.kernel()?;
    let size = kernel.param_bytes as usize;
    if kernel_params != 0 && extra != 0 {
        return Err(Error::INVALID_VALUE);
    }
    if extra != 0 {
        return buffer(f, extra, size);
    }
    let mut block = vec![0; size];
    if kernel.params.is_empty() {
        return Ok(block);
    }
    let pointers = In::<u64>::at(kernel_params).list(kernel.params.len())?;
    for (p, pointer) in kernel.params.iter().zip(pointers) {
        let value = read_host(pointer as usize, p.size as usize)?;
        let place = block.get_mut(p.offset as usize..(p.offset + p.size) as usize);
        place.ok_or(Error::UNKNOWN)?.copy_from_slice(&value);
    }
    Ok(block)
}

/// `CU_LAUNCH_PARAM_BUFFER_POINTER`, `_SIZE` and their values in a list that `CU_LAUNCH_PARAM_END` ends.
fn buffer(f: &Function, extra: usize, expected: usize) -> Res<Vec<u8>> {
    let (mut pointer, mut size) = (0usize, None);
    let list = In::<u64>::at(extra);
    let mut ended = false;
    for i in 0..4 {
        let pair = In::<u64>::at(list.address() + 16 * i);
        match pair.get()? {
            0 => {
                ended = true;
                break;
            }
            1 => pointer = In::<u64>::at(pair.address() + 8).get()? as usize,
            2 => {
                let at = In::<u64>::at(pair.address() + 8).get()? as usize;
                size = Some(In::<usize>::at(at).get()?);
            }
            _ => return Err(Error::INVALID_VALUE),
        }
    }
    let size = size.filter(|_| ended).ok_or(Error::INVALID_VALUE)?;
    // Structures may be padded at their end.
    if size < expected || size > expected.next_multiple_of(16) {
        log::error(|| {
            format!("`{}` has {expected} bytes of parameters, {size} were given", f.name)
        });
        return Err(Error::INVALID_VALUE);
    }
    read_host(pointer, expected)
}

/// A launch as the caller describes it.
pub struct Wanted {
    /// The function or kernel.
    pub function: Handle,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads.
    pub block: [u32; 3],
    /// Dynamic shared memory.
    pub shared: u32,
    /// `kernelParams`.
    pub params: usize,
    /// `extra`.
    pub extra: usize,
    /// Attributes.
    pub attributes: BTreeMap<u32, AttributeValue>,
}

/// Reads launch attributes.
pub fn attributes(place: usize, count: u32) -> Res<BTreeMap<u32, AttributeValue>> {
    let list = In::<LaunchAttribute>::at(place).list(count as usize)?;
    let mut found = BTreeMap::new();
    for a in list.into_iter().filter(|a| a.id != 0) {
        if a.id > attribute::LAST {
            return Err(Error::INVALID_VALUE);
        }
        if a.id == attribute::DEVICE_UPDATABLE && a.value.words[0] != 0 {
            return Err(Error::NOT_SUPPORTED);
        }
        found.insert(a.id, a.value);
    }
    Ok(found)
}

/// Blocks per cluster of a launch.
pub fn cluster(f: &Function, attributes: &BTreeMap<u32, AttributeValue>) -> Res<[u32; 3]> {
    let required = f.kernel()?.limits.required_cluster;
    let by_function: [u32; 3] =
        std::array::from_fn(|i| f.attributes.get(&(11 + i as u32)).map_or(0, |&v| v as u32));
    let asked = attributes.get(&attribute::CLUSTER).map(|v| [v.words[0], v.words[1], v.words[2]]);
    let asked = asked.or((by_function != [0; 3]).then(|| by_function.map(|v| v.max(1))));
    let cluster = match (asked, required) {
        (Some(a), Some(r)) if a != r => return Err(Error::INVALID_CLUSTER_SIZE),
        (a, r) => a.or(r).unwrap_or([1; 3]),
    };
    let size = cluster.iter().try_fold(1u32, |n, &c| n.checked_mul(c)).unwrap_or(u32::MAX);
    let most = if f.non_portable_cluster() { 16 } else { 8 };
    if size == 0 || size > most {
        log::error(|| {
            format!(
                "`{}`: clusters of {cluster:?} blocks; up to {most} are allowed (more than 8 after CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED)",
                f.name
            )
        });
        return Err(Error::INVALID_CLUSTER_SIZE);
    }
    Ok(cluster)
}

/// Checks a launch and makes it a call.
pub fn prepare(s: &State, wanted: &Wanted, context: Handle) -> Res<KernelCall> {
    let f = s.function(wanted.function)?;
    let module = s.module(f.module)?;
    if module.context != 0 && module.context != context {
        log::error(|| format!("`{}` belongs to another context than the stream", f.name));
        return Err(Error::INVALID_HANDLE);
    }
    let kernel = f.kernel()?;
    let config = LaunchConfig {
        grid: wanted.grid,
        block: wanted.block,
        cluster: cluster(f, &wanted.attributes)?,
        dynamic_shared: wanted.shared,
        params: params(f, wanted.params, wanted.extra)?,
    };
    let device = s.spec.emulated();
    launch::check(kernel, &config, &device).map_err(|e| {
        log::error(|| e.to_string());
        match e {
            LaunchError::Shape { reason, .. } if reason.contains("cluster") => {
                Error::INVALID_CLUSTER_SIZE
            }
            _ => Error::INVALID_VALUE,
        }
    })?;
    let most = f.max_dynamic()?;
    if wanted.shared > most {
        log::error(|| {
            format!(
                "`{}`: {} bytes of dynamic shared memory; {most} are allowed until CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES is set",
                f.name, wanted.shared
            )
        });
        return Err(Error::INVALID_VALUE);
    }
    let per_sm = f.blocks_per_sm(&config, &device)?;
    if per_sm == 0 {
        log::error(|| format!("`{}`: a block needs more shared memory than an SM has", f.name));
        return Err(Error::LAUNCH_OUT_OF_RESOURCES);
    }
    let cooperative =
        wanted.attributes.get(&attribute::COOPERATIVE).is_some_and(|v| v.words[0] != 0);
    let blocks = config.grid.iter().map(|&g| u64::from(g)).product::<u64>();
    let room = u64::from(per_sm * device.sm_count);
    if cooperative && blocks > room {
        log::error(|| {
            format!("`{}`: a cooperative grid of {blocks} blocks; {room} fit on the card", f.name)
        });
        return Err(Error::COOPERATIVE_LAUNCH_TOO_LARGE);
    }
    Ok(KernelCall {
        function: wanted.function,
        program: std::sync::Arc::clone(&f.program),
        name: f.name.clone(),
        config,
        attributes: wanted.attributes.clone(),
    })
}

/// Launches on a stream.
fn start(wanted: &Wanted, handle: Handle) -> Res<()> {
    stream::submit(handle, |s, st| {
        let context = s.streams[&st].context;
        Ok(Work::Kernel(Box::new(prepare(s, wanted, context)?)))
    })?;
    // Events that a kernel triggers early are recorded when it ends: later than they may, never too early.
    for id in [attribute::PROGRAMMATIC_EVENT, attribute::COMPLETION_EVENT] {
        if let Some(v) = wanted.attributes.get(&id) {
            let event = u64::from(v.words[0]) | u64::from(v.words[1]) << 32;
            let recorded = crate::event::cuEventRecord(event, handle);
            if recorded != 0 {
                return Err(Error(recorded));
            }
        }
    }
    Ok(())
}

api! {
    fn cuLaunchKernel(
        function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        shared: u32, stream: Handle, params: usize, extra: usize,
    ) [cuLaunchKernel_ptsz] {
        let wanted = Wanted {
            function,
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
            params,
            extra,
            attributes: BTreeMap::new(),
        };
        start(&wanted, stream)
    }

    fn cuLaunchKernelEx(
        config: In<LaunchConfigC>, function: Handle, params: usize, extra: usize,
    ) [cuLaunchKernelEx_ptsz] {
        let c = config.get()?;
        let wanted = Wanted {
            function,
            grid: c.grid,
            block: c.block,
            shared: c.shared,
            params,
            extra,
            attributes: attributes(c.attributes, c.count)?,
        };
        start(&wanted, c.stream)
    }

    fn cuLaunchCooperativeKernel(
        function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        shared: u32, stream: Handle, params: usize,
    ) [cuLaunchCooperativeKernel_ptsz] {
        let mut on = AttributeValue::default();
        on.words[0] = 1;
        let wanted = Wanted {
            function,
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
            params,
            extra: 0,
            attributes: BTreeMap::from([(attribute::COOPERATIVE, on)]),
        };
        start(&wanted, stream)
    }

    fn cuLaunchCooperativeKernelMultiDevice(_list: usize, _count: u32, _flags: u32) {
        lock().ready()?;
        log::once("multi-device", || {
            "cuLaunchCooperativeKernelMultiDevice is not supported (attribute COOPERATIVE_MULTI_DEVICE_LAUNCH is 0)".to_owned()
        });
        Err(Error::NOT_SUPPORTED)
    }
}
