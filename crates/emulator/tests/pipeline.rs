//! A warp-specialised pipeline compiled from CUDA C++: multicast loads in pairs of blocks, producer and consumer
//! warpgroups, setmaxnreg, a tensor store. It is right and clean under every schedule, and each planted mistake
//! is found.

mod harness;

use harness::Bench;
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TensorMap, TiledArguments,
};
use zeroforge_emulator::{FindingKind, Report, Schedule};

const TILES: u32 = 8;
const PAIRS: u32 = 2;

fn map(address: u64, dims: [u64; 2], box_dims: [u32; 2], swizzle: Swizzle) -> [u8; 128] {
    let map = TensorMap::tiled(&TiledArguments {
        dtype: DataType::Float32,
        address,
        dims: &dims,
        strides: &[dims[0] * 4],
        box_dims: &box_dims,
        element_strides: &[1, 1],
        interleave: Interleave::None,
        swizzle,
        l2_promotion: L2Promotion::None,
        oob_fill: OobFill::Zero,
    });
    map.expect("valid").encode()
}

fn run(bug: u32, schedule: Schedule) -> (Report, bool) {
    let mut b = Bench::new(include_str!("kernels/pipeline.ptx"));
    let columns = u64::from(PAIRS * 32);
    let rows = u64::from(TILES * 64);
    let value = |row: u64, column: u64| ((row * 7 + column * 13) % 101) as f32;
    let data: Vec<u8> =
        (0..rows).flat_map(|r| (0..columns).flat_map(move |c| value(r, c).to_le_bytes())).collect();
    let input = b.buffer(&data);
    let output = b.unwritten(PAIRS as usize * 128 * 32 * 4);
    b.param(&map(input, [columns, rows], [32, 32], Swizzle::Bytes128), 64)
        .param(&map(output, [32, u64::from(PAIRS) * 128], [32, 64], Swizzle::None), 64)
        .param_u32(TILES)
        .param_u32(bug)
        .cluster([2, 1, 1])
        .dynamic_shared(4 * 8192 + 1024)
        .schedule(schedule);
    let report = b.launch("pipeline", [PAIRS * 2, 1, 1], [384, 1, 1]);
    let out = b.read_f32(output, PAIRS as usize * 128 * 32);
    let right = out.iter().enumerate().all(|(i, &got)| {
        let (column, row) = (i as u64 % 32, i as u64 / 32);
        let (pair, rank, row) = (row / 128, row / 64 % 2, row % 64);
        let sum: f32 = (0..u64::from(TILES)).map(|t| value(t * 64 + row, pair * 32 + column)).sum();
        got == sum * (rank + 1) as f32
    });
    (report, right)
}

#[test]
fn clean_and_right_under_every_schedule() {
    let mut schedules = vec![Schedule::Late, Schedule::Eager];
    schedules.extend((0..100).map(Schedule::Random));
    for schedule in schedules {
        let (report, right) = run(0, schedule);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{schedule:?}:\n{}", errors.join("\n"));
        assert!(right, "{schedule:?}");
    }
}

/// The kinds found for a mistake, late and eagerly.
fn found(bug: u32) -> [Vec<FindingKind>; 2] {
    [Schedule::Late, Schedule::Eager].map(|schedule| {
        let (report, _) = run(bug, schedule);
        let mut kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    })
}

#[test]
fn planted_mistakes_are_found_whatever_the_schedule() {
    use FindingKind::*;
    for (bug, name, kind) in [
        (1, "no tail", ClusterExit),
        (2, "slot released before it is read", Race),
        (3, "wrong parity", Race),
        (4, "the other block's slot is not released", Deadlock),
        (5, "no proxy fence before the store", MissingProxyFence),
        (6, "no wait for the store", ClusterExit),
        (7, "too few bytes announced", TransactionCount),
        (8, "no fence after init", MissingProxyFence),
        (9, "slot released twice", PhaseOverrun),
        (10, "no wait for the load", Race),
        (11, "the multicast leaves a block out", Deadlock),
        (12, "registers are not given", Deadlock),
    ] {
        for kinds in found(bug) {
            assert!(kinds.contains(&kind), "{name}: {kind:?} not among {kinds:?}");
        }
    }
}

#[test]
fn a_deadlock_says_where_everybody_stands() {
    let (report, _) = run(11, Schedule::Late);
    let text = report.errors().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("pipeline.cu:"), "{text}");
    assert!(text.contains("was told to expect 8192 bytes and got 4096"), "{text}");
    assert!(text.contains("waits for 0 of 1 arrivals and 4096 bytes"), "{text}");
}
