//! What a thread does with one group of neighbouring points: what they share once, packets of memory as a whole, the
//! rest point by point.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Printer;
use super::vector::Access;
use crate::c_expression::{
    compute_type, definition, from_memory, memory_type, operands, to_memory, var,
};
use crate::loop_ir::{Fold, InstId, InstKind, Stage};

/// What surrounds a group.
#[derive(Default)]
pub(super) struct Context<'a> {
    /// Whether what is the same for a row is already defined.
    pub(super) in_row: bool,
    /// Values that an earlier stage left in registers.
    pub(super) held: &'a [InstId],
    /// Values to leave in registers.
    pub(super) hold: &'a [InstId],
    /// The accumulator of the reduce stage.
    pub(super) acc: u32,
}

/// What of the stages is computed where.
#[derive(Default)]
struct Parts {
    /// Once per group, at its first point.
    once: BTreeSet<InstId>,
    /// For each point.
    each: BTreeSet<InstId>,
    /// Of those, what is in registers already.
    held: BTreeSet<InstId>,
}

impl Printer<'_> {
    fn access(&self, operand: u32, index: InstId, guard: Option<InstId>) -> Access {
        self.facts.access(self.kernel, operand, index, guard)
    }

    fn load_access(&self, id: InstId) -> Option<Access> {
        match self.kernel.body.inst(id).kind {
            InstKind::Load { operand, index, guard } => Some(self.access(operand, index, guard)),
            _ => None,
        }
    }

    fn visit_once(&self, id: InstId, context: &Context<'_>, parts: &mut Parts) {
        if (context.in_row && self.of_row(id)) || !parts.once.insert(id) {
            return;
        }
        for operand in operands(&self.kernel.body.inst(id).kind) {
            self.visit_once(operand, context, parts);
        }
    }

    fn visit_each(&self, id: InstId, context: &Context<'_>, parts: &mut Parts) {
        if context.held.contains(&id) {
            parts.each.insert(id);
            parts.held.insert(id);
            return;
        }
        if self.facts.same(id) {
            return self.visit_once(id, context, parts);
        }
        if !parts.each.insert(id) {
            return;
        }
        let packet = self.load_access(id) == Some(Access::Packet);
        for operand in operands(&self.kernel.body.inst(id).kind) {
            match packet {
                true => self.visit_once(operand, context, parts),
                false => self.visit_each(operand, context, parts),
            }
        }
    }

    fn parts(&self, stages: &[&Stage], context: &Context<'_>) -> Parts {
        let mut parts = Parts::default();
        for stage in stages {
            match stage {
                Stage::Reduce { value, .. } => self.visit_each(*value, context, &mut parts),
                Stage::Store { operand, index, value, guard } => {
                    self.visit_each(*value, context, &mut parts);
                    let packet = self.access(*operand, *index, *guard) == Access::Packet;
                    for id in std::iter::once(*index).chain(*guard) {
                        match packet {
                            true => self.visit_once(id, context, &mut parts),
                            false => self.visit_each(id, context, &mut parts),
                        }
                    }
                }
            }
        }
        parts
    }

    fn define(&self, c: &mut String, id: InstId) -> std::fmt::Result {
        writeln!(c, "    {} (void){};", definition(&self.kernel.body, id, &self.names), var(id))
    }

    /// Prints the stages for one group; the indices of its first point are defined. With held values, `step` counts
    /// the turns of the thread.
    pub(super) fn group(
        &self,
        c: &mut String,
        stages: &[&Stage],
        context: &Context<'_>,
    ) -> std::fmt::Result {
        let body = &self.kernel.body;
        let points = self.mapping.points;
        let parts = self.parts(stages, context);
        for &id in &parts.once {
            self.define(c, id)?;
        }
        let packets: Vec<InstId> = parts
            .each
            .iter()
            .copied()
            .filter(|id| !parts.held.contains(id) && self.load_access(*id) == Some(Access::Packet))
            .collect();
        for &id in &packets {
            let InstKind::Load { operand, index, guard } = body.inst(id).kind else { continue };
            let ty = memory_type(self.kernel.operands[operand as usize].dtype);
            let load = format!("zf::load_packet<{ty}, {points}>(p{operand} + {})", var(index));
            let guard = guard.map(|g| (var(g), format!("zf::Packet<{ty}, {points}>()")));
            let value = guard.map_or(load.clone(), |(g, zero)| format!("{g} ? {load} : {zero}"));
            writeln!(c, "    const zf::Packet<{ty}, {points}> w{} = {value};", id.0)?;
        }
        for (k, stage) in stages.iter().enumerate() {
            if let Stage::Store { operand, index, guard, .. } = stage
                && self.access(*operand, *index, *guard) == Access::Packet
            {
                let ty = memory_type(self.kernel.operands[*operand as usize].dtype);
                writeln!(c, "    zf::Packet<{ty}, {points}> out{k};")?;
            }
        }
        let walking = self.walking();
        writeln!(c, "    const int64_t head = {walking};")?;
        writeln!(c, "#pragma unroll\n    for (int e = 0; e < {points}; ++e) {{")?;
        writeln!(c, "    const int64_t {walking} = head + e; (void){walking};")?;
        for &id in &parts.each {
            if parts.held.contains(&id) {
                let ty = compute_type(body.inst(id).dtype);
                writeln!(c, "    const {ty} {} = held{}[step * {points} + e];", var(id), id.0)?;
            } else if packets.contains(&id)
                && let InstKind::Load { operand, .. } = body.inst(id).kind
            {
                let ty = compute_type(body.inst(id).dtype);
                let dtype = self.kernel.operands[operand as usize].dtype;
                let element = from_memory(dtype, &format!("w{}.element[e]", id.0));
                writeln!(c, "    const {ty} {} = {element};", var(id))?;
            } else {
                self.define(c, id)?;
            }
            if context.hold.contains(&id) && !parts.held.contains(&id) {
                writeln!(c, "    held{}[step * {points} + e] = {};", id.0, var(id))?;
            }
        }
        for (k, stage) in stages.iter().enumerate() {
            self.finish_point(c, k, stage, context)?;
        }
        writeln!(c, "    }}")?;
        for (k, stage) in stages.iter().enumerate() {
            let Stage::Store { operand, index, guard, .. } = stage else { continue };
            if self.access(*operand, *index, *guard) == Access::Packet {
                let guard = guard.map(|g| format!("if ({}) ", var(g))).unwrap_or_default();
                writeln!(c, "    {guard}zf::store_packet(p{operand} + {}, out{k});", var(*index))?;
            }
        }
        Ok(())
    }

    /// What a stage does with the value of a point.
    fn finish_point(
        &self,
        c: &mut String,
        k: usize,
        stage: &Stage,
        context: &Context<'_>,
    ) -> std::fmt::Result {
        let body = &self.kernel.body;
        match stage {
            Stage::Reduce { fold, value } => {
                let ty = compute_type(body.inst(*value).dtype);
                let (v, acc) = (var(*value), context.acc);
                let part =
                    if self.names.columns { format!("part{acc}[e]") } else { format!("part{acc}") };
                match fold {
                    Fold::ArgMax | Fold::ArgMin => {
                        let at = if self.names.columns { "at" } else { "at + e" };
                        writeln!(
                            c,
                            "    zf::Extreme<{ty}> next; next.value = {v}; next.index = {at};"
                        )?;
                        writeln!(c, "    {part} = {}({part}, next);", super::rows::functor(*fold))
                    }
                    _ => writeln!(
                        c,
                        "    {part} = {}({part}, ({ty}){v});",
                        super::rows::functor(*fold)
                    ),
                }
            }
            Stage::Store { operand, index, value, guard } => {
                let dtype = self.kernel.operands[*operand as usize].dtype;
                let converted = to_memory(dtype, body.inst(*value).dtype, &var(*value));
                if self.access(*operand, *index, *guard) == Access::Packet {
                    return writeln!(c, "    out{k}.element[e] = {converted};");
                }
                let guard = guard.map(|g| format!("if ({}) ", var(g))).unwrap_or_default();
                writeln!(c, "    {guard}p{operand}[{}] = {converted};", var(*index))
            }
        }
    }
}
