//! Tensor copies: random boxes against a host model that goes element by element, and every misuse.

mod harness;

use harness::Bench;
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TensorMap, TiledArguments,
};
use zeroforge_emulator::{FindingKind, Report, Schedule};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

const SHARED_BYTES: u32 = 48 * 1024;

/// Kernels of a rank: `load` copies a box to `offset` in shared memory and that to `out`; `store` copies
/// `out` to shared memory and that to a box.
fn kernels(rank: usize, reduce: &str) -> String {
    let coordinates: Vec<String> = (0..rank).map(|i| format!("%c{i}")).collect();
    let coordinates = coordinates.join(", ");
    let store = match reduce {
        "" => format!("cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group"),
        op => {
            format!("cp.reduce.async.bulk.tensor.{rank}d.global.shared::cta.{op}.tile.bulk_group")
        }
    };
    let head = "(
    .param .align 64 .b8 map[128], .param .u64 out, .param .u32 bytes, .param .u32 offset,
    .param .u32 c0, .param .u32 c1, .param .u32 c2, .param .u32 c3, .param .u32 c4)
{
    .reg .pred %p<4>;
    .reg .b32 %r<16>, %c<5>, %bar, %smem, %t, %n;
    .reg .b64 %rd<16>, %map, %out;
    .shared .align 8 .b64 bar;
    .shared .align 1024 .b8 smem[SIZE];
    mov.b64 %rd0, map;
    cvta.param.u64 %map, %rd0;
    ld.param.u64 %out, [out];
    ld.param.u32 %n, [bytes];
    ld.param.u32 %r0, [offset];
    mov.u32 %smem, smem;
    add.u32 %smem, %smem, %r0;
    mov.u32 %bar, bar;
    ld.param.u32 %c0, [c0];
    ld.param.u32 %c1, [c1];
    ld.param.u32 %c2, [c2];
    ld.param.u32 %c3, [c3];
    ld.param.u32 %c4, [c4];
    mov.u32 %t, %tid.x;
    setp.eq.u32 %p0, %t, 0;
    shl.b32 %r1, %t, 2;"
        .replace("SIZE", &SHARED_BYTES.to_string());
    format!(
        ".version 8.6
.target sm_90a
.address_size 64
.visible .entry load{head}
    @%p0 mbarrier.init.shared::cta.b64 [%bar], 1;
    @%p0 fence.mbarrier_init.release.cluster;
    bar.sync 0;
    @%p0 prefetch.tensormap [%map];
    @%p0 cp.async.bulk.prefetch.tensor.{rank}d.L2.global [%map, {{{coordinates}}}];
    @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], %n;
    @%p0 cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%smem], [%map, {{{coordinates}}}], [%bar];
W:  mbarrier.try_wait.parity.shared::cta.b64 %p1, [%bar], 0;
    @!%p1 bra W;
L:  setp.ge.u32 %p2, %r1, %n;
    @%p2 bra E;
    add.u32 %r2, %smem, %r1;
    ld.shared.u32 %r3, [%r2];
    cvt.u64.u32 %rd1, %r1;
    add.u64 %rd1, %out, %rd1;
    st.global.u32 [%rd1], %r3;
    add.u32 %r1, %r1, 512;
    bra L;
E:  ret;
}}
.visible .entry store{head}
L:  setp.ge.u32 %p2, %r1, %n;
    @%p2 bra E;
    cvt.u64.u32 %rd1, %r1;
    add.u64 %rd1, %out, %rd1;
    ld.global.u32 %r3, [%rd1];
    add.u32 %r2, %smem, %r1;
    st.shared.u32 [%r2], %r3;
    add.u32 %r1, %r1, 512;
    bra L;
E:  fence.proxy.async.shared::cta;
    bar.sync 0;
    @%p0 {store} [%map, {{{coordinates}}}], [%smem];
    @%p0 cp.async.bulk.commit_group;
    @%p0 cp.async.bulk.wait_group 0;
    ret;
}}
"
    )
}

