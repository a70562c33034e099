//! Occupancy: what fits on an SM and on the card.

use zeroforge_emulator::LaunchConfig;

use crate::abi::{BlockToShared, In, Out, call_block_to_shared};
use crate::error::{Error, Res};
use crate::launch;
use crate::state::{Function, State, lock};
use crate::types::{Handle, LaunchConfigC};

fn shape(threads: u32, shared: u32, cluster: [u32; 3]) -> LaunchConfig {
    LaunchConfig {
        grid: [1; 3],
        block: [threads, 1, 1],
        cluster,
        dynamic_shared: shared,
        params: Vec::new(),
    }
}

/// Blocks of a size on an SM.
fn per_sm(s: &State, f: &Function, threads: u32, shared: usize) -> Res<u32> {
    let most = f.max_dynamic()?;
    let Some(shared) = u32::try_from(shared).ok().filter(|&v| v <= most) else { return Ok(0) };
    if threads > f.max_threads()? {
        return Ok(0);
    }
    f.blocks_per_sm(&shape(threads, shared, [1; 3]), &s.spec.emulated())
}

fn active(function: Handle, block: i32, shared: usize, to: Out<i32>) -> Res<()> {
    let s = lock();
    s.active()?;
    let threads = u32::try_from(block).ok().filter(|&b| b > 0).ok_or(Error::INVALID_VALUE)?;
    to.set(per_sm(&s, s.function(function)?, threads, shared)? as i32)
}

fn potential(
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    of_block: Option<BlockToShared>,
    shared: usize,
    limit: i32,
) -> Res<()> {
    let (f, sm_count) = {
        let s = lock();
        s.active()?;
        (s.function(function)?.clone(), s.spec.sm_count)
    };
    let most = f.max_threads()?;
    let most = if limit > 0 { most.min(limit as u32) } else { most };
    let mut best = (0, 0, 0);
    for threads in (1..=most / 32).rev().map(|w| w * 32) {
        let mut bytes = shared;
        if let Some(ask) = of_block {
            crate::in_callback(|| bytes = call_block_to_shared(ask, threads as i32));
        }
        let blocks = per_sm(&lock(), &f, threads, bytes)?;
        if blocks * threads > best.0 {
            best = (blocks * threads, threads, blocks);
        }
    }
    grid.set((best.2 * sm_count) as i32)?;
    block.set(best.1 as i32)
}

/// Clusters of a launch that the card holds at once. On the full chip a GPC has up to 18 SMs.
fn clusters(s: &State, f: &Function, c: &LaunchConfigC, cluster: [u32; 3]) -> Res<u32> {
    let threads = c.block.iter().try_fold(1u32, |n, &b| n.checked_mul(b));
    let threads = threads.filter(|&t| t > 0).ok_or(Error::INVALID_VALUE)?;
    let size = cluster.iter().product::<u32>();
    let blocks = per_sm(s, f, threads, c.shared as usize)?;
    let gpcs = s.spec.sm_count.div_ceil(18);
    let sms = s.spec.sm_count / gpcs;
    Ok(sms * blocks / size * gpcs)
}

api! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        to: Out<i32>, function: Handle, block: i32, shared: usize,
    ) {
        active(function, block, shared, to)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        to: Out<i32>, function: Handle, block: i32, shared: usize, flags: u32,
    ) {
        if flags > 1 {
            return Err(Error::INVALID_VALUE);
        }
        active(function, block, shared, to)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<i32>, block: Out<i32>, function: Handle, of_block: Option<BlockToShared>,
        shared: usize, limit: i32,
    ) {
        potential(grid, block, function, of_block, shared, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<i32>, block: Out<i32>, function: Handle, of_block: Option<BlockToShared>,
        shared: usize, limit: i32, flags: u32,
    ) {
        if flags > 1 {
            return Err(Error::INVALID_VALUE);
        }
        potential(grid, block, function, of_block, shared, limit)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        to: Out<usize>, function: Handle, blocks: i32, block: i32,
    ) {
        let s = lock();
        s.active()?;
        let f = s.function(function)?;
        let (blocks, threads) = (u32::try_from(blocks), u32::try_from(block));
        let (Ok(blocks @ 1..), Ok(threads @ 1..)) = (blocks, threads) else {
            return Err(Error::INVALID_VALUE);
        };
        let fits = per_sm(&s, f, threads, 0)? >= blocks;
        let hw = s.spec.emulated();
        // Each block takes a kibibyte for the system and its static memory first.
        let each = (hw.shared_per_sm / blocks) / 128 * 128;
        let free = each.saturating_sub(1024 + f.kernel()?.static_shared);
        if !fits {
            return Err(Error::INVALID_VALUE);
        }
        to.set(free.min(f.max_dynamic()?) as usize)
    }

    fn cuOccupancyMaxPotentialClusterSize(to: Out<i32>, function: Handle, config: In<LaunchConfigC>) {
        let c = config.get()?;
        let s = lock();
        s.active()?;
        let f = s.function(function)?;
        let most = if f.non_portable_cluster() { 16 } else { 8 };
        let sizes = [16, 8, 4, 2, 1].into_iter().filter(|&n| n <= most);
        for size in sizes {
            if clusters(&s, f, &c, [size, 1, 1])? > 0 {
                return to.set(size as i32);
            }
        }
        to.set(0)
    }

    fn cuOccupancyMaxActiveClusters(to: Out<i32>, function: Handle, config: In<LaunchConfigC>) {
        let c = config.get()?;
        let s = lock();
        s.active()?;
        let f = s.function(function)?;
        let attributes = launch::attributes(c.attributes, c.count)?;
        let cluster = launch::cluster(f, &attributes)?;
        to.set(clusters(&s, f, &c, cluster)? as i32)
    }
}
