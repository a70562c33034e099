//! Streams: queues whose operations run as soon as they may, on whichever thread is in the driver; host functions on
//! threads of their own.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use zeroforge_emulator::DeviceMemory;

use crate::abi::{HostCall, HostFn, Out, StreamCallback};
use crate::capture::Capture;
use crate::device::Spec;
use crate::error::{Error, Res};
use crate::options::Settings;
use crate::state::{Kind, State, driver, lock};
use crate::types::{AttributeValue, Handle};
use crate::work::{Outcome, Work, run};
use crate::{clock, context, log};

/// Priority of the streams that go first.
pub const GREATEST_PRIORITY: i32 = -5;

/// A queued operation.
#[derive(Debug)]
struct Op {
    number: u64,
    /// Modelled time at which it was enqueued.
    at: u64,
    work: Work,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Its context.
    pub context: Handle,
    /// `CU_STREAM_NON_BLOCKING`.
    pub flags: u32,
    /// Lower goes first; recorded only.
    pub priority: i32,
    /// Whether it is the context's default stream.
    pub legacy: bool,
    /// Destroyed by the user, kept until its operations are done.
    pub dead: bool,
    queue: VecDeque<Op>,
    running: Option<u64>,
    time: u64,
    /// What it captures.
    pub capture: Option<Capture>,
    /// Attributes by number.
    pub attributes: std::collections::BTreeMap<u32, AttributeValue>,
}

impl Stream {
    /// An idle stream.
    pub fn new(context: Handle, flags: u32, priority: i32, legacy: bool, now: u64) -> Stream {
        Stream {
            context,
            flags,
            priority,
            legacy,
            dead: false,
            queue: VecDeque::new(),
            running: None,
            time: now,
            capture: None,
            attributes: Default::default(),
        }
    }

    /// Whether all its operations are done.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_none()
    }

    /// Whether it orders itself with the default stream.
    fn is_blocking(&self) -> bool {
        self.flags & 1 == 0
    }

    /// Number of the oldest operation that is not done.
    fn oldest(&self) -> Option<u64> {
        self.running.or_else(|| self.queue.front().map(|op| op.number))
    }
}

/// An event.
#[derive(Debug)]
pub struct Event {
    /// Its context.
    pub context: Handle,
    /// `CU_EVENT_*`.
    pub flags: u32,
    /// Recordings enqueued.
    pub submitted: u64,
    /// The last recording that is done.
    pub done: u64,
    /// Modelled time of it.
    pub time: u64,
    /// Destroyed by the user, kept until its recordings are done.
    pub dead: bool,
    /// Where it was recorded, if that was in a capture: the capture's id and its nodes.
    pub captured: Option<(u64, Vec<Handle>)>,
}

/// The stream that a handle means.
pub fn resolve(s: &mut State, handle: Handle) -> Res<Handle> {
    let handle = if handle == 0 && crate::per_thread_default() { 2 } else { handle };
    match handle {
        0 | 1 => {
            let context = s.current()?;
            Ok(s.contexts[&context].legacy)
        }
        2 => {
            let context = s.current()?;
            let thread = std::thread::current().id();
            if let Some(&stream) = s.contexts[&context].per_thread.get(&thread) {
                return Ok(stream);
            }
            let stream = s.handle(Kind::Stream);
            let now = s.now;
            s.streams.insert(stream, Stream::new(context, 0, 0, false, now));
            s.context(context)?.per_thread.insert(thread, stream);
            Ok(stream)
        }
        _ => {
            s.ready()?;
            let known = s.streams.get(&handle).is_some_and(|st| !st.dead);
            known.then_some(handle).ok_or(Error::INVALID_HANDLE)
        }
    }
}

/// The stream that a handle means, in a context that has not failed.
pub fn usable(s: &mut State, handle: Handle) -> Res<Handle> {
    let stream = resolve(s, handle)?;
    s.healthy(s.streams[&stream].context)?;
    Ok(stream)
}

/// Appends operations to a stream and runs what may run. The stream must not be capturing.
pub fn enqueue(mut s: MutexGuard<'static, State>, stream: Handle, works: Vec<Work>) {
    for work in works {
        let number = s.next_op;
        s.next_op += 1;
        s.now += clock::ENQUEUE;
        let at = s.now;
        if let Some(st) = s.streams.get_mut(&stream) {
            st.queue.push_back(Op { number, at, work });
        }
    }
    drop(s);
    pump();
}

