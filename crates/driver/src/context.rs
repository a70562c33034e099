//! Contexts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::abi::{In, Out};
use crate::device::VERSION;
use crate::error::{Error, Res};
use crate::log;
use crate::state::{Context, Kind, MemoryKind, State, driver, lock, stack_top, with_stack};
use crate::stream::{self, Stream};
use crate::types::{AffinityParam, CtxCreateParams, Handle};

const FLAGS_MASK: u32 = 0xff;
/// `CU_LIMIT_STACK_SIZE`, `PRINTF_FIFO_SIZE`, `MALLOC_HEAP_SIZE`, device runtime depths, L2 fetch, persisting L2.
const LIMITS: [(u32, u64); 7] =
    [(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 64), (6, 0)];

/// Makes a context with its default stream.
fn create(s: &mut State, device: usize, flags: u32, primary: bool) -> Handle {
    let context = s.handle(Kind::Context);
    let legacy = s.handle(Kind::Stream);
    let now = s.now;
    s.streams.insert(legacy, Stream::new(context, 0, 0, true, now));
    s.contexts.insert(
        context,
        Context {
            device,
            flags,
            primary,
            error: None,
            told: false,
            limits: BTreeMap::new(),
            cache_config: 0,
            shared_config: 1,
            api_version: VERSION as u32,
            legacy,
            per_thread: HashMap::new(),
            printed: String::new(),
            peers: BTreeSet::new(),
        },
    );
    context
}

fn check_flags(flags: u32) -> Res<()> {
    let schedule = flags & 7;
    if flags & !FLAGS_MASK != 0 || !matches!(schedule, 0 | 1 | 2 | 4) {
        return Err(Error::INVALID_VALUE);
    }
    Ok(())
}

/// Ends a context with all that lives in it.
fn destroy(s: &mut State, context: Handle) {
    let modules: Vec<Handle> = s
        .modules
        .iter()
        .filter(|(_, m)| m.context == context && !m.library)
        .map(|(&h, _)| h)
        .collect();
    for module in modules {
        crate::module::unload(s, module);
    }
    let blocks: Vec<u64> = s
        .allocations
        .iter()
        .filter(|(_, a)| a.context == context && a.kind != MemoryKind::Mapped)
        .map(|(&b, _)| b)
        .collect();
    for base in blocks {
        crate::memory::release(s, base);
    }
    s.streams.retain(|_, st| st.context != context);
    s.events.retain(|_, e| e.context != context);
    s.arrays.retain(|_, a| a.context != context);
    if let Some(gone) = s.contexts.remove(&context) {
        print(&gone.printed);
        let device = &mut s.devices[gone.device];
        if gone.primary {
            device.primary = None;
            device.primary_holders = 0;
        }
    }
    driver().changed.notify_all();
}

