//! mma.sync, every shape and type, against f64 on fragments laid out as the ISA's figures show them.

mod elementwise;
mod harness;

use elementwise::Numbers;
use harness::Bench;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ty {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
    F64,
    F32,
    S32,
}

impl Ty {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn bits(self) -> usize {
        match self {
            Ty::F16 | Ty::Bf16 => 16,
            Ty::E4m3 | Ty::E5m2 | Ty::S8 | Ty::U8 => 8,
            Ty::F64 => 64,
            _ => 32,
        }
    }

    fn random(self, n: &mut Numbers) -> (u64, f64) {
        let x = n.next();
        let f = (x as i32) as f32 / (1u32 << 31) as f32;
        match self {
            Ty::F16 => {
                (u64::from(half::f16::from_f32(f).to_bits()), half::f16::from_f32(f).to_f64())
            }
            Ty::Bf16 => {
                (u64::from(half::bf16::from_f32(f).to_bits()), half::bf16::from_f32(f).to_f64())
            }
            Ty::Tf32 => (u64::from(f.to_bits()), f64::from(f32::from_bits(f.to_bits() & !0x1fff))),
            // Below 2: e4m3 with exponents under the bias, e5m2 is the upper half of an f16.
            Ty::E4m3 => {
                let c = x >> 40 & 0xbf;
                let (e, m) = (c >> 3 & 15, (c & 7) as f64);
                let v = if e == 0 { m / 512.0 } else { (8.0 + m) * 2f64.powi(e as i32 - 10) };
                (c, if c & 0x80 != 0 { -v } else { v })
            }
            Ty::E5m2 => {
                let c = x >> 40 & 0xbf;
                (c, half::f16::from_bits((c << 8) as u16).to_f64())
            }
            Ty::S8 => (x >> 40 & 0xff, f64::from((x >> 40) as i8)),
            Ty::U8 => (x >> 40 & 0xff, f64::from((x >> 40) as u8)),
            Ty::F64 => (f64::from(f).to_bits(), f64::from(f)),
            Ty::F32 => (u64::from(f.to_bits()), f64::from(f)),
            Ty::S32 => (u64::from(x as i32 as u32 >> 4), f64::from((x as u32 >> 4) as i32)),
        }
    }
}

/// Registers of a fragment: [register][lane], 64 bits each.
type Fragment = Vec<[u64; 32]>;

/// Packs elements into registers; `place(lane, index)` gives row and column of a lane's element number `index`,
/// which are counted through its registers.
fn pack(
    count: usize,
    ty: Ty,
    place: impl Fn(usize, usize) -> (usize, usize),
    at: impl Fn(usize, usize) -> u64,
) -> Fragment {
    let per = (32 / ty.bits()).max(1);
    (0..count / per)
        .map(|r| {
            std::array::from_fn(|lane| {
                (0..per).fold(0, |bits, e| {
                    let (row, column) = place(lane, r * per + e);
                    bits | at(row, column) << (e * ty.bits())
                })
            })
        })
        .collect()
}

