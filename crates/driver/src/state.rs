//! All of the driver's state: tables of what handles name, behind one lock that is never held while a kernel or a
//! callback runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

use zeroforge_emulator::{DeviceMemory, Program};

use crate::device::Spec;
use crate::error::{Error, Res};
use crate::graph::{Exec, Graph, Node};
use crate::hostmem::HostBlock;
use crate::options::Settings;
use crate::pool::Pool;
use crate::stream::{Event, Stream};
use crate::types::Handle;
use crate::virtual_memory::{Physical, Reservation};

/// What a handle names. It is in the handle, so that no two kinds share a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A context.
    Context = 0x11,
    /// A module.
    Module = 0x12,
    /// A library.
    Library = 0x13,
    /// A kernel of a library, or a function of a module.
    Function = 0x14,
    /// A stream.
    Stream = 0x15,
    /// An event.
    Event = 0x16,
    /// A graph.
    Graph = 0x17,
    /// A node of a graph.
    Node = 0x18,
    /// An executable graph.
    Exec = 0x19,
    /// A memory pool.
    Pool = 0x1a,
    /// A linker invocation.
    Link = 0x1b,
    /// Physical memory of cuMemCreate.
    Physical = 0x1c,
    /// A CUDA array.
    Array = 0x1d,
}

/// Per-device state.
pub struct DeviceState {
    /// Bytes taken of the card.
    pub used: u64,
    /// The primary context, its holders and the flags for it.
    pub primary: Option<Handle>,
    /// Retains without a release.
    pub primary_holders: u64,
    /// `CU_CTX_*`.
    pub primary_flags: u32,
    /// The pool that cannot be destroyed.
    pub default_pool: Handle,
    /// The pool that cuMemAllocAsync uses.
    pub pool: Handle,
}

/// A context.
pub struct Context {
    /// Ordinal.
    pub device: usize,
    /// `CU_CTX_*`.
    pub flags: u32,
    /// Whether it is the device's primary context.
    pub primary: bool,
    /// Set by the first failure of a kernel, after which nothing runs.
    pub error: Option<Error>,
    /// Whether a synchronisation has told of it; from then on every call gives it.
    pub told: bool,
    /// `CUlimit` values that were set.
    pub limits: BTreeMap<u32, u64>,
    /// `CUfunc_cache`.
    pub cache_config: u32,
    /// `CUsharedconfig`.
    pub shared_config: u32,
    /// API version that the creator asked for.
    pub api_version: u32,
    /// The default stream.
    pub legacy: Handle,
    /// Default streams of threads.
    pub per_thread: HashMap<ThreadId, Handle>,
    /// What kernels printed since the last synchronisation.
    pub printed: String,
    /// Devices whose memory was made accessible.
    pub peers: BTreeSet<usize>,
}

/// A module or a library that is loaded.
pub struct Module {
    /// The context; for a library the one in which it was first used.
    pub context: Handle,
    /// The device whose memory its variables take.
    pub device: usize,
    /// One per PTX text of the image.
    pub programs: Vec<Arc<Program>>,
    /// `.version` of the first.
    pub ptx_version: (u32, u32),
    /// Bytes of its variables.
    pub bytes: u64,
    /// Functions handed out by name.
    pub functions: BTreeMap<String, Handle>,
    /// Whether the handle is a library's.
    pub library: bool,
    /// The module handle of a library, once asked for.
    pub alias: Option<Handle>,
}

/// A kernel of a module.
#[derive(Clone)]
pub struct Function {
    /// The module.
    pub module: Handle,
    /// The program that has it.
    pub program: Arc<Program>,
    /// Its name.
    pub name: String,
    /// The name for C, kept for ever.
    pub c_name: &'static std::ffi::CStr,
    /// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`, if set.
    pub max_dynamic: Option<u32>,
    /// Other attributes that were set.
    pub attributes: BTreeMap<u32, i32>,
}

/// Where memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// On the card.
    Device,
    /// A variable of a module.
    Global,
    /// cuMemHostAlloc.
    Pinned,
    /// cuMemHostRegister.
    Registered,
    /// cuMemAllocManaged.
    Managed,
    /// cuMemMap.
    Mapped,
    /// An allocation node of a graph.
    Graph {
        /// Graphs and executable graphs that it lives for.
        holders: u32,
    },
}