/// Enqueues one operation, or adds it to the graph that the stream captures.
pub fn submit(handle: Handle, make: impl FnOnce(&mut State, Handle) -> Res<Work>) -> Res<()> {
    let mut s = lock();
    let stream = usable(&mut s, handle)?;
    let work = make(&mut s, stream)?;
    if s.streams[&stream].capture.is_some() {
        return crate::capture::add(&mut s, stream, work);
    }
    crate::capture::check_legacy(&mut s, stream)?;
    enqueue(s, stream, vec![work]);
    Ok(())
}

/// Enqueues an operation on the default stream and waits for it, as the calls without `Async` do.
pub fn submit_blocking(make: impl FnOnce(&mut State, Handle) -> Res<Work>) -> Res<()> {
    let mut s = lock();
    s.active()?;
    let stream = usable(&mut s, 0)?;
    crate::capture::forbid(&mut s)?;
    let work = make(&mut s, stream)?;
    enqueue(s, stream, vec![work]);
    synchronise(stream)
}

/// Whether the first operation of a stream may run now.
fn may_run(s: &State, stream: &Stream, op: &Op) -> bool {
    if s.contexts.get(&stream.context).is_none_or(|c| c.error.is_some()) {
        return true;
    }
    if stream.is_blocking() {
        let older = |other: &Stream| {
            other.context == stream.context
                && other.is_blocking()
                && other.legacy != stream.legacy
                && (other.legacy || stream.legacy)
                && other.oldest().is_some_and(|n| n < op.number)
        };
        if s.streams.values().any(older) {
            return false;
        }
    }
    match &op.work {
        Work::Wait { event, version } => s.events.get(event).is_none_or(|e| e.done >= *version),
        Work::WaitValue(value) => value.holds(&s.memory),
        _ => true,
    }
}

/// Runs operations until none can run.
pub fn pump() {
    loop {
        let mut s = lock();
        let next = s
            .streams
            .iter()
            .filter(|(_, st)| st.running.is_none())
            .filter_map(|(&h, st)| st.queue.front().map(|op| (op.number, h, st, op)))
            .filter(|(_, _, st, op)| may_run(&s, st, op))
            .min_by_key(|n| n.0)
            .map(|(_, h, _, _)| h);
        let Some(handle) = next else { return };
        let op = s.streams.get_mut(&handle).and_then(|st| {
            let op = st.queue.pop_front()?;
            st.running = Some(op.number);
            Some(op)
        });
        let Some(op) = op else { return };
        let context = s.streams[&handle].context;
        let failed = s.contexts.get(&context).is_none_or(|c| c.error.is_some());
        let job = Job {
            stream: handle,
            op,
            failed,
            memory: Arc::clone(&s.memory),
            spec: s.spec,
            settings: s.settings.clone(),
        };
        drop(s);
        if !failed && matches!(job.op.work, Work::Host(_) | Work::Callback { .. }) {
            // A host function may wait for what the caller does after enqueueing it, so it has a thread of its own, which
            // goes on with what the function held back.
            let own = std::thread::Builder::new().name("stream-host-function".to_owned());
            let job = Arc::new(job);
            let moved = Arc::clone(&job);
            let started = own.spawn(move || {
                moved.execute();
                pump();
            });
            if started.is_err() {
                job.execute();
            }
            continue;
        }
        job.execute();
    }
}

/// An operation that was taken from its stream.
struct Job {
    stream: Handle,
    op: Op,
    /// Whether the context failed before.
    failed: bool,
    memory: Arc<DeviceMemory>,
    spec: &'static Spec,
    settings: Settings,
}

