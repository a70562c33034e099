//! Instructions of the machine code with their control codes.

use serde::Serialize;

/// What the compiler tells the warp scheduler with an instruction: bits 105 to 125 of its 128.
///
/// Hopper keeps the format of Volta (Jia et al., arXiv 1804.06826, chapter 2.1): stall 105-108, yield 109, write
/// barrier 110-112, read barrier 113-115, wait mask 116-121, reuse 122-125.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Control {
    /// Cycles before the warp may issue its next instruction.
    pub stall: u8,
    /// The yield bit as it is stored.
    pub yields: bool,
    /// Scoreboard that counts down when the result is written.
    pub write_barrier: Option<u8>,
    /// Scoreboard that counts down when the operands were read.
    pub read_barrier: Option<u8>,
    /// Scoreboards that must be zero before this instruction issues, a bit each.
    pub wait_mask: u8,
    /// Operand slots kept in the reuse cache, a bit each.
    pub reuse: u8,
}

impl Control {
    /// From the upper 64 bits of the encoding.
    pub fn decode(high: u64) -> Control {
        let field = |at: u32, bits: u32| ((high >> (at - 64)) & ((1 << bits) - 1)) as u8;
        let barrier = |v: u8| (v != 7).then_some(v);
        Control {
            stall: field(105, 4),
            yields: field(109, 1) != 0,
            write_barrier: barrier(field(110, 3)),
            read_barrier: barrier(field(113, 3)),
            wait_mask: field(116, 6),
            reuse: field(122, 4),
        }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Byte offset in the kernel.
    pub address: u64,
    /// `P0`, `!P0`, `UP1`: when it executes; none if always.
    pub predicate: Option<String>,
    /// Mnemonic with modifiers, `FADD.FTZ`.
    pub opcode: String,
    /// Operands as the disassembler prints them.
    pub operands: Vec<String>,
    /// Where a branch goes, if it is one with a label.
    pub target: Option<u64>,
    /// Scheduling.
    pub control: Control,
}

impl Instruction {
    /// Mnemonic without modifiers.
    pub fn base(&self) -> &str {
        self.opcode.split('.').next().unwrap_or_default()
    }

    /// Whether the mnemonic has a modifier.
    pub fn has(&self, modifier: &str) -> bool {
        self.opcode.split('.').skip(1).any(|m| m == modifier)
    }

    /// The shape and operand kind of a warpgroup's matrix product.
    pub fn wgmma(&self) -> Option<Wgmma> {
        if !matches!(self.base(), "HGMMA" | "QGMMA" | "IGMMA" | "BGMMA") {
            return None;
        }
        let shape = self.opcode.split('.').nth(1)?;
        let mut sizes = shape.split('x').map(|n| n.parse::<u32>().ok());
        let (m, n, k) = (sizes.next()??, sizes.next()??, sizes.next()??);
        // The first source is a register where A lies in registers, else a descriptor of shared memory.
        let a_registers = self.operands.get(1).is_some_and(|o| !o.starts_with("gdesc"));
        Some(Wgmma { m, n, k, a_registers, commits: self.operands.iter().any(|o| o == "gsb0") })
    }
}

/// A warpgroup's asynchronous matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wgmma {
    /// Rows, always 64.
    pub m: u32,
    /// Columns.
    pub n: u32,
    /// Depth.
    pub k: u32,
    /// A comes from registers (RS), else from shared memory (SS).
    pub a_registers: bool,
    /// It ends a group that `WARPGROUP.DEPBAR` can wait for.
    pub commits: bool,
}

impl Wgmma {
    /// Cycles of the SM's tensor cores: m64nNk16 of 16-bit and m64nNk32 of 8-bit elements take N/2 (the dense peak, 4096
    /// FLOP a cycle and SM for bf16).
    pub fn tensor_cycles(&self) -> f64 {
        f64::from(self.n) / 2.0 * f64::from(self.m) / 64.0
    }

    /// Bytes of shared memory that are read: B always, A if it is there. A row of K elements has 32 bytes in every type.
    pub fn shared_bytes(&self) -> u64 {
        let row = 32;
        u64::from(self.n) * row + if self.a_registers { 0 } else { u64::from(self.m) * row }
    }

    /// Multiplications and additions.
    pub fn flops(&self) -> u64 {
        2 * u64::from(self.m) * u64::from(self.n) * u64::from(self.k)
    }
}

impl std::fmt::Display for Wgmma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{} {}", self.m, self.n, self.k, if self.a_registers { "RS" } else { "SS" })
    }
}
