//! `zeroforge doctor`: what is there, what is missing and how to get it, and where each setting comes from.

use std::process::Command;

use anyhow::Result;
use serde_json::json;
use zeroforge_artifact::CpuIsa;
use zeroforge_compiler::cpu::HostCompiler;
use zeroforge_runtime::host_has;

use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

struct Check {
    name: &'static str,
    found: Result<String, String>,
    /// Whether compiling for the CPU needs it.
    required: bool,
}

pub(crate) fn run(config: &Config, output: &Output) -> Result<Exit> {
    let checks = [
        Check { name: "C compiler", found: compiler(), required: true },
        Check { name: "CPU level", found: level(), required: true },
        Check { name: "Python with pip", found: pip(), required: false },
        Check { name: "CUDA compiler (NVRTC)", found: super::toolchain::nvrtc(), required: false },
        Check { name: "NVIDIA driver", found: driver(), required: false },
        Check { name: "software device", found: software(), required: false },
    ];
    let mut healthy = true;
    for check in &checks {
        healthy &= check.found.is_ok() || !check.required;
        let (mark, text) = match &check.found {
            Ok(text) => ("ok", text),
            Err(fix) => (if check.required { "MISSING" } else { "absent" }, fix),
        };
        output.result(&format!("{mark:>8}  {}: {text}", check.name), || {
            json!({"event": "check", "name": check.name, "ok": check.found.is_ok(), "required": check.required, "text": text})
        });
    }
    for (name, value, origin) in config.origins() {
        output.result(
            &format!("{:>8}  {name} = {value}  ({origin})", "setting"),
            || json!({"event": "setting", "name": name, "value": value, "origin": origin}),
        );
    }
    Ok(if healthy { Exit::Success } else { Exit::Toolchain })
}

fn compiler() -> Result<String, String> {
    let found = HostCompiler::find().map_err(|e| e.to_string())?;
    Ok(format!("{} ({})", found.version, found.path().display()))
}

fn level() -> Result<String, String> {
    for isa in [CpuIsa::X86_64V4, CpuIsa::X86_64V3] {
        if host_has(isa) {
            return Ok(isa.name().to_owned());
        }
    }
    Err("artifacts for the CPU need AVX2 and FMA (x86-64-v3), which this processor lacks; use a newer machine".to_owned())
}

fn pip() -> Result<String, String> {
    let output = Command::new(super::toolchain::python()).args(["-m", "pip", "--version"]).output();
    match output {
        Ok(o) if o.status.success() => {
            let text = String::from_utf8_lossy(&o.stdout);
            Ok(text.split(" from ").next().unwrap_or_default().trim().to_owned())
        }
        _ => {
            Err("`zeroforge toolchain install` needs it: install python3 and python3-pip"
                .to_owned())
        }
    }
}

fn driver() -> Result<String, String> {
    let found = [
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "/usr/lib64/libcuda.so.1",
        "/usr/lib/wsl/lib/libcuda.so.1",
    ]
    .into_iter()
    .find(|p| std::path::Path::new(p).exists());
    match found {
        Some(path) => Ok(path.to_owned()),
        None => {
            Err("no libcuda.so.1; compiling for a GPU works without it, and code for one runs on the software device"
                .to_owned())
        }
    }
}

fn software() -> Result<String, String> {
    let path = crate::software::find()?;
    match path.is_file() {
        true => Ok(path.display().to_string()),
        false => Err(format!(
            "{} names `{}`, which is not there",
            crate::software::VARIABLE,
            path.display()
        )),
    }
}
