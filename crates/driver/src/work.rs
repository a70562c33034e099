//! Operations of streams, and their execution.

use std::sync::Arc;

use zeroforge_emulator::{
    DeviceMemory, Finding, FindingKind, LaunchConfig, Program, Severity, launch,
};

use crate::abi::{self, HostCall, StreamCallback};
use crate::copy::CopyPlan;
use crate::device::Spec;
use crate::error::{Error, Res};
use crate::options::{OnFinding, Settings};
use crate::set::FillPlan;
use crate::state::{State, lock};
use crate::types::Handle;
use crate::{clock, log};

/// A kernel with everything that it needs to run.
#[derive(Clone, Debug)]
pub struct KernelCall {
    /// The handle that was launched.
    pub function: Handle,
    /// The program.
    pub program: Arc<Program>,
    /// Name of the kernel.
    pub name: String,
    /// Shape and parameters.
    pub config: LaunchConfig,
    /// Launch attributes by number, for graph nodes that are asked for them.
    pub attributes: std::collections::BTreeMap<u32, crate::types::AttributeValue>,
}

/// A wait for a value in memory, or a write of one.
#[derive(Clone, Copy, Debug)]
pub struct ValueOp {
    /// Where.
    pub address: u64,
    /// What.
    pub value: u64,
    /// 4 or 8 bytes.
    pub bytes: usize,
    /// `CU_STREAM_WAIT_VALUE_*`, the lower bits.
    pub condition: u32,
}

impl ValueOp {
    /// Whether a wait for it is over.
    pub fn holds(&self, memory: &DeviceMemory) -> bool {
        let mut bytes = [0; 8];
        if memory.read(self.address, &mut bytes[..self.bytes]).is_err() {
            // Freed meanwhile: a wait for it can have no meaning, and none must hang.
            return true;
        }
        let found = u64::from_le_bytes(bytes);
        match self.condition {
            0 if self.bytes == 4 => (found as u32).wrapping_sub(self.value as u32) as i32 >= 0,
            0 => found.wrapping_sub(self.value) as i64 >= 0,
            1 => found == self.value,
            2 => found & self.value != 0,
            _ => {
                let all = if self.bytes == 4 { u64::from(u32::MAX) } else { u64::MAX };
                !(found | self.value) & all != 0
            }
        }
    }
}

/// What a stream does.
#[derive(Clone, Debug)]
pub enum Work {
    /// Runs a kernel.
    Kernel(Box<KernelCall>),
    /// Copies.
    Copy(Box<CopyPlan>),
    /// Fills.
    Fill(FillPlan),
    /// Calls a function of the user.
    Host(HostCall),
    /// Calls a stream callback.
    Callback {
        /// The function.
        function: StreamCallback,
        /// The stream as the user named it.
        stream: Handle,
        /// Its argument.
        data: usize,
    },
    /// Records an event.
    Record {
        /// The event.
        event: Handle,
        /// Which recording of it.
        version: u64,
    },
    /// Waits for a recording of an event.
    Wait {
        /// The event.
        event: Handle,
        /// Which recording of it.
        version: u64,
    },
    /// Writes a value.
    WriteValue(ValueOp),
    /// Waits for a value.
    WaitValue(ValueOp),
    /// Gives memory back.
    Free(u64),
    /// Nothing.
    Empty,
}

/// What an operation leaves behind.
pub struct Outcome {
    /// Modelled nanoseconds.
    pub time: u64,
    /// What becomes the context's sticky error.
    pub error: Option<Error>,
    /// What the kernel printed.
    pub printed: String,
}

impl Outcome {
    fn of(result: Res<u64>) -> Outcome {
        match result {
            Ok(time) => Outcome { time, error: None, printed: String::new() },
            Err(e) => Outcome { time: 0, error: Some(e), printed: String::new() },
        }
    }
}

/// Executes an operation. Runs without the state's lock.
pub fn run(work: &Work, memory: &DeviceMemory, spec: &Spec, settings: &Settings) -> Outcome {
    match work {
        Work::Kernel(call) => run_kernel(call, memory, spec, settings),
        Work::Copy(plan) => {
            Outcome::of(plan.run(memory).map(|over_bus| clock::copy(plan.bytes(), over_bus, spec)))
        }
        Work::Fill(plan) => {
            Outcome::of(plan.run(memory).map(|()| clock::copy(plan.bytes(), false, spec)))
        }
        Work::Host(call) => {
            crate::in_callback(|| call.call());
            Outcome::of(Ok(clock::ENQUEUE))
        }
        Work::Callback { function, stream, data } => {
            crate::in_callback(|| abi::call_callback(*function, *stream, 0, *data));
            Outcome::of(Ok(clock::ENQUEUE))
        }
        Work::WriteValue(op) => {
            let bytes = op.value.to_le_bytes();
            let written = memory.write(op.address, &bytes[..op.bytes]);
            Outcome::of(written.map(|()| clock::ENQUEUE).map_err(|_| Error::ILLEGAL_ADDRESS))
        }
        Work::Free(base) => {
            crate::memory::release(&mut lock(), *base);
            Outcome::of(Ok(0))
        }
        Work::Record { .. } | Work::Wait { .. } | Work::WaitValue(_) | Work::Empty => {
            Outcome::of(Ok(0))
        }
    }
}

fn run_kernel(
    call: &KernelCall,
    memory: &DeviceMemory,
    spec: &Spec,
    settings: &Settings,
) -> Outcome {
    let device = spec.emulated();
    let result =
        launch(&call.program, &call.name, &call.config, memory, &device, &settings.options);
    let report = match result {
        Ok(report) => report,
        Err(e) => {
            log::error(|| e.to_string());
            return Outcome::of(Err(Error::LAUNCH_FAILED));
        }
    };
    let time = clock::kernel(&report, spec);
    let mut error = None;
    for finding in &report.findings {
        let becomes = error_of(finding, settings.on_finding);
        match finding.kind.severity() {
            Severity::Error => log::error(|| finding.to_string()),
            Severity::Warning => log::info(|| finding.to_string()),
        }
        error = error.or(becomes);
    }
    if report.dropped > 0 {
        log::error(|| format!("{} more findings in `{}`", report.dropped, call.name));
    }
    keep(&mut lock(), report.findings, report.dropped);
    Outcome { time, error, printed: report.printed }
}

/// Findings that are kept for `zfFindings`; more are counted.
const MAX_KEPT: usize = 10_000;

fn keep(s: &mut State, findings: Vec<Finding>, dropped: u64) {
    s.dropped_findings += dropped;
    for finding in findings {
        if s.findings.len() < MAX_KEPT {
            s.findings.push(finding);
        } else {
            s.dropped_findings += finding.count;
        }
    }
}

/// The error that a finding becomes: what hardware would give where it would notice, a launch failure where only
/// a checker does and the user wants it.
fn error_of(finding: &Finding, on_finding: OnFinding) -> Option<Error> {
    match finding.kind {
        FindingKind::OutOfBounds | FindingKind::ReadOnly => Some(Error::ILLEGAL_ADDRESS),
        FindingKind::Misaligned => Some(Error::MISALIGNED_ADDRESS),
        FindingKind::Deadlock | FindingKind::Endless => Some(Error::LAUNCH_TIMEOUT),
        FindingKind::Trap if finding.message.contains("assert") => Some(Error::ASSERT),
        FindingKind::Trap => Some(Error::LAUNCH_FAILED),
        kind => match (kind.severity(), on_finding) {
            (Severity::Error, OnFinding::Error) => Some(Error::LAUNCH_FAILED),
            _ => None,
        },
    }
}
