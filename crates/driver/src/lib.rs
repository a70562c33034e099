//! The CUDA Driver API over the software Hopper: this library is `libcuda.so.1` for programs on machines
//! without a GPU.
//!
//! How it works. Handles are numbers looked up in tables ([`state`]), never pointers, so a stale or invented
//! one is an error code. Streams are real queues ([`stream`]): an operation runs on the thread that enqueues it
//! as soon as what it waits for is done, normally at once, which is a legal in-order schedule; one that waits for
//! an event of a stalled stream or for a value in memory stays queued, and every later call tries the
//! queues again, so no legal program deadlocks on the order in which it submits. Kernels are executed and checked by
//! `zeroforge-emulator`; what the checkers find is logged, kept for `zfFindings` ([`extension`]) and, where it is
//! an error, becomes the context's sticky error as on hardware. Times are modelled ([`clock`]) and no promise.
//!
//! Every exported function goes through `api!`: a panic becomes `CUDA_ERROR_UNKNOWN`, and the per-thread
//! default stream variants (`_ptds`, `_ptsz`) share the body of the plain ones. What is not implemented is in [`unsupported`].

#![allow(non_snake_case, reason = "exported names are NVIDIA's")]

/// Defines exported functions, each under its own name and its aliases, and a table of them.
macro_rules! api {
    ($( fn $name:ident $args:tt $([$($alias:ident),* $(,)?])? $body:block )*) => {
        $(
            api!(@one $name $args $body);
            $($( api!(@one $alias $args $body); )*)?
        )*
        /// The functions of this file by name.
        pub(crate) const TABLE: &[crate::Export] = &[
            $(
                crate::Export { name: stringify!($name), function: $name as *const () },
                $($( crate::Export { name: stringify!($alias), function: $alias as *const () }, )*)?
            )*
        ];
    };
    (@one $name:ident ( $($a:ident : $t:ty),* $(,)? ) $body:block) => {
        #[allow(missing_docs, reason = "NVIDIA's CUDA Driver API reference documents it")]
        #[allow(clippy::too_many_arguments, reason = "NVIDIA's signature")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($a: $t),*) -> u32 {
            crate::guard(stringify!($name), move || $body)
        }
    };
}

pub mod abi;
pub mod array;
pub mod capture;
pub mod claim;
pub mod clock;
pub mod context;
pub mod copy;
pub mod device;
pub mod error;
pub mod event;
pub mod extension;
pub mod function;
pub mod graph;
pub mod graph_exec;
pub mod graph_node;
pub mod hostmem;
pub mod image;
pub mod launch;
pub mod library;
pub mod link;
pub mod log;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod options;
pub mod pointer;
pub mod pool;
pub mod proc_address;
pub mod set;
pub mod state;
pub mod stream;
pub mod stream_value;
pub mod tensor_map;
pub mod types;
pub mod unsupported;
mod versions;
pub mod virtual_memory;
pub mod work;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use error::{Error, Res};

/// An exported function and its name.
pub(crate) struct Export {
    pub(crate) name: &'static str,
    pub(crate) function: *const (),
}

thread_local! {
    /// Whether the thread runs a callback of the user, in which no call is allowed.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
    /// Whether handle 0 means the per-thread default stream in the running call.
    static PER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Whether stream 0 is the thread's own in the running call.
pub(crate) fn per_thread_default() -> bool {
    PER_THREAD.get()
}

/// Runs a callback of the user.
pub(crate) fn in_callback(f: impl FnOnce()) {
    IN_CALLBACK.set(true);
    f();
    IN_CALLBACK.set(false);
}

/// Runs the body of an exported function: no panic leaves it, and a failure is logged where asked for.
pub(crate) fn guard(name: &'static str, body: impl FnOnce() -> Res<()>) -> u32 {
    // cuGetError* only read constants, so a callback may use them.
    if IN_CALLBACK.get() && !name.starts_with("cuGetError") {
        log::warn(|| {
            format!("{name} was called from a host function of a stream, which CUDA forbids")
        });
        return Error::NOT_PERMITTED.0;
    }
    PER_THREAD.set(name.ends_with("_ptsz") || name.ends_with("_ptds"));
    let result = catch_unwind(AssertUnwindSafe(body));
    PER_THREAD.set(false);
    match result {
        Ok(Ok(())) => {
            log::trace(|| name.to_owned());
            error::SUCCESS
        }
        Ok(Err(Error(code))) => {
            if code != Error::NOT_READY.0 {
                log::debug(|| format!("{name} gives {}", error::name(code)));
            }
            code
        }
        Err(panic) => {
            let text = panic_text(&panic);
            log::error(|| format!("{name}: a defect of the software device: {text}"));
            Error::UNKNOWN.0
        }
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// All exported functions that are implemented.
pub(crate) fn exports() -> impl Iterator<Item = &'static Export> {
    [
        array::TABLE,
        capture::TABLE,
        context::TABLE,
        copy::TABLE,
        device::TABLE,
        error::TABLE,
        event::TABLE,
        function::TABLE,
        graph::TABLE,
        graph_exec::TABLE,
        graph_node::TABLE,
        launch::TABLE,
        library::TABLE,
        link::TABLE,
        memory::TABLE,
        module::TABLE,
        occupancy::TABLE,
        pointer::TABLE,
        pool::TABLE,
        proc_address::TABLE,
        set::TABLE,
        stream::TABLE,
        stream_value::TABLE,
        tensor_map::TABLE,
        virtual_memory::TABLE,
        unsupported::TABLE,
    ]
    .into_iter()
    .flatten()
}
