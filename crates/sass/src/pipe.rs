//! Which unit executes an instruction, and how long it is busy.
//!
//! Rates are results per cycle and SM of compute capability 9.0 (CUDA C++ Programming Guide, table of arithmetic
//! throughput; the special function unit's 16 likewise). An SM has four sub-partitions with a quarter of each unit.

use serde::Serialize;

use crate::instruction::Instruction;

/// A unit of the SM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pipe {
    /// Tensor cores.
    Tensor,
    /// Special functions (exponential, reciprocal, conversions of 64-bit types).
    Mufu,
    /// Multiply and add: f32 at full rate, integer multiply at half.
    Fma,
    /// Integer, logic, minimum, comparison, packing: half rate.
    Alu,
    /// Loads, stores, shuffles, and barriers in shared memory.
    Memory,
    /// Bulk copies by the tensor memory accelerator.
    Tma,
    /// The uniform datapath.
    Uniform,
    /// Branches, barriers, waits and no-ops.
    Control,
}

impl Pipe {
    /// All of them, in the order of reports.
    pub const ALL: [Pipe; 8] = [
        Pipe::Tensor,
        Pipe::Mufu,
        Pipe::Fma,
        Pipe::Alu,
        Pipe::Memory,
        Pipe::Tma,
        Pipe::Uniform,
        Pipe::Control,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Pipe::Tensor => "tensor",
            Pipe::Mufu => "mufu",
            Pipe::Fma => "fma",
            Pipe::Alu => "alu",
            Pipe::Memory => "memory",
            Pipe::Tma => "tma",
            Pipe::Uniform => "uniform",
            Pipe::Control => "control",
        }
    }
}

/// The unit of an instruction.
pub fn pipe(i: &Instruction) -> Pipe {
    let base = i.base();
    match base {
        "HGMMA" | "QGMMA" | "IGMMA" | "BGMMA" | "HMMA" | "IMMA" | "DMMA" | "BMMA" | "QMMA" => {
            Pipe::Tensor
        }
        "MUFU" | "POPC" | "FLO" | "BREV" | "I2F" | "F2I" | "F2F" | "FRND" => Pipe::Mufu,
        "FFMA" | "FMUL" | "FADD" | "FFMA32I" | "HFMA2" | "HADD2" | "HMUL2" | "IMAD" | "IDP"
        | "FSWZADD" => Pipe::Fma,
        "LDS" | "STS" | "LDSM" | "STSM" | "LDG" | "STG" | "LD" | "ST" | "LDL" | "STL" | "ATOM"
        | "ATOMG" | "ATOMS" | "RED" | "SHFL" | "LDC" | "LDGSTS" | "SYNCS" | "CCTL" | "S2R"
        | "REDUX" | "MATCH" | "LDGDEPBAR" => Pipe::Memory,
        "R2UR" | "S2UR" | "VOTEU" | "UMOV" => Pipe::Uniform,
        "BRA" | "EXIT" | "BAR" | "BSSY" | "BSYNC" | "BREAK" | "BRX" | "JMP" | "CALL" | "RET"
        | "NOP" | "WARPGROUP" | "WARPSYNC" | "DEPBAR" | "USETMAXREG" | "NANOSLEEP" | "YIELD"
        | "FENCE" | "MEMBAR" | "ERRBAR" | "ACQBULK" | "ENDCOLLECTIVE" | "BPT" | "KILL"
        | "UCGABAR_ARV" | "UCGABAR_WAIT" | "ELECT" | "PREEXIT" | "BMOV" | "CGAERRBAR" => {
            Pipe::Control
        }
        _ if base.starts_with("UTMA") || base.starts_with("UBLK") => Pipe::Tma,
        _ if base.starts_with('U') => Pipe::Uniform,
        _ => Pipe::Alu,
    }
}

/// Cycles for which a warp's instruction keeps its sub-partition's unit busy.
pub fn busy_cycles(i: &Instruction) -> f64 {
    match pipe(i) {
        // Of the sub-partition's quarter, which is as long as the SM's.
        Pipe::Tensor => match i.wgmma() {
            Some(w) => w.tensor_cycles(),
            None => 16.0,
        },
        Pipe::Mufu => 8.0,
        Pipe::Fma => match i.base() {
            "IMAD" | "IDP" => 2.0,
            _ => 1.0,
        },
        Pipe::Alu => 2.0,
        Pipe::Memory | Pipe::Tma | Pipe::Uniform | Pipe::Control => 1.0,
    }
}

/// Bytes of shared memory that a warp's instruction moves.
pub fn shared_bytes(i: &Instruction) -> u64 {
    if let Some(w) = i.wgmma() {
        // Of the whole warpgroup; a warp's share is a quarter.
        return w.shared_bytes() / 4;
    }
    let width = if i.has("128") {
        16
    } else if i.has("64") {
        8
    } else {
        4
    };
    match i.base() {
        "LDS" | "STS" | "ATOMS" => 32 * width,
        // A matrix of 8x8 16-bit elements is 128 bytes; modifier 2 or 4 counts them.
        "LDSM" | "STSM" => {
            128 * if i.has("4") {
                4
            } else if i.has("2") {
                2
            } else {
                1
            }
        }
        // A shuffle goes through the same crossbar: 32 lanes a cycle and SM.
        "SHFL" => 128,
        _ => 0,
    }
}
