//! Kernels with folds: rows, their stages, and what is held between them.

use std::fmt::Write;

use zeroforge_artifact::DType;

use super::group::Context;
use super::mapping::{Kind, WARP};
use super::{Printer, constant_product, product, unravel};
use crate::c_expression::{compute_type, definition, operands, to_memory, var};
use crate::loop_analysis::{needed, reads_acc, stage_roots};
use crate::loop_ir::{Extent, Fold, InstId, InstKind, Stage};

/// The function object that combines two partial results.
pub(super) fn functor(fold: Fold) -> &'static str {
    match fold {
        Fold::Sum | Fold::Scan => "zf::Sum()",
        Fold::Prod => "zf::Prod()",
        Fold::Max => "zf::Max()",
        Fold::Min => "zf::Min()",
        Fold::Any => "zf::Or()",
        Fold::All => "zf::And()",
        Fold::ArgMax => "zf::First<true>()",
        Fold::ArgMin => "zf::First<false>()",
    }
}

/// The type of partial results, and the value of none.
fn partial(fold: Fold, dtype: DType) -> (String, &'static str) {
    let (lowest, highest) = match dtype {
        DType::F32 | DType::F64 => ("-ZF_INF", "ZF_INF"),
        DType::I64 => ("INT64_MIN", "INT64_MAX"),
        DType::Bool => ("0", "1"),
        _ => ("INT32_MIN", "INT32_MAX"),
    };
    let ty = compute_type(dtype);
    match fold {
        Fold::Sum | Fold::Scan | Fold::Any => (ty.to_owned(), "0"),
        Fold::Prod | Fold::All => (ty.to_owned(), "1"),
        Fold::Max => (ty.to_owned(), lowest),
        Fold::Min => (ty.to_owned(), highest),
        Fold::ArgMax | Fold::ArgMin => (format!("zf::Extreme<{ty}>"), "{0, -1}"),
    }
}

