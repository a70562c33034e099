//! The manifest of an artifact: what is in it, for whom it was built, and from what.

use serde::{Deserialize, Serialize};

use crate::{DType, Target};

/// The manifest, the first section of an artifact; JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// How it came to be.
    pub provenance: Provenance,
    /// One entry per target.
    pub targets: Vec<TargetEntry>,
    /// Every stored form of every weight, in execution order of first use.
    pub weights: Vec<WeightEntry>,
}

/// What an artifact was made from. No paths and no times: equal inputs give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of zeroforge.
    pub generator: String,
    /// BLAKE3 of the model file, hexadecimal.
    pub model_hash: String,
    /// Name and version of each compiler used.
    pub compilers: Vec<String>,
    /// Options that change the result.
    pub options: Vec<String>,
}

/// What an artifact holds for one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetEntry {
    /// The target.
    pub target: Target,
    /// Section of the program.
    pub program: u32,
    /// Code, in the order of [`crate::program::Kernel::module`].
    pub modules: Vec<ModuleEntry>,
    /// Maps [`crate::program::Place::Weight`] to [`Manifest::weights`].
    pub weights: Vec<u32>,
    /// Version of the kernel parameter layouts ([`crate::abi::ZF_ABI_VERSION`]).
    pub abi_version: u32,
    /// Section that says what each kernel computes; absent before format 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<u32>,
}

/// Sections of one code module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleEntry {
    /// An ELF shared object for the CPU.
    Elf(u32),
    /// A cubin, and the PTX it was made from.
    Cuda {
        /// Section of the machine code.
        cubin: u32,
        /// Section of the PTX.
        ptx: u32,
    },
}

/// How a stored weight differs from the model's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Row-major, as the model has it.
    RowMajor,
    /// GEMM panels; see [`crate::weights::pack_panels`].
    Panels {
        /// Columns per panel.
        nr: u32,
        /// Whether the model's weight is `[N, K]` (else `[K, N]`).
        transposed: bool,
    },
}

/// One stored form of a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightEntry {
    /// The model's name for it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// The model's shape.
    pub shape: Vec<i64>,
    /// How it is stored.
    pub layout: Layout,
    /// Size of the stored form in bytes.
    pub bytes: u64,
    /// Where it is.
    pub storage: WeightStorage,
}

/// Where the bytes of a weight are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightStorage {
    /// In the weights section.
    Embedded {
        /// Bytes from the section's start.
        offset: u64,
        /// BLAKE3 of the stored bytes, hexadecimal.
        hash: String,
    },
    /// In a safetensors file that the caller provides; packed when loaded.
    External {
        /// Name of the tensor in the file.
        tensor: String,
        /// BLAKE3 of the tensor's bytes there, hexadecimal.
        hash: String,
    },
}
