//! Events.

use crate::abi::Out;
use crate::error::{Error, Res};
use crate::log;
use crate::state::{Kind, State, lock};
use crate::stream::{self, Event};
use crate::types::Handle;
use crate::work::Work;

/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: u32 = 2;
/// `CU_EVENT_INTERPROCESS`.
const INTERPROCESS: u32 = 4;

/// An event by its handle.
pub fn find(s: &State, handle: Handle) -> Res<&Event> {
    s.ready()?;
    s.events.get(&handle).filter(|e| !e.dead).ok_or(Error::INVALID_HANDLE)
}

fn record(event: Handle, handle: Handle, flags: u32) -> Res<()> {
    if flags > 1 {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    let stream = stream::usable(&mut s, handle)?;
    if find(&s, event)?.context != s.streams[&stream].context {
        return Err(Error::INVALID_HANDLE);
    }
    if let Some(capture) = &s.streams[&stream].capture {
        let captured = (capture.id, capture.last.clone());
        if let Some(e) = s.events.get_mut(&event) {
            e.captured = Some(captured);
        }
        return Ok(());
    }
    crate::capture::check_legacy(&mut s, stream)?;
    let Some(e) = s.events.get_mut(&event) else { return Err(Error::INVALID_HANDLE) };
    e.captured = None;
    e.submitted += 1;
    let version = e.submitted;
    stream::enqueue(s, stream, vec![Work::Record { event, version }]);
    Ok(())
}

/// The recording that is current, or an error if the event is in a capture.
fn current(s: &State, event: Handle) -> Res<&Event> {
    let e = find(s, event)?;
    if e.captured.is_some() {
        return Err(Error::CAPTURED_EVENT);
    }
    s.healthy(e.context)?;
    Ok(e)
}

api! {
    fn cuEventCreate(to: Out<Handle>, flags: u32) {
        if flags > 7 || to.is_null() || (flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0) {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        let context = s.active()?;
        let handle = s.handle(Kind::Event);
        let event = Event { context, flags, submitted: 0, done: 0, time: 0, dead: false, captured: None };
        s.events.insert(handle, event);
        to.set(handle)
    }

    fn cuEventDestroy_v2(event: Handle) [cuEventDestroy] {
        stream::pump();
        let mut s = lock();
        find(&s, event)?;
        if let Some(e) = s.events.get_mut(&event) {
            e.dead = true;
            if e.done >= e.submitted {
                s.events.remove(&event);
            }
        }
        Ok(())
    }

    fn cuEventRecord(event: Handle, stream: Handle) [cuEventRecord_ptsz] {
        record(event, stream, 0)
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) [cuEventRecordWithFlags_ptsz] {
        record(event, stream, flags)
    }

    fn cuEventQuery(event: Handle) {
        stream::pump();
        let mut s = lock();
        let e = current(&s, event)?;
        let context = e.context;
        (e.done >= e.submitted).then_some(()).ok_or(Error::NOT_READY)?;
        s.tell(context)
    }

    fn cuEventSynchronize(event: Handle) {
        let (context, version) = {
            let s = lock();
            let e = current(&s, event)?;
            (e.context, e.submitted)
        };
        stream::wait_until(context, |s| s.events.get(&event).is_none_or(|e| e.done >= version))
    }

    fn cuEventElapsedTime(to: Out<f32>, start: Handle, end: Handle) [cuEventElapsedTime_v2] {
        stream::pump();
        let s = lock();
        let (a, b) = (current(&s, start)?, current(&s, end)?);
        if a.context != b.context
            || (a.flags | b.flags) & DISABLE_TIMING != 0
            || a.submitted == 0
            || b.submitted == 0
        {
            return Err(Error::INVALID_HANDLE);
        }
        if a.done < a.submitted || b.done < b.submitted {
            return Err(Error::NOT_READY);
        }
        log::once("elapsed", || {
            "event times come from a model of work done, not from hardware; see docs/software-device.md".to_owned()
        });
        to.set((b.time as f64 - a.time as f64) as f32 / 1e6)
    }

    fn cuCtxRecordEvent(context: Handle, event: Handle) {
        lock().context(context)?;
        find(&lock(), event)?;
        stream::synchronise_context(context)?;
        record(event, 1, 0)
    }

    fn cuCtxWaitEvent(context: Handle, event: Handle) {
        let mut s = lock();
        s.context(context)?;
        find(&s, event)?;
        let streams: Vec<Handle> =
            s.streams.iter().filter(|(_, st)| st.context == context && !st.dead).map(|(&h, _)| h).collect();
        drop(s);
        for stream in streams {
            stream::wait_event(lock(), stream, event)?;
        }
        Ok(())
    }
}
