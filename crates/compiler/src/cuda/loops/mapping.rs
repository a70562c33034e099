//! Which thread computes which points.

use zeroforge_artifact::DType;

use super::vector::{Access, Along, Axis, Facts, accesses, choose, fills};
use crate::loop_analysis::{needed, stage_roots};
use crate::loop_ir::{Extent, Fold, InstId, InstKind, LoopKernel, Stage};

/// Threads of a warp.
pub(super) const WARP: i64 = 32;
/// Threads of a block of an elementwise kernel, of rows that warps share, and of columns.
const THREADS: i64 = 256;
/// Threads of a block whose warps have rows of their own.
const WARP_ROW_THREADS: i64 = 128;
/// Threads of the largest block: each may have 128 registers.
const MAX_THREADS: i64 = 512;
/// Blocks of the largest cluster that every device takes.
const MAX_CLUSTER: i64 = 8;
/// Blocks that keep a device busy.
const BUSY_BLOCKS: i64 = 128;
/// Points of a thread in an elementwise kernel, at least.
const ELEMENTWISE_POINTS: i64 = 8;
/// Points of a row that a thread keeps in registers, at most; halved where more values of each live on.
const HELD_POINTS: i64 = 32;
/// Threads' worth of a row's groups that one warp takes, at most.
const WARP_STEPS: i64 = 8;
/// Rows of columns from which several warps share them.
const SPLIT_COLUMN: i64 = 64;

/// Who shares what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No folds: every thread takes points of the whole space.
    Elementwise {
        /// Groups of a thread.
        groups: i64,
        /// Whether the space may end within a group.
        tail: bool,
    },
    /// Threads of a row take its groups in turn.
    Rows,
    /// A thread has neighbouring rows; lanes of a warp have neighbouring groups of rows and warps take the
    /// elements of a row in turn, so that what neighbours read lies side by side.
    Columns,
    /// Running sums: a warp per row, element by element.
    Scans,
}

/// How a kernel's points are spread over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) kind: Kind,
    /// The axis along which a thread's groups lie.
    pub(super) axis: Axis,
    /// Points of a group.
    pub(super) points: i64,
    /// Threads of a block.
    pub(super) threads: i64,
    /// Threads that share a row.
    pub(super) lanes: i64,
    /// Blocks that share a row, a cluster; 1 for all but long rows.
    pub(super) cluster: i64,
    /// Turns whose values stay in registers from one stage to the next; the turns after them read again.
    pub(super) held: i64,
}

impl Mapping {
    /// Points of the whole space (elementwise) or rows that a block takes.
    pub(super) fn tile(&self) -> i64 {
        match self.kind {
            Kind::Elementwise { groups, .. } => self.threads * self.points * groups,
            Kind::Columns => self.threads / self.lanes * self.points,
            Kind::Rows | Kind::Scans => (self.threads / self.lanes).max(1),
        }
    }

    /// Elements of a row that one turn of its threads covers.
    pub(super) fn turn(&self) -> i64 {
        if self.kind == Kind::Columns { self.lanes } else { self.lanes * self.points }
    }
}

fn extent_product(extents: &[Extent]) -> Option<i64> {
    extents.iter().try_fold(1i64, |p, e| match e {
        Extent::Const(n) => p.checked_mul(*n),
        Extent::Param(_) => None,
    })
}

fn needed_by_all(kernel: &LoopKernel) -> Vec<InstId> {
    let roots: Vec<InstId> = kernel.stages.iter().flat_map(stage_roots).collect();
    needed(&kernel.body, &roots)
}

/// Blocks that share a row of so many groups: more than one where the rows are few and long, or where one block's
/// registers do not hold `held` groups per thread and more blocks' do.
fn blocks_of_row(kernel: &LoopKernel, groups: i64, held: i64) -> i64 {
    // Symbolic sizes count as one: at least as many rows there are.
    let known = kernel.outer.iter().filter_map(|e| match e {
        Extent::Const(n) => Some(*n),
        Extent::Param(_) => None,
    });
    let rows = known.fold(1i64, i64::saturating_mul);
    let mut blocks = 1;
    while blocks < MAX_CLUSTER {
        let idle = rows.saturating_mul(blocks) < BUSY_BLOCKS && groups / blocks >= 4 * THREADS;
        let overflows = groups > blocks * MAX_THREADS * held;
        if !idle && !overflows {
            break;
        }
        blocks *= 2;
    }
    blocks
}

/// Turns in which `threads` take as many groups.
fn turns_of(groups: i64, threads: i64) -> i64 {
    (groups + threads - 1) / threads
}