/// A tensor, a box, and where it goes.
#[derive(Debug, Clone)]
struct Case {
    dtype: DataType,
    dims: Vec<u64>,
    strides: Vec<u64>,
    box_dims: Vec<u32>,
    element_strides: Vec<u32>,
    swizzle: Swizzle,
    fill: OobFill,
    coordinates: Vec<i32>,
    offset: u32,
}

impl Case {
    fn random(r: &mut Random, rank: usize) -> Case {
        let dtype = r.pick(&[
            DataType::Uint8,
            DataType::Bfloat16,
            DataType::Float32,
            DataType::Int32,
            DataType::Float64,
        ]);
        let element = dtype.bytes();
        let swizzle =
            r.pick(&[Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128]);
        let units = swizzle.span().unwrap_or(256) / 16;
        let row = (1 + r.below(u64::from(units)) as u32) * 16;
        let mut box_dims = vec![row / element];
        let mut element_strides = vec![1 + r.below(3) as u32];
        let most = [1, 40, 8, 4, 3][rank - 1];
        for _ in 1..rank {
            box_dims.push(1 + r.below(most) as u32);
            element_strides.push(r.pick(&[1, 1, 1, 2, 3]));
        }
        box_dims[0] = box_dims[0].min(256) / (16 / element).max(1) * (16 / element).max(1);
        let dims: Vec<u64> = box_dims.iter().map(|&b| 1 + r.below(u64::from(b) * 2)).collect();
        let mut pitch = dims[0] * u64::from(element);
        let mut strides = Vec::new();
        for &dim in &dims[1..] {
            pitch = pitch.next_multiple_of(16) + 16 * r.below(3);
            strides.push(pitch);
            pitch *= dim;
        }
        let coordinates = dims
            .iter()
            .zip(&box_dims)
            .map(|(&d, &b)| r.below(d + u64::from(b)) as i32 - b as i32)
            .collect();
        let fill = match dtype.is_float() && r.below(2) == 0 {
            true => OobFill::NanRequestZeroFma,
            false => OobFill::Zero,
        };
        let offset = 128 * r.below(16) as u32;
        Case { dtype, dims, strides, box_dims, element_strides, swizzle, fill, coordinates, offset }
    }

    fn bytes(&self) -> usize {
        let outer = self.dims.iter().skip(1).zip(&self.strides);
        let last: u64 = outer.map(|(&d, &s)| (d - 1) * s).sum();
        (last + self.dims[0] * u64::from(self.dtype.bytes())) as usize
    }

    fn map(&self, address: u64) -> TensorMap {
        TensorMap::tiled(&TiledArguments {
            dtype: self.dtype,
            address,
            dims: &self.dims,
            strides: &self.strides,
            box_dims: &self.box_dims,
            element_strides: &self.element_strides,
            interleave: Interleave::None,
            swizzle: self.swizzle,
            l2_promotion: L2Promotion::Bytes128,
            oob_fill: self.fill,
        })
        .unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }

    /// Elements of the box: for each, its place in shared memory from `offset` on, and its place in the
    /// tensor if it is inside.
    fn elements(&self) -> Vec<(usize, Option<usize>)> {
        let es = self.dtype.bytes() as usize;
        let size: Vec<u32> = (self.box_dims.iter().zip(&self.element_strides).enumerate())
            .map(|(d, (&b, &s))| if d == 0 { b } else { b.div_ceil(s) })
            .collect();
        let total: u32 = size.iter().product();
        (0..total)
            .map(|linear| {
                let (mut rest, mut inside, mut global) = (linear, true, 0usize);
                for (d, &size) in size.iter().enumerate() {
                    let index = rest % size;
                    rest /= size;
                    let step = if d == 0 { 1 } else { self.element_strides[d] };
                    let c = i64::from(self.coordinates[d]) + i64::from(index * step);
                    if c < 0 || c >= self.dims[d] as i64 {
                        inside = false;
                        continue;
                    }
                    let stride = if d == 0 { es } else { self.strides[d - 1] as usize };
                    global += c as usize * stride;
                }
                // The swizzle exchanges 16-byte units by the number of the 128-byte line.
                let plain = self.offset as usize + linear as usize * es;
                let line = plain / 128;
                let unit = plain / 16 % 8;
                let exchanged = match self.swizzle {
                    Swizzle::Bytes32 => unit ^ (line & 1),
                    Swizzle::Bytes64 => unit ^ (line & 3),
                    Swizzle::Bytes128 => unit ^ (line & 7),
                    _ => unit,
                };
                // 32 and 64 B patterns repeat in 256 and 512 bytes: their lines are of 128 bytes as well.
                let shared = line * 128 + exchanged * 16 + plain % 16;
                (shared - self.offset as usize, inside.then_some(global))
            })
            .collect()
    }