impl Printer<'_> {
    pub(super) fn rows(&self, c: &mut String) -> std::fmt::Result {
        let body = &self.kernel.body;
        self.place(c)?;
        unravel(c, "row", 'o', &self.kernel.outer, self.narrow)?;
        let held = self.held_values();
        for id in held.iter().flatten() {
            let ty = compute_type(body.inst(*id).dtype);
            let count = self.mapping.held * self.mapping.points;
            // Turns past the end of the row are never read; compilers copy them all the same.
            writeln!(c, "    {ty} held{}[{count}] = {{}};", id.0)?;
        }
        let mut at_row = vec![false; body.insts.len()];
        let mut accs = 0;
        let mut ready: Vec<InstId> = Vec::new();
        let mut stages = self.kernel.stages.iter().enumerate().peekable();
        while let Some((at, stage)) = stages.next() {
            let mut roots = stage_roots(stage);
            let scan_store = match (stage, stages.peek()) {
                (Stage::Reduce { fold: Fold::Scan, .. }, Some((_, store))) => {
                    roots.extend(stage_roots(store));
                    stages.next()
                }
                _ => None,
            };
            let insts = needed(body, &roots);
            for &id in &insts {
                let of_scan = scan_store.is_some() && reads_acc(body, id, accs);
                if self.of_row(id) && !at_row[id.0 as usize] && !of_scan {
                    at_row[id.0 as usize] = true;
                    writeln!(c, "    {} (void){};", definition(body, id, &self.names), var(id))?;
                }
            }
            match stage {
                Stage::Reduce { fold: Fold::Scan, value } => {
                    self.scan(c, *value, scan_store.map(|(_, s)| s), accs, &insts)?;
                    accs += 1;
                }
                Stage::Reduce { fold, value } => {
                    self.reduce(c, *fold, *value, stage, accs, (&ready, &held[at]))?;
                    accs += 1;
                }
                Stage::Store { .. } => self.store(c, stage, (&ready, &held[at]))?,
            }
            ready.extend(&held[at]);
        }
        if self.mapping.cluster > 1 {
            writeln!(c, "    zf::leave_cluster();")?;
        }
        Ok(())
    }

    /// The row of this thread, its place among the threads of the row, and the row's length.
    fn place(&self, c: &mut String) -> std::fmt::Result {
        let (threads, lanes) = (self.mapping.threads, self.mapping.lanes);
        let (rows, length) = (product(&self.kernel.outer), product(&self.kernel.inner));
        match self.mapping.kind {
            Kind::Columns => {
                let (across, points) = (threads / lanes, self.mapping.points);
                writeln!(
                    c,
                    "    const int64_t first_row = ((int64_t)blockIdx.x * {across} + threadIdx.x % {across}) * {points}, lane = threadIdx.x / {across};"
                )?;
                // Threads past the end stay for the barriers, with a row of no elements.
                writeln!(c, "    const bool inside = first_row < {rows};")?;
                writeln!(c, "    const int64_t row = inside ? first_row : 0;")?;
                writeln!(c, "    const int64_t row_length = inside ? {length} : 0;")?;
                if lanes > 1 {
                    // One place for every row of the block and warp; i64 values with an index are the widest.
                    let bytes = 16 * threads * points;
                    writeln!(c, "    __shared__ __align__(16) unsigned char scratch[{bytes}];")?;
                }
            }
            _ if lanes > WARP => {
                let bytes = 16 * threads / WARP;
                writeln!(c, "    __shared__ __align__(16) unsigned char scratch[{bytes}];")?;
                let cluster = self.mapping.cluster;
                if cluster > 1 {
                    let folds =
                        self.kernel.stages.iter().filter(|s| matches!(s, Stage::Reduce { .. }));
                    let bytes = 16 * folds.count();
                    writeln!(c, "    __shared__ __align__(16) unsigned char slots[{bytes}];")?;
                }
                writeln!(
                    c,
                    "    const int64_t row = blockIdx.x / {cluster}, lane = blockIdx.x % {cluster} * {threads} + threadIdx.x;"
                )?;
                writeln!(c, "    const int64_t row_length = {length};")?;
            }
            _ => {
                writeln!(c, "    void *const scratch = 0; (void)scratch;")?;
                writeln!(
                    c,
                    "    const int64_t row = (int64_t)blockIdx.x * {} + threadIdx.x / {lanes}, lane = threadIdx.x % {lanes};",
                    threads / lanes
                )?;
                writeln!(
                    c,
                    "    const uint32_t members = __ballot_sync(0xffffffffu, row < {rows}); (void)members;"
                )?;
                writeln!(c, "    if (row >= {rows}) return;")?;
                writeln!(c, "    const int64_t row_length = {length};")?;
            }
        }
        Ok(())
    }

    /// Per stage, what it computes from memory that later stages need again.
    fn held_values(&self) -> Vec<Vec<InstId>> {
        let body = &self.kernel.body;
        let mut held: Vec<Vec<InstId>> = vec![Vec::new(); self.kernel.stages.len()];
        if self.mapping.held == 0 {
            return held;
        }
        // Values that depend on an element of the row.
        let mut from_memory = vec![false; body.insts.len()];
        for (i, inst) in body.insts.iter().enumerate() {
            let id = InstId(i as u32);
            let read = matches!(inst.kind, InstKind::Load { .. })
                || operands(&inst.kind).iter().any(|o| from_memory[o.0 as usize]);
            from_memory[i] = read && self.levels[i] > 0 && !self.facts.same(id);
        }
        let mut computed_in: Vec<Option<usize>> = vec![None; body.insts.len()];
        for (at, stage) in self.kernel.stages.iter().enumerate() {
            let mut pending = stage_roots(stage);
            let mut seen = vec![false; body.insts.len()];
            while let Some(id) = pending.pop() {
                let i = id.0 as usize;
                if std::mem::replace(&mut seen[i], true) || self.of_row(id) {
                    continue;
                }
                if let Some(earlier) = computed_in[i].filter(|&s| s < at) {
                    if from_memory[i] {
                        if !held[earlier].contains(&id) {
                            held[earlier].push(id);
                        }
                        continue;
                    }
                } else {
                    computed_in[i] = Some(at);
                }
                pending.extend(operands(&body.inst(id).kind));
            }
        }
        held
    }

    /// The loops of a thread over its groups of the row: first those whose values are held, then the rest.
    fn turns(
        &self,
        c: &mut String,
        stage: &Stage,
        acc: u32,
        (ready, hold): (&[InstId], &[InstId]),
    ) -> std::fmt::Result {
        let mapping = &self.mapping;
        let (held, turn) = (mapping.held, mapping.turn());
        let width = if mapping.kind == Kind::Columns { 1 } else { mapping.points };
        let length = constant_product(&self.kernel.inner);
        let extents = &self.kernel.inner;
        if held > 0 {
            let exact = length.is_some_and(|n| n == held * turn) && mapping.kind == Kind::Rows;
            let inside = if exact { "" } else { "    if (at < row_length)\n" };
            writeln!(c, "#pragma unroll\n    for (int step = 0; step < {held}; ++step) {{")?;
            writeln!(c, "    const int64_t at = (step * {} + lane) * {width};", mapping.lanes)?;
            writeln!(c, "{inside}    {{")?;
            unravel(c, "at", 'i', extents, self.narrow)?;
            self.group(c, &[stage], &Context { in_row: true, held: ready, hold, acc })?;
            writeln!(c, "    }}\n    }}")?;
        }
        if held == 0 || length.is_none_or(|n| n > held * turn) {
            writeln!(c, "#pragma unroll 4")?;
            writeln!(
                c,
                "    for (int64_t at = {} + lane * {width}; at < row_length; at += {turn}) {{",
                held * turn
            )?;
            unravel(c, "at", 'i', extents, self.narrow)?;
            self.group(c, &[stage], &Context { in_row: true, acc, ..Context::default() })?;
            writeln!(c, "    }}")?;
        }
        Ok(())
    }

    fn reduce(
        &self,
        c: &mut String,
        fold: Fold,
        value: InstId,
        stage: &Stage,
        acc: u32,
        values: (&[InstId], &[InstId]),
    ) -> std::fmt::Result {
        let dtype = self.kernel.body.inst(value).dtype;
        let (ty, none) = partial(fold, dtype);
        let arg = matches!(fold, Fold::ArgMax | Fold::ArgMin);
        let op = functor(fold);
        let (lanes, points) = (self.mapping.lanes, self.mapping.points);
        let result = if arg { "int64_t" } else { compute_type(dtype) };
        let index = if arg { ".index" } else { "" };
        if self.names.columns {
            writeln!(c, "    {ty} part{acc}[{points}];")?;
            writeln!(
                c,
                "#pragma unroll\n    for (int e = 0; e < {points}; ++e) part{acc}[e] = {none};"
            )?;
            self.turns(c, stage, acc, values)?;
            if lanes > 1 {
                writeln!(c, "    zf::fold_columns<{lanes}>(part{acc}, {op}, scratch);")?;
            }
            writeln!(c, "    {result} acc{acc}[{points}];")?;
            return writeln!(
                c,
                "#pragma unroll\n    for (int e = 0; e < {points}; ++e) acc{acc}[e] = part{acc}[e]{index};"
            );
        }
        writeln!(c, "    {ty} part{acc} = {none};")?;
        self.turns(c, stage, acc, values)?;
        let (threads, cluster) = (self.mapping.threads, self.mapping.cluster);
        let folded = match lanes {
            _ if cluster > 1 => format!(
                "zf::fold_cluster<{threads}, {cluster}>(part{acc}, {op}, scratch, slots + 16 * {acc})"
            ),
            _ if lanes > WARP => {
                format!("zf::fold<{lanes}>(part{acc}, {op}, scratch, 0xffffffffu)")
            }
            _ => format!("zf::fold<{lanes}>(part{acc}, {op}, scratch, members)"),
        };
        writeln!(c, "    const {result} acc{acc} = {folded}{index};")
    }

    fn store(
        &self,
        c: &mut String,
        stage: &Stage,
        values: (&[InstId], &[InstId]),
    ) -> std::fmt::Result {
        // A store that no inner index reaches happens once per row.
        if !stage_roots(stage).iter().all(|&id| self.levels[id.0 as usize] == 0) {
            return self.turns(c, stage, 0, values);
        }
        let inside = if self.names.columns { " && inside" } else { "" };
        writeln!(c, "    if (lane == 0{inside}) {{")?;
        // No index of the row is defined here, and none is used.
        if !self.names.columns {
            writeln!(c, "    const int64_t {} = 0;", self.walking())?;
        }
        self.group(c, &[stage], &Context { in_row: true, ..Context::default() })?;
        writeln!(c, "    }}")
    }

    fn level(&self, id: InstId) -> usize {
        self.levels[id.0 as usize]
    }

    fn scan(
        &self,
        c: &mut String,
        value: InstId,
        store: Option<&Stage>,
        acc: u32,
        insts: &[InstId],
    ) -> std::fmt::Result {
        let body = &self.kernel.body;
        let extents: &[Extent] = &self.kernel.inner;
        let ty = compute_type(body.inst(value).dtype);
        let after = |id: &InstId| reads_acc(body, *id, acc);
        let define = |c: &mut String, id: InstId| {
            writeln!(c, "    {} (void){};", definition(body, id, &self.names), var(id))
        };
        writeln!(c, "    {ty} carry{acc} = 0;")?;
        // Every lane takes part in the warp's scan, also past the end.
        writeln!(c, "    for (int64_t base = 0; base < row_length; base += 32) {{")?;
        writeln!(c, "    const int64_t at = base + lane;")?;
        writeln!(c, "    {ty} element = 0;")?;
        writeln!(c, "    if (at < row_length) {{")?;
        unravel(c, "at", 'i', extents, self.narrow)?;
        for &id in insts.iter().filter(|id| self.level(**id) > 0 && !after(id)) {
            define(c, id)?;
        }
        writeln!(c, "    element = {};\n    }}", var(value))?;
        writeln!(c, "    const {ty} acc{acc} = carry{acc} + zf::scan(element);")?;
        writeln!(c, "    carry{acc} = __shfl_sync(0xffffffffu, acc{acc}, 31);")?;
        if let Some(Stage::Store { operand, index, value, guard }) = store {
            let stage = stage_roots_of(*index, *value, *guard);
            writeln!(c, "    if (at < row_length) {{")?;
            unravel(c, "at", 'i', extents, self.narrow)?;
            for id in needed(body, &stage) {
                if self.level(id) > 0 || after(&id) {
                    define(c, id)?;
                }
            }
            let dtype = self.kernel.operands[*operand as usize].dtype;
            let converted = to_memory(dtype, body.inst(*value).dtype, &var(*value));
            let guard = guard.map(|g| format!("if ({}) ", var(g))).unwrap_or_default();
            writeln!(c, "    {guard}p{operand}[{}] = {converted};", var(*index))?;
            writeln!(c, "    }}")?;
        }
        writeln!(c, "    }}")
    }
}

fn stage_roots_of(index: InstId, value: InstId, guard: Option<InstId>) -> Vec<InstId> {
    [index, value].into_iter().chain(guard).collect()
}
