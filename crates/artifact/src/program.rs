//! The executable form of a compiled model: buffers, kernels and an ordered list of launches.
//!
//! One [`Program`] exists per target. It is data only: the runtime binds the symbols of a call,
//! evaluates every [`Expr`] once, fills each step's parameter block and launches. The same
//! structure drives the CPU (task ranges on a thread pool) and CUDA (grids on a stream).
//!
//! Serialised as JSON in the artifact's program section; field order is fixed, so equal programs
//! have equal bytes.

use serde::{Deserialize, Serialize};

use crate::tensor_map::{TENSOR_MAP_ALIGN, TENSOR_MAP_BYTES, TensorMap};
use crate::{DType, Expr, SymbolRange, Target};

/// Most bytes a parameter block may have (CUDA's limit for kernel parameters before 12.1).
pub const MAX_PARAM_BYTES: u32 = 4096;
/// Most scratch (CPU, per worker) or shared (CUDA, per block) memory of a kernel in bytes.
pub const MAX_SCRATCH_BYTES: u32 = 256 << 20;
/// Alignment of every buffer in the arena and of every weight, in bytes.
pub const BUFFER_ALIGN: u64 = 256;

/// Most blocks of a cluster: what every card of compute capability 9.0 can launch (CUDA C++ Programming
/// Guide, 20.1).
pub const MAX_CLUSTER: u32 = 8;
/// Most blocks of an SM.
pub const MAX_BLOCKS_PER_SM: u32 = 32;

/// A compiled model for one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// What the kernels were generated for.
    pub target: Target,
    /// The dimensions that a call binds, in [`crate::Symbol`] order.
    pub symbols: Vec<SymbolDecl>,
    /// Conditions over symbols that a call must meet (each expression must evaluate to >= 0),
    /// with the message shown when it does not.
    pub guards: Vec<Guard>,
    /// Everything that a step can point to.
    pub buffers: Vec<Buffer>,
    /// Sizes in bytes of the arena's slots; the arena is their sum, each rounded up to
    /// [`BUFFER_ALIGN`]. A static program has one slot.
    pub arena_slots: Vec<Expr>,
    /// Named inputs in the order of the exported signature.
    pub inputs: Vec<Port>,
    /// Named outputs in the order of the exported signature.
    pub outputs: Vec<Port>,
    /// Entry points in the target's code object(s).
    pub kernels: Vec<Kernel>,
    /// Launches in execution order.
    pub steps: Vec<Step>,
    /// How the caller's nested arguments and results map onto the ports, as the exporter's
    /// tree specification (JSON text), if there was one.
    pub signature: Signature,
}

impl Program {
    /// The oldest minor version of the artifact format that has all that is in the program.
    pub fn minor_version(&self) -> u16 {
        let newer = self.kernels.iter().any(|k| k.cluster != 1 || k.blocks_per_sm.is_some())
            || self.buffers.iter().any(|b| b.place == Place::Counters)
            || self
                .steps
                .iter()
                .flat_map(|s| &s.params)
                .any(|p| matches!(p.value, ParamValue::TensorMap(_)));
        if newer { 2 } else { 0 }
    }
}

/// A symbol that a call binds from the shapes of its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SymbolDecl {
    /// The exporter's name, for messages.
    pub name: String,
    /// Allowed values.
    pub range: SymbolRange,
}

/// A condition on the symbols.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Must evaluate to zero or more.
    pub non_negative: Expr,
    /// What to tell the caller when it does not.
    pub message: String,
}

/// Memory that steps read and write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// For inspection and messages.
    pub name: String,
    /// Where the bytes are.
    pub place: Place,
    /// Size in bytes.
    pub bytes: Expr,
}

/// Where a buffer's bytes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the call's arena: `offset` bytes into slot `slot`.
    Arena {
        /// Index into [`Program::arena_slots`].
        slot: u32,
        /// Bytes from the slot's start; a multiple of [`BUFFER_ALIGN`].
        offset: u64,
    },
    /// A weight of this target, by index into the artifact's weight table.
    Weight(u32),
    /// The caller's input of this index, contiguous.
    Input(u32),
    /// The caller's output of this index, contiguous.
    Output(u32),
    /// Named state that lives across calls (mutated module buffers such as a KV cache); starts as
    /// the weight of this index, or as zeros.
    State {
        /// The weight table entry holding the initial contents.
        initial: Option<u32>,
    },
    /// CUDA: words by which the blocks of a launch, or launches that follow each other, count what is done.
    /// Of constant size; zeros before the first launch, and every kernel that uses them leaves zeros
    /// behind, so that no step has to clear them.
    Counters,
}

/// An input or output of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The exporter's argument name; unique among inputs and among outputs.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape, row-major contiguous. The runtime binds symbols by matching input shapes: a dimension
    /// that is a bare symbol binds it, every other one is checked.
    pub shape: Vec<Expr>,
    /// The buffer.
    pub buffer: u32,
    /// For an output that is the new value of an input (exported mutation): that input's index.
    /// The runtime lets the caller pass one allocation for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutates: Option<u32>,
}

