//! Reports for people.

use std::fmt::Write;

use crate::kernel::{LoopReport, Report};
use crate::pipe::Pipe;
use crate::shadow::Counts;
use crate::timeline::{Prediction, Steady};

/// `name` shortened in the middle, for long mangled names.
pub fn short(name: &str) -> String {
    if name.len() <= 100 || !name.is_ascii() {
        return name.to_owned();
    }
    format!("{}...{}", &name[..60], &name[name.len() - 37..])
}

fn counts(inside: &Counts, outside: &Counts) -> String {
    let parts: Vec<String> = inside
        .named()
        .iter()
        .zip(outside.named())
        .filter(|((_, a), (_, b))| a + b > 0)
        .map(|((name, a), (_, b))| format!("{name} {a}/{b}"))
        .collect();
    parts.join("  ")
}

fn only(c: &Counts) -> String {
    let parts: Vec<String> =
        c.named().iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join("  ") }
}

fn loop_text(out: &mut String, l: &LoopReport) {
    let kind = match (l.main, l.innermost) {
        (true, _) => "main loop",
        (_, true) => "loop",
        _ => "outer loop",
    };
    let _ = write!(
        out,
        "  {kind} {:#06x}-{:#06x}: {} instructions, {} on the hot path",
        l.from, l.to, l.instructions, l.hot_instructions
    );
    if l.out_of_line > 0 {
        let _ = write!(out, ", {} more out of line", l.out_of_line);
    }
    let _ = writeln!(out, "; spills {} STL, {} LDL", l.spills.stores, l.spills.loads);
    if !l.innermost && !l.main {
        return;
    }
    let pipes: Vec<String> = Pipe::ALL
        .iter()
        .filter_map(|p| l.pipes.get(p).map(|n| format!("{} {n}", p.name())))
        .collect();
    let _ = writeln!(out, "    units: {}", pipes.join("  "));
    let mut mix: Vec<(&String, &u32)> = l.mix.iter().collect();
    mix.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), name.as_str()));
    let mix: Vec<String> = mix.iter().take(16).map(|(name, n)| format!("{name} {n}")).collect();
    let _ = writeln!(out, "    mix: {}", mix.join("  "));
    let bounds: Vec<String> = l
        .bounds
        .named()
        .iter()
        .filter(|(_, c)| *c > 0.0)
        .map(|(name, c)| format!("{name} {c:.0}"))
        .collect();
    let _ = writeln!(
        out,
        "    bounds, cycles of an SM per iteration of {} warps: {}; {} binds",
        l.bounds.warps,
        bounds.join("  "),
        l.bounds.binding().0
    );
    let s = &l.shadow;
    if s.groups.is_empty() {
        return;
    }
    let _ = writeln!(out, "    in the shadow of wgmma/outside: {}", counts(&s.inside, &s.outside));
    for (n, g) in s.groups.iter().enumerate() {
        let carried = if g.carried { ", carried into the next iteration" } else { "" };
        let _ = writeln!(
            out,
            "    group {n} {:#06x}-{:#06x}: {}; {} tensor cycles a warpgroup{carried}; shadow: {}",
            g.from,
            g.to,
            g.shapes(),
            g.tensor_cycles,
            only(&g.shadow)
        );
    }
    for t in &s.stretches {
        let groups: Vec<String> = t.in_flight.iter().map(|g| g.to_string()).collect();
        let flight = match groups.is_empty() {
            true => "nothing in flight".to_owned(),
            false => format!("group {} in flight", groups.join(", ")),
        };
        let from = match t.after {
            Some(at) => format!("after the wait at {at:#06x}"),
            None => "from the head".to_owned(),
        };
        let _ = writeln!(out, "    {from} ({flight}): {}", only(&t.counts));
    }
    for b in &l.barriers {
        let _ = writeln!(out, "    {:#06x} {}: {}", b.address, b.what, b.text);
    }
}

/// The whole report.
pub fn report(r: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", short(&r.name));
    let _ = write!(
        out,
        "  {} registers, {} B stack, {} instructions, spills {} STL, {} LDL; {} B shared memory",
        r.entry.registers,
        r.entry.stack_bytes,
        r.instructions,
        r.spills.stores,
        r.spills.loads,
        r.shared
    );
    if r.bulk_copies > 0 {
        let _ = write!(out, "; {} bulk tensor copies", r.bulk_copies);
    }
    let _ = writeln!(out);
    let _ = write!(
        out,
        "  occupancy at {} threads: {} blocks, {} of 64 warps, limited by {}",
        r.threads, r.occupancy.blocks, r.occupancy.warps, r.occupancy.limit
    );
    if !r.setmaxnreg.is_empty() {
        let list: Vec<String> = r.setmaxnreg.iter().map(u32::to_string).collect();
        let _ = write!(out, "; setmaxnreg {}", list.join(", "));
    }
    let _ = writeln!(out);
    for l in &r.loops {
        loop_text(&mut out, l);
    }
    out.truncate(out.trim_end().len());
    out
}

