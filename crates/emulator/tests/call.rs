//! `printf` and `assert` as compilers call them.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Report};

/// Runs a body by some threads; `text` is the format, `word` a string.
fn printed(format: &str, body: &str, threads: u32) -> (Report, Vec<u32>) {
    let bytes = |text: &str| {
        let all: Vec<String> = text.bytes().chain([0]).map(|b| b.to_string()).collect();
        format!("[{}] = {{{}}}", all.len(), all.join(", "))
    };
    let ptx = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n\
         .extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);\n\
         .extern .func __assertfail (.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 s);\n\
         .global .align 1 .b8 text{};\n.global .align 1 .b8 word{};\n\
         .visible .entry k(.param .u64 out)\n{{\n\
         .local .align 8 .b8 depot[64];\n.reg .pred %p;\n.reg .b32 %l, %r;\n.reg .b64 %SP, %SPL, %t, %w, %o;\n\
         .reg .f64 %d;\n\
         mov.u64 %SPL, depot;\ncvta.local.u64 %SP, %SPL;\nmov.u32 %l, %tid.x;\nmov.b32 %r, -2;\n\
         mov.u64 %t, text;\ncvta.global.u64 %t, %t;\nmov.u64 %w, word;\ncvta.global.u64 %w, %w;\n\
         {body}\n\
         mov.u32 %l, %tid.x;\nsetp.eq.u32 %p, %l, 0;\n\
         ld.param.u64 %o, [out];\n@%p st.global.b32 [%o], %r;\nret;\n}}\n",
        bytes(format),
        bytes("a string")
    );
    let mut bench = Bench::new(&ptx);
    let out = bench.buffer(&[0; 4]);
    bench.param_u64(out);
    (bench.launch("k", [1, 1, 1], [threads, 1, 1]), bench.read_u32(out, 1))
}

const CALL: &str = "{ .param .b64 p0; st.param.b64 [p0+0], %t; .param .b64 p1; st.param.b64 [p1+0], %SP;\n\
    .param .b32 r0; call.uni (r0), vprintf, (p0, p1); ld.param.b32 %r, [r0+0]; }";

#[test]
fn arguments_of_every_size_come_from_the_buffer() {
    let body = format!(
        "st.local.u32 [%SPL], 7; st.local.u64 [%SPL+8], %w; mov.f64 %d, 0d400921FB54442D18;\n\
         st.local.f64 [%SPL+16], %d; st.local.u32 [%SPL+24], %l; st.local.u64 [%SPL+32], -1;\n{CALL}"
    );
    let (report, result) = printed("%d [%s] %.3f %03u %lld%%\n", &body, 2);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.printed, "7 [a string] 3.142 000 -1%\n7 [a string] 3.142 001 -1%\n");
    assert_eq!(result, [5]);
}

#[test]
fn only_the_lanes_of_the_branch_print() {
    let body =
        format!("st.local.u32 [%SPL], %l; setp.ne.u32 %p, %l, 3; @%p bra SKIP;\n{CALL}\nSKIP:");
    let (report, _) = printed("lane %d\n", &body, 32);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.printed, "lane 3\n");
}

#[test]
fn a_format_without_its_arguments_is_reported() {
    let body = format!("add.u64 %SP, %SP, 1024;\n{CALL}");
    let (report, _) = printed("%d\n", &body, 1);
    let kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    assert_eq!(kinds, [FindingKind::OutOfBounds]);
}

#[test]
fn what_is_printed_is_bounded() {
    let body = format!(
        "st.local.u32 [%SPL], 0; mov.b32 %l, 0;\nLOOP:\n{CALL}\n\
         add.u32 %l, %l, 1; setp.lt.u32 %p, %l, 1000; @%p bra LOOP;"
    );
    let (report, _) = printed("%4000d", &body, 1);
    assert!(report.printed.len() < (1 << 20) + 4096);
    assert!(report.printed.contains("buffer of printf is full"));
}

#[test]
fn a_failed_assertion_says_what_and_where() {
    let body = "setp.ne.u32 %p, %l, 5; @%p bra OK;\n\
        { .param .b64 p0; st.param.b64 [p0+0], %w; .param .b64 p1; st.param.b64 [p1+0], %t;\n\
        .param .b32 p2; st.param.b32 [p2+0], 42; .param .b64 p3; st.param.b64 [p3+0], %w;\n\
        .param .b64 p4; st.param.b64 [p4+0], 1; call.uni __assertfail, (p0, p1, p2, p3, p4); }\nOK:";
    let (report, _) = printed("file.cu", body, 32);
    let found: Vec<_> = report.errors().collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind, FindingKind::Trap);
    assert_eq!(found[0].party.lanes, 1 << 5);
    assert!(
        found[0].message.contains("file.cu:42: a string: assertion `a string` failed"),
        "{}",
        found[0].message
    );
}

#[test]
fn allocation_on_the_device_is_refused_by_name() {
    let text = ".version 8.5\n.target sm_90a\n.address_size 64\n.extern .func (.param .b64 r) malloc (.param .b64 n);\n\
        .visible .entry k()\n{\n.reg .b64 %a;\n{ .param .b64 p0; st.param.b64 [p0], 8; .param .b64 r0;\n\
        call.uni (r0), malloc, (p0); ld.param.b64 %a, [r0]; }\nret;\n}\n";
    let module = zeroforge_ptx::parse(text).expect("it can be written");
    let memory = zeroforge_emulator::DeviceMemory::new(1 << 20);
    let error = zeroforge_emulator::Program::load(&module, &memory).expect_err("refused");
    assert!(error.to_string().contains("`malloc` on the device is not emulated"), "{error}");
}
