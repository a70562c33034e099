//! The layers of `kernels/` that carry instructions compile in every form that they offer.

use zeroforge_conformance::bench::Bench;
use zeroforge_kernels::Instance;

const HEADERS: &str = "#include \"scalar/device.cuh\"\n#include \"ptx/barrier.cuh\"\n#include \"ptx/tensor_copy.cuh\"\n\
    #include \"ptx/wgmma.cuh\"\n#include \"pipeline/ring.cuh\"\n#include \"tile/shared.cuh\"\n";

fn compile(declarations: &str, body: &str) -> String {
    let instance = Instance {
        entry: String::new(),
        source: format!(
            "{HEADERS}{declarations}\nextern \"C\" __global__ void {}(float *out) {{\n{body}\n}}\n",
            Instance::ENTRY
        ),
        block: 128,
        cluster: 1,
        blocks_per_sm: None,
        shared_bytes: 0,
        param_bytes: 8,
        doc: "a test".to_owned(),
    }
    .named("layers");
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let module = bench.module(&instance).unwrap_or_else(|e| panic!("{e}"));
    String::from_utf8(module.code.ptx.clone()).expect("text")
}

#[test]
fn every_product_can_be_declared() {
    let mut declarations = String::new();
    let mut body = String::new();
    for n in (8..=256).step_by(8) {
        declarations += &format!("ZF_WGMMA_16BIT(bf16, {n})\n");
        body += &format!(
            "{{ float d[{}] = {{}}; uint32_t a[4] = {{}}; ptx::Wgmma<zf_bf16, {n}>::ss<0, 1>(d, 0, 0, 1); \
             ptx::Wgmma<zf_bf16, {n}>::rs<1>(d, a, 0, 0); ptx::wgmma_wait_group<0>(); out[threadIdx.x] = d[{}]; }}\n",
            n / 2,
            n / 2 - 1
        );
    }
    for (macro_call, ty) in [
        ("ZF_WGMMA_16BIT(f16, 64)", "zf_f16"),
        ("ZF_WGMMA_TF32(64)", "zf_tf32"),
        ("ZF_WGMMA_FP8(e4m3, 64)", "zf_e4m3"),
        ("ZF_WGMMA_FP8(e5m2, 64)", "zf_e5m2"),
    ] {
        let rest = if ty == "zf_f16" { "::ss<0, 0>" } else { "::ss" };
        declarations += &format!("{macro_call}\n");
        body += &format!(
            "{{ float d[32] = {{}}; ptx::Wgmma<{ty}, 64>{rest}(d, 0, 0, 1); ptx::wgmma_wait_group<0>(); out[1] = d[31]; }}\n"
        );
    }
    declarations += "ZF_WGMMA_S8(64)\n";
    body += "{ int32_t d[32] = {}; ptx::Wgmma<int8_t, 64>::ss(d, 0, 0, 1); ptx::wgmma_wait_group<0>(); out[2] = d[31]; }\n";
    let ptx = compile(&declarations, &body);
    for shape in [
        "m64n8k16.f32.bf16.bf16",
        "m64n256k16.f32.bf16.bf16",
        "m64n64k16.f32.f16.f16",
        "m64n64k8.f32.tf32.tf32",
        "m64n64k32.f32.e4m3.e4m3",
        "m64n64k32.s32.s8.s8",
    ] {
        assert!(ptx.contains(shape), "no {shape} in the PTX");
    }
}