impl Job {
    /// Runs it and tells who waits.
    fn execute(&self) {
        let nothing = Outcome { time: 0, error: None, printed: String::new() };
        let outcome = match self.failed {
            // What follows a failure does not run; memory still is given back.
            true if !matches!(self.op.work, Work::Free(_)) => nothing,
            _ => {
                let go = || run(&self.op.work, &self.memory, self.spec, &self.settings);
                catch_unwind(AssertUnwindSafe(go)).unwrap_or_else(|panic| {
                    let text = crate::panic_text(&panic);
                    log::error(|| format!("a defect of the software device: {text}"));
                    Outcome { error: Some(Error::LAUNCH_FAILED), ..nothing }
                })
            }
        };
        finish(&mut lock(), self.stream, &self.op, outcome);
        driver().changed.notify_all();
    }
}

fn finish(s: &mut State, handle: Handle, op: &Op, outcome: Outcome) {
    let Some(stream) = s.streams.get(&handle) else { return };
    let context = stream.context;
    let mut start = stream.time.max(op.at);
    if stream.legacy {
        let blocking = s.streams.values().filter(|o| o.context == context && o.is_blocking());
        start = blocking.map(|o| o.time).fold(start, u64::max);
    }
    if let Work::Wait { event, .. } = &op.work {
        start = start.max(s.events.get(event).map_or(0, |e| e.time));
    }
    let end = start + outcome.time;
    if let Work::Record { event, version } = &op.work {
        let gone = s.events.get_mut(event).is_some_and(|e| {
            if *version > e.done {
                (e.done, e.time) = (*version, end);
            }
            e.dead && e.done >= e.submitted
        });
        if gone {
            s.events.remove(event);
        }
    }
    if let Some(c) = s.contexts.get_mut(&context) {
        c.error = c.error.or(outcome.error);
        c.printed.push_str(&outcome.printed);
    }
    let Some(stream) = s.streams.get_mut(&handle) else { return };
    stream.time = end;
    stream.running = None;
    if stream.dead && stream.queue.is_empty() {
        s.streams.remove(&handle);
    }
    bury(s);
}

/// Gives host memory back that no operation under way can touch any more.
pub fn bury(s: &mut State) {
    if s.streams.values().all(|st| st.running.is_none()) {
        s.graveyard.clear();
    }
}

/// Waits until something is true, running what can run.
pub fn wait_until(context: Handle, done: impl Fn(&State) -> bool) -> Res<()> {
    let mut since = Instant::now();
    loop {
        pump();
        let mut s = lock();
        if done(&s) {
            s.now = s
                .streams
                .values()
                .filter(|st| st.context == context)
                .map(|st| st.time)
                .fold(s.now, u64::max);
            let printed = s.contexts.get_mut(&context).map(|c| std::mem::take(&mut c.printed));
            let result = s.tell(context);
            drop(s);
            context::print(&printed.unwrap_or_default());
            return result;
        }
        if s.streams.values().any(|st| st.running.is_some()) {
            since = Instant::now();
        } else if since.elapsed() > Duration::from_secs(s.settings.timeout) {
            log::error(|| {
                format!(
                    "nothing has gone on for {} s: a stream waits for a value or an event that nobody provides",
                    s.settings.timeout
                )
            });
            s.context(context)?.error = Some(Error::LAUNCH_TIMEOUT);
            continue;
        }
        // Values in memory change without notice, hence the short wait.
        let waited = driver().changed.wait_timeout(s, Duration::from_millis(1));
        drop(waited);
    }
}

/// Waits for a stream.
pub fn synchronise(stream: Handle) -> Res<()> {
    let context = lock().streams.get(&stream).map(|st| st.context).ok_or(Error::INVALID_HANDLE)?;
    wait_until(context, |s| s.streams.get(&stream).is_none_or(Stream::is_idle))
}

/// Waits for all streams of a context.
pub fn synchronise_context(context: Handle) -> Res<()> {
    crate::capture::forbid(&mut lock())?;
    wait_until(context, |s| s.streams.values().all(|st| st.context != context || st.is_idle()))
}

/// Runs what can run in a context that goes away, and forgets the rest.
pub fn drain(context: Handle) {
    pump();
    let mut s = lock();
    for stream in s.streams.values_mut().filter(|st| st.context == context) {
        stream.queue.clear();
    }
    while s.streams.values().any(|st| st.context == context && st.running.is_some()) {
        let wait = driver().changed.wait_timeout(s, Duration::from_millis(10));
        s = wait.map_or_else(|e| e.into_inner().0, |w| w.0);
    }
}

