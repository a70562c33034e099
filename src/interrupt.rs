//! Ctrl-C during long work: the work ends where it can, its temporary files go away, and the exit code is
//! that of an interrupted program. A second Ctrl-C ends the process at once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// The work was interrupted.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted; nothing was written")
    }
}

impl std::error::Error for Interrupted {}

/// Whether somebody asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn listen() -> std::io::Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Interrupt(flag))
    }

    /// Ends the work from any of its threads, by unwinding: destructors remove temporary files.
    pub(crate) fn check(&self) {
        if self.requested() {
            resume_unwind(Box::new(Interrupted));
        }
    }

    /// Whether a signal came.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs work that calls [`Interrupt::check`]. Where it failed after a signal, the signal is why: a
    /// terminal sends it to the C compiler too.
    pub(crate) fn guard<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(if self.requested() { Interrupted.into() } else { error }),
            Err(payload) if payload.is::<Interrupted>() => Err(Interrupted.into()),
            Err(payload) => resume_unwind(payload),
        }
    }
}