/// The mapping of a kernel. `levels` says which instructions vary within a row.
pub(super) fn map(kernel: &LoopKernel, levels: &[usize]) -> Mapping {
    let insts = needed_by_all(kernel);
    let last = kernel.inner.len() - 1;
    let axis = Axis::Inner(last as u32);
    let extent = kernel.inner[last];
    if kernel.is_elementwise() {
        let tail = last == 0 && extent_product(&kernel.outer) == Some(1);
        let points = choose(kernel, &insts, axis, extent, tail);
        let tail = !fills(kernel, extent, points);
        // The end of the space is code of its own, once.
        let groups = if tail { 1 } else { (ELEMENTWISE_POINTS / points.max(2)).max(1) };
        let kind = Kind::Elementwise { groups, tail };
        return Mapping { kind, axis, points, threads: THREADS, lanes: 1, cluster: 1, held: 0 };
    }
    if kernel.stages.iter().any(|s| matches!(s, Stage::Reduce { fold: Fold::Scan, .. })) {
        let threads = WARP_ROW_THREADS;
        return Mapping {
            kind: Kind::Scans,
            axis,
            points: 1,
            threads,
            lanes: WARP,
            cluster: 1,
            held: 0,
        };
    }
    let length = extent_product(&kernel.inner);
    if let Some(outer) = kernel.outer.len().checked_sub(1)
        && columns_are_neighbours(kernel, &insts, levels)
    {
        let axis = Axis::Outer(outer as u32);
        let points = choose(kernel, &insts, axis, kernel.outer[outer], false);
        let lanes = if length.is_some_and(|n| n < SPLIT_COLUMN) { 1 } else { THREADS / WARP };
        let held = if reads_again(kernel) { length.map_or(0, |n| turns_of(n, lanes)) } else { 0 };
        let held = if held * points <= HELD_POINTS { held } else { 0 };
        return Mapping {
            kind: Kind::Columns,
            axis,
            points,
            threads: THREADS,
            lanes,
            cluster: 1,
            held,
        };
    }
    let points = choose(kernel, &insts, axis, extent, false);
    let again = reads_again(kernel);
    let budget = (HELD_POINTS / points).max(1);
    let (threads, lanes, cluster, steps) = match length {
        Some(n) => {
            let groups = (n / points).max(1);
            if groups <= WARP * WARP_STEPS.min(budget) {
                let lanes = (groups as u64).next_power_of_two().min(WARP as u64) as i64;
                (WARP_ROW_THREADS, lanes, 1, turns_of(groups, lanes))
            } else {
                let cluster = blocks_of_row(kernel, groups, if again { budget } else { groups });
                let groups = turns_of(groups, cluster);
                // As few turns as keep about THREADS threads busy, and as many as registers hold.
                let turns = turns_of(groups, THREADS).min(budget);
                // The results of four warps are read at once.
                let threads = turns_of(turns_of(groups, turns), 4 * WARP) * 4 * WARP;
                let threads = threads.min(MAX_THREADS);
                (threads, threads * cluster, cluster, turns_of(groups, threads).min(budget))
            }
        }
        None => (THREADS, THREADS, 1, budget / 2),
    };
    let held = if again { steps.max(1) } else { 0 };
    Mapping { kind: Kind::Rows, axis, points, threads, lanes, cluster, held }
}

/// Whether a stage needs elements that an earlier stage has read.
fn reads_again(kernel: &LoopKernel) -> bool {
    let mut seen: Vec<InstId> = Vec::new();
    for stage in &kernel.stages {
        let insts = needed(&kernel.body, &stage_roots(stage));
        let loads =
            insts.iter().filter(|&&id| matches!(kernel.body.inst(id).kind, InstKind::Load { .. }));
        let loads: Vec<InstId> = loads.copied().collect();
        if loads.iter().any(|id| seen.contains(id)) {
            return true;
        }
        seen.extend(loads);
    }
    false
}

/// Whether the elements that a row's loops read lie side by side along the last outer axis rather than along the row.
fn columns_are_neighbours(kernel: &LoopKernel, insts: &[InstId], levels: &[usize]) -> bool {
    let (outer, inner) = (kernel.outer.len() - 1, kernel.inner.len() - 1);
    let enough = match kernel.outer[outer] {
        Extent::Const(n) => n >= 8,
        Extent::Param(_) => true,
    };
    if !enough {
        return false;
    }
    // Steps of a pair show neighbours as well as those of any group.
    let along_row = Facts::new(kernel, Axis::Inner(inner as u32), 2);
    let along_outer = Facts::new(kernel, Axis::Outer(outer as u32), 2);
    let (mut by_row, mut by_outer) = (0, 0);
    for (operand, index, guard) in accesses(kernel, insts) {
        let varies =
            levels[index.0 as usize] > 0 && kernel.operands[operand as usize].dtype != DType::Bool;
        if !varies || along_row.access(kernel, operand, index, guard) == Access::Same {
            continue;
        }
        by_row += i64::from(along_row.get(index).along == Along::Steps(1));
        by_outer += i64::from(along_outer.get(index).along == Along::Steps(1));
    }
    let short = extent_product(&kernel.inner).is_some_and(|n| n <= 16);
    by_outer > by_row || (by_outer > 0 && by_outer == by_row && short)
}