/// Where the figures of PTX ISA 9.7.14.5.1-11 put element `i` of A of a lane.
fn place_a(m: usize, ty: Ty, lane: usize, i: usize) -> (usize, usize) {
    let (g, t) = (lane >> 2, lane % 4);
    if m == 8 {
        // m8n8k16 of integers, m8n8k4 of f64.
        return (g, if ty == Ty::F64 { t } else { t * 4 + i });
    }
    match ty {
        // m16n8k16: rows g for a0, a1, a4, a5; columns from 8 on for i >= 4.
        Ty::F16 | Ty::Bf16 => {
            let row = if matches!(i, 0 | 1 | 4 | 5) { g } else { g + 8 };
            (row, t * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
        }
        Ty::Tf32 | Ty::F64 => (g + 8 * (i % 2), t + 4 * (i / 2)),
        // m16n8k32: rows g for i in 0..4 and 8..12.
        _ => {
            let row = if i < 4 || (8..12).contains(&i) { g } else { g + 8 };
            (row, t * 4 + (i & 3) + if i < 8 { 0 } else { 16 })
        }
    }
}

fn place_b(ty: Ty, lane: usize, i: usize) -> (usize, usize) {
    let (g, t) = (lane >> 2, lane % 4);
    let row = match ty {
        Ty::F16 | Ty::Bf16 => t * 2 + (i & 1) + if i < 2 { 0 } else { 8 },
        Ty::Tf32 | Ty::F64 => t + 4 * i,
        _ => t * 4 + (i & 3) + if i < 4 { 0 } else { 16 },
    };
    (row, g)
}

fn place_c(lane: usize, i: usize) -> (usize, usize) {
    ((lane >> 2) + if i < 2 { 0 } else { 8 }, lane % 4 * 2 + (i & 1))
}

fn check(m: usize, k: usize, a_ty: Ty, b_ty: Ty, sum: Ty, modifier: &str) {
    let mut n = Numbers(42 + k as u64);
    let mut matrix = |rows: usize, columns: usize, ty: Ty| -> Vec<(u64, f64)> {
        (0..rows * columns).map(|_| ty.random(&mut n)).collect()
    };
    let (a, b, c) = (matrix(m, k, a_ty), matrix(k, 8, b_ty), matrix(m, 8, sum));
    let fa = pack(m * k / 32, a_ty, |l, i| place_a(m, a_ty, l, i), |r, x| a[r * k + x].0);
    let fb = pack(k * 8 / 32, b_ty, |l, i| place_b(b_ty, l, i), |r, x| b[r * 8 + x].0);
    let fc = pack(m * 8 / 32, sum, place_c, |r, x| c[r * 8 + x].0);
    let wide = sum == Ty::F64;
    let (bits, size) = if wide { (64, 8) } else { (32, 4) };
    let total = fa.len() + fb.len() + fc.len();
    let mut loads = String::new();
    for j in 0..total {
        loads += &format!("ld.global.b{bits} %x{j}, [%rd3+{}];\n", j * 32 * size);
    }
    let names = |from: usize, count: usize| -> String {
        let list: Vec<String> = (from..from + count).map(|j| format!("%x{j}")).collect();
        format!("{{{}}}", list.join(", "))
    };
    let (na, nb, nc) = (fa.len(), fb.len(), fc.len());
    // D is C's registers.
    let mnemonic = format!(
        "mma.sync.aligned.m{m}n8k{k}.row.col{modifier}.{}.{}.{}.{}",
        sum.name(),
        a_ty.name(),
        b_ty.name(),
        sum.name()
    );
    let d = names(na + nb, nc);
    let mut stores = String::new();
    for j in 0..nc {
        stores += &format!("st.global.b{bits} [%rd4+{}], %x{};\n", j * 32 * size, na + nb + j);
    }
    let class = if sum == Ty::F32 {
        "f32"
    } else if wide {
        "f64"
    } else {
        "b32"
    };
    let class_ab = if wide { "f64" } else { "b32" };
    let registers: String = (0..total)
        .map(|j| format!(".reg .{} %x{j};\n", if j < na + nb { class_ab } else { class }))
        .collect();
    let ptx = format!(
        ".version 8.8
        .target sm_90a
        .address_size 64
        .visible .entry k(.param .u64 in, .param .u64 out)
        {{
        .reg .b32 %r<2>;
        .reg .b64 %rd<5>;
        {registers}
        ld.param.u64 %rd1, [in];
        ld.param.u64 %rd2, [out];
        mov.u32 %r1, %tid.x;
        mad.wide.u32 %rd3, %r1, {size}, %rd1;
        mad.wide.u32 %rd4, %r1, {size}, %rd2;
        {loads}
        {mnemonic} {d}, {}, {}, {d};
        {stores}
        ret;
        }}",
        names(0, na),
        names(na, nb)
    );
    let mut bench = Bench::new(&ptx);
    let all: Vec<u8> = fa
        .iter()
        .chain(&fb)
        .chain(&fc)
        .flatten()
        .flat_map(|x| x.to_le_bytes().into_iter().take(size))
        .collect();
    let input = bench.buffer(&all);
    let out = bench.buffer(&vec![0; nc * 32 * size]);
    bench.param_u64(input).param_u64(out);
    bench.launch_clean("k", [1; 3], [32, 1, 1]);
    let got: Vec<u64> = bench
        .read(out, nc * 32 * size)
        .chunks(size)
        .map(|c| c.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)))
        .collect();
    let per = (32 / sum.bits()).max(1);
    for lane in 0..32 {
        for i in 0..nc * per {
            let (row, column) = place_c(lane, i);
            let bits = got[i / per * 32 + lane] >> (sum.bits() * (i % per));
            let value = match sum {
                Ty::F16 => half::f16::from_bits(bits as u16).to_f64(),
                Ty::F32 => f64::from(f32::from_bits(bits as u32)),
                Ty::S32 => f64::from(bits as i32),
                _ => f64::from_bits(bits),
            };
            let start = c[row * 8 + column].1;
            let (want, size) = (0..k).fold((start, start.abs()), |(s, z), x| {
                let p = a[row * k + x].1 * b[x * 8 + column].1;
                (s + p, z + p.abs())
            });
            let error = match sum {
                Ty::F16 => want.abs() * 2f64.powi(-11) + size * 1e-6,
                Ty::F32 => size * 4e-6,
                Ty::S32 => 0.0,
                _ => size * 1e-14,
            };
            assert!(
                (value - want).abs() <= error,
                "{mnemonic} lane {lane} element {i}: {value}, not {want}"
            );
        }
    }
}

