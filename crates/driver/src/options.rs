//! What a user may set: by environment at the start, by `zfSetOptions` at any time.

use zeroforge_emulator::{Checks, Options, Schedule};

use crate::log;

/// What an error of a checker that hardware would not notice becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFinding {
    /// The checks do not run.
    Off,
    /// It is logged.
    Warn,
    /// It is logged and the context fails.
    Error,
}

/// The settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the emulator.
    pub options: Options,
    /// What findings do.
    pub on_finding: OnFinding,
    /// Seconds that a synchronisation waits for somebody to write a value that a stream waits for.
    pub timeout: u64,
}

/// Reads `late`, `eager`, `random:SEED`.
fn schedule(text: &str) -> Option<Schedule> {
    match text {
        "late" => Some(Schedule::Late),
        "eager" => Some(Schedule::Eager),
        _ => text.strip_prefix("random:")?.parse().ok().map(Schedule::Random),
    }
}

impl Settings {
    /// Defaults with what the environment says.
    pub fn from_environment() -> Settings {
        let mut settings =
            Settings { options: Options::default(), on_finding: OnFinding::Error, timeout: 60 };
        for key in ["CHECKS", "SCHEDULE", "THREADS", "BUDGET", "TIMEOUT"] {
            let variable = format!("ZEROFORGE_SOFTWARE_{key}");
            let Ok(value) = std::env::var(&variable) else { continue };
            if let Err(reason) = settings.set(&key.to_lowercase(), &value) {
                log::error(|| format!("{variable}={value}: {reason}; it is ignored"));
            }
        }
        settings
    }

    /// Sets one option from text.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|_| "a whole number is expected".to_owned());
        match key {
            "checks" => {
                (self.on_finding, self.options.checks) = match value {
                    "off" => (OnFinding::Off, Checks::NONE),
                    "warn" => (OnFinding::Warn, Checks::ALL),
                    "error" => (OnFinding::Error, Checks::ALL),
                    _ => return Err("`off`, `warn` or `error` is expected".to_owned()),
                }
            }
            "schedule" => {
                let expected = || "`late`, `eager` or `random:SEED` is expected".to_owned();
                self.options.schedule = schedule(value).ok_or_else(expected)?;
            }
            "threads" => {
                let n = number()?;
                if n > 4096 {
                    return Err("at most 4096 threads are allowed".to_owned());
                }
                self.options.threads = n as usize;
            }
            "budget" => self.options.instruction_budget = number()?.max(1),
            "timeout" => self.timeout = number()?,
            "max_findings" => self.options.max_findings = number()?.min(1_000_000) as usize,
            "uninitialised" | "races" | "protocol" | "performance" => {
                let on = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err("`true` or `false` is expected".to_owned()),
                };
                let checks = &mut self.options.checks;
                match key {
                    "uninitialised" => checks.uninitialised = on,
                    "races" => checks.races = on,
                    "protocol" => checks.protocol = on,
                    _ => checks.performance = on,
                }
            }
            _ => return Err(format!("there is no option `{key}`")),
        }
        Ok(())
    }

    /// Sets options from a JSON object; all or none.
    pub fn set_json(&mut self, text: &str) -> Result<(), String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let object = value.as_object().ok_or("a JSON object is expected")?;
        let mut settings = self.clone();
        // `checks` sets what the single checks refine, so it goes first.
        let first = object.iter().filter(|(k, _)| *k == "checks");
        for (key, value) in first.chain(object.iter().filter(|(k, _)| *k != "checks")) {
            let text = match value {
                serde_json::Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            settings.set(key, &text).map_err(|e| format!("{key}: {e}"))?;
        }
        *self = settings;
        Ok(())
    }
}
