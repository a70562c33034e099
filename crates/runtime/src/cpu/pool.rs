//! A pool of threads for steps that take microseconds.
//!
//! A step's tasks are handed out as ranges by an atomic counter; the calling thread works too.
//! Workers spin briefly between steps, then sleep. A worker that wakes too late finds the job closed
//! and goes back; nobody waits for it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::object::Entry;

/// Polls of an idle worker before it sleeps: some tens of microseconds.
const SPINS: u32 = 20_000;

/// Most threads of a pool.
pub(super) const MAX_THREADS: usize = 1024;

/// One step.
#[derive(Clone, Copy)]
struct Job {
    entry: Entry,
    params: *const u8,
    tasks: i64,
    chunk: i64,
    scratch: *mut u8,
    scratch_stride: usize,
}

struct Shared {
    /// Counts jobs; a change tells workers that there is one.
    epoch: AtomicU64,
    /// Whether the current job may still be joined.
    open: AtomicBool,
    /// Workers that are looking at `job`.
    users: AtomicUsize,
    /// First task not handed out.
    next: AtomicI64,
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    /// Number of workers that sleep (or are about to), and their alarm clock.
    sleeping: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `job` is written only by the thread that holds `&mut Pool`, while `open` is false and
// `users` is zero; workers read it only between incrementing `users`, seeing `open` true, and
// decrementing `users` (see `run` and `join`). The raw pointers inside are valid for that time.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is tied to a thread.
unsafe impl Send for Shared {}

/// A pool of worker threads.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool that executes on `threads` threads, the caller's included.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            open: AtomicBool::new(false),
            users: AtomicUsize::new(0),
            next: AtomicI64::new(0),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            sleeping: Mutex::new(0),
            wake: Condvar::new(),
        });
        let threads = (1..threads.clamp(1, MAX_THREADS))
            // Stops at the first failure: a worker's number is its place in the scratch memory.
            .map_while(|worker| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("zeroforge-{worker}"))
                    .spawn(move || work(&shared, worker))
                    .inspect_err(|e| tracing::warn!("worker {worker} could not be started: {e}"))
                    .ok()
            })
            .collect();
        Pool { shared, threads }
    }

    /// Number of threads that execute, the caller's included.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Executes all tasks of a step and returns when they are done.
    ///
    /// # Safety
    /// `entry` must be a kernel for `params`, every address in the block must be valid for what the
    /// kernel does with it, and `scratch` must hold `threads() * scratch_stride` bytes.
    pub(crate) unsafe fn run(
        &mut self,
        entry: Entry,
        params: *const u8,
        tasks: i64,
        scratch: *mut u8,
        scratch_stride: usize,
    ) {
        let threads = self.threads() as i64;
        if threads == 1 || tasks == 1 {
            // SAFETY: the caller's promise.
            unsafe { entry(params, 0, tasks, 0, scratch) };
            return;
        }
        // Several ranges per thread, so that a late or slow thread does not hold up the rest.
        let chunk = (tasks / (threads * 8)).max(1);
        let job = Job { entry, params, tasks, chunk, scratch, scratch_stride };
        let shared = &*self.shared;
        // SAFETY: `open` is false and `users` was zero when the last job ended; no worker reads `job`
        // before `open` is true, and `&mut self` excludes a second writer.
        unsafe { *shared.job.get() = Some(job) };
        shared.next.store(0, Ordering::Relaxed);
        shared.open.store(true, Ordering::SeqCst);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if *shared.sleeping.lock().unwrap_or_else(PoisonError::into_inner) > 0 {
            shared.wake.notify_all();
        }
        // SAFETY: the caller's promise.
        unsafe { execute(shared, &job, 0) };
        shared.open.store(false, Ordering::SeqCst);
        // Those who joined finish their last range; those who have not will see `open` false.
        while shared.users.load(Ordering::SeqCst) != 0 {
            std::hint::spin_loop();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        {
            let _guard = self.shared.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A worker cannot panic: it runs native code and atomics only.
            let _ = thread.join();
        }
    }
}

/// Takes ranges until none is left.
///
/// # Safety
/// As [`Pool::run`].
unsafe fn execute(shared: &Shared, job: &Job, worker: usize) {
    loop {
        let begin = shared.next.fetch_add(job.chunk, Ordering::Relaxed);
        if begin >= job.tasks {
            return;
        }
        let end = (begin + job.chunk).min(job.tasks);
        // SAFETY: each worker has its own stretch of scratch memory; the rest is the caller's promise.
        unsafe {
            let scratch = job.scratch.add(worker * job.scratch_stride);
            (job.entry)(job.params, begin, end, worker as i64, scratch);
        }
    }
}

fn work(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.load(Ordering::SeqCst) == seen {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let mut sleeping = shared.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
            *sleeping += 1;
            // The epoch is read again after announcing the sleep: `run` changes it before it looks
            // at `sleeping`, so one of the two sees the other.
            while shared.epoch.load(Ordering::SeqCst) == seen {
                sleeping = shared.wake.wait(sleeping).unwrap_or_else(PoisonError::into_inner);
            }
            *sleeping -= 1;
        }
        seen = shared.epoch.load(Ordering::SeqCst);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        shared.users.fetch_add(1, Ordering::SeqCst);
        if shared.open.load(Ordering::SeqCst) {
            // SAFETY: `users` is raised and `open` was seen true after that, so `run` waits for us
            // before it returns or writes `job` again.
            if let Some(job) = unsafe { *shared.job.get() } {
                // SAFETY: `run`'s caller promised validity until `run` returns.
                unsafe { execute(shared, &job, worker) };
            }
        }
        shared.users.fetch_sub(1, Ordering::SeqCst);
    }
}