/// An allocation.
pub struct Allocation {
    /// Bytes.
    pub size: u64,
    /// Where from.
    pub kind: MemoryKind,
    /// The device.
    pub device: usize,
    /// The context in which it was made; 0 for pool memory.
    pub context: Handle,
    /// The pool.
    pub pool: Option<Handle>,
    /// `CU_MEMHOSTALLOC_*` and the like.
    pub flags: u32,
    /// `CU_POINTER_ATTRIBUTE_BUFFER_ID`.
    pub id: u64,
    /// Host memory of the driver's own.
    pub host: Option<Arc<HostBlock>>,
    /// A free is queued in a stream.
    pub freeing: bool,
}

/// Everything.
pub struct State {
    /// cuInit was called.
    pub initialised: bool,
    /// What is emulated.
    pub spec: &'static Spec,
    /// By ordinal.
    pub devices: Vec<DeviceState>,
    /// Memory of all cards, in one address space.
    pub memory: Arc<DeviceMemory>,
    /// Options for launches.
    pub settings: Settings,
    /// Contexts.
    pub contexts: BTreeMap<Handle, Context>,
    /// Modules and libraries.
    pub modules: BTreeMap<Handle, Module>,
    /// Functions and kernels.
    pub functions: BTreeMap<Handle, Function>,
    /// Streams, default ones too.
    pub streams: BTreeMap<Handle, Stream>,
    /// Events.
    pub events: BTreeMap<Handle, Event>,
    /// Graphs.
    pub graphs: BTreeMap<Handle, Graph>,
    /// Nodes of all graphs.
    pub nodes: BTreeMap<Handle, Node>,
    /// Executable graphs.
    pub execs: BTreeMap<Handle, Exec>,
    /// Memory pools.
    pub pools: BTreeMap<Handle, Pool>,
    /// Linker invocations.
    pub links: BTreeMap<Handle, crate::link::Link>,
    /// CUDA arrays.
    pub arrays: BTreeMap<Handle, crate::array::Array>,
    /// cuMemCreate.
    pub physical: BTreeMap<Handle, Physical>,
    /// cuMemAddressReserve, by address.
    pub reservations: BTreeMap<u64, Reservation>,
    /// Live allocations by address.
    pub allocations: BTreeMap<u64, Allocation>,
    /// Host memory that was given back and that operations under way may still touch.
    pub graveyard: Vec<Arc<HostBlock>>,
    /// What the checkers found.
    pub findings: Vec<zeroforge_emulator::Finding>,
    /// Findings that were not kept.
    pub dropped_findings: u64,
    /// Modelled host time in nanoseconds.
    pub now: u64,
    /// Number of the next operation.
    pub next_op: u64,
    next: u64,
}