#[test]
fn halves() {
    for ty in [Ty::F16, Ty::Bf16] {
        check(16, 8, ty, ty, Ty::F32, "");
        check(16, 16, ty, ty, Ty::F32, "");
    }
    check(16, 8, Ty::F16, Ty::F16, Ty::F16, "");
    check(16, 16, Ty::F16, Ty::F16, Ty::F16, "");
}

#[test]
fn tf32() {
    check(16, 4, Ty::Tf32, Ty::Tf32, Ty::F32, "");
    check(16, 8, Ty::Tf32, Ty::Tf32, Ty::F32, "");
}

#[test]
fn eight_bit_floats() {
    for a in [Ty::E4m3, Ty::E5m2] {
        for b in [Ty::E4m3, Ty::E5m2] {
            for k in [16, 32] {
                check(16, k, a, b, Ty::F32, "");
                check(16, k, a, b, Ty::F16, "");
            }
        }
    }
}

#[test]
fn integers() {
    for a in [Ty::S8, Ty::U8] {
        for b in [Ty::S8, Ty::U8] {
            for modifier in ["", ".satfinite"] {
                check(8, 16, a, b, Ty::S32, modifier);
                check(16, 16, a, b, Ty::S32, modifier);
                check(16, 32, a, b, Ty::S32, modifier);
            }
        }
    }
}

#[test]
fn doubles() {
    check(8, 4, Ty::F64, Ty::F64, Ty::F64, "");
    for k in [4, 8, 16] {
        check(16, k, Ty::F64, Ty::F64, Ty::F64, "");
    }
}

#[test]
fn what_is_not_emulated_is_refused_by_name() {
    let ptx = ".version 8.8
        .target sm_90a
        .address_size 64
        .visible .entry k()
        {
        .reg .b32 %r<9>;
        mma.sync.aligned.m16n8k32.row.col.s32.s4.s4.s32 {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%r7}, {%r1, %r2, %r3, %r4};
        ret;
        }";
    let module = zeroforge_ptx::parse(ptx).expect("well-formed");
    let memory = zeroforge_emulator::DeviceMemory::new(1 << 20);
    let error = zeroforge_emulator::Program::load(&module, &memory).expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("s4 is not emulated") && text.contains("mma.sync"), "{text}");
}
