//! Kernels with planted bugs. Every bug must be found, as what it is and where it is; the kernels without bugs
//! must have no finding and right results in every order of asynchronous work.
//!
//! `MUTATION_SEEDS` is the number of random schedules for kernels without bugs (default 10).

mod harness;
#[path = "mutations/kernels.rs"]
mod kernels;
#[path = "mutations/table.rs"]
mod table;

use kernels::{HostBug, KERNELS, Kernel, Outcome};
use table::{Expect, MUTATIONS, Mutation};
use zeroforge_emulator::{Finding, FindingKind, Party, Schedule};

fn kernel(name: &str) -> &'static Kernel {
    KERNELS.iter().find(|k| k.name == name).unwrap_or_else(|| panic!("no kernel `{name}`"))
}

/// The findings in short, and what is wrong with the results.
fn describe(outcome: &Outcome) -> String {
    let place = |p: &Party| {
        let outermost = p.at.inlined_at.last().or(p.at.source.as_ref());
        outermost.map_or(String::new(), |(file, line)| format!("{file}:{line}"))
    };
    let mut out: Vec<String> = outcome
        .report
        .errors()
        .take(8)
        .map(|f| {
            let other = f.other.as_ref().map(|o| format!(" against {}", place(o)));
            let message: String = f.message.chars().take(200).collect();
            format!(
                "  {} at {}{}: {message}",
                f.kind.name(),
                place(&f.party),
                other.unwrap_or_default()
            )
        })
        .collect();
    out.extend(outcome.wrong.iter().map(|w| format!("  {w}")));
    match out.is_empty() {
        true => "  no finding".to_owned(),
        false => out.join("\n"),
    }
}

/// Lines of the kernel's source that an instruction belongs to: its own and those it was inlined at.
fn lines(party: &Party, file: &str) -> Vec<u32> {
    let places = party.at.source.iter().chain(&party.at.inlined_at);
    places.filter(|(f, _)| f.ends_with(file)).map(|&(_, line)| line).collect()
}

/// The line of a source that has a text: the only one, or with `#n` at the end the n-th.
fn line_of(kernel: &Kernel, snippet: &str) -> Result<u32, String> {
    let (text, nth) = match snippet.rsplit_once('#').map(|(t, n)| (t, n.parse::<usize>())) {
        Some((text, Ok(n))) => (text, Some(n)),
        _ => (snippet, None),
    };
    let lines = (1..).zip(kernel.source.lines());
    let found: Vec<u32> = lines.filter(|(_, l)| l.contains(text)).map(|(i, _)| i).collect();
    match (nth, &found[..]) {
        (None, &[line]) => Ok(line),
        (Some(n), all) if (1..=all.len()).contains(&n) => Ok(all[n - 1]),
        _ => Err(format!("`{snippet}` is in {} lines of the source", found.len())),
    }
}

fn is_at(finding: &Finding, kernel: &Kernel, line: u32) -> bool {
    let file = format!("{}.cu", kernel.name);
    // A deadlock's message has the places of all warps.
    if finding.kind == FindingKind::Deadlock {
        return finding.message.contains(&format!("{file}:{line} "))
            || finding.message.contains(&format!("{file}:{line},"));
    }
    let parties = std::iter::once(&finding.party).chain(&finding.other);
    parties.into_iter().any(|p| lines(p, &file).contains(&line))
}

/// Why a bug was not found as it should be.
fn check(mutation: &Mutation) -> Result<(), String> {
    let kernel = kernel(mutation.kernel);
    let mut ptx = kernel.ptx.to_owned();
    for edit in mutation.edits {
        ptx = edit.apply(&ptx).map_err(|e| format!("the edit does not fit: {e}"))?;
    }
    let outcome = kernel.run(&ptx, mutation.schedule, mutation.host);
    match mutation.expect {
        Expect::Finding(kind, snippet) => {
            let line = line_of(kernel, snippet)?;
            let of_kind: Vec<&Finding> =
                outcome.report.errors().filter(|f| f.kind == kind).collect();
            if of_kind.iter().any(|f| is_at(f, kernel, line)) {
                return Ok(());
            }
            Err(format!("expected {} at line {line}\n{}", kind.name(), describe(&outcome)))
        }
        Expect::WrongResult => match outcome.wrong {
            Some(_) => Ok(()),
            None => Err(format!("the results are right\n{}", describe(&outcome))),
        },
    }
}

#[test]
fn every_planted_bug_is_found() {
    let only = std::env::var("MUTATION").unwrap_or_default();
    let mut missed = Vec::new();
    for mutation in MUTATIONS.iter().filter(|m| m.name.contains(&only)) {
        let result = check(mutation);
        println!(
            "{} {}: {}",
            if result.is_ok() { "ok  " } else { "MISS" },
            mutation.kernel,
            mutation.name
        );
        if let Err(why) = result {
            missed.push(format!("{}: {}: {why}", mutation.kernel, mutation.name));
        }
    }
    assert!(missed.is_empty(), "{} missed:\n\n{}", missed.len(), missed.join("\n\n"));
}

#[test]
fn there_are_enough_bugs_over_enough_kernels() {
    let mut names: Vec<_> = MUTATIONS.iter().map(|m| (m.kernel, m.name)).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() == MUTATIONS.len() && names.len() >= 40, "{} bugs", names.len());
    for k in &KERNELS {
        assert!(MUTATIONS.iter().any(|m| m.kernel == k.name), "{} has no bug", k.name);
    }
}

#[test]
fn kernels_without_bugs_are_clean() {
    let seeds = std::env::var("MUTATION_SEEDS").map_or(10, |s| s.parse().expect("a number"));
    let random = (0..seeds).map(Schedule::Random);
    let schedules: Vec<_> = [Schedule::Late, Schedule::Eager].into_iter().chain(random).collect();
    let mut bad = Vec::new();
    for k in &KERNELS {
        for &schedule in &schedules {
            let outcome = k.run(k.ptx, schedule, HostBug::None);
            if !outcome.report.is_clean() || outcome.wrong.is_some() {
                bad.push(format!("{} under {schedule:?}:\n{}", k.name, describe(&outcome)));
                break;
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}