impl State {
    fn new() -> State {
        let (spec, count) = crate::device::from_environment();
        let memory = Arc::new(DeviceMemory::new(spec.memory * count as u64));
        let mut state = State {
            initialised: false,
            spec,
            devices: Vec::new(),
            memory,
            settings: Settings::from_environment(),
            contexts: BTreeMap::new(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            graphs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            execs: BTreeMap::new(),
            pools: BTreeMap::new(),
            links: BTreeMap::new(),
            arrays: BTreeMap::new(),
            physical: BTreeMap::new(),
            reservations: BTreeMap::new(),
            allocations: BTreeMap::new(),
            graveyard: Vec::new(),
            findings: Vec::new(),
            dropped_findings: 0,
            now: 0,
            next_op: 1,
            next: 1,
        };
        for device in 0..count {
            let pool = state.handle(Kind::Pool);
            state.pools.insert(pool, Pool::new(device, true));
            state.devices.push(DeviceState {
                used: 0,
                primary: None,
                primary_holders: 0,
                primary_flags: 0,
                default_pool: pool,
                pool,
            });
        }
        state
    }

    /// A handle that was never used.
    pub fn handle(&mut self, kind: Kind) -> Handle {
        let id = self.next;
        self.next += 1;
        (kind as u64) << 40 | id << 4
    }

    /// A number for an allocation.
    pub fn buffer_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Ordinal of a device.
    pub fn device(&self, device: i32) -> Res<usize> {
        self.ready()?;
        usize::try_from(device)
            .ok()
            .filter(|&d| d < self.devices.len())
            .ok_or(Error::INVALID_DEVICE)
    }

    /// Whether cuInit was called.
    pub fn ready(&self) -> Res<()> {
        self.initialised.then_some(()).ok_or(Error::NOT_INITIALIZED)
    }

    /// The thread's context, which may have failed.
    pub fn current(&self) -> Res<Handle> {
        self.ready()?;
        let top = stack_top().ok_or(Error::INVALID_CONTEXT)?;
        if !self.contexts.contains_key(&top) {
            return Err(Error::CONTEXT_IS_DESTROYED);
        }
        Ok(top)
    }

    /// The thread's context, which has not failed.
    pub fn active(&self) -> Res<Handle> {
        let context = self.current()?;
        self.healthy(context)?;
        Ok(context)
    }

    /// The error of a context, if it has one.
    pub fn healthy(&self, context: Handle) -> Res<()> {
        match self.contexts.get(&context) {
            None => Err(Error::INVALID_CONTEXT),
            Some(Context { error: Some(e), told: true, .. }) => Err(*e),
            Some(_) => Ok(()),
        }
    }

    /// The error of a context where the caller synchronises and learns of it.
    pub fn tell(&mut self, context: Handle) -> Res<()> {
        if let Some(c) = self.contexts.get_mut(&context) {
            c.told = c.error.is_some();
        }
        self.healthy(context)
    }

    /// A context by its handle.
    pub fn context(&mut self, handle: Handle) -> Res<&mut Context> {
        self.ready()?;
        self.contexts.get_mut(&handle).ok_or(Error::INVALID_CONTEXT)
    }

    /// Device of the thread's context.
    pub fn current_device(&self) -> Res<usize> {
        let context = self.current()?;
        Ok(self.contexts[&context].device)
    }

    /// A module or library.
    pub fn module(&self, handle: Handle) -> Res<&Module> {
        let module = self.modules.get(&handle).ok_or(Error::INVALID_HANDLE)?;
        match module.alias.filter(|_| !module.library) {
            Some(library) => self.modules.get(&library).ok_or(Error::INVALID_HANDLE),
            None => Ok(module),
        }
    }

    /// A function or kernel.
    pub fn function(&self, handle: Handle) -> Res<&Function> {
        self.functions.get(&handle).ok_or(Error::INVALID_HANDLE)
    }

    /// The kernel of a function.
    pub fn charge(&mut self, device: usize, bytes: u64) -> Res<()> {
        let used = self.devices[device].used.checked_add(bytes).filter(|&u| u <= self.spec.memory);
        match used {
            Some(used) => {
                self.devices[device].used = used;
                Ok(())
            }
            None => {
                let free = self.spec.memory - self.devices[device].used;
                crate::log::info(|| {
                    format!("{bytes} bytes were asked for, {free} are free on the emulated card")
                });
                Err(Error::OUT_OF_MEMORY)
            }
        }
    }

    /// The allocation that holds an address.
    pub fn allocation_at(&self, address: u64) -> Option<(u64, &Allocation)> {
        let (&base, a) = self.allocations.range(..=address).next_back()?;
        (address - base < a.size.max(1)).then_some((base, a))
    }
}

/// The state and what tells that it changed.
pub struct Driver {
    state: Mutex<State>,
    /// Signalled when an operation ends.
    pub changed: Condvar,
}

/// The driver of the process.
pub fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(|| Driver { state: Mutex::new(State::new()), changed: Condvar::new() })
}

/// Locks the state.
pub fn lock() -> MutexGuard<'static, State> {
    driver().state.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The thread's context.
pub fn stack_top() -> Option<Handle> {
    STACK.with_borrow(|s| s.last().copied()).filter(|&h| h != 0)
}

/// Works on the thread's stack of contexts.
pub fn with_stack<R>(f: impl FnOnce(&mut Vec<Handle>) -> R) -> R {
    STACK.with_borrow_mut(f)
}
