//! Every fixture and example model compiled for sm_90a by NVIDIA's own compiler: each kernel to PTX and machine code.
//!
//! Needs NVRTC (`make test` installs it with `zeroforge toolchain install`); without it every test is ignored and
//! the reason printed. `FIXTURE=name` selects.

#[expect(dead_code, reason = "results are compared elsewhere")]
mod expected;

use std::path::{Path, PathBuf};

use expected::archives;
use libtest_mimic::{Arguments, Failed, Trial};
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::ModuleEntry;
use zeroforge_artifact::{Artifact, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{CudaBackend, Nvrtc, compile, find_nvrtc};
use zeroforge_compiler::pipeline::{self, CompileOptions, prepare, schedule_for};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};

/// ELF's number for NVIDIA's GPUs.
const EM_CUDA: u16 = 190;

fn cache() -> Cache {
    // Kernels that several models share are compiled once.
    Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels"))
}

fn check(entry: &str, ptx: &[u8], cubin: &[u8]) -> Result<(), Failed> {
    let ptx = std::str::from_utf8(ptx)?;
    for wanted in [".target sm_90a", &format!(".visible .entry {entry}(")] {
        if !ptx.contains(wanted) {
            return Err(format!("`{wanted}` is not in the PTX of {entry}").into());
        }
    }
    let machine = cubin.get(18..20).map(|b| u16::from_le_bytes([b[0], b[1]]));
    if !cubin.starts_with(b"\x7fELF") || machine != Some(EM_CUDA) {
        return Err(format!("the machine code of {entry} is no ELF for a GPU").into());
    }
    Ok(())
}

/// A model with its weights: as the artifact has it.
fn whole(pt2: &Path) -> Result<(), Failed> {
    let files = WeightFiles::none();
    let imported = load_pt2(pt2, &files, &ImportOptions::default())?;
    let options = CompileOptions {
        targets: vec![Target::SM_90A],
        model_hash: imported.hash.clone(),
        external_weights: false,
        sms: None,
        cache: cache(),
    };
    let bytes = pipeline::compile(&imported.graph, &files, &options, &|_| {})?.to_bytes();
    let artifact = Artifact::parse(&bytes[..])?;
    let modules = &artifact.manifest().targets[0].modules;
    for kernel in artifact.program(0)?.kernels {
        let ModuleEntry::Cuda { cubin, ptx } = &modules[kernel.module as usize] else {
            return Err(format!("{} is not device code", kernel.entry).into());
        };
        let ptx = artifact.section(*ptx, SectionKind::Ptx)?;
        check(&kernel.entry, ptx, artifact.section(*cubin, SectionKind::Cubin)?)?;
    }
    Ok(())
}

/// A model without weights: its kernels.
fn kernels(nvrtc: &Nvrtc, pt2: &Path) -> Result<(), Failed> {
    let files = WeightFiles::none();
    let imported = load_pt2(pt2, &files, &ImportOptions::default())?;
    let graph = prepare(&imported.graph, &files)?;
    let target = Target::SM_90A;
    let sources = schedule_for(&graph, &CudaBackend::new(target), target)?.sources;
    if sources.is_empty() {
        return Err("no kernel was made".into());
    }
    let modules = compile(nvrtc, &sources, target, &cache(), &|_, _| {})?;
    for (source, module) in sources.iter().zip(modules) {
        check(&source.entry, &module.ptx, &module.cubin)?;
    }
    Ok(())
}

fn examples() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models");
    let filter = std::env::var("FIXTURE").unwrap_or_default();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    let name = |p: &Path| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let named = paths.into_iter().map(|p| (format!("example/{}", name(&p)), p));
    named.filter(|(name, _)| name.contains(&filter)).collect()
}

fn main() {
    let args = Arguments::from_args();
    let found = find_nvrtc();
    let usable = match &found {
        Some(found) => match Nvrtc::load(&found.path) {
            Ok(_) => true,
            Err(e) => {
                eprintln!("device code is not checked: {e}");
                false
            }
        },
        None => {
            eprintln!(
                "device code is not checked: no CUDA compiler; run `zeroforge toolchain install`"
            );
            false
        }
    };
    let mut trials = Vec::new();
    // Archives of torch 2.8 are refused (`tests/fixtures.rs`).
    for (name, path) in archives().into_iter().filter(|(name, _)| !name.ends_with("_torch28")) {
        trials.push(Trial::test(name, move || whole(&path)).with_ignored_flag(!usable));
    }
    for (name, path) in examples() {
        let found = found.clone();
        let trial = move || {
            let found = found.ok_or("no CUDA compiler")?;
            kernels(&Nvrtc::load(&found.path)?, &path)
        };
        trials.push(Trial::test(name, trial).with_ignored_flag(!usable));
    }
    assert!(!trials.is_empty(), "no models were found");
    libtest_mimic::run(&args, trials).exit();
}