    /// Whether the swizzle keeps the box inside of its bytes: rows as long as the pattern.
    fn stays_inside(&self, bytes: usize) -> bool {
        self.elements().iter().all(|e| e.0 < bytes)
    }

    fn params(&self, b: &mut Bench, map: &[u8], out: u64, bytes: u32) {
        b.no_params().param(map, 64).param_u64(out).param_u32(bytes).param_u32(self.offset);
        for i in 0..5 {
            b.param_u32(self.coordinates.get(i).copied().unwrap_or(0) as u32);
        }
    }
}

fn nan(ty: DataType) -> Vec<u8> {
    let mut bytes = vec![0xff; ty.bytes() as usize];
    *bytes.last_mut().expect("not empty") = 0x7f;
    bytes
}

#[test]
fn random_boxes_are_loaded() {
    let mut r = Random(1);
    for round in 0..400 {
        let rank = 1 + round % 5;
        let case = Case::random(&mut r, rank);
        let mut b = Bench::new(&kernels(rank, ""));
        let data: Vec<u8> = (0..case.bytes()).map(|_| r.next() as u8).collect();
        let source = b.buffer(&data);
        let map = case.map(source);
        let bytes = map.box_bytes() as usize;
        if bytes + case.offset as usize > SHARED_BYTES as usize || !case.stays_inside(bytes) {
            continue;
        }
        let out = b.unwritten(bytes);
        case.params(&mut b, &map.encode(), out, bytes as u32);
        b.schedule([Schedule::Late, Schedule::Eager, Schedule::Random(round as u64)][round % 3]);
        b.launch_clean("load", [1; 3], [128, 1, 1]);
        let es = case.dtype.bytes() as usize;
        let fill = match case.fill {
            OobFill::Zero => vec![0; es],
            OobFill::NanRequestZeroFma => nan(case.dtype),
        };
        let mut expected = vec![0; bytes];
        for (shared, global) in case.elements() {
            let value = global.map_or(&fill[..], |g| &data[g..g + es]);
            expected[shared..shared + es].copy_from_slice(value);
        }
        assert!(b.read(out, bytes) == expected, "round {round}: {case:?}");
    }
}

#[test]
fn random_boxes_are_stored() {
    let mut r = Random(2);
    for round in 0..300 {
        let rank = 1 + round % 5;
        let case = Case::random(&mut r, rank);
        let mut b = Bench::new(&kernels(rank, ""));
        let data: Vec<u8> = (0..case.bytes()).map(|_| r.next() as u8).collect();
        let target = b.buffer(&data);
        let map = case.map(target);
        let bytes = map.box_bytes() as usize;
        if bytes + case.offset as usize > SHARED_BYTES as usize || !case.stays_inside(bytes) {
            continue;
        }
        let source: Vec<u8> = (0..bytes).map(|_| r.next() as u8).collect();
        let from = b.buffer(&source);
        case.params(&mut b, &map.encode(), from, bytes as u32);
        b.schedule([Schedule::Late, Schedule::Eager, Schedule::Random(round as u64)][round % 3]);
        b.launch_clean("store", [1; 3], [128, 1, 1]);
        let es = case.dtype.bytes() as usize;
        let mut expected = data;
        for (shared, global) in case.elements() {
            if let Some(g) = global {
                expected[g..g + es].copy_from_slice(&source[shared..shared + es]);
            }
        }
        assert!(b.read(target, expected.len()) == expected, "round {round}: {case:?}");
    }
}

