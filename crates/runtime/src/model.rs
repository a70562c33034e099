//! An opened artifact.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use zeroforge_artifact::abi::ZF_ABI_VERSION;
use zeroforge_artifact::program::Program;
use zeroforge_artifact::{Artifact, ArtifactError, CpuIsa, Manifest, Target};

use crate::RunError;

/// How to open an artifact.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Check every hash at once instead of when a part is first used.
    pub verify_all: bool,
    /// Refuse artifacts that none of these minisign public keys has signed. Empty: anything goes.
    pub trusted_keys: Vec<String>,
}

/// An artifact mapped into memory and structurally checked. Cheap to clone; starts no threads and
/// touches no device.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) artifact: Arc<Artifact<Mmap>>,
}

impl Model {
    /// Maps and checks a file.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Model, RunError> {
        let failed = |doing| move |source| RunError::File { path: path.to_owned(), doing, source };
        let file = File::open(path).map_err(failed("opening"))?;
        // SAFETY: the map is read-only and private to this process's view. Another process that
        // truncates the file while it is mapped would fault us; artifacts are replaced by rename,
        // never rewritten in place, which keeps the mapped inode whole.
        let map = unsafe { Mmap::map(&file) }.map_err(failed("mapping"))?;
        let refused = |source| RunError::Open { path: path.to_owned(), source };
        let artifact = Artifact::parse(map).map_err(refused)?;
        if !options.trusted_keys.is_empty() {
            check_signature(&artifact, &options.trusted_keys)?;
        }
        // A signature vouches for hashes; it is worth something only if they are checked.
        if options.verify_all || !options.trusted_keys.is_empty() {
            artifact.verify_all().map_err(refused)?;
        }
        Ok(Model { artifact: Arc::new(artifact) })
    }

    /// What is in the artifact.
    pub fn manifest(&self) -> &Manifest {
        self.artifact.manifest()
    }

    /// The underlying container.
    pub fn artifact(&self) -> &Artifact<Mmap> {
        &self.artifact
    }

    /// The program of a target whose kernels this runtime can feed.
    pub fn program(&self, target: usize) -> Result<Program, RunError> {
        let entry = &self.manifest().targets[target];
        if entry.abi_version != ZF_ABI_VERSION {
            return Err(RunError::Device {
                device: entry.target.to_string(),
                reason: format!(
                    "the artifact's kernels have parameter layout {}, this runtime has {ZF_ABI_VERSION}; compile the model again",
                    entry.abi_version,
                ),
            });
        }
        Ok(self.artifact.program(target)?)
    }

    /// Index of the best CPU target that this machine can execute.
    pub fn cpu_target(&self) -> Result<usize, RunError> {
        let mut best: Option<(CpuIsa, usize)> = None;
        for (i, entry) in self.manifest().targets.iter().enumerate() {
            if let Target::Cpu { isa } = entry.target
                && host_has(isa)
                && best.is_none_or(|(b, _)| isa > b)
            {
                best = Some((isa, i));
            }
        }
        best.map(|(_, i)| i).ok_or_else(|| {
            let found: Vec<String> =
                self.manifest().targets.iter().map(|t| t.target.to_string()).collect();
            ArtifactError::NoTarget {
                wanted: "a CPU level that this machine has".into(),
                found: found.join(", "),
            }
            .into()
        })
    }
}

/// Checks the embedded signature of the root hash against a set of keys.
fn check_signature(artifact: &Artifact<Mmap>, keys: &[String]) -> Result<(), RunError> {
    use minisign_verify::{PublicKey, Signature};
    let refuse = |reason: &str| {
        let name = &artifact.manifest().name;
        RunError::Signature(format!("artifact `{name}` is refused: {reason}"))
    };
    let block = artifact.signature().ok_or_else(|| {
        refuse("it is not signed; sign it with `zeroforge sign` or open it without a list of trusted keys")
    })?;
    let text = std::str::from_utf8(block).map_err(|_| refuse("its signature is no text"))?;
    let signature = Signature::decode(text)
        .map_err(|e| refuse(&format!("its signature is malformed ({e})")))?;
    for key in keys {
        let key =
            PublicKey::decode(key.trim()).or_else(|_| PublicKey::from_base64(key.trim())).map_err(
                |e| RunError::Signature(format!("a trusted key is no minisign public key ({e})")),
            )?;
        if key.verify(&artifact.root_hash(), &signature, false).is_ok() {
            return Ok(());
        }
    }
    Err(refuse("none of the trusted keys has signed it"))
}

/// Whether this machine can execute a level.
pub fn host_has(isa: CpuIsa) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let v3 = has!("avx2")
            && has!("fma")
            && has!("f16c")
            && has!("bmi1")
            && has!("bmi2")
            && has!("lzcnt")
            && has!("movbe");
        match isa {
            CpuIsa::X86_64V3 => v3,
            CpuIsa::X86_64V4 => {
                v3 && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512cd")
                    && has!("avx512dq")
                    && has!("avx512vl")
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        false
    }
}
