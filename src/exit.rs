//! Exit codes, the only place that chooses them. Documented in `docs/exit-codes.md`.

use std::process::ExitCode;

use zeroforge_compiler::cpu::CpuCompileError;
use zeroforge_compiler::cuda::CudaCompileError;
use zeroforge_compiler::pipeline::CompileError;
use zeroforge_import::ImportError;
use zeroforge_runtime::RunError;
use zeroforge_sass::SassError;
use zeroforge_verify::VerifyError;

/// A tool that is missing or failed, with what to do.
#[derive(Debug)]
pub(crate) struct ToolchainError(pub(crate) String);

impl std::fmt::Display for ToolchainError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ToolchainError {}

/// What a command ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// Anything without a code of its own.
    Failure = 1,
    /// Wrong usage of the command line, or a configuration file that cannot be used.
    Usage = 2,
    /// The model cannot be read: damaged, or of an unknown kind or version.
    BadModel = 3,
    /// The model has parts that are not supported, or weights that do not fit.
    Unsupported = 4,
    /// A compiler or toolkit is missing or failed.
    Toolchain = 5,
    /// The artifact is damaged, of another version or target, or its signature is refused.
    BadArtifact = 6,
    /// The inputs of a run do not fit the model.
    BadInput = 7,
    /// A file could not be read or written.
    Io = 8,
    /// A device is missing or failed.
    Device = 9,
    /// A kernel computes something wrong, or a checker found an error in it.
    Check = 10,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A request that makes no sense, whatever the files say.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A kernel that computes something wrong, or in which a checker found an error.
#[derive(Debug)]
pub(crate) struct CheckError(pub(crate) String);

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CheckError {}

/// A kernel's source or PTX that cannot be used.
#[derive(Debug)]
pub(crate) struct SourceError(pub(crate) String);

impl std::fmt::Display for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SourceError {}

/// Weights that are missing or do not fit.
#[derive(Debug)]
pub(crate) struct WeightsError(pub(crate) String);

impl std::fmt::Display for WeightsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WeightsError {}

/// The code of an error, by its cause.
pub(crate) fn code_of(error: &anyhow::Error) -> Exit {
    use zeroforge_artifact::ArtifactError;
    for cause in error.chain() {
        if cause.is::<UsageError>() || cause.is::<crate::config::ConfigError>() {
            return Exit::Usage;
        }
        if cause.is::<CheckError>() {
            return Exit::Check;
        }
        if cause.is::<SourceError>() {
            return Exit::BadModel;
        }
        if cause.is::<WeightsError>() {
            return Exit::Unsupported;
        }
        if cause.is::<crate::interrupt::Interrupted>() {
            return Exit::Interrupted;
        }
        if let Some(e) = cause.downcast_ref::<ImportError>() {
            return match e {
                ImportError::Read { .. } => Exit::Io,
                ImportError::Archive { .. } | ImportError::Unsupported { .. } => Exit::BadModel,
                ImportError::Model { .. }
                | ImportError::Weights { .. }
                | ImportError::Graph { .. } => Exit::Unsupported,
            };
        }
        if let Some(e) = cause.downcast_ref::<CompileError>() {
            return match e {
                CompileError::Cpu(CpuCompileError::Io { .. }) => Exit::Io,
                CompileError::Cpu(_) | CompileError::Cuda(_) => Exit::Toolchain,
                CompileError::Artifact(ArtifactError::Write { .. }) => Exit::Io,
                _ => Exit::Unsupported,
            };
        }
        let artifact = |e: &ArtifactError| match e {
            ArtifactError::Write { .. } => Exit::Io,
            _ => Exit::BadArtifact,
        };
        if let Some(e) = cause.downcast_ref::<ArtifactError>() {
            return artifact(e);
        }
        let run = |e: &RunError| match e {
            RunError::Artifact(e) | RunError::Open { source: e, .. } => artifact(e),
            RunError::File { .. } => Exit::Io,
            RunError::Signature(_) => Exit::BadArtifact,
            RunError::Weight { .. } => Exit::Unsupported,
            RunError::Device { .. } => Exit::Device,
            _ => Exit::BadInput,
        };
        if let Some(e) = cause.downcast_ref::<RunError>() {
            return run(e);
        }
        if let Some(e) = cause.downcast_ref::<VerifyError>() {
            return match e {
                VerifyError::Run(e) => run(e),
                VerifyError::NoSpecs
                | VerifyError::NoTarget(_)
                | VerifyError::Specs(_)
                | VerifyError::Ptx { .. }
                | VerifyError::TensorMap { .. }
                | VerifyError::Launch { .. } => Exit::BadArtifact,
                VerifyError::Load { .. } => Exit::Unsupported,
                VerifyError::Memory(_) => Exit::Device,
                VerifyError::Reference { .. } | VerifyError::Sizes(_) => Exit::BadInput,
                VerifyError::NoKernel { .. } => Exit::Usage,
            };
        }
        if let Some(e) = cause.downcast_ref::<CudaCompileError>() {
            return match e {
                CudaCompileError::Failed { .. } => Exit::BadModel,
                _ => Exit::Toolchain,
            };
        }
        if let Some(e) = cause.downcast_ref::<SassError>() {
            return match e {
                SassError::Cubin(_) | SassError::Text { .. } => Exit::BadModel,
                SassError::NoKernel { .. } => Exit::Usage,
                SassError::Run { .. } | SassError::Disassembler(_) => Exit::Toolchain,
                SassError::Io(_) => Exit::Io,
            };
        }
        if cause.downcast_ref::<ToolchainError>().is_some() {
            return Exit::Toolchain;
        }
        if cause.downcast_ref::<std::io::Error>().is_some() {
            return Exit::Io;
        }
    }
    Exit::Failure
}