/// A 2-D case whose box lies inside.
fn plain(dtype: DataType) -> Case {
    let columns = 64 / u64::from(dtype.bytes());
    Case {
        dtype,
        dims: vec![columns * 2, 20],
        strides: vec![128],
        box_dims: vec![columns as u32, 8],
        element_strides: vec![1, 1],
        swizzle: Swizzle::Bytes64,
        fill: OobFill::Zero,
        coordinates: vec![columns as i32 / 2, 15],
        offset: 0,
    }
}

/// Reduces random elements made by `make` with `op` and compares each with `host`.
fn reduces(
    dtype: DataType,
    op: &str,
    make: impl Fn(&mut Random) -> Vec<u8>,
    host: impl Fn(&[u8], &[u8]) -> Vec<u8>,
) {
    let case = plain(dtype);
    let mut r = Random(3);
    let mut b = Bench::new(&kernels(2, op));
    let es = dtype.bytes() as usize;
    let data: Vec<u8> = (0..case.bytes() / es).flat_map(|_| make(&mut r)).collect();
    let target = b.buffer(&data);
    let map = case.map(target);
    let bytes = map.box_bytes() as usize;
    let source: Vec<u8> = (0..bytes / es).flat_map(|_| make(&mut r)).collect();
    let from = b.buffer(&source);
    case.params(&mut b, &map.encode(), from, bytes as u32);
    b.launch_clean("store", [1; 3], [128, 1, 1]);
    let mut expected = data;
    for (shared, global) in case.elements() {
        if let Some(g) = global {
            let new = host(&expected[g..g + es], &source[shared..shared + es]);
            expected[g..g + es].copy_from_slice(&new);
        }
    }
    assert!(b.read(target, expected.len()) == expected, "{op} of {dtype:?}");
}

fn u32_of(b: &[u8]) -> u32 {
    u32::from_le_bytes(b.try_into().expect("4 bytes"))
}

fn u64_of(b: &[u8]) -> u64 {
    u64::from_le_bytes(b.try_into().expect("8 bytes"))
}

fn u16_of(b: &[u8]) -> u16 {
    u16::from_le_bytes(b.try_into().expect("2 bytes"))
}

#[test]
fn reductions_reach_every_element_once() {
    let word = |r: &mut Random| (r.next() as u32).to_le_bytes().to_vec();
    let long = |r: &mut Random| r.next().to_le_bytes().to_vec();
    let with32 = |f: fn(u32, u32) -> u32| {
        move |a: &[u8], b: &[u8]| f(u32_of(a), u32_of(b)).to_le_bytes().to_vec()
    };
    let with64 = |f: fn(u64, u64) -> u64| {
        move |a: &[u8], b: &[u8]| f(u64_of(a), u64_of(b)).to_le_bytes().to_vec()
    };
    reduces(DataType::Uint32, "add", word, with32(u32::wrapping_add));
    reduces(DataType::Uint32, "and", word, with32(|a, b| a & b));
    reduces(DataType::Uint32, "or", word, with32(|a, b| a | b));
    reduces(DataType::Uint32, "xor", word, with32(|a, b| a ^ b));
    reduces(DataType::Uint32, "min", word, with32(u32::min));
    reduces(DataType::Int32, "max", word, with32(|a, b| (a as i32).max(b as i32) as u32));
    reduces(DataType::Uint32, "inc", word, with32(|a, b| if a >= b { 0 } else { a + 1 }));
    let dec = with32(|a, b| if a == 0 || a > b { b } else { a - 1 });
    reduces(DataType::Uint32, "dec", word, dec);
    reduces(DataType::Uint64, "add", long, with64(u64::wrapping_add));
    reduces(DataType::Int64, "min", long, with64(|a, b| (a as i64).min(b as i64) as u64));
    // Sums of small integers are exact in every type.
    let float = |r: &mut Random| (r.below(200) as f32 - 100.0).to_le_bytes().to_vec();
    reduces(DataType::Float32, "add", float, |a, b| {
        (f32::from_bits(u32_of(a)) + f32::from_bits(u32_of(b))).to_le_bytes().to_vec()
    });
    let half =
        |r: &mut Random| half::f16::from_f32(r.below(2000) as f32 / 64.0).to_le_bytes().to_vec();
    reduces(DataType::Float16, "add", half, |a, b| {
        let (a, b) = (half::f16::from_bits(u16_of(a)), half::f16::from_bits(u16_of(b)));
        half::f16::from_f64(a.to_f64() + b.to_f64()).to_le_bytes().to_vec()
    });
    let brain =
        |r: &mut Random| half::bf16::from_f32(r.below(2000) as f32 - 999.0).to_le_bytes().to_vec();
    reduces(DataType::Bfloat16, "add", brain, |a, b| {
        let (a, b) = (half::bf16::from_bits(u16_of(a)), half::bf16::from_bits(u16_of(b)));
        half::bf16::from_f64(a.to_f64() + b.to_f64()).to_le_bytes().to_vec()
    });
    reduces(DataType::Bfloat16, "max", brain, |a, b| {
        let (a, b) = (half::bf16::from_bits(u16_of(a)), half::bf16::from_bits(u16_of(b)));
        (if a >= b { a } else { b }).to_le_bytes().to_vec()
    });
}

