//! Runs one instruction on arrays: a thread per element.

#![allow(dead_code, reason = "every test file uses its part")]

use crate::harness::Bench;

/// Runs `op` (for instance `add.f32 {d}, {a}, {b};`) on elements of `bytes_in` each. Widths are 2, 4 or 8
/// bytes; registers are `.b16`, `.b32` or `.b64`.
pub(crate) fn run(op: &str, width_in: usize, width_out: usize, inputs: &[Vec<u64>]) -> Vec<u64> {
    let n = inputs[0].len();
    let names = ["a", "b", "c"];
    let mut loads = String::new();
    for (k, name) in names.iter().enumerate().take(inputs.len()) {
        let bits = width_in * 8;
        loads += &format!(
            "ld.param.u64 %rd1, [p{k}];
            mad.wide.u32 %rd1, %r1, {width_in}, %rd1;
            ld.global.b{bits} %{name}{bits}, [%rd1];\n"
        );
    }
    let mut text = op.to_owned();
    for name in names {
        text = text.replace(&format!("{{{name}}}"), &format!("%{name}{}", width_in * 8));
    }
    text = text.replace("{d}", &format!("%d{}", width_out * 8));
    let out_bits = width_out * 8;
    let ptx = format!(
        ".version 8.8
        .target sm_90a
        .address_size 64
        .visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u64 p3, .param .u32 n)
        {{
        .reg .pred %p<3>;
        .reg .b32 %r<6>;
        .reg .b64 %rd<4>;
        .reg .b16 %a16, %b16, %c16, %d16;
        .reg .b32 %a32, %b32, %c32, %d32;
        .reg .b64 %a64, %b64, %c64, %d64;
        mov.u32 %r1, %tid.x;
        mov.u32 %r2, %ctaid.x;
        mov.u32 %r3, %ntid.x;
        mad.lo.u32 %r1, %r2, %r3, %r1;
        ld.param.u32 %r4, [n];
        setp.ge.u32 %p1, %r1, %r4;
        @%p1 bra END;
        {loads}
        {text}
        ld.param.u64 %rd1, [p3];
        mad.wide.u32 %rd1, %r1, {width_out}, %rd1;
        st.global.b{out_bits} [%rd1], %d{out_bits};
        END:
        ret;
        }}"
    );
    let mut bench = Bench::new(&ptx);
    for k in 0..3 {
        let address = inputs.get(k).map_or(0, |values| {
            assert_eq!(values.len(), n);
            let bytes: Vec<u8> =
                values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width_in)).collect();
            bench.buffer(&bytes)
        });
        bench.param_u64(address);
    }
    let out = bench.unwritten(n * width_out);
    bench.param_u64(out).param_u32(n as u32);
    bench.launch_clean("k", [n.div_ceil(128) as u32, 1, 1], [128, 1, 1]);
    bench
        .read(out, n * width_out)
        .chunks(width_out)
        .map(|c| c.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)))
        .collect()
}

/// One operand.
pub(crate) fn unary(op: &str, width_in: usize, width_out: usize, a: &[u64]) -> Vec<u64> {
    run(op, width_in, width_out, &[a.to_vec()])
}

/// A fixed sequence of numbers.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// f32 of all kinds: special ones, random bits, and ones near 1.
pub(crate) fn floats32(seed: u64, count: usize) -> Vec<u64> {
    let special: &[u32] = &[
        0,
        0x8000_0000,
        1,
        0x8000_0001,
        0x007f_ffff,
        0x0080_0000,
        0x3f80_0000,
        0xbf80_0000,
        0x3f00_0000,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0xffff_ffff,
        0x7f80_0001,
        0x477f_e000,
        0x477f_efff,
        0x477f_f000,
        0x4780_0000,
        0x3300_0000,
        0x3300_0001,
        0x3380_0000,
        0x387f_ffff,
        0x3880_0000,
        0x4f00_0000,
        0x4f7f_ffff,
        0x4f80_0000,
        0xcf00_0000,
        0x43e0_0000,
        0x43e8_0000,
        0x43e8_0001,
        0x4760_0000,
        0x4770_0000,
        0x5f00_0000,
        0x5f80_0000,
        0xdf00_0000,
    ];
    let mut n = Numbers(seed);
    (0..count)
        .map(|i| match i % 4 {
            0 => u64::from(special[n.next() as usize % special.len()]),
            1 => n.next() & 0xffff_ffff,
            2 => u64::from((n.next() as i32 as f32 / (1 << 28) as f32).to_bits()),
            _ => n.next() & 0x807f_ffff | (100 + n.next() % 56) << 23,
        })
        .collect()
}

/// As [`floats32`], of f64.
pub(crate) fn floats64(seed: u64, count: usize) -> Vec<u64> {
    let special: &[f64] = &[
        0.0,
        -0.0,
        5e-324,
        -5e-324,
        2.2e-308,
        f64::MIN_POSITIVE,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        f64::MAX,
        f64::MIN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        4294967295.0,
        4294967296.0,
        2147483647.5,
        9.3e18,
        1.9e19,
        65504.0,
        65520.0,
        3.4028235677973366e38,
    ];
    let mut n = Numbers(seed);
    (0..count)
        .map(|i| match i % 4 {
            0 => special[n.next() as usize % special.len()].to_bits(),
            1 => n.next(),
            2 => (n.next() as i64 as f64 / 2f64.powi(60)).to_bits(),
            _ => n.next() & 0x800f_ffff_ffff_ffff | (960 + n.next() % 120) << 52,
        })
        .collect()
}
