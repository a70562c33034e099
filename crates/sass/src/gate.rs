//! Gates: limits that a kernel's report must keep, in a TOML file.

use serde::Deserialize;

use crate::kernel::{LoopReport, Report};

/// Limits of a build.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Each applies to the kernels that it names.
    #[serde(rename = "gate", default)]
    pub rules: Vec<Rule>,
}

/// Limits of some kernels. What is not given is not checked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Kernels with every word of this in their name; all if not given.
    #[serde(default)]
    pub kernel: String,
    /// Registers per thread at launch.
    pub max_registers: Option<u32>,
    /// Stack per thread.
    pub max_stack_bytes: Option<u32>,
    /// Local memory loads and stores in the whole kernel.
    pub max_spills: Option<u32>,
    /// Local memory loads and stores in every loop.
    pub max_spills_in_loops: Option<u32>,
    /// Instructions in the whole kernel.
    pub max_instructions: Option<u32>,
    /// Shared memory, with what `--shared` adds.
    pub max_shared_bytes: Option<u64>,
    /// Blocks that an SM holds.
    pub min_blocks_per_sm: Option<u32>,
    /// Instructions in line of every main loop: the innermost with wgmma.
    pub max_loop_instructions: Option<u32>,
    /// Instructions on the hot path of every main loop.
    pub max_hot_instructions: Option<u32>,
    /// Share of the exponentials of every main loop while a wgmma group is in flight, 0 to 1.
    pub min_ex2_in_shadow: Option<f64>,
    /// Share of the additions likewise.
    pub min_fadd_in_shadow: Option<f64>,
    /// Share of the packing likewise.
    pub min_f2fp_in_shadow: Option<f64>,
    /// Least number of main loops: a rule about loops must not pass because there are none.
    pub min_main_loops: Option<u32>,
    /// Share of cycles in which the model predicts busy tensor cores, 0 to 1.
    pub min_predicted_utilisation: Option<f64>,
}

/// A limit that is not kept.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Violation {
    /// The kernel.
    pub kernel: String,
    /// The limit's name in the file.
    pub rule: &'static str,
    /// What the file allows.
    pub limit: f64,
    /// What the kernel has.
    pub found: f64,
    /// Where: a loop's address, if it is about one.
    pub at: Option<u64>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {} is {}, found {}", self.kernel, self.rule, self.limit, self.found)?;
        match self.at {
            Some(at) => write!(f, " in the loop at {at:#06x}"),
            None => Ok(()),
        }
    }
}

impl Gate {
    /// From the text of a file.
    ///
    /// # Errors
    ///
    /// What TOML or a name in it is wrong, and where.
    pub fn parse(text: &str) -> Result<Gate, String> {
        let gate: Gate = toml::from_str(text).map_err(|e| e.to_string())?;
        if gate.rules.is_empty() {
            return Err("it has no [[gate]]".to_owned());
        }
        Ok(gate)
    }

    /// Whether a rule needs the model's prediction.
    pub fn wants_prediction(&self) -> bool {
        self.rules.iter().any(|r| r.min_predicted_utilisation.is_some())
    }

    /// Rules that apply to none of these kernels: a name that changed must not turn a gate off.
    pub fn unused(&self, reports: &[&Report]) -> Vec<&str> {
        let names = self.rules.iter().map(|r| r.kernel.as_str());
        names.filter(|n| !reports.iter().any(|r| crate::matches(&r.name, n))).collect()
    }

    /// What a report breaks. `predicted` is the tensor utilisation that the model predicts, 0 to 1.
    pub fn check(&self, report: &Report, predicted: Option<f64>) -> Vec<Violation> {
        let mut list = Vec::new();
        for rule in self.rules.iter().filter(|r| crate::matches(&report.name, &r.kernel)) {
            rule.check(report, predicted, &mut list);
        }
        list
    }
}

fn share(inside: u32, outside: u32) -> Option<f64> {
    let all = inside + outside;
    (all > 0).then(|| f64::from(inside) / f64::from(all))
}

impl Rule {
    fn check(&self, report: &Report, predicted: Option<f64>, list: &mut Vec<Violation>) {
        let mut compare = |rule, limit: Option<f64>, found: f64, least: bool, at| {
            let Some(limit) = limit else { return };
            if (least && found < limit) || (!least && found > limit) || found.is_nan() {
                let kernel = report.name.clone();
                list.push(Violation { kernel, rule, limit, found, at });
            }
        };
        let n = |v: Option<u32>| v.map(f64::from);
        let registers = f64::from(report.entry.registers);
        compare("max_registers", n(self.max_registers), registers, false, None);
        let stack = f64::from(report.entry.stack_bytes);
        compare("max_stack_bytes", n(self.max_stack_bytes), stack, false, None);
        let spills = f64::from(report.spills.stores + report.spills.loads);
        compare("max_spills", n(self.max_spills), spills, false, None);
        let instructions = f64::from(report.instructions);
        compare("max_instructions", n(self.max_instructions), instructions, false, None);
        let limit = self.max_shared_bytes.map(|b| b as f64);
        compare("max_shared_bytes", limit, report.shared as f64, false, None);
        let blocks = f64::from(report.occupancy.blocks);
        compare("min_blocks_per_sm", n(self.min_blocks_per_sm), blocks, true, None);
        for l in &report.loops {
            let spills = f64::from(l.spills.stores + l.spills.loads);
            compare(
                "max_spills_in_loops",
                n(self.max_spills_in_loops),
                spills,
                false,
                Some(l.from),
            );
        }
        let main: Vec<&LoopReport> = report.main_loops().collect();
        let count = main.len() as f64;
        compare("min_main_loops", n(self.min_main_loops), count, true, None);
        for l in main {
            let at = Some(l.from);
            let all = f64::from(l.instructions);
            compare("max_loop_instructions", n(self.max_loop_instructions), all, false, at);
            let hot = f64::from(l.hot_instructions);
            compare("max_hot_instructions", n(self.max_hot_instructions), hot, false, at);
            let (inside, outside) = (&l.shadow.inside, &l.shadow.outside);
            let ex2 = share(inside.ex2, outside.ex2);
            compare("min_ex2_in_shadow", self.min_ex2_in_shadow, ex2.unwrap_or(1.0), true, at);
            let fadd = share(inside.fadd, outside.fadd);
            compare("min_fadd_in_shadow", self.min_fadd_in_shadow, fadd.unwrap_or(1.0), true, at);
            let f2fp = share(inside.f2fp, outside.f2fp);
            compare("min_f2fp_in_shadow", self.min_f2fp_in_shadow, f2fp.unwrap_or(1.0), true, at);
        }
        if self.min_predicted_utilisation.is_some() {
            // Nothing that could be predicted keeps no promise.
            let found = predicted.unwrap_or(0.0);
            let rule = "min_predicted_utilisation";
            compare(rule, self.min_predicted_utilisation, found, true, None);
        }
    }
}
