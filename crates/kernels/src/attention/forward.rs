//! The forward kernel: what it computes, what it accepts, its source.

use std::fmt::Write as _;
use std::mem::size_of;

use serde::Deserialize;
use zeroforge_artifact::DType;
use zeroforge_artifact::abi::zf_flash_attention_params;

use super::Tile;
use crate::{Instance, Refusal};

pub(super) const KERNEL: &str = "attention forward";
/// Shared memory that a block of compute capability 9.0 can have, in bytes.
const MAX_SHARED: u32 = 227 * 1024;

/// Element type of Q, K and V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// 8 bits, 4 of exponent, no infinity; O is bf16, and Q, K and V are multiplied by numbers per (batch, KV head).
    E4m3,
}

impl Element {
    /// Bytes of an element.
    pub fn bytes(self) -> u32 {
        match self {
            Element::Bf16 | Element::F16 => 2,
            Element::E4m3 => 1,
        }
    }

    /// Element type of O.
    pub fn output(self) -> DType {
        match self {
            Element::F16 => DType::F16,
            Element::Bf16 | Element::E4m3 => DType::Bf16,
        }
    }

    /// Its name in device code after `zf_`, and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Element::Bf16 => "bf16",
            Element::F16 => "f16",
            Element::E4m3 => "e4m3",
        }
    }
}

/// Mask operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// None.
    None,
    /// One byte per score, nonzero = visible.
    Bool,
    /// Added to the scaled score: bf16, f16 or f32. A bias is one.
    Additive(DType),
}

/// How long the sequences of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lengths {
    /// All as long as the tensor.
    Fixed,
    /// Each given by an array; the rest of the tensor's rows are not read.
    Used,
    /// Side by side in one tensor without a batch axis, cut by an array of `batch + 1` row numbers.
    Ragged,
}

/// What an instance computes: `softmax(score(Q K^T)) V`, with `score(x) = softcap(x * scale) + bias - slope * distance`
/// where visible. Meaning of every part: `zf_flash_attention_params` of `abi.h`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    /// Q, K and V.
    pub element: Element,
    /// Columns of Q and K: a multiple of 8, at most 256.
    pub head_dim: u32,
    /// Columns of V and O: a multiple of 8, at most 256.
    pub value_dim: u32,
    /// Keys more than a number before the query's position are hidden.
    pub window_left: bool,
    /// Keys more than a number after the query's position are hidden: causal, with the number 0.
    pub window_right: bool,
    /// The first keys are visible to all in spite of `window_right`, which it needs.
    pub prefix: bool,
    /// Only keys of the query's chunk are visible.
    pub chunk: bool,
    /// Mask operand.
    pub mask: Mask,
    /// ALiBi: a slope per head times the distance is subtracted.
    pub slopes: bool,
    /// Scores go through `cap * tanh(x / cap)`.
    pub softcap: bool,
    /// A logit per head takes part in the softmax without a value.
    pub sinks: bool,
    /// Logarithms of the sums of exponentials are an output, f32.
    pub lse: bool,
    /// Of queries.
    pub queries: Lengths,
    /// Of keys.
    pub keys: Lengths,
    /// Query heads of one KV head that share a tile (a divisor of 64): for few queries. 1 for none.
    pub pack: u32,
}

impl Forward {
    /// Without any mask or extra, heads not packed.
    pub fn dense(element: Element, head_dim: u32, value_dim: u32) -> Forward {
        Forward {
            element,
            head_dim,
            value_dim,
            window_left: false,
            window_right: false,
            prefix: false,
            chunk: false,
            mask: Mask::None,
            slopes: false,
            softcap: false,
            sinks: false,
            lse: false,
            queries: Lengths::Fixed,
            keys: Lengths::Fixed,
            pack: 1,
        }
    }

    /// The packing for `group` query heads per KV head and sequences of about `queries`: all of them if tiles would
    /// otherwise be mostly empty, else 1.
    pub fn packing(group: i64, queries: i64) -> u32 {
        let can = (2..=64).contains(&group) && 64 % group == 0;
        if can && queries < 128 { group as u32 } else { 1 }
    }

