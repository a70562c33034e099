//! The command line, as `clap` sees it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Ahead-of-time compiler and runtime for PyTorch models in short GPU leases.
#[derive(Debug, Parser)]
#[command(
    name = "zeroforge",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  zeroforge compile model.pt2 --weights model.safetensors -o model.zfa
  zeroforge run model.zfa --input ids='[[101, 2023, 102]]' --output out.safetensors
  zeroforge doctor

Exit codes: 0 done, 1 failure, 2 usage, 3 bad model, 4 unsupported model, 5 toolchain,
6 bad artifact, 7 bad input, 8 file access, 9 device. See docs/exit-codes.md."
)]
pub(crate) struct Cli {
    /// Machine-readable results on standard output, one JSON object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress and no summary.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// More logs; repeat for more. ZEROFORGE_LOG takes a filter such as `zeroforge_runtime=debug`.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile a torch.export archive into an artifact.
    #[command(after_help = "\
Examples:
  zeroforge compile minilm.pt2 --weights model.safetensors
  zeroforge compile llama.pt2 --weights model.gguf --target cpu --target sm_90a -o llama.zfa
  zeroforge compile model.pt2 --emit kernels=out/")]
    Compile(CompileArgs),
    /// Run an artifact on named inputs.
    #[command(after_help = "\
Examples:
  zeroforge run model.zfa --input x=x.npy --output y.safetensors
  zeroforge run model.zfa --input ids='[[101, 102]]' --input mask='[[1, 1]]'
  zeroforge run model.zfa --input inputs.safetensors --profile
  zeroforge run --graph model.pt2 --input inputs.safetensors --dump values.safetensors")]
    Run(RunArgs),
    /// Show what is in an artifact or a model.
    #[command(after_help = "\
Examples:
  zeroforge inspect model.zfa
  zeroforge inspect model.zfa --steps
  zeroforge inspect model.pt2 --graph html -o model.html
  zeroforge --json inspect model.zfa")]
    Inspect(InspectArgs),
    /// Measure opening and latency of an artifact, on random inputs unless some are given.
    #[command(after_help = "\
Examples:
  zeroforge bench model.zfa
  zeroforge bench model.zfa --size s0=128 --runs 100
  zeroforge bench model.zfa --input inputs.safetensors
  zeroforge --json bench model.zfa --threads 1")]
    Bench(BenchArgs),
    /// Manage the CUDA compiler that device code is built with.
    #[command(after_help = "\
Examples:
  zeroforge toolchain install
  zeroforge toolchain list")]
    Toolchain {
        /// What to do.
        #[command(subcommand)]
        action: ToolchainAction,
    },
    /// Say what is there, what is missing, and the command that fixes it.
    #[command(after_help = "\
Examples:
  zeroforge doctor
  zeroforge --json doctor

Settings come from flags, then variables, then the nearest zeroforge.toml, then the user's
config.toml. See docs/configuration.md.")]
    Doctor,
    /// Make a key pair for signing artifacts (minisign format).
    #[command(after_help = "\
Examples:
  zeroforge keygen --secret zeroforge.key --public zeroforge.pub")]
    Keygen(KeygenArgs),
    /// Sign an artifact.
    #[command(after_help = "\
Examples:
  zeroforge sign model.zfa --key zeroforge.key")]
    Sign(SignArgs),
    /// Check an artifact's signature and every hash in it.
    #[command(after_help = "\
Examples:
  zeroforge verify-signature model.zfa --key zeroforge.pub")]
    VerifySignature(VerifyArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "\
Examples:
  zeroforge completions bash > ~/.local/share/bash-completion/completions/zeroforge
  zeroforge completions fish | source")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// The model, as torch.export.save wrote it.
    pub(crate) model: PathBuf,
    /// Weights that the model file does not hold: .safetensors, .safetensors.index.json, .gguf or a folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,
    /// Target: cpu (every CPU level), x86-64-v3, x86-64-v4 or sm_90a; repeat for several.
    #[arg(long, value_name = "TARGET", env = "ZEROFORGE_TARGET", value_delimiter = ',')]
    pub(crate) target: Vec<String>,
    /// Where to write the artifact; the model's name with .zfa if not given.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Leave weights from --weights in their file; `run` then needs it too.
    #[arg(long)]
    pub(crate) external_weights: bool,
    /// Also write an intermediate form into a folder.
    #[arg(long, value_name = "WHAT=DIR", value_parser = parse_emit)]
    pub(crate) emit: Vec<(Emit, PathBuf)>,
    /// Do not read or write the kernel cache.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Sign the artifact with this secret key.
    #[arg(long, value_name = "KEY")]
    pub(crate) sign: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emit {
    /// The graph after all passes: text, a page for a browser, Graphviz.
    Graph,
    /// Source of every kernel.
    Kernels,
    /// The program: buffers and launches.
    Schedule,
    /// PTX of device kernels.
    Ptx,
    /// Machine code of device kernels, disassembled.
    Sass,
}

fn parse_emit(text: &str) -> Result<(Emit, PathBuf), String> {
    let (what, folder) = text.split_once('=').unwrap_or((text, "."));
    Ok((Emit::from_str(what, true)?, folder.into()))
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The artifact; with --graph the model.
    pub(crate) artifact: PathBuf,
    /// Interpret a model without compiling it: slow, and exact in what every operation means.
    #[arg(long)]
    pub(crate) graph: bool,
    /// With --graph: write every value of the exported graph, by its name, to this .safetensors file.
    #[arg(long, value_name = "FILE", requires = "graph")]
    pub(crate) dump: Option<PathBuf>,
    /// NAME=FILE.npy, NAME=JSON, or a .safetensors file that holds all inputs; repeat for several.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,
    /// Write the outputs to this .safetensors file.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value = "cpu", env = "ZEROFORGE_DEVICE")]
    pub(crate) device: DeviceName,
    /// Threads on the CPU; all cores if not given.
    #[arg(long, env = "ZEROFORGE_THREADS")]
    pub(crate) threads: Option<usize>,
    /// Files with weights that the artifact does not hold.
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,
    /// Run only artifacts signed by one of these public keys.
    #[arg(long, value_name = "KEY")]
    pub(crate) trust: Vec<PathBuf>,
    /// Show the time of every step.
    #[arg(long)]
    pub(crate) profile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceName {
    /// This machine's processor.
    Cpu,
    /// The first NVIDIA GPU; CUDA_VISIBLE_DEVICES chooses another.
    Cuda,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The artifact; with --graph the model, as torch.export.save wrote it.
    pub(crate) artifact: PathBuf,
    /// List every step with its kernel.
    #[arg(long)]
    pub(crate) steps: bool,
    /// Show the graph of a model as it is imported.
    #[arg(long, value_name = "FORM", num_args = 0..=1, default_missing_value = "text", conflicts_with = "steps")]
    pub(crate) graph: Option<GraphForm>,
    /// Show the graph after the compiler's passes.
    #[arg(long, requires = "graph")]
    pub(crate) passes: bool,
    /// Write the graph to this file.
    #[arg(short, long, value_name = "FILE", requires = "graph")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphForm {
    /// The text form (docs/graph-text.md).
    Text,
    /// A page for a browser.
    Html,
    /// Graphviz.
    Dot,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The artifact.
    pub(crate) artifact: PathBuf,
    /// Value of a symbolic size, such as `s0=128`; the smallest allowed if not given.
    #[arg(long, value_name = "NAME=N", conflicts_with = "input")]
    pub(crate) size: Vec<String>,
    /// Inputs to use instead of random ones, in the forms that `run` takes.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,
    /// Where to run.
    #[arg(long, value_enum, default_value = "cpu", env = "ZEROFORGE_DEVICE")]
    pub(crate) device: DeviceName,
    /// Calls that are timed.
    #[arg(long, default_value_t = 20)]
    pub(crate) runs: usize,
    /// Threads on the CPU; all cores if not given.
    #[arg(long, env = "ZEROFORGE_THREADS")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ToolchainAction {
    /// Install the pinned CUDA compiler into the user's cache.
    #[command(after_help = "\
Examples:
  zeroforge toolchain install
  zeroforge toolchain install --sass")]
    Install {
        /// Also install the disassembler that `--emit sass` needs.
        #[arg(long)]
        sass: bool,
    },
    /// Show what is installed and found.
    #[command(after_help = "\
Examples:
  zeroforge toolchain list")]
    List,
    /// Remove what `install` installed.
    #[command(after_help = "\
Examples:
  zeroforge toolchain remove")]
    Remove,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Where to write the secret key. It is not encrypted: keep it as you keep an SSH key.
    #[arg(long, default_value = "zeroforge.key")]
    pub(crate) secret: PathBuf,
    /// Where to write the public key.
    #[arg(long, default_value = "zeroforge.pub")]
    pub(crate) public: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The artifact; the signature is stored in it.
    pub(crate) artifact: PathBuf,
    /// The secret key.
    #[arg(long, default_value = "zeroforge.key", env = "ZEROFORGE_SECRET_KEY")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The artifact.
    pub(crate) artifact: PathBuf,
    /// The public key.
    #[arg(long, default_value = "zeroforge.pub", env = "ZEROFORGE_PUBLIC_KEY")]
    pub(crate) key: PathBuf,
}
