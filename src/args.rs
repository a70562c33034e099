//! The command line, as `clap` sees it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use zeroforge_emulator::Schedule;

/// Ahead-of-time compiler and runtime for PyTorch models in short GPU leases.
#[derive(Debug, Parser)]
#[command(
    name = "zeroforge",
    version = env!("ZEROFORGE_VERSION"),
    arg_required_else_help = true,
    after_help = "\
Examples:
  zeroforge compile model.pt2 --weights model.safetensors -o model.zfa
  zeroforge run model.zfa --input ids='[[101, 2023, 102]]' --output out.safetensors
  zeroforge doctor

Exit codes: 0 done, 1 failure, 2 usage, 3 bad model, 4 unsupported model, 5 toolchain,
6 bad artifact, 7 bad input, 8 file access, 9 device, 10 a check failed. See docs/exit-codes.md."
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
    /// Check every device kernel of an artifact, with no GPU: what it computes and how.
    #[command(
        long_about = "\
Check every device kernel of an artifact, with no GPU.

The model runs once, step by step, on an emulated Hopper with all its checkers on; inputs are random unless
given. After each step its results are compared with what the kernel must compute, in f64. A kernel passes if
nothing was found and its error is at most twice that of a plain implementation in the same types, plus a unit
in the last place. Exit code 10 says that one did not.",
        after_help = "\
Examples:
  zeroforge verify model.zfa
  zeroforge verify model.zfa --size s0=1 --size s1=100 --steps first
  zeroforge verify model.zfa --kernel attention --schedule random:7
  zeroforge --json verify model.zfa"
    )]
    Verify(VerifyArgs),
    /// Report what machine code shows: registers, loops, shadows of wgmma, bounds, and a predicted timeline.
    #[command(
        long_about = "\
Report what the machine code of device kernels shows, with no GPU: a .cubin, CUDA C++ (.cu, compiled by NVRTC), or the
kernels of an artifact (.zfa).

Registers, stack, spills, occupancy; each loop with its instructions by unit, what lies in the shadow of which
group of matrix products, its barriers, and the least cycles of each unit. Needs the disassembler of
`zeroforge toolchain install --sass`. What the report means: docs/analyze.md.

A gate file (TOML) states limits; exit code 10 says that one is not kept.",
        after_help = "\
Examples:
  zeroforge analyze kernel.cu
  zeroforge analyze model.zfa --kernel attention
  zeroforge analyze --compare ours.cubin theirs.cubin --kernel fwd --kernel device_kernel
  zeroforge --json analyze kernel.cubin --shared 196608
  zeroforge analyze kernel.cu --gate limits.toml
  zeroforge analyze kernel.cubin --launch launch.toml"
    )]
    Analyze(AnalyzeArgs),
    /// Run one kernel on an emulated Hopper, with every checker on.
    #[command(
        long_about = "\
Run one kernel on an emulated Hopper (sm_90a), with every checker on: a .cu file, compiled by NVRTC, or PTX.

An --arg is given for each parameter of the kernel, in order:
  i32=-3  u64=7  f32=1.5  bf16=0.5   a number
  in=x.npy  in=x.safetensors:name    memory that holds a tensor; the kernel gets its address
  out=f32[64,64]                     memory that nothing wrote; shown and saved afterwards
  inout=x.npy                        both
  zeros=f32[64]                      memory of zeros; shown and saved
  random=bf16[128,64]:7              memory of random numbers, with a seed
  tensormap=0:bf16,dims=64x128,box=64x64,swizzle=128
                                     a tensor map of argument 0's memory, innermost dimension first;
                                     also strides=BYTESxBYTES, element_strides=1x1, oob=nan
  bytes=0a0b0c0d                     these bytes, by value
  {in=x.npy;i64=4;f32=1}             a struct by value, its members naturally aligned

