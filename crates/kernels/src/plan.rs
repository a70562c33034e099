//! What a family gives: a kernel to compile, and how to launch it.

use zeroforge_artifact::Expr;
use zeroforge_artifact::program::Param;

/// A kernel to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Entry point: `zf_<family>_<hash of the source>`.
    pub entry: String,
    /// CUDA C++ on the layers of `kernels/`, complete.
    pub source: String,
    /// Threads of a block.
    pub block: u32,
    /// Blocks of a cluster (x); 1 for none.
    pub cluster: u32,
    /// Resident blocks per SM of a persistent kernel, which takes tiles from any number of blocks; `None` for one
    /// block a tile.
    pub blocks_per_sm: Option<u32>,
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// Size of the parameter block in bytes.
    pub param_bytes: u32,
    /// The variant and what it was instantiated for, one line for people.
    pub doc: String,
}

/// One launch of an instance, sizes possibly symbolic. Buffers are numbered as the family says.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Blocks; of a persistent kernel, tiles (x only).
    pub grid: [Expr; 3],
    /// The parameter block; bytes not covered are zero.
    pub params: Vec<Param>,
    /// Bytes of scratch memory, given as the family's last buffer; zero for none.
    pub workspace: Expr,
}

impl Instance {
    /// Replaces [`ENTRY`](Instance::ENTRY) in the source by a name made of the source's hash.
    pub fn named(mut self, family: &str) -> Instance {
        let hash = blake3::hash(self.source.as_bytes()).to_hex();
        self.entry = format!("zf_{family}_{}", &hash[..16]);
        self.source = self.source.replace(Self::ENTRY, &self.entry);
        self
    }

    /// Stands for the entry's name in a source that has none yet.
    pub const ENTRY: &str = "zf_kernel_entry";
}
