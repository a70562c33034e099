//! What lies in the shadow of which wgmma group.
//!
//! A group is the matrix products up to one that commits (`gsb0`); it is in flight from its first product to the
//! `WARPGROUP.DEPBAR` that leaves fewer groups pending. Work of the same warps placed between is in its shadow: it can run
//! while the tensor cores do. The loop is walked twice in the order of addresses, so that groups committed in one iteration
//! and awaited in the next are seen.

use serde::Serialize;

use crate::instruction::{Instruction, Wgmma};

/// A committed group of matrix products in a loop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Address of its first product.
    pub from: u64,
    /// Address of the product that commits it.
    pub to: u64,
    /// Shapes, each with its count.
    pub products: Vec<(Wgmma, u32)>,
    /// Cycles of the tensor cores for one warpgroup.
    pub tensor_cycles: u64,
    /// The group is still in flight when the loop jumps back.
    pub carried: bool,
    /// What lies between its first product and the wait that retires it.
    pub shadow: Counts,
}

impl Group {
    /// `8x 64x128x16 SS`.
    pub fn shapes(&self) -> String {
        let shapes: Vec<String> = self.products.iter().map(|(w, n)| format!("{n}x {w}")).collect();
        shapes.join(", ")
    }
}

/// A stretch of a loop between two waits for groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Address of the wait that begins it; none at the loop's head.
    pub after: Option<u64>,
    /// Groups in flight right after the wait, by their index in the loop.
    pub in_flight: Vec<usize>,
    /// What lies in it.
    pub counts: Counts,
}

/// Numbers of instructions that matter in a softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Exponentials.
    pub ex2: u32,
    /// Additions.
    pub fadd: u32,
    /// Multiply-adds.
    pub ffma: u32,
    /// Maxima.
    pub fmnmx: u32,
    /// Multiplications.
    pub fmul: u32,
    /// Packing of two numbers into 16 or 8 bits.
    pub f2fp: u32,
    /// Instructions that are no matrix product and no wait.
    pub all: u32,
}

impl Counts {
    fn add(&mut self, i: &Instruction) {
        self.all += 1;
        match i.base() {
            "MUFU" if i.has("EX2") => self.ex2 += 1,
            "FADD" => self.fadd += 1,
            "FFMA" => self.ffma += 1,
            "FMNMX" => self.fmnmx += 1,
            "FMUL" => self.fmul += 1,
            "F2FP" => self.f2fp += 1,
            _ => {}
        }
    }

    /// Columns of reports.
    pub fn named(&self) -> [(&'static str, u32); 7] {
        [
            ("ex2", self.ex2),
            ("fadd", self.fadd),
            ("ffma", self.ffma),
            ("fmnmx", self.fmnmx),
            ("fmul", self.fmul),
            ("f2fp", self.f2fp),
            ("all", self.all),
        ]
    }
}

/// A loop seen by what is in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shadow {
    /// Groups in the order of their commits.
    pub groups: Vec<Group>,
    /// Stretches between waits, from the loop's head; the last one continues in the first.
    pub stretches: Vec<Stretch>,
    /// Work while at least one group is in flight.
    pub inside: Counts,
    /// Work while none is: the tensor cores have nothing of this warpgroup.
    pub outside: Counts,
}

/// How many groups a wait leaves pending, if the instruction is one.
pub fn depbar(i: &Instruction) -> Option<usize> {
    if i.base() != "WARPGROUP" || !i.has("DEPBAR") {
        return None;
    }
    let n = i.operands.last()?;
    usize::from_str_radix(n.trim_start_matches("0x"), 16).ok()
}

/// The shadows of a loop's body.
pub fn shadow(body: &[Instruction]) -> Shadow {
    let mut result = Shadow::default();
    let mut flight: Vec<usize> = Vec::new();
    for pass in 0..2 {
        let last = pass == 1;
        // A group that was not yet committed at the end of the body goes on in the next iteration.
        let mut open: Option<usize> = None;
        let mut commits = 0;
        if last {
            for &g in &flight {
                if let Some(group) = result.groups.get_mut(g) {
                    group.carried = true;
                }
            }
            let started =
                Stretch { after: None, in_flight: flight.clone(), counts: Counts::default() };
            result.stretches.push(started);
        }
        for i in body {
            if let Some(keep) = depbar(i) {
                let gone = flight.len().saturating_sub(keep);
                flight.drain(..gone);
                if last {
                    result.stretches.push(Stretch {
                        after: Some(i.address),
                        in_flight: flight.clone(),
                        counts: Counts::default(),
                    });
                }
                continue;
            }
            if let Some(w) = i.wgmma() {
                let g = match open {
                    Some(g) => g,
                    None => {
                        let g = commits;
                        if !last {
                            result.groups.push(Group {
                                from: i.address,
                                to: i.address,
                                products: Vec::new(),
                                tensor_cycles: 0,
                                carried: false,
                                shadow: Counts::default(),
                            });
                        }
                        flight.push(g);
                        open = Some(g);
                        g
                    }
                };
                if !last && let Some(group) = result.groups.get_mut(g) {
                    group.to = i.address;
                    group.tensor_cycles += w.tensor_cycles() as u64;
                    let kind = Wgmma { commits: false, ..w };
                    match group.products.iter_mut().find(|(k, _)| *k == kind) {
                        Some((_, n)) => *n += 1,
                        None => group.products.push((kind, 1)),
                    }
                }
                if w.commits {
                    open = None;
                    commits += 1;
                }
                continue;
            }
            if last {
                if flight.is_empty() {
                    result.outside.add(i)
                } else {
                    result.inside.add(i)
                }
                for (n, &g) in flight.iter().enumerate() {
                    // A group of this iteration and the same one of the iteration before count once.
                    if !flight[..n].contains(&g) {
                        result.groups[g].shadow.add(i);
                    }
                }
                if let Some(stretch) = result.stretches.last_mut() {
                    stretch.counts.add(i);
                }
            }
        }
    }
    result
}