Exit code 10 says that a checker found an error.",
        after_help = "\
Examples:
  zeroforge emulate add.cu --entry add --grid 4 --block 256 --arg in=x.npy --arg in=y.npy --arg 'out=f32[1024]' --arg i32=1024
  zeroforge emulate softmax.ptx --block 128 --arg 'random=f32[8,128]:1' --arg 'out=f32[8,128]' --output out.safetensors
  zeroforge emulate tma.cu --block 128 --shared 65536 --arg 'random=bf16[128,64]' --arg tensormap=0:bf16,dims=64x128,box=64x64,swizzle=128 --schedule random:3"
    )]
    Emulate(EmulateArgs),
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
    VerifySignature(VerifySignatureArgs),
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
    /// SMs of the GPU slice that kernels are chosen for: 60, which ZeroGPU lends, if not given; 132 for a whole H100 or
    /// H200. They run on every slice.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=132))]
    pub(crate) sms: Option<u32>,
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
    #[arg(long, value_enum, default_value = "auto", env = "ZEROFORGE_DEVICE")]
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
    /// The processor where the artifact has code for it, else a GPU, else the software device.
    Auto,
    /// This machine's processor.
    Cpu,
    /// The first NVIDIA GPU, CUDA_VISIBLE_DEVICES chooses another; without a GPU the software device.
    Cuda,
    /// An emulated Hopper: runs the code for GPUs, exactly and slowly, and checks what it does.
    Software,
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
    #[arg(long, value_enum, default_value = "auto", env = "ZEROFORGE_DEVICE")]
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
pub(crate) struct VerifySignatureArgs {
    /// The artifact.
    pub(crate) artifact: PathBuf,
    /// The public key.
    #[arg(long, default_value = "zeroforge.pub", env = "ZEROFORGE_PUBLIC_KEY")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The artifact.
    pub(crate) artifact: PathBuf,
    /// Value of a symbolic size, such as `s0=128`; near 16 if not given.
    #[arg(long, value_name = "NAME=N")]
    pub(crate) size: Vec<String>,
    /// NAME=FILE.npy, NAME=JSON, or a .safetensors file; random where not given.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,
    /// Seed of random inputs.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// When asynchronous work completes: late, eager or random:SEED.
    #[arg(long, value_name = "ORDER", default_value = "late", value_parser = parse_schedule)]
    pub(crate) schedule: Schedule,
    /// SMs of the emulated card, 132 if not given; blocks of persistent kernels take more tiles each, the fewer
    /// there are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=132))]
    pub(crate) sms: Option<u32>,
    /// Only kernels with this in their name or description.
    #[arg(long, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Which launches of a kernel are checked.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) steps: StepsName,
    /// Threads on this machine; all cores if not given.
    #[arg(long, env = "ZEROFORGE_THREADS")]
    pub(crate) threads: Option<usize>,
    /// Files with weights that the artifact does not hold.
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StepsName {
    /// Every launch.
    All,
    /// The first launch of each kernel; nothing after the last of them runs.
    First,
}

fn parse_schedule(text: &str) -> Result<Schedule, String> {
    match text {
        "late" => Ok(Schedule::Late),
        "eager" => Ok(Schedule::Eager),
        _ => text
            .strip_prefix("random:")
            .and_then(|seed| seed.parse().ok())
            .map(Schedule::Random)
            .ok_or_else(|| "`late`, `eager` or `random:SEED` is expected".to_owned()),
    }
}

/// `4`, `4,2` or `4,2,1`.
fn parse_shape(text: &str) -> Result<[u32; 3], String> {
    let mut shape = [1; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 3 {
        return Err("at most three numbers are expected: X,Y,Z".to_owned());
    }
    for (n, part) in shape.iter_mut().zip(parts) {
        *n = part.trim().parse().map_err(|_| format!("`{part}` is no whole number"))?;
    }
    Ok(shape)
}

#[derive(Debug, Args)]
pub(crate) struct EmulateArgs {
    /// The kernel: CUDA C++ (.cu) or PTX (.ptx).
    pub(crate) file: PathBuf,
    /// Name of the kernel, plain or mangled; may be left out where there is one.
    #[arg(long, value_name = "NAME")]
    pub(crate) entry: Option<String>,
    /// Blocks: X, X,Y or X,Y,Z.
    #[arg(long, value_name = "X,Y,Z", default_value = "1", value_parser = parse_shape)]
    pub(crate) grid: [u32; 3],
    /// Threads per block; what the kernel requires if not given.
    #[arg(long, value_name = "X,Y,Z", value_parser = parse_shape)]
    pub(crate) block: Option<[u32; 3]>,
    /// Blocks per cluster; what the kernel requires if not given.
    #[arg(long, value_name = "X,Y,Z", value_parser = parse_shape)]
    pub(crate) cluster: Option<[u32; 3]>,
    /// Bytes of dynamic shared memory.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) shared: u32,
    /// A parameter of the kernel, in order: KIND=VALUE.
    #[arg(long, value_name = "KIND=VALUE", allow_hyphen_values = true)]
    pub(crate) arg: Vec<String>,
    /// Write memory that the kernel may have written: .safetensors, or .npy where it is one tensor.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Which checkers run; none leaves those without which an access cannot be made.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) checks: ChecksName,
    /// When asynchronous work completes: late, eager or random:SEED.
    #[arg(long, value_name = "ORDER", default_value = "late", value_parser = parse_schedule)]
    pub(crate) schedule: Schedule,
    /// Threads on this machine; all cores if not given.
    #[arg(long, env = "ZEROFORGE_THREADS")]
    pub(crate) threads: Option<usize>,
    /// Warp instructions after which the launch is stopped as endless.
    #[arg(long, value_name = "N", default_value_t = 20_000_000_000)]
    pub(crate) budget: u64,
    /// Folder with headers for a .cu file; its own folder is searched anyway.
    #[arg(short = 'I', long, value_name = "DIR")]
    pub(crate) include: Vec<PathBuf>,
    /// Another option for the CUDA compiler, such as -DTILE=64.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub(crate) nvrtc: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// Machine code (.cubin), CUDA C++ (.cu) or an artifact (.zfa); two with --compare.
    #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Put two kernels side by side: of two files, or two of one file.
    #[arg(long)]
    pub(crate) compare: bool,
    /// Only kernels with these words in their name or description; with --compare once for each side.
    #[arg(long, value_name = "NAME")]
    pub(crate) kernel: Vec<String>,
    /// Threads per block; what the code states if not given, else 128.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Bytes of dynamic shared memory of a launch; an artifact states its own.
    #[arg(long, value_name = "BYTES")]
    pub(crate) shared: Option<u64>,
    /// Limits that must be kept (docs/analyze.md).
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub(crate) gate: Option<PathBuf>,
    /// Predict this launch (docs/analyze.md): a problem, how it is divided, and the device; repeat for several.
    #[arg(long, value_name = "FILE")]
    pub(crate) launch: Vec<PathBuf>,
    /// Folder with headers for a .cu file; its own folder is searched anyway.
    #[arg(short = 'I', long, value_name = "DIR")]
    pub(crate) include: Vec<PathBuf>,
    /// Another option for the CUDA compiler, such as -DTILE=64.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub(crate) nvrtc: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChecksName {
    /// All of them.
    All,
    /// All but warnings about speed.
    Errors,
    /// Bounds, alignment and deadlock only.
    None,
}