    /// Whether tiles of queries see different numbers of keys.
    pub(super) fn uneven(&self) -> bool {
        self.window_left || self.window_right || self.chunk
    }

    /// Whether every score is worked on before the softmax.
    pub(super) fn modifies_scores(&self) -> bool {
        self.mask != Mask::None || self.slopes || self.softcap
    }

    fn refuse(argument: &str, rule: impl Into<String>) -> Refusal {
        Refusal::new(KERNEL, argument, rule)
    }

    /// The variant that the instance is made of.
    ///
    /// # Errors
    /// If what is described is outside of the contract.
    pub fn tile(&self) -> Result<&'static Tile, Refusal> {
        for (name, dim) in [("head_dim", self.head_dim), ("value_dim", self.value_dim)] {
            if dim == 0 || dim > 256 || !dim.is_multiple_of(8) {
                return Err(Self::refuse(
                    name,
                    format!("is {dim}; multiples of 8 up to 256 are allowed (pad the tensor)"),
                ));
            }
        }
        if self.element == Element::E4m3 && !self.value_dim.is_multiple_of(16) {
            return Err(Self::refuse(
                "value_dim",
                format!("is {}; of 8-bit floats multiples of 16 are allowed", self.value_dim),
            ));
        }
        if let Mask::Additive(dtype) = self.mask
            && !matches!(dtype, DType::Bf16 | DType::F16 | DType::F32)
        {
            return Err(Self::refuse("mask", format!("is {dtype}; bf16, f16 and f32 are added")));
        }
        if self.prefix && !self.window_right {
            return Err(Self::refuse("prefix", "needs a causal mask or a right window to widen"));
        }
        if self.pack == 0 || 64 % self.pack != 0 {
            return Err(Self::refuse(
                "pack",
                format!("is {}; divisors of 64 are allowed, 1 packs nothing", self.pack),
            ));
        }
        Tile::of(self).ok_or_else(|| {
            Self::refuse("head_dim", format!("is {}: no variant is for it", self.head_dim))
        })
    }

    /// Shared memory: panels of 128 bytes for Q, K and V, and barriers.
    fn shared_bytes(&self, tile: &Tile) -> u32 {
        let panels = |dim: u32| (dim * self.element.bytes()).div_ceil(128);
        let q = panels(self.head_dim) * tile.rows() * 128 * tile.q_stages;
        let kv = (panels(self.head_dim) + panels(self.value_dim)) * tile.keys * 128 * tile.stages;
        // V with a row per column.
        let turned = match self.element {
            Element::E4m3 => tile.keys.div_ceil(128) * self.value_dim * 128 * tile.stages,
            _ => 0,
        };
        // Barriers of rings, in as many places of 1024 bytes as arrays of slots end at.
        q + kv + turned + 3072
    }

    /// The kernel to compile.
    ///
    /// # Errors
    /// If what is described is outside of the contract.
    pub fn instance(&self) -> Result<Instance, Refusal> {
        let tile = self.tile()?;
        let shared_bytes = self.shared_bytes(tile);
        if shared_bytes > MAX_SHARED {
            return Err(Self::refuse(
                "value_dim",
                format!(
                    "{} with head_dim {} takes {shared_bytes} bytes of shared memory; {MAX_SHARED} are there",
                    self.value_dim, self.head_dim
                ),
            ));
        }
        let instance = Instance {
            entry: String::new(),
            source: self.source(tile, shared_bytes),
            block: tile.threads(),
            cluster: 1,
            blocks_per_sm: Some(1),
            shared_bytes,
            param_bytes: size_of::<zf_flash_attention_params>() as u32,
            doc: self.to_string(),
        };
        Ok(instance.named("attention"))
    }

    fn source(&self, tile: &Tile, shared_bytes: u32) -> String {
        let element = self.element.name();
        let output = if self.element.output() == DType::F16 { "f16" } else { "bf16" };
        let (product, limits) = match self.element {
            Element::E4m3 => (
                "ZF_WGMMA_FP8",
                "    // Probabilities up to 2^8.75 are 8-bit floats; the more of the range they take, the fewer are rounded to 0.\n    \
                 static constexpr float RESCALE_AT = 3.75f, OFFSET = 5.0f;\n",
            ),
            _ => (
                "ZF_WGMMA_16BIT",
                "    // A base that is at most 2^8 too small keeps probabilities and sums far from overflow.\n    \
                 static constexpr float RESCALE_AT = 8.0f, OFFSET = 0.0f;\n",
            ),
        };
        let (mask, mask_type) = match self.mask {
            Mask::None => ("NONE", "float"),
            Mask::Bool => ("BOOL", "uint8_t"),
            Mask::Additive(DType::Bf16) => ("ADDITIVE", "zf_bf16"),
            Mask::Additive(DType::F16) => ("ADDITIVE", "zf_f16"),
            Mask::Additive(_) => ("ADDITIVE", "float"),
        };
        let mut text =
            String::from("#include \"scalar/device.cuh\"\n#include \"attention/forward.cuh\"\n\n");
        let _ = writeln!(text, "// {self}");
        let mut products = vec![tile.keys, self.value_dim];
        products.dedup();
        for n in products {
            let _ = writeln!(text, "{product}({element}, {n})");
        }
        let _ = write!(
            text,
            "\nstruct Choices {{\n    using T = zf_{element};\n    using Out = zf_{output};\n    using MaskType = {mask_type};\n"
        );
        for (name, value) in [
            ("D", self.head_dim),
            ("DV", self.value_dim),
            ("N", tile.keys),
            ("GROUPS", tile.groups),
            ("STAGES", tile.stages),
            ("Q_STAGES", tile.q_stages),
            ("PACK", self.pack),
            ("SHARED_BYTES", shared_bytes),
        ] {
            let _ = writeln!(text, "    static constexpr int {name} = {value};");
        }
        for (name, value) in [
            ("PING_PONG", tile.ping_pong),
            ("WINDOW_LEFT", self.window_left),
            ("WINDOW_RIGHT", self.window_right),
            ("PREFIX", self.prefix),
            ("CHUNK", self.chunk),
            ("SLOPES", self.slopes),
            ("SOFTCAP", self.softcap),
            ("SINK", self.sinks),
            ("LSE", self.lse),
            ("RAGGED_QUERIES", self.queries == Lengths::Ragged),
            ("RAGGED_KEYS", self.keys == Lengths::Ragged),
            ("USED_QUERIES", self.queries == Lengths::Used),
            ("USED_KEYS", self.keys == Lengths::Used),
        ] {
            let _ = writeln!(text, "    static constexpr bool {name} = {value};");
        }
        let _ = write!(
            text,
            "    static constexpr zf::ScoreMask MASK = zf::ScoreMask::{mask};\n{limits}}};\n\
             using Config = zf::AttentionConfig<Choices>;\n\n\
             extern \"C\" __global__ void __launch_bounds__(Config::THREADS, 1) {}(const __grid_constant__ zf_flash_attention_params p) {{\n    \
             extern __shared__ __align__(1024) unsigned char memory[];\n    \
             zf::attention_forward<Config>(p, memory);\n}}\n",
            Instance::ENTRY
        );
        text
    }
}

/// One line: `attention forward bf16 d128 causal, packed 4`.
impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{KERNEL} {} d{}", self.element.name(), self.head_dim)?;
        if self.value_dim != self.head_dim {
            write!(f, " dv{}", self.value_dim)?;
        }
        for (on, word) in [
            (self.window_left, "left window"),
            (self.window_right, "right window"),
            (self.prefix, "prefix"),
            (self.chunk, "chunks"),
            (self.slopes, "slopes"),
            (self.softcap, "softcap"),
            (self.sinks, "sinks"),
            (self.lse, "lse"),
            (self.queries == Lengths::Used, "used queries"),
            (self.queries == Lengths::Ragged, "ragged queries"),
            (self.keys == Lengths::Used, "used keys"),
            (self.keys == Lengths::Ragged, "ragged keys"),
        ] {
            if on {
                write!(f, ", {word}")?;
            }
        }
        match self.mask {
            Mask::None => {}
            Mask::Bool => f.write_str(", bool mask")?,
            Mask::Additive(dtype) => write!(f, ", {dtype} mask")?,
        }
        if self.pack > 1 {
            write!(f, ", packed {}", self.pack)?;
        }
        Ok(())
    }
}
