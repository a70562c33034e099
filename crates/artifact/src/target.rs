use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An instruction-set level of the CPU target. One artifact carries an object per level and the
/// runtime picks the highest one that the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuIsa {
    /// AVX2, FMA, F16C, BMI2 (the psABI's x86-64-v3).
    #[serde(rename = "x86-64-v3")]
    X86_64V3,
    /// AVX-512 F, BW, CD, DQ, VL (the psABI's x86-64-v4).
    #[serde(rename = "x86-64-v4")]
    X86_64V4,
}

impl CpuIsa {
    /// The psABI name, which is also the compiler's `-march` value.
    pub const fn name(self) -> &'static str {
        match self {
            CpuIsa::X86_64V3 => "x86-64-v3",
            CpuIsa::X86_64V4 => "x86-64-v4",
        }
    }

    /// Width of the vector registers in f32 lanes.
    pub const fn f32_lanes(self) -> usize {
        match self {
            CpuIsa::X86_64V3 => 8,
            CpuIsa::X86_64V4 => 16,
        }
    }
}

/// What native code is generated for.
///
/// Text forms: `cpu` stands for every CPU level and is expanded by the command line;
/// `x86-64-v3`, `x86-64-v4`, `sm_90a`, `sm_80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Target {
    /// The host processor.
    Cpu {
        /// Instruction-set level.
        isa: CpuIsa,
    },
    /// An NVIDIA GPU.
    Cuda {
        /// Compute capability times ten: 90 for Hopper.
        sm: u32,
        /// Whether the architecture-specific feature set (`sm_90a`: wgmma, setmaxnreg) is used.
        arch_specific: bool,
    },
}

impl Target {
    /// Hopper with its architecture-specific features, what ZeroGPU lends.
    pub const SM_90A: Target = Target::Cuda { sm: 90, arch_specific: true };
    /// CPU, AVX2 level.
    pub const X86_64_V3: Target = Target::Cpu { isa: CpuIsa::X86_64V3 };
    /// CPU, AVX-512 level.
    pub const X86_64_V4: Target = Target::Cpu { isa: CpuIsa::X86_64V4 };

    /// Whether the target is a GPU.
    pub const fn is_cuda(self) -> bool {
        matches!(self, Target::Cuda { .. })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Cpu { isa } => f.write_str(isa.name()),
            Target::Cuda { sm, arch_specific } => {
                write!(f, "sm_{sm}{}", if *arch_specific { "a" } else { "" })
            }
        }
    }
}

/// The text names no target.
#[derive(Debug, thiserror::Error)]
#[error("unknown target `{0}`; known are x86-64-v3, x86-64-v4 and sm_<NN>[a], for example sm_90a")]
pub struct TargetParseError(String);

impl FromStr for Target {
    type Err = TargetParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let unknown = || TargetParseError(s.chars().take(40).collect());
        match s {
            "x86-64-v3" => return Ok(Target::X86_64_V3),
            "x86-64-v4" => return Ok(Target::X86_64_V4),
            _ => {}
        }
        let rest = s.strip_prefix("sm_").ok_or_else(unknown)?;
        let (digits, arch_specific) = match rest.strip_suffix('a') {
            Some(digits) => (digits, true),
            None => (rest, false),
        };
        if !(2..=3).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(unknown());
        }
        let sm = digits.parse().map_err(|_| unknown())?;
        Ok(Target::Cuda { sm, arch_specific })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_parse_back() {
        for t in [Target::SM_90A, Target::X86_64_V3, Target::X86_64_V4] {
            assert_eq!(t.to_string().parse::<Target>().unwrap(), t);
        }
        for bad in ["", "sm_", "sm_9", "sm_90b", "sm_-0", "x86-64-v9", "cpu"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