/// Writes what kernels printed.
pub fn print(text: &str) {
    use std::io::Write;
    if !text.is_empty() {
        let mut out = std::io::stdout().lock();
        // Nobody can be told when standard output is closed.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// The primary context of a device, made if need be.
pub fn retain_primary(s: &mut State, device: usize) -> Handle {
    let existing = s.devices[device].primary;
    let context = existing.unwrap_or_else(|| {
        let flags = s.devices[device].primary_flags;
        create(s, device, flags, true)
    });
    s.devices[device].primary = Some(context);
    context
}

fn create_current(to: Out<Handle>, flags: u32, device: i32) -> Res<()> {
    check_flags(flags)?;
    if to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    let device = s.device(device)?;
    let context = create(&mut s, device, flags, false);
    with_stack(|stack| stack.push(context));
    to.set(context)
}

api! {
    fn cuDevicePrimaryCtxRetain(to: Out<Handle>, device: i32) {
        let mut s = lock();
        let device = s.device(device)?;
        if to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let context = retain_primary(&mut s, device);
        s.devices[device].primary_holders += 1;
        to.set(context)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: i32) [cuDevicePrimaryCtxRelease] {
        let mut s = lock();
        let device = s.device(device)?;
        let holders = &mut s.devices[device].primary_holders;
        *holders = holders.checked_sub(1).ok_or(Error::INVALID_CONTEXT)?;
        if *holders == 0 && let Some(context) = s.devices[device].primary {
            drop(s);
            stream::drain(context);
            destroy(&mut lock(), context);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxReset_v2(device: i32) [cuDevicePrimaryCtxReset] {
        let s = lock();
        let device = s.device(device)?;
        if let Some(context) = s.devices[device].primary {
            drop(s);
            stream::drain(context);
            destroy(&mut lock(), context);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) [cuDevicePrimaryCtxSetFlags] {
        check_flags(flags)?;
        let mut s = lock();
        let device = s.device(device)?;
        s.devices[device].primary_flags = flags;
        if let Some(context) = s.devices[device].primary {
            s.context(context)?.flags = flags;
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        let s = lock();
        let device = &s.devices[s.device(device)?];
        flags.set(device.primary_flags)?;
        active.set(i32::from(device.primary.is_some()))
    }

    fn cuCtxCreate_v2(to: Out<Handle>, flags: u32, device: i32) [cuCtxCreate] {
        create_current(to, flags, device)
    }

    fn cuCtxCreate_v3(
        to: Out<Handle>, affinity: In<AffinityParam>, count: i32, flags: u32, device: i32,
    ) {
        if !affinity.is_null() && count > 0 {
            log::once("affinity", || "contexts with an SM affinity are not supported".to_owned());
            return Err(Error::UNSUPPORTED_EXEC_AFFINITY);
        }
        create_current(to, flags, device)
    }

    fn cuCtxCreate_v4(to: Out<Handle>, params: In<CtxCreateParams>, flags: u32, device: i32) {
        if let Some(params) = params.opt() {
            if params.affinity != 0 && params.affinity_count > 0 {
                return Err(Error::UNSUPPORTED_EXEC_AFFINITY);
            }
            if params.cig != 0 {
                return Err(Error::NOT_SUPPORTED);
            }
        }
        create_current(to, flags, device)
    }

    fn cuCtxDestroy_v2(context: Handle) [cuCtxDestroy] {
        if lock().context(context)?.primary {
            return Err(Error::INVALID_CONTEXT);
        }
        stream::drain(context);
        destroy(&mut lock(), context);
        // A destroyed context stays on other threads' stacks and is an error there (as NVIDIA documents).
        with_stack(|stack| {
            if stack.last() == Some(&context) {
                stack.pop();
            }
        });
        Ok(())
    }

    fn cuCtxAttach(to: Out<Handle>, flags: u32) {
        if flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        to.set(lock().current()?)
    }

    fn cuCtxDetach(context: Handle) {
        lock().context(context).map(|_| ())
    }

    fn cuCtxPushCurrent_v2(context: Handle) [cuCtxPushCurrent] {
        lock().context(context)?;
        with_stack(|stack| stack.push(context));
        Ok(())
    }

    fn cuCtxPopCurrent_v2(to: Out<Handle>) [cuCtxPopCurrent] {
        lock().ready()?;
        let top = with_stack(Vec::pop).filter(|&h| h != 0).ok_or(Error::INVALID_CONTEXT)?;
        to.set_if(top);
        Ok(())
    }

    fn cuCtxSetCurrent(context: Handle) {
        if context == 0 {
            lock().ready()?;
            with_stack(Vec::pop);
            return Ok(());
        }
        lock().context(context)?;
        with_stack(|stack| match stack.last_mut() {
            Some(top) => *top = context,
            None => stack.push(context),
        });
        Ok(())
    }

    fn cuCtxGetCurrent(to: Out<Handle>) {
        lock().ready()?;
        to.set(stack_top().unwrap_or(0))
    }

    fn cuCtxGetDevice(to: Out<i32>) {
        to.set(lock().current_device()? as i32)
    }

    fn cuCtxGetDevice_v2(to: Out<i32>, context: Handle) {
        let mut s = lock();
        let context = if context == 0 { s.current()? } else { context };
        to.set(s.context(context)?.device as i32)
    }

    fn cuCtxGetFlags(to: Out<u32>) {
        let s = lock();
        let context = s.current()?;
        to.set(s.contexts[&context].flags)
    }

    fn cuCtxSetFlags(flags: u32) {
        check_flags(flags)?;
        let mut s = lock();
        let context = s.current()?;
        s.context(context)?.flags = flags;
        Ok(())
    }

    fn cuCtxGetId(context: Handle, to: Out<u64>) {
        let mut s = lock();
        let context = if context == 0 { s.current()? } else { context };
        s.context(context)?;
        to.set(context)
    }

    fn cuCtxSynchronize() {
        let context = lock().active()?;
        stream::synchronise_context(context)
    }

    fn cuCtxSynchronize_v2(context: Handle) {
        let context = {
            let mut s = lock();
            let context = if context == 0 { s.current()? } else { context };
            s.context(context)?;
            s.healthy(context)?;
            context
        };
        stream::synchronise_context(context)
    }

    fn cuCtxSetLimit(limit: u32, value: usize) {
        let mut s = lock();
        let context = s.active()?;
        if limit == 7 {
            return Err(Error::UNSUPPORTED_LIMIT);
        }
        if !LIMITS.iter().any(|l| l.0 == limit) {
            return Err(if limit < 10 { Error::UNSUPPORTED_LIMIT } else { Error::INVALID_VALUE });
        }
        s.context(context)?.limits.insert(limit, value as u64);
        Ok(())
    }

    fn cuCtxGetLimit(to: Out<usize>, limit: u32) {
        let s = lock();
        let context = s.active()?;
        let default = LIMITS.iter().find(|l| l.0 == limit).map(|l| l.1);
        let default = default.ok_or(if limit < 10 { Error::UNSUPPORTED_LIMIT } else { Error::INVALID_VALUE })?;
        to.set(s.contexts[&context].limits.get(&limit).copied().unwrap_or(default) as usize)
    }

    fn cuCtxGetCacheConfig(to: Out<u32>) {
        let s = lock();
        let context = s.active()?;
        to.set(s.contexts[&context].cache_config)
    }

    fn cuCtxSetCacheConfig(config: u32) {
        if config > 3 {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        let context = s.active()?;
        s.context(context)?.cache_config = config;
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(to: Out<u32>) {
        let s = lock();
        let context = s.active()?;
        to.set(s.contexts[&context].shared_config)
    }

    fn cuCtxSetSharedMemConfig(config: u32) {
        if config > 2 {
            return Err(Error::INVALID_VALUE);
        }
        // Banks have 4 bytes on every card since Volta; the setting is ignored there too.
        lock().active().map(|_| ())
    }

    fn cuCtxGetApiVersion(context: Handle, to: Out<u32>) {
        let mut s = lock();
        let context = if context == 0 { s.current()? } else { context };
        to.set(s.context(context)?.api_version)
    }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        lock().active()?;
        least.set_if(0);
        greatest.set_if(stream::GREATEST_PRIORITY);
        Ok(())
    }

    fn cuCtxResetPersistingL2Cache() {
        lock().active().map(|_| ())
    }

    fn cuCtxGetExecAffinity(to: Out<AffinityParam>, kind: u32) {
        let s = lock();
        s.active()?;
        if kind != 0 {
            return Err(Error::UNSUPPORTED_EXEC_AFFINITY);
        }
        to.set(AffinityParam { kind, sm_count: s.spec.sm_count })
    }

    fn cuCtxEnablePeerAccess(peer: Handle, flags: u32) {
        if flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        let context = s.active()?;
        let other = s.context(peer)?.device;
        let own = s.contexts[&context].device;
        if own == other {
            return Err(Error::INVALID_DEVICE);
        }
        if !s.spec.peers {
            return Err(Error::PEER_ACCESS_UNSUPPORTED);
        }
        let added = s.context(context)?.peers.insert(other);
        added.then_some(()).ok_or(Error::PEER_ACCESS_ALREADY_ENABLED)
    }

    fn cuCtxDisablePeerAccess(peer: Handle) {
        let mut s = lock();
        let context = s.active()?;
        let other = s.context(peer)?.device;
        let removed = s.context(context)?.peers.remove(&other);
        removed.then_some(()).ok_or(Error::PEER_ACCESS_NOT_ENABLED)
    }
}