/// Runs `load` or `store` on a case that `change` spoils.
fn spoiled(
    kernel: &str,
    text: impl Fn(String) -> String,
    change: impl FnOnce(&mut Bench, &mut Case, &mut Vec<u8>, &mut u32),
) -> Report {
    let mut case = plain(DataType::Uint32);
    let mut b = Bench::new(&text(kernels(2, "")));
    let data = vec![1; case.bytes()];
    let address = b.buffer(&data);
    let map = case.map(address);
    let mut encoded = map.encode().to_vec();
    let mut bytes = map.box_bytes();
    let out = b.buffer(&vec![0; 65536]);
    change(&mut b, &mut case, &mut encoded, &mut bytes);
    case.params(&mut b, &encoded, out, bytes);
    b.launch(kernel, [1; 3], [128, 1, 1])
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    let mut kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn same(text: String) -> String {
    text
}

#[test]
fn a_good_case_has_no_finding() {
    for kernel in ["load", "store"] {
        let report = spoiled(kernel, same, |_, _, _, _| {});
        assert!(report.is_clean(), "{report:?}");
    }
}

#[test]
fn bad_maps_and_addresses() {
    use FindingKind::*;
    let report = spoiled("load", same, |_, _, map, _| map[40] ^= 1);
    assert_eq!(kinds(&report), [Deadlock, BadDescriptor, TransactionCount]);
    let report = spoiled("store", same, |_, _, map, _| map.fill(0));
    assert_eq!(kinds(&report), [BadDescriptor]);
    let report = spoiled("load", same, |_, case, _, _| case.offset = 64);
    assert_eq!(kinds(&report), [Misaligned]);
    let report = spoiled("load", same, |_, case, _, bytes| {
        case.offset = SHARED_BYTES;
        *bytes = 512;
    });
    assert!(kinds(&report).contains(&OutOfBounds), "{report:?}");
    // The map says that there are more rows than the allocation has.
    for kernel in ["load", "store"] {
        let report = spoiled(kernel, same, |b, case, map, _| {
            case.coordinates = vec![0, 16];
            let small = b.buffer(&vec![0; 128 * 17]);
            case.dims[1] = 4000;
            *map = case.map(small).encode().to_vec();
        });
        assert_eq!(kinds(&report), [OutOfBounds], "{report:?}");
    }
    // Memory that nothing wrote.
    let report = spoiled("load", same, |b, case, map, _| {
        *map = case.map(b.unwritten(4096)).encode().to_vec();
    });
    assert_eq!(kinds(&report), [UninitialisedGlobal]);
    // A map of another rank.
    let text = |t: String| t.replace(".2d.", ".1d.").replace("{%c0, %c1}", "{%c0}");
    let report = spoiled("store", text, |_, _, _, _| {});
    assert_eq!(kinds(&report), [BadDescriptor]);
}

#[test]
fn wrong_byte_counts() {
    use FindingKind::*;
    // Too many announced: nobody gets on.
    let more = |t: String| t.replace("_, [%bar], %n", "_, [%bar], 1024");
    let report = spoiled("load", more, |_, _, _, _| {});
    assert_eq!(kinds(&report), [Deadlock, TransactionCount]);
    let text = report.errors().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("expect 1024 bytes and got 512"), "{text}");
    // Too few.
    let fewer = |t: String| t.replace("_, [%bar], %n", "_, [%bar], 496");
    let report = spoiled("load", fewer, |_, _, _, _| {});
    assert_eq!(kinds(&report), [Deadlock, TransactionCount]);
    // One of two copies is not announced: it arrives when the phase may be over.
    let twice = |t: String| {
        let line =
            t.lines().find(|l| l.contains("complete_tx::bytes")).expect("the copy").to_owned();
        t.replace(&line, &format!("{line}\n{line}"))
    };
    let report = spoiled("load", twice, |_, _, _, _| {});
    assert!(kinds(&report).contains(&TransactionCount), "{report:?}");
}

