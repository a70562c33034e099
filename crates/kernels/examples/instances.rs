//! Sources of the instances that `make compare-fa3` puts beside other kernels, into a folder, with what their machine code does
//! not show: `cargo run -p zeroforge-kernels --example instances -- FOLDER`.

use std::path::Path;

use serde_json::{Value, json};
use zeroforge_kernels::Instance;
use zeroforge_kernels::{attention, gemm};

fn write(folder: &Path, name: &str, instance: &Instance, tiling: Value) -> std::io::Result<Value> {
    let file = format!("{}.cu", name.replace(' ', "_"));
    std::fs::write(folder.join(&file), &instance.source)?;
    Ok(json!({
        "row": name,
        "file": file,
        "entry": instance.entry,
        "threads": instance.block,
        "shared": instance.shared_bytes,
        "tiling": tiling,
    }))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("a folder is expected")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let mut list = Vec::new();
    use attention::Element::{Bf16, E4m3};
    for (element, dim) in [(Bf16, 64), (Bf16, 128), (Bf16, 256), (E4m3, 128)] {
        for causal in [false, true] {
            let mut spec = attention::Forward::dense(element, dim, dim);
            spec.window_right = causal;
            let mask = if causal { "causal" } else { "full" };
            let name = format!("attention {} {dim} {mask}", element.name());
            // What a family does not have yet is missing from the table, and said.
            let (tile, instance) = match (spec.tile(), spec.instance()) {
                (Ok(tile), Ok(instance)) => (tile, instance),
                (Err(refusal), _) | (_, Err(refusal)) => {
                    eprintln!("{name}: {refusal}");
                    continue;
                }
            };
            let tiling = json!({
                "tile_m": tile.rows(),
                "tile_n": tile.keys,
                "stages": tile.stages,
                "query_stages": tile.q_stages,
                "element_bytes": element.bytes(),
            });
            list.push(write(folder, &name, &instance, tiling)?);
        }
    }
    for variant in ["pingpong_64x256", "pingpong_128x128", "cooperative_128x256"] {
        let variant = gemm::Variant::named(variant).ok_or("no such variant")?;
        let spec = gemm::Spec::new(gemm::Element::Bf16, gemm::Element::Bf16);
        let instance = gemm::instance(&spec, variant)?;
        let tiling = json!({
            "tile_m": variant.rows,
            "tile_n": variant.columns,
            "tile_k": 64,
            "stages": variant.stages,
            "element_bytes": 2,
            "alternate": variant.schedule == gemm::Schedule::Pingpong,
        });
        let name = format!("gemm bf16 {}x{}", variant.rows, variant.columns);
        list.push(write(folder, &name, &instance, tiling)?);
    }
    let text = serde_json::to_string_pretty(&list)?;
    std::fs::write(folder.join("instances.json"), text)?;
    Ok(())
}
