//! The repository keeps the rules that `docs/ARCHITECTURE.md` states.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the code map") {
        let path = entry.expect("a folder entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "h" || e == "cuh") {
            out.push(path);
        }
    }
}

/// Every crate is in the crate table, every top-level folder in the code map, and nothing else.
#[test]
fn the_map_matches_the_tree() {
    let page = read("docs/ARCHITECTURE.md");
    for entry in std::fs::read_dir(root().join("crates")).expect("crates") {
        let name = entry.expect("a crate").file_name().to_string_lossy().into_owned();
        assert!(page.contains(&format!("| `{name}` |")), "crate `{name}` is not in the table");
        assert!(page.contains(&format!("- `crates/{name}/`")), "crate `{name}` is not in the map");
    }
    for line in page.lines() {
        if let Some(path) = line.strip_prefix("- `").and_then(|l| l.split('`').next()) {
            assert!(root().join(path).exists(), "the map names `{path}`, which is not there");
        }
        if let Some(name) = line.strip_prefix("| `").and_then(|l| l.split('`').next()) {
            assert!(root().join("crates").join(name).exists(), "the table names crate `{name}`");
        }
    }
    for folder in ["src", "crates", "kernels", "tests", "benches", "examples", "xtask", "docs"] {
        assert!(page.contains(&format!("`{folder}/")), "`{folder}/` is not in the map");
    }
}

/// The run side never sees the compile side.
#[test]
fn the_run_side_is_separate() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("its JSON");
    let dependencies = |name: &str| -> Vec<String> {
        let packages = metadata["packages"].as_array().expect("packages");
        let package = packages.iter().find(|p| p["name"] == name);
        let list =
            package.unwrap_or_else(|| panic!("no package {name}"))["dependencies"].as_array();
        list.expect("dependencies")
            .iter()
            .filter(|d| d["kind"].is_null())
            .map(|d| d["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    for run_side in ["zeroforge-artifact", "zeroforge-runtime"] {
        for dependency in dependencies(run_side) {
            let compile_side = [
                "zeroforge-graph",
                "zeroforge-import",
                "zeroforge-compiler",
                "zeroforge-emulator",
                "zeroforge-verify",
            ];
            assert!(!compile_side.contains(&dependency.as_str()), "{run_side} uses {dependency}");
        }
    }
    assert!(dependencies("zeroforge-compiler").contains(&"zeroforge-graph".to_owned()));
}

#[test]
fn unsafe_code_is_where_the_page_allows_it() {
    for name in ["artifact", "graph", "import", "ptx", "sass", "verify"] {
        let lib = read(format!("crates/{name}/src/lib.rs"));
        assert!(lib.contains("#![forbid(unsafe_code)]"), "crates/{name} does not forbid unsafe");
    }
    let lib = read("crates/compiler/src/lib.rs");
    assert!(lib.contains("#![deny(unsafe_code)]"), "the compiler does not deny unsafe");
    let lib = read("crates/emulator/src/lib.rs");
    assert!(lib.contains("#![deny(unsafe_code)]"), "the emulator does not deny unsafe");
    let mut files = Vec::new();
    sources(&root().join("crates/compiler/src"), &mut files);
    sources(&root().join("crates/emulator/src"), &mut files);
    let places = ["cuda/nvrtc.rs", "memory/bytes.rs", "memory/device.rs", "ops/wgmma/product.rs"];
    for path in files {
        let allowed = places.iter().any(|p| path.ends_with(p));
        let text = std::fs::read_to_string(&path).expect("UTF-8 source");
        let found = text.contains("unsafe_code");
        assert!(found == allowed || path.ends_with("src/lib.rs"), "{}", path.display());
    }
}

#[test]
fn files_are_short_and_name_no_machine() {
    let mut files = Vec::new();
    for folder in ["src", "crates", "examples", "tests", "kernels", "xtask"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 40, "only {} sources were found", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("UTF-8 source");
        let lines = text.lines().count();
        assert!(lines <= 1000, "{} has {lines} lines", path.display());
        for home in ["/home/", "/root/", "/Users/"] {
            let own = path.ends_with("tests/tidy.rs");
            assert!(own || !text.contains(home), "{} names a path under {home}", path.display());
        }
    }
}