#[test]
fn missing_synchronisation() {
    use FindingKind::*;
    let unwaited = |t: String| {
        t.replace("    @!%p1 bra W;\n", "").replacen(
            "W:  mbarrier.try_wait",
            "W:  mbarrier.test_wait",
            1,
        )
    };
    let report = spoiled("load", unwaited, |_, _, _, _| {});
    assert!(kinds(&report).contains(&Race), "{report:?}");
    let unfenced = |t: String| t.replace("    @%p0 fence.mbarrier_init.release.cluster;\n", "");
    // The block's own copies use its mbarriers through the generic proxy (PTX ISA 9.7.9.25); only other
    // blocks' need the fence: see `pipeline`.
    let report = spoiled("load", unfenced, |_, _, _, _| {});
    assert_eq!(kinds(&report), []);
    let unfenced = |t: String| t.replace("fence.proxy.async.shared::cta;\n", "bar.warp.sync -1;\n");
    let report = spoiled("store", unfenced, |_, _, _, _| {});
    assert_eq!(kinds(&report), [MissingProxyFence]);
    let unordered = |t: String| {
        t.replace(
            "fence.proxy.async.shared::cta;\n    bar.sync 0;",
            "fence.proxy.async.shared::cta;",
        )
    };
    let report = spoiled("store", unordered, |_, _, _, _| {});
    assert!(kinds(&report).contains(&Race), "{report:?}");
    // The block ends while the store may still read.
    let unwaited = |t: String| t.replace("    @%p0 cp.async.bulk.wait_group 0;\n", "");
    let report = spoiled("store", unwaited, |_, _, _, _| {});
    assert_eq!(kinds(&report), [ClusterExit]);
    let read = |t: String| t.replace("bulk.wait_group 0", "bulk.wait_group.read 0");
    let report = spoiled("store", read, |_, _, _, _| {});
    assert!(report.is_clean(), "{report:?}");
    // The source is written again before it is read.
    let reused = |t: String| {
        t.replace(
            "    @%p0 cp.async.bulk.commit_group;\n",
            "    @%p0 cp.async.bulk.commit_group;\n    @%p0 st.shared.u32 [%smem], 0;\n",
        )
    };
    let report = spoiled("store", reused, |_, _, _, _| {});
    assert_eq!(kinds(&report), [Race]);
}

#[test]
fn the_source_of_a_late_store_is_read_when_it_is_waited_for() {
    let reused = |t: String| {
        t.replace(
            "    @%p0 cp.async.bulk.commit_group;\n",
            "    @%p0 cp.async.bulk.commit_group;\n    @%p0 st.shared.u32 [%smem], 77;\n",
        )
    };
    for (schedule, expected) in [(Schedule::Late, 77), (Schedule::Eager, 5)] {
        let case = Case { coordinates: vec![0, 0], ..plain(DataType::Uint32) };
        let mut b = Bench::new(&reused(kernels(2, "")));
        let target = b.buffer(&vec![0; case.bytes()]);
        let source = b.buffer(&5u32.to_le_bytes().repeat(128));
        case.params(&mut b, &case.map(target).encode(), source, 512);
        b.schedule(schedule);
        b.launch("store", [1; 3], [128, 1, 1]);
        assert_eq!(b.read_u32(target, 2), [expected, 5]);
    }
}