/// What the model says of a kernel's main loops.
pub fn steady(report: &Report, found: &Result<Vec<Steady>, String>) -> String {
    let list = match found {
        Ok(list) => list,
        Err(reason) => return format!("  model: no prediction, {reason}"),
    };
    let main: Vec<&LoopReport> = report.main_loops().collect();
    let lines: Vec<String> = list
        .iter()
        .map(|s| {
            let from = main.get(s.main_loop).map_or(0, |l| l.from);
            let waits: Vec<String> = s
                .waits
                .iter()
                .map(|w| format!("{:#06x} {} {:.0}", w.address, w.cause, w.cycles))
                .collect();
            format!(
                "  model: main loop {from:#06x} predicted at {:.0} cycles an iteration, tensor cores busy {:.1}%\n    a warp's longest waits in an iteration: {}",
                s.cycles,
                s.tensor_busy * 100.0,
                waits.join(", ")
            )
        })
        .collect();
    lines.join("\n")
}

/// What the model says of a launch.
pub fn prediction(found: &Result<Prediction, String>) -> String {
    let p = match found {
        Ok(p) => p,
        Err(reason) => return format!("  model: no prediction of the launch, {reason}"),
    };
    let waits: Vec<String> =
        p.waits.iter().map(|(c, s)| format!("{c} {:.0}%", s * 100.0)).collect();
    let memory = if p.memory_bound { "; memory binds" } else { "" };
    format!(
        "  model: launch on {} SMs predicted at {} cycles, utilisation {:.1}% (tensor cores busy {:.1}%), {:.0} TFLOP/s at {:.0} MHz{memory}\n  model: warps wait for {}",
        p.sms,
        p.cycles,
        p.utilisation * 100.0,
        p.tensor_busy * 100.0,
        p.tflops,
        p.clock_mhz,
        waits.join(", ")
    )
}

/// A row of a comparison.
pub type Row = (String, String, String);

/// Two reports side by side: what, left, right.
pub fn compare(a: &Report, b: &Report) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |what: &str, f: &dyn Fn(&Report) -> String| {
        rows.push((what.to_owned(), f(a), f(b)));
    };
    row("registers", &|r| r.entry.registers.to_string());
    row("setmaxnreg", &|r| {
        let list: Vec<String> = r.setmaxnreg.iter().map(u32::to_string).collect();
        if list.is_empty() { "-".to_owned() } else { list.join("/") }
    });
    row("stack, B", &|r| r.entry.stack_bytes.to_string());
    row("spills STL/LDL", &|r| format!("{}/{}", r.spills.stores, r.spills.loads));
    row("shared memory, B", &|r| r.shared.to_string());
    row("threads", &|r| r.threads.to_string());
    row("blocks per SM", &|r| r.occupancy.blocks.to_string());
    row("instructions", &|r| r.instructions.to_string());
    let main = a.main_loops().count().max(b.main_loops().count());
    for n in 0..main {
        let mut row = |what: &str, f: &dyn Fn(&LoopReport) -> String| {
            let cell = |r: &Report| r.main_loops().nth(n).map_or("-".to_owned(), f);
            rows.push((format!("loop {n}: {what}"), cell(a), cell(b)));
        };
        row("instructions (hot path)", &|l| format!("{} ({})", l.instructions, l.hot_instructions));
        row("spills STL/LDL", &|l| format!("{}/{}", l.spills.stores, l.spills.loads));
        row("wgmma groups", &|l| {
            l.shadow.groups.iter().map(|g| g.shapes()).collect::<Vec<_>>().join("; ")
        });
        for (i, name) in ["EX2", "FADD", "FFMA", "FMNMX", "FMUL", "F2FP", "all"].iter().enumerate()
        {
            row(&format!("{name} in shadow/outside"), &|l| {
                format!("{}/{}", l.shadow.inside.named()[i].1, l.shadow.outside.named()[i].1)
            });
        }
        for i in 0..6 {
            let name = crate::kernel::Bounds::default().named()[i].0;
            row(&format!("{name} cycles"), &|l| format!("{:.0}", l.bounds.named()[i].1));
        }
        row("binding unit", &|l| l.bounds.binding().0.to_owned());
    }
    rows
}
