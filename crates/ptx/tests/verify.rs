//! Each planted mistake is found, and told in its own words.

use zeroforge_ptx::{parse, verify};

const HEAD: &str = ".address_size 64
.extern .func (.param .b32 r) callee(.param .b64 a);
.extern .shared .align 16 .b8 smem[];
.global .b32 word;
.visible .entry k(.param .u64 k_p)
{
	.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<300>; .reg .f32 %f<300>; .reg .f64 %d<9>;
	.reg .s32 %s<9>; .reg .b64 %rd<9>; .reg .b128 %q<2>; .param .b64 arg; .param .b32 out;
";

fn problems(target: &str, code: &str) -> Vec<String> {
    let text = format!(".version 8.8\n.target {target}\n{HEAD}{code}\n}}\n");
    let module = parse(&text).unwrap_or_else(|e| panic!("{e}\n{code}"));
    match verify(&module) {
        Ok(()) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

fn wgmma(registers: usize, rest: &str) -> String {
    let d: Vec<String> = (0..registers).map(|i| format!("%f{i}")).collect();
    format!("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {{{}}}, {rest};", d.join(", "))
}

#[test]
fn planted_mistakes_are_found() {
    let cases: &[(&str, &str)] = &[
        ("add.s32 %r1, %r2;", "it has 2 operands and takes 3"),
        ("ret %r1;", "too many"),
        ("add.s32 %r1, %r2, %rd1;", "operand 3 (`b`): a register of type `.b64`"),
        ("add.s32 %rd1, %r2, %r3;", "operand 1 (`d`)"),
        ("add.f32 %f1, %f2, 1;", "an integer constant where `.f32`"),
        ("add.s32 %r1, %r2, 0f3F800000;", "a floating-point constant"),
        ("add.s32 %f1, %r2, %r3;", "a register of type `.f32` where `.s32`"),
        ("add.f32 %f1, %f2, %s1;", "a register of type `.s32` where `.f32`"),
        ("add.s32 5, %r2, %r3;", "a register is needed as destination"),
        ("@%r1 bra L; L:", "the guard is not a predicate"),
        ("setp.eq.s32 %r1, %r2, %r3;", "where `.pred` is needed"),
        ("setp.eq.s32 %p1|%r1, %r2, %r3;", "where `.pred` is needed"),
        ("add.s32 %r1|%p1, %r2, %r3;", "a pair `a|b` has no meaning here"),
        ("elect.sync %r1, -1;", "it needs a second destination"),
        ("mul.wide.s32 %r1, %r2, %r3;", "where `.s64` is needed"),
        ("selp.b32 %r1, %r2, %r3, %r4;", "where `.pred` is needed"),
        ("and.b32 %r1, %r2, !%p1;", "`!` is for predicates"),
        ("ld.global.u64 %r1, [%rd1];", "a register of type `.b32` where `.u64`"),
        ("ld.global.u32 %r1, %rd1;", "an address `[...]` is needed"),
        ("ld.global.u32 %r1, [%f1];", "an address in a register of type `.f32`"),
        ("ld.global.u32 %r1, [%h1];", "an address in a register of type `.b16`"),
        ("ld.global.v4.f32 {%f1, %f2}, [%rd1];", "the vector has 2 elements and should have 4"),
        ("ld.global.v2.f32 %f1, [%rd1];", "a vector of 2 `.f32` is needed"),
        ("ld.global.f32 {%f1, %f2}, [%rd1];", "needed as destination"),
        ("ld.global.u32 %r1, [smem];", "`smem` is in `.shared`"),
        ("st.shared.u32 [word], %r1;", "`word` is in `.global`"),
        ("ld.global.L2::cache_hint.u32 %r1, [%rd1];", "it has 2 operands and takes 3"),
        ("ld.global.u32 %r1, [%rd1], %rd2;", "it has 3 operands and takes 2"),
        ("mov.b64 {%r1, %rd2}, %rd1;", "an element has 64 bits"),
        ("mov.b64 {%r1, %r2, %r3}, %rd1;", "3 elements do not fill"),
        ("mov.u16 %h1, word;", "an address has 32 or 64 bits"),
        ("mov.u16 %h1, %clock64;", "`%clock64` has 64 bits"),
        ("cvt.f32.s32 %f1, %r1;", "unknown"),
        ("cvt.rn.f32.s32 %r1, %d1;", "where `.s32` is needed"),
        ("lop3.b32 %r1, %r2, %r3, %r4, 256;", "256 is not in 0 to 255"),
        ("lop3.b32 %r1, %r2, %r3, %r4, %r5;", "an integer constant is needed"),
        ("setmaxnreg.inc.sync.aligned.u32 100;", "100 is not a multiple of 8"),
        ("setmaxnreg.inc.sync.aligned.u32 264;", "264 is not in 24 to 256"),
        ("cp.async.ca.shared.global [%r1], [%rd1], 12;", "12 is not 4, 8 or 16"),
        ("cp.async.cg.shared.global [%r1], [%rd1], 8;", "8 is not in 16 to 16"),
        ("wgmma.wait_group.sync.aligned 8;", "8 is not in 0 to 7"),
        ("mbarrier.try_wait.parity.shared::cta.b64 %r1, [%r1], 0;", "where `.pred` is needed"),
        ("mbarrier.init.shared::cta.b64 [%r1];", "it has 1 operands and takes 2"),
        (
            "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes \
             [%r1], [%rd1, {%r1, %r2}], [%r3];",
            "2 coordinates for 3 dimensions",
        ),
        (
            "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes\
             .multicast::cluster [%r1], [%rd1, {%r1}], [%r3];",
            "it has 3 operands and takes 4",
        ),
        (
            "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes\
             .multicast::cluster [%r1], [%rd1, {%r1}], [%r3], %r5;",
            "a register of type `.b32` where `.b16`",
        ),
        ("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2}, [%r3];", "should have 4"),
        (
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, \
             {%r0, %r1}, {%r0, %r1}, {%f0, %f1, %f2, %f3};",
            "operand 2 (`a`): the vector has 2 elements and should have 4",
        ),
        ("call (out), callee;", "0 arguments, but `callee` has 1"),
        ("call callee, (arg);", "0 results, but `callee` has 1"),
        ("call (out), %rd1, (arg);", "an indirect call needs a prototype"),
        ("t: .calltargets callee; call (out), %rd1, (arg, arg), t;", "2 arguments, but `callee`"),
        (
            "t: .callprototype (.param .b32 _) _ (.param .b64 _); call (out), %rd1, t;",
            "0 arguments, but the prototype has 1",
        ),
        ("shfl.sync.bfly.b32 %r1|%r2, %r3, 1, 31, -1;", "where `.pred` is needed"),
        ("vote.sync.ballot.b32 %r1, %r2, -1;", "where `.pred` is needed"),
        ("atom.global.add.f32 %f1, [%rd1], %f1, %rd2;", "it has 4 operands and takes 3"),
        ("atom.global.cas.b32 %r1, [%rd1], %r2;", "it has 3 operands and takes 4"),
        ("fma.rn.f16x2 %r1, %r2, %r3, %h1;", "a register of type `.b16` where `.f16x2`"),
        ("st.param.b32 [word], %r1;", "`word` is in `.global`"),
    ];
    for (code, expected) in cases {
        let text = format!(".version 8.8\n.target sm_90a\n{HEAD}{code}\nret;\n}}\n");
        let found = match parse(&text) {
            Err(error) => vec![error.to_string()],
            Ok(_) => problems("sm_90a", code),
        };
        assert_eq!(found.len(), 1, "{code}: {found:?}");
        assert!(found[0].contains(expected), "{code}: {found:?} does not say {expected}");
    }
}

#[test]
fn right_code_has_no_problems() {
    let fine = "add.s32 %r1, %s2, -5; add.u32 %s1, %r2, %laneid; mov.b32 %r1, %f1; mov.f32 %f1, %r1;
        ld.global.u8 %r1, [%rd1]; ld.global.s8 %rd1, [%rd2+3]; st.global.u16 [%rd1], %r1;
        cvt.u8.u32 %h1, %r1; cvt.rn.f16.f32 %h1, %f1; cvt.u64.u8 %rd1, %h1; mov.b32 %r1, {%h1, %h2};
        mov.u64 %rd1, word+4; mov.b64 %rd1, k_p; ld.param.u64 %rd1, [k_p]; mov.u64 %rd1, callee;
        setp.ne.and.b32 _|%p1, %r1, 0, !%p2; selp.f32 %f1, %f2, 0f00000000, %p1; not.pred %p1, %p2;
        mov.pred %p1, -1; shl.b64 %rd1, %rd2, %r1; popc.b64 %r1, %rd1; bar.sync 1, 128;
        atom.shared::cta.add.u32 %r1, [smem+4], 1; ld.shared::cluster.u32 %r1, [smem];
        mbarrier.arrive.shared::cta.b64 _, [%r1]; mbarrier.arrive.shared::cta.b64 %rd1, [%r1], 2;
        mov.b128 %q1, {%rd1, %rd2}; call (out), callee, (arg); div.rn.f64 %d1, %d2, 0d3FF0000000000000;";
    assert_eq!(problems("sm_90a", fine), Vec::<String>::new());
    for rest in ["%rd1, %rd2, %p1, 1, -1, 0, 1", "{%r1, %r2, %r3, %r4}, %rd2, %p1, 1, 1, 1"] {
        assert_eq!(problems("sm_90a", &wgmma(32, rest)), Vec::<String>::new());
    }
}

#[test]
fn wgmma_operands_are_counted() {
    for (registers, rest, expected) in [
        (31, "%rd1, %rd2, %p1, 1, 1, 0, 0", "the vector has 31 elements and should have 32"),
        (32, "{%r1, %r2}, %rd2, %p1, 1, 1, 0", "should have 4"),
        (32, "%r1, %rd2, %p1, 1, 1, 0, 0", "where `.b64` is needed"),
        (32, "%rd1, %rd2, %r1, 1, 1, 0, 0", "where `.pred` is needed"),
        (32, "%rd1, %rd2, %p1, 0, 1, 0, 0", "a scale is 1 or -1"),
        (32, "%rd1, %rd2, %p1, 1, 1, 2, 0", "2 is not in 0 to 1"),
        (32, "%rd1, %rd2, %p1, 1, 1", "two constants are needed"),
        (32, "%rd1, %rd2, %p1, 1, 1, 0", "two constants are needed"),
        (32, "{%r1, %r2, %r3, %r4}, %rd2, %p1, 1, 1", "one constant"),
        (32, "%rd1, %rd2, %p1, 1", "it has 5 operands and takes 6 to 8"),
        (32, "{%r1, %r2, %r3, %r4}, %rd2, %p1, 1, 1, 0, 1", "A comes from registers: one constant"),
    ] {
        let found = problems("sm_90a", &wgmma(registers, rest));
        assert_eq!(found.len(), 1, "{rest}: {found:?}");
        assert!(found[0].contains(expected), "{rest}: {found:?} does not say {expected}");
    }
}

#[test]
fn the_target_has_the_instruction() {
    let needs = |target, code| problems(target, code).first().cloned().unwrap_or_default();
    assert_eq!(
        needs("sm_90", "wgmma.fence.sync.aligned;"),
        "in `k`, line 11: `wgmma.fence.sync.aligned`: it needs `.target sm_90a`; \
         the module says `sm_90`"
    );
    assert!(needs("sm_80", "griddepcontrol.wait;").contains("it needs `.target sm_90`"));
    assert!(needs("sm_100a", "wgmma.fence.sync.aligned;").contains("sm_90a"));
    assert!(needs("debug", "ret;").contains("names no architecture"));
    assert_eq!(needs("sm_90a, debug", "wgmma.fence.sync.aligned;"), "");
    assert_eq!(needs("sm_80", "cp.async.wait_all;"), "");
}

/// A module that was made by hand can hold indices that lead nowhere.
#[test]
fn indices_are_checked() {
    use zeroforge_ptx::{LabelId, Operand, RegisterId, Symbol};
    let text = format!(".version 8.8\n.target sm_90a\n{HEAD}mov.u64 %rd1, word; bra L; L: }}");
    let module = parse(&text).expect("PTX");
    let broken: [(usize, usize, Operand); 4] = [
        (0, 0, Operand::Register(RegisterId(9_999_999))),
        (0, 1, Operand::Symbol(Symbol::Local(77), 0)),
        (0, 1, Operand::Symbol(Symbol::Function(77), 0)),
        (1, 0, Operand::Label(LabelId(5))),
    ];
    for (instruction, operand, value) in broken {
        let mut module = module.clone();
        let body = module.functions[1].body.as_mut().expect("a body");
        body.instructions[instruction].operands[operand] = value.clone();
        assert!(verify(&module).is_err(), "{value:?}");
        assert!(!zeroforge_ptx::print(&module).is_empty());
    }
}
