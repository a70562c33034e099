//! The source of an instance: its tile as constants, its epilogue as a functor, one entry.

use std::fmt::Write;

use zeroforge_artifact::abi::zf_tensor_gemm_params;

use super::{Element, Major, Schedule, Spec, Store, Variant, contract};
use crate::{Instance, Refusal};

/// Makes the kernel of a spec by a variant.
///
/// # Errors
/// If the variant cannot compute it.
pub fn instance(spec: &Spec, variant: &Variant) -> Result<Instance, Refusal> {
    contract::check(spec, variant)?;
    let source = source(spec, variant).expect("writing to a string");
    Ok(Instance {
        entry: String::new(),
        source,
        block: 384,
        cluster: variant.cluster,
        blocks_per_sm: Some(1),
        shared_bytes: variant.shared_bytes(),
        param_bytes: size_of::<zf_tensor_gemm_params>() as u32,
        doc: format!("{} of {}, {} out", variant.name, spec.operands, spec.out),
    }
    .named("gemm"))
}

/// Rows of a K-major box of B.
pub(super) fn b_box(spec: &Spec, variant: &Variant) -> i64 {
    let halves = spec.epilogue.gate.is_some() || variant.cluster > 1;
    i64::from(variant.columns) / if halves { 2 } else { 1 }
}

fn source(spec: &Spec, variant: &Variant) -> Result<String, std::fmt::Error> {
    let mut c = String::new();
    writeln!(c, "#include \"scalar/device.cuh\"")?;
    writeln!(c, "#include \"ptx/wgmma.cuh\"")?;
    writeln!(c, "#include \"gemm/tensor_gemm.cuh\"\n")?;
    let columns = variant.columns;
    let (element, acc) = match spec.operands {
        Element::Bf16 => ("bf16", "float"),
        Element::F16 => ("f16", "float"),
        Element::E4m3 => ("e4m3", "float"),
        _ => ("s8", "int32_t"),
    };
    match spec.operands {
        Element::I8 => writeln!(c, "ZF_WGMMA_S8({columns})\n")?,
        Element::E4m3 => writeln!(c, "ZF_WGMMA_FP8({element}, {columns})\n")?,
        _ => writeln!(c, "ZF_WGMMA_16BIT({element}, {columns})\n")?,
    }
    writeln!(c, "struct Config {{")?;
    let operand = spec.operands.text();
    writeln!(c, "    using A = {operand};\n    using Element = {operand};")?;
    writeln!(c, "    using Acc = {acc};\n    using Out = {};", spec.out.text())?;
    for (name, value) in [
        ("ROWS", i64::from(variant.rows)),
        ("COLUMNS", i64::from(columns)),
        ("OUT_COLUMNS", spec.tile_columns(variant)),
        ("STAGES", i64::from(variant.stages)),
        ("CLUSTER", i64::from(variant.cluster)),
        ("B_BOX", b_box(spec, variant)),
    ] {
        writeln!(c, "    static constexpr int {name} = {value};")?;
    }
    for (name, value) in [
        ("PINGPONG", variant.schedule == Schedule::Pingpong),
        ("SPLIT", variant.split),
        ("A_MN", spec.a_major == Major::Mn),
        ("B_MN", spec.b_major == Major::Mn),
        ("GATED", spec.epilogue.gate.is_some()),
        ("BLOCK_SCALES", spec.block_scales),
        ("GROUPED", spec.grouped),
        ("TENSOR_STORE", spec.store != Store::Lanes),
        ("TRANSPOSED", spec.store == Store::Transposed),
        ("RESIDUAL", spec.epilogue.copied().is_some()),
        ("ROW_SQUARES", spec.row_squares),
        ("CONV", spec.conv.is_some()),
    ] {
        writeln!(c, "    static constexpr bool {name} = {value};")?;
    }
    if let Some(conv) = &spec.conv {
        for (name, values) in [
            ("TAPS", &conv.taps[..]),
            ("STRIDE", &conv.stride),
            ("PADDING", &conv.padding),
            ("DILATION", &conv.dilation),
            ("BOX", &conv.patch),
        ] {
            let list: Vec<String> = values.iter().map(u32::to_string).collect();
            writeln!(
                c,
                "    static constexpr int {name}[{}] = {{{}}};",
                list.len(),
                list.join(", ")
            )?;
        }
    }
    writeln!(c, "}};\n")?;
    let as_sum = spec.out == Element::I32;
    c.push_str(&spec.epilogue.functor(acc, as_sum));
    let cluster = match variant.cluster {
        1 => String::new(),
        n => format!("__cluster_dims__({n}, 1, 1) "),
    };
    writeln!(
        c,
        "extern \"C\" __global__ void __launch_bounds__(zf::GEMM_THREADS, 1) {cluster}{}(const __grid_constant__ zf_tensor_gemm_params p) {{",
        Instance::ENTRY
    )?;
    writeln!(
        c,
        "    static_assert(sizeof(zf::GemmShared<Config>) <= {}, \"the launch gives what the ring takes\");",
        variant.shared_bytes()
    )?;
    writeln!(c, "    extern __shared__ __align__(1024) unsigned char memory[];")?;
    writeln!(c, "    zf::tensor_gemm<Config>(p, memory, Epilogue{{p}});\n}}")?;
    Ok(c)
}