fn create(to: Out<Handle>, flags: u32, priority: i32) -> Res<()> {
    if flags > 1 || to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    let context = s.active()?;
    let handle = s.handle(Kind::Stream);
    let now = s.now;
    let stream = Stream::new(context, flags, priority.clamp(GREATEST_PRIORITY, 0), false, now);
    s.streams.insert(handle, stream);
    to.set(handle)
}

fn with<R>(handle: Handle, f: impl FnOnce(&mut State, Handle) -> Res<R>) -> Res<R> {
    let mut s = lock();
    let stream = resolve(&mut s, handle)?;
    f(&mut s, stream)
}

api! {
    fn cuStreamCreate(to: Out<Handle>, flags: u32) {
        create(to, flags, 0)
    }

    fn cuStreamCreateWithPriority(to: Out<Handle>, flags: u32, priority: i32) {
        create(to, flags, priority)
    }

    fn cuStreamDestroy_v2(handle: Handle) [cuStreamDestroy] {
        if handle <= 2 {
            return Err(Error::INVALID_HANDLE);
        }
        pump();
        let mut s = lock();
        let stream = resolve(&mut s, handle)?;
        let Some(st) = s.streams.get_mut(&stream) else { return Err(Error::INVALID_HANDLE) };
        let ended = st.capture.take();
        st.dead = true;
        if st.is_idle() {
            s.streams.remove(&stream);
        }
        if let Some(capture) = ended {
            crate::capture::abandon(&mut s, capture.id);
        }
        Ok(())
    }

    fn cuStreamGetPriority(handle: Handle, to: Out<i32>) [cuStreamGetPriority_ptsz] {
        with(handle, |s, st| to.set(s.streams[&st].priority))
    }

    fn cuStreamGetFlags(handle: Handle, to: Out<u32>) [cuStreamGetFlags_ptsz] {
        with(handle, |s, st| to.set(s.streams[&st].flags))
    }

    fn cuStreamGetId(handle: Handle, to: Out<u64>) [cuStreamGetId_ptsz] {
        with(handle, |_, st| to.set(st))
    }

    fn cuStreamGetDevice(handle: Handle, to: Out<i32>) [cuStreamGetDevice_ptsz] {
        with(handle, |s, st| {
            let context = s.streams[&st].context;
            to.set(s.context(context)?.device as i32)
        })
    }

    fn cuStreamGetCtx(handle: Handle, to: Out<Handle>) [cuStreamGetCtx_ptsz] {
        with(handle, |s, st| to.set(s.streams[&st].context))
    }

    fn cuStreamGetCtx_v2(handle: Handle, to: Out<Handle>, green: Out<Handle>) [cuStreamGetCtx_v2_ptsz] {
        green.set_if(0);
        with(handle, |s, st| to.set(s.streams[&st].context))
    }

    fn cuStreamQuery(handle: Handle) [cuStreamQuery_ptsz] {
        pump();
        let mut s = lock();
        let stream = usable(&mut s, handle)?;
        if s.streams[&stream].capture.is_some() {
            crate::capture::invalidate(&mut s, stream);
            return Err(Error::STREAM_CAPTURE_UNSUPPORTED);
        }
        let context = s.streams[&stream].context;
        s.streams[&stream].is_idle().then_some(()).ok_or(Error::NOT_READY)?;
        s.tell(context)
    }

    fn cuStreamSynchronize(handle: Handle) [cuStreamSynchronize_ptsz] {
        let stream = {
            let mut s = lock();
            let stream = usable(&mut s, handle)?;
            if s.streams[&stream].capture.is_some() {
                crate::capture::invalidate(&mut s, stream);
                return Err(Error::STREAM_CAPTURE_UNSUPPORTED);
            }
            stream
        };
        synchronise(stream)
    }

    fn cuStreamWaitEvent(handle: Handle, event: Handle, flags: u32) [cuStreamWaitEvent_ptsz] {
        if flags > 1 {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        let stream = usable(&mut s, handle)?;
        wait_event(s, stream, event)
    }

    fn cuStreamAddCallback(
        handle: Handle, function: Option<StreamCallback>, data: *mut c_void, flags: u32,
    ) [cuStreamAddCallback_ptsz] {
        let function = function.filter(|_| flags == 0).ok_or(Error::INVALID_VALUE)?;
        submit(handle, |s, stream| {
            if s.streams[&stream].capture.is_some() {
                crate::capture::invalidate(s, stream);
                return Err(Error::STREAM_CAPTURE_UNSUPPORTED);
            }
            Ok(Work::Callback { function, stream: handle, data: data as usize })
        })
    }

    fn cuLaunchHostFunc(
        handle: Handle, function: Option<HostFn>, data: *mut c_void,
    ) [cuLaunchHostFunc_ptsz] {
        let function = function.ok_or(Error::INVALID_VALUE)?;
        submit(handle, |_, _| Ok(Work::Host(HostCall { function, data: data as usize })))
    }

    fn cuLaunchHostFunc_v2(
        handle: Handle, function: Option<HostFn>, data: *mut c_void, mode: u32,
    ) {
        let function = function.filter(|_| mode <= 1).ok_or(Error::INVALID_VALUE)?;
        submit(handle, |_, _| Ok(Work::Host(HostCall { function, data: data as usize })))
    }

    fn cuStreamAttachMemAsync(
        handle: Handle, address: u64, _length: usize, flags: u32,
    ) [cuStreamAttachMemAsync_ptsz] {
        if !matches!(flags, 1 | 2 | 4) {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        usable(&mut s, handle)?;
        let managed = s.allocation_at(address).is_some_and(|(_, a)| {
            matches!(a.kind, crate::state::MemoryKind::Managed | crate::state::MemoryKind::Pinned)
        });
        // Managed memory is host memory here, visible to everybody at any time.
        managed.then_some(()).ok_or(Error::INVALID_VALUE)
    }

    fn cuStreamCopyAttributes(to: Handle, from: Handle) [cuStreamCopyAttributes_ptsz] {
        let mut s = lock();
        let (to, from) = (resolve(&mut s, to)?, resolve(&mut s, from)?);
        let attributes = s.streams[&from].attributes.clone();
        if let Some(st) = s.streams.get_mut(&to) {
            st.attributes = attributes;
        }
        Ok(())
    }

    fn cuStreamGetAttribute(
        handle: Handle, which: u32, to: Out<AttributeValue>,
    ) [cuStreamGetAttribute_ptsz] {
        with(handle, |s, st| {
            let stream = &s.streams[&st];
            let mut value = stream.attributes.get(&which).copied().unwrap_or_default();
            match which {
                1 | 3 | 9 | 10 => {}
                8 => value.words[0] = stream.priority as u32,
                _ => return Err(Error::INVALID_VALUE),
            }
            to.set(value)
        })
    }

    fn cuStreamSetAttribute(
        handle: Handle, which: u32, value: crate::abi::In<AttributeValue>,
    ) [cuStreamSetAttribute_ptsz] {
        let value = value.get()?;
        with(handle, |s, st| {
            let Some(stream) = s.streams.get_mut(&st) else { return Err(Error::INVALID_HANDLE) };
            match which {
                // An access policy window, how to synchronise, memory synchronisation domains: nothing here depends on them.
                1 | 3 | 9 | 10 => {}
                8 => stream.priority = (value.words[0] as i32).clamp(GREATEST_PRIORITY, 0),
                _ => return Err(Error::INVALID_VALUE),
            }
            stream.attributes.insert(which, value);
            Ok(())
        })
    }
}

/// Makes a stream wait for the last recording of an event.
pub fn wait_event(mut s: MutexGuard<'static, State>, stream: Handle, event: Handle) -> Res<()> {
    let found = s.events.get(&event).filter(|e| !e.dead).ok_or(Error::INVALID_HANDLE)?;
    if let Some((capture, nodes)) = found.captured.clone() {
        return crate::capture::join(&mut s, stream, capture, &nodes);
    }
    if s.streams[&stream].capture.is_some() {
        // The event was recorded outside of the capture.
        if s.events[&event].submitted > 0 {
            crate::capture::invalidate(&mut s, stream);
            return Err(Error::STREAM_CAPTURE_ISOLATION);
        }
        return Ok(());
    }
    let version = s.events[&event].submitted;
    enqueue(s, stream, vec![Work::Wait { event, version }]);
    Ok(())
}