#[test]
fn what_is_refused_is_refused_by_name() {
    let text = kernels(3, "").replace(
        "global.tile.mbarrier::complete_tx::bytes [%smem], [%map, {%c0, %c1, %c2}], [%bar];",
        "global.im2col.mbarrier::complete_tx::bytes [%smem], [%map, {%c0, %c1, %c2}], [%bar], {%h0};",
    );
    let text = text.replace(".reg .pred %p<4>;", ".reg .pred %p<4>;\n    .reg .b16 %h<2>;");
    let module = zeroforge_ptx::parse(&text).expect("parses");
    let memory = zeroforge_emulator::DeviceMemory::new(1 << 20);
    let error = zeroforge_emulator::Program::load(&module, &memory).expect_err("refused");
    assert!(error.to_string().contains("im2col mode is not emulated"), "{error}");
}

/// Block 0 sends its box to all blocks, each of which waits on its own mbarrier.
#[test]
fn multicast_reaches_every_block_and_its_mbarrier() {
    let text = kernels(2, "").replace(
        ".mbarrier::complete_tx::bytes [%smem], [%map, {%c0, %c1}], [%bar];",
        ".mbarrier::complete_tx::bytes.multicast::cluster [%smem], [%map, {%c0, %c1}], [%bar], %h0;",
    );
    let text = text.replace(".reg .pred %p<4>;", ".reg .pred %p<4>;\n    .reg .b16 %h<2>;");
    let text = text
        .replacen("    bar.sync 0;", "    barrier.cluster.arrive.aligned;\n    barrier.cluster.wait.aligned;\n    mov.u16 %h0, 11;\n    mov.u32 %r9, %cluster_ctarank;\n    setp.eq.u32 %p3, %r9, 0;", 1)
        .replacen("@%p0 cp.async.bulk.tensor.2d", "@%p3 cp.async.bulk.tensor.2d", 1);
    // One thread of block 0 only.
    let text = text.replacen(
        "setp.eq.u32 %p3, %r9, 0;",
        "add.u32 %r9, %r9, %t;\n    setp.eq.u32 %p3, %r9, 0;",
        1,
    );
    // Block 2 is not in the mask and must not wait.
    let text = text.replacen("W:  mbarrier", "mov.u32 %r9, %cluster_ctarank;\n    setp.eq.u32 %p2, %r9, 2;\n    @%p2 bra Q;\nW:  mbarrier", 1);
    let text = text.replacen(
        "E:  ret;",
        "E:  ret;\nQ:  @%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%bar], %n;\n    ret;",
        1,
    );
    // Blocks write to their own part of the output.
    let text = text.replacen("    ld.param.u32 %n, [bytes];", "    ld.param.u32 %n, [bytes];\n    mov.u32 %r9, %cluster_ctarank;\n    mul.wide.u32 %rd5, %r9, 4096;\n    add.u64 %out, %out, %rd5;", 1);
    for schedule in [Schedule::Late, Schedule::Eager, Schedule::Random(5), Schedule::Random(6)] {
        let case =
            Case { coordinates: vec![0, 0], swizzle: Swizzle::None, ..plain(DataType::Uint32) };
        let mut b = Bench::new(&text);
        let data: Vec<u8> = (0..case.bytes() as u32 / 4).flat_map(u32::to_le_bytes).collect();
        let source = b.buffer(&data);
        let out = b.buffer(&[0; 16384]);
        case.params(&mut b, &case.map(source).encode(), out, 512);
        b.cluster([4, 1, 1]).schedule(schedule);
        b.launch_clean("load", [4, 1, 1], [128, 1, 1]);
        let expected: Vec<u32> = (0..8).flat_map(|row| row * 32..row * 32 + 16).collect();
        for block in [0, 1, 3] {
            assert_eq!(b.read_u32(out + block * 4096, 128), expected, "block {block}");
        }
        assert_eq!(b.read_u32(out + 2 * 4096, 128), [0; 128]);
    }
}
