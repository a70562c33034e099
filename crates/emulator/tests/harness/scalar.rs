//! Runs instructions over arrays: one lane for each element.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

use std::fmt::Write as _;

use crate::harness::Bench;
use zeroforge_emulator::Report;

/// Names of the sources in the text of an instruction.
const NAMES: [&str; 5] = ["%a", "%b", "%c", "%e", "%f"];

/// What lanes made of their inputs.
pub struct Outcome {
    /// `%d` of each lane; of `pred`, 0 or 1.
    pub d: Vec<u64>,
    /// `%q` of each lane, a predicate.
    pub q: Vec<bool>,
    pub report: Report,
}

/// Runs `text` (one or more instructions) for each element of the sources. Sources are `%a`, `%b`, `%c`,
/// `%e`, `%f` of the classes given (`b16`, `b32`, `b64`, `pred`), `%d` is the result, `%q` a predicate.
pub fn run(text: &str, class: &str, sources: &[(&str, &[u64])]) -> Outcome {
    let n = sources.iter().map(|s| s.1.len()).max().expect("a source");
    let mut ptx = String::from(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 po, .param .u64 pq",
    );
    for i in 0..sources.len() {
        write!(ptx, ", .param .u64 p{i}").expect("text");
    }
    ptx += ")\n{\n.reg .pred %q, %small;\n.reg .b32 %t, %u, %n;\n.reg .b64 %at, %base, %off;\n";
    writeln!(ptx, ".reg .{class} %d;").expect("text");
    for (name, (class, _)) in NAMES.iter().zip(sources) {
        writeln!(ptx, ".reg .{class} {name};").expect("text");
    }
    ptx += "mov.u32 %t, %ctaid.x;\nmov.u32 %n, %ntid.x;\nmul.lo.u32 %t, %t, %n;\nmov.u32 %u, %tid.x;\n";
    ptx += "add.u32 %t, %t, %u;\nmul.wide.u32 %off, %t, 8;\n";
    ptx += "setp.ne.u32 %q, 0, 0;\n";
    for (i, (name, (class, _))) in NAMES.iter().zip(sources).enumerate() {
        writeln!(ptx, "ld.param.u64 %base, [p{i}];\nadd.u64 %at, %base, %off;").expect("text");
        match *class {
            "pred" => ptx += "ld.global.b32 %u, [%at];\n",
            class => writeln!(ptx, "ld.global.{class} {name}, [%at];").expect("text"),
        }
        if *class == "pred" {
            writeln!(ptx, "setp.ne.u32 {name}, %u, 0;").expect("text");
        }
    }
    ptx += text;
    ptx += "\nld.param.u64 %base, [po];\nadd.u64 %at, %base, %off;\n";
    match class {
        "pred" => ptx += "selp.b32 %u, 1, 0, %d;\nst.global.b32 [%at], %u;\n",
        class => writeln!(ptx, "st.global.{class} [%at], %d;").expect("text"),
    }
    ptx += "ld.param.u64 %base, [pq];\nadd.u64 %at, %base, %off;\n";
    ptx += "selp.b32 %u, 1, 0, %q;\nst.global.b32 [%at], %u;\nret;\n}\n";
    let mut bench = Bench::new(&ptx);
    let (out, q) = (bench.buffer(&vec![0; n * 8]), bench.buffer(&vec![0; n * 8]));
    bench.param_u64(out).param_u64(q);
    for (_, values) in sources {
        // A shorter source repeats.
        let bytes: Vec<u8> = (0..n).flat_map(|i| values[i % values.len()].to_le_bytes()).collect();
        let address = bench.buffer(&bytes);
        bench.param_u64(address);
    }
    let block = n.min(64) as u32;
    let report = bench.launch("k", [(n as u32).div_ceil(block), 1, 1], [block, 1, 1]);
    let words = |address| -> Vec<u64> {
        let bytes = bench.read(address, n * 8);
        bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight"))).collect()
    };
    Outcome { d: words(out), q: words(q).iter().map(|&q| q != 0).collect(), report }
}

/// A generator of test values (SplitMix64).
pub struct Values(pub u64);

impl Values {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `n` values of so many bits: the edges of the range, small ones, and any.
    pub fn integers(&mut self, bits: u32, n: usize) -> Vec<u64> {
        let all = u64::MAX >> (64 - bits);
        let edges =
            [0, 1, 2, 3, all, all - 1, all >> 1, (all >> 1) + 1, (all >> 1) + 2, 31, 32, 33];
        (0..n)
            .map(|_| match self.next() % 4 {
                0 => edges[(self.next() % edges.len() as u64) as usize],
                1 => self.next() % 70,
                2 => (self.next() & all) >> (self.next() % u64::from(bits)),
                _ => self.next() & all,
            })
            .map(|value| value & all)
            .collect()
    }
}