/// An entry point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Symbol name in the code object.
    pub entry: String,
    /// Index of the target's code object that holds it (the CPU has one; CUDA one per module).
    pub module: u32,
    /// Size of its by-value parameter block in bytes.
    pub param_bytes: u32,
    /// CUDA: threads per block, x only. CPU: 1.
    pub block: u32,
    /// CUDA: dynamic shared memory in bytes. CPU: scratch bytes per worker thread.
    pub shared_bytes: u32,
    /// CUDA: consecutive blocks that form a cluster, as the code says (`__cluster_dims__`); 1 for none.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub cluster: u32,
    /// CUDA, a persistent kernel, whose blocks take tiles until none is left: how many of its blocks an
    /// SM holds. A launch then has no more blocks than the device holds at once ([`Kernel::blocks`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks_per_sm: Option<u32>,
    /// What it computes, one line for people.
    pub doc: String,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

impl Kernel {
    /// The blocks of a launch on a device of `sm_count` SMs, for a grid of `tiles` blocks in all: as many
    /// for most kernels; for a persistent one at most what the device holds at once, in whole clusters,
    /// at least one.
    pub fn blocks(&self, tiles: u64, sm_count: u32) -> u64 {
        let Some(per_sm) = self.blocks_per_sm else { return tiles };
        let cluster = u64::from(self.cluster.max(1));
        let room = u64::from(sm_count) * u64::from(per_sm);
        (tiles.min(room) / cluster * cluster).max(cluster)
    }
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Index into [`Program::kernels`].
    pub kernel: u32,
    /// CUDA: the grid. CPU: the product is the number of tasks, which worker threads take in
    /// ranges. A zero anywhere means the step is skipped. Of a persistent kernel x is the number of tiles,
    /// y and z are 1.
    pub grid: [Expr; 3],
    /// What is written where in the parameter block; bytes not covered are zero.
    pub params: Vec<Param>,
    /// Buffers that the step reads, for the streaming loader and for checks.
    pub reads: Vec<u32>,
    /// Buffers that the step writes.
    pub writes: Vec<u32>,
    /// The exporter's node names that this step computes, for messages and profiles.
    pub origin: String,
    /// Floating-point operations, for the cost model.
    pub flops: Expr,
}

/// A value in a parameter block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Byte offset in the block; aligned to the value.
    pub at: u32,
    /// What is stored.
    pub value: ParamValue,
}

/// The kinds of parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamValue {
    /// 8 bytes: the address of a buffer plus an offset in bytes.
    Address {
        /// Index into [`Program::buffers`].
        buffer: u32,
        /// Bytes from its start.
        offset: Expr,
    },
    /// 8 bytes: a signed integer.
    I64(Expr),
    /// 4 bytes: a signed integer; the runtime refuses values out of range.
    I32(Expr),
    /// 4 bytes: a float, by its bits so that programs compare and serialise exactly.
    F32Bits(u32),
    /// 128 bytes at a multiple of 64: a tensor map, encoded for the device. CUDA only.
    TensorMap(Box<TensorMap>),
}

impl ParamValue {
    /// Bytes that it takes.
    pub fn bytes(&self) -> u32 {
        match self {
            ParamValue::Address { .. } | ParamValue::I64(_) => 8,
            ParamValue::I32(_) | ParamValue::F32Bits(_) => 4,
            ParamValue::TensorMap(_) => TENSOR_MAP_BYTES,
        }
    }

    /// What its place in the block is a multiple of.
    pub fn align(&self) -> u32 {
        match self {
            ParamValue::TensorMap(_) => TENSOR_MAP_ALIGN,
            _ => self.bytes(),
        }
    }

    /// Every expression in it.
    pub fn expressions(&self) -> Vec<&Expr> {
        match self {
            ParamValue::Address { offset: e, .. } | ParamValue::I64(e) | ParamValue::I32(e) => {
                vec![e]
            }
            ParamValue::F32Bits(_) => Vec::new(),
            ParamValue::TensorMap(map) => map.expressions().collect(),
        }
    }
}

/// The nested calling convention of the exported module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// Tree specification of (args, kwargs), JSON text of the exporter's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
    /// Tree specification of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persistent_kernels_fill_the_device_in_whole_clusters() {
        let kernel = |cluster, blocks_per_sm| Kernel {
            entry: String::new(),
            module: 0,
            param_bytes: 0,
            block: 128,
            shared_bytes: 0,
            cluster,
            blocks_per_sm,
            doc: String::new(),
        };
        for (cluster, per_sm, tiles, sms, blocks) in [
            (1, None, 1000, 60, 1000),
            (1, Some(1), 1000, 60, 60),
            (1, Some(2), 1000, 132, 264),
            (1, Some(2), 100, 132, 100),
            (2, Some(1), 1000, 132, 132),
            (2, Some(1), 7, 132, 6),
            (2, Some(1), 1, 132, 2),
            (4, Some(1), 1000, 3, 4),
            (1, Some(32), u64::MAX, u32::MAX, 32 * u64::from(u32::MAX)),
        ] {
            assert_eq!(kernel(cluster, per_sm).blocks(tiles, sms), blocks, "{tiles} on {sms}");
        }
    }
}
