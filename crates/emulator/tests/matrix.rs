//! ldmatrix, stmatrix and movmatrix.

mod elementwise;
mod harness;

use harness::Bench;
use zeroforge_emulator::FindingKind;

/// Fills shared memory from `in`, runs `body` with the lane's row address in %r4, and stores %v0-%v3 of each lane to
/// `out`, shared memory behind them.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.8
        .target sm_90a
        .address_size 64
        .visible .entry k(.param .u64 in, .param .u64 out)
        {{
        .shared .align 16 .b8 smem[1024];
        .reg .pred %p<3>;
        .reg .b32 %r<10>;
        .reg .b32 %v<4>;
        .reg .b32 %w<4>;
        .reg .b64 %rd<6>;
        ld.param.u64 %rd1, [in];
        ld.param.u64 %rd2, [out];
        mov.u32 %r1, %tid.x;
        mov.u32 %r2, smem;
        shl.b32 %r3, %r1, 4;
        cvt.u64.u32 %rd3, %r3;
        add.s64 %rd4, %rd1, %rd3;
        ld.global.v4.b32 {{%w0, %w1, %w2, %w3}}, [%rd4];
        add.u32 %r4, %r2, %r3;
        st.shared.v4.b32 [%r4], {{%w0, %w1, %w2, %w3}};
        st.shared.v4.b32 [%r4+512], {{%w0, %w1, %w2, %w3}};
        bar.warp.sync 0xffffffff;
        mov.b32 %v0, 0; mov.b32 %v1, 0; mov.b32 %v2, 0; mov.b32 %v3, 0;
        {body}
        bar.warp.sync 0xffffffff;
        add.s64 %rd5, %rd2, %rd3;
        st.global.v4.b32 [%rd5], {{%v0, %v1, %v2, %v3}};
        ld.shared.v4.b32 {{%w0, %w1, %w2, %w3}}, [%r4];
        st.global.v4.b32 [%rd5+512], {{%w0, %w1, %w2, %w3}};
        ret;
        }}"
    )
}

/// Element (row, column) of matrix m in the input.
fn element(m: usize, r: usize, c: usize) -> u16 {
    (m * 4096 + r * 256 + c * 16 + 7) as u16
}

fn run(body: &str) -> (Vec<u32>, zeroforge_emulator::Report) {
    let mut bench = Bench::new(&kernel(body));
    let mut image = Vec::new();
    for row in 0..32 {
        for c in 0..8 {
            image.extend(element(row / 8, row % 8, c).to_le_bytes());
        }
    }
    let input = bench.buffer(&image);
    let out = bench.buffer(&[0; 1024]);
    bench.param_u64(input).param_u64(out);
    let report = bench.launch("k", [1; 3], [32, 1, 1]);
    (bench.read_u32(out, 256), report)
}

fn clean(body: &str) -> Vec<u32> {
    let (out, report) = run(body);
    let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    out
}

#[test]
fn loads_give_each_lane_its_two_elements() {
    for (count, registers) in [(1, "{%v0}"), (2, "{%v0, %v1}"), (4, "{%v0, %v1, %v2, %v3}")] {
        for trans in [false, true] {
            let suffix = if trans { ".trans" } else { "" };
            let out = clean(&format!(
                "ldmatrix.sync.aligned.m8n8.x{count}{suffix}.shared.b16 {registers}, [%r4];"
            ));
            for lane in 0..32 {
                for m in 0..4 {
                    let (r, c) = (lane / 4, 2 * (lane % 4));
                    let want = match (m < count, trans) {
                        (false, _) => 0,
                        (_, false) => {
                            u32::from(element(m, r, c)) | u32::from(element(m, r, c + 1)) << 16
                        }
                        (_, true) => {
                            u32::from(element(m, c, r)) | u32::from(element(m, c + 1, r)) << 16
                        }
                    };
                    assert_eq!(out[lane * 4 + m], want, "x{count}{suffix} lane {lane} matrix {m}");
                }
            }
        }
    }
}

#[test]
fn rows_may_be_anywhere() {
    // Rows in reverse order: lane 31's address is row 0.
    let out = clean(
        "mov.u32 %r5, 31; sub.u32 %r5, %r5, %r1; shl.b32 %r5, %r5, 4; add.u32 %r5, %r2, %r5;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%v0, %v1, %v2, %v3}, [%r5+512];",
    );
    for lane in 0..32 {
        for m in 0..4 {
            let (r, c) = (lane / 4, 2 * (lane % 4));
            let low = u32::from(element(3 - m, 7 - r, c));
            assert_eq!(out[lane * 4 + m] & 0xffff, low);
        }
    }
}

#[test]
fn stores_undo_loads() {
    for (trans, back) in [("", ""), (".trans", ".trans")] {
        let out = clean(&format!(
            "ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%v0, %v1, %v2, %v3}}, [%r4+512];
            bar.warp.sync 0xffffffff;
            add.u32 %v0, %v0, 1;
            stmatrix.sync.aligned.m8n8.x4{back}.shared.b16 [%r4], {{%v0, %v1, %v2, %v3}};"
        ));
        for row in 0..32 {
            for pair in 0..4 {
                let of = |c: usize| {
                    let (r, m) = (row % 8, row / 8);
                    // The even column of a lane's pair, or row when transposed, got one more.
                    let more = m == 0 && [c, r][usize::from(!trans.is_empty())] & 1 == 0;
                    u32::from(element(m, r, c)) + u32::from(more)
                };
                let got = out[128 + row * 4 + pair];
                assert_eq!(got, of(2 * pair) | of(2 * pair + 1) << 16, "{trans} row {row}");
            }
        }
    }
    // Two matrices leave the rest alone.
    let out = clean(
        "mov.b32 %v0, 0x00010002; stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r4], {%v0, %v0};",
    );
    assert!(out[128..192].iter().all(|&x| x == 0x0001_0002));
    assert_eq!(out[192] & 0xffff, u32::from(element(2, 0, 0)));
}

#[test]
fn a_transpose_in_registers() {
    let out = clean(
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%v0}, [%r4]; movmatrix.sync.aligned.m8n8.trans.b16 %v1, %v0;
        ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%v2}, [%r4];",
    );
    for lane in 0..32 {
        assert_eq!(out[lane * 4 + 1], out[lane * 4 + 2]);
    }
}

#[test]
fn misuse_is_found() {
    let kinds = |body: &str| -> Vec<FindingKind> { run(body).1.errors().map(|f| f.kind).collect() };
    let load = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%v0, %v1, %v2, %v3}";
    assert_eq!(kinds(&format!("{load}, [%r4+8];")), [FindingKind::Misaligned]);
    assert_eq!(kinds(&format!("{load}, [%r4+4096];")), [FindingKind::OutOfBounds]);
    // A guard that some lanes fail.
    let guarded = format!("setp.lt.u32 %p1, %r1, 16; @%p1 {load}, [%r4];");
    assert!(kinds(&guarded).contains(&FindingKind::Divergence));
    // Lanes that branch around it never come.
    let around = format!("setp.lt.u32 %p1, %r1, 16; @%p1 bra OVER; {load}, [%r4]; OVER:");
    assert!(!kinds(&around).is_empty());
}
