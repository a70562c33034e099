//! Settings from files: `zeroforge.toml` in the nearest parent folder that has one, then
//! `$XDG_CONFIG_HOME/zeroforge/config.toml`. Flags and environment variables come before both.
//! Documented in `docs/configuration.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Command;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration file that cannot be used.
#[derive(Debug)]
pub(crate) struct ConfigError(String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number of at least one.
    Count,
    /// Target names.
    Targets,
    /// A path; relative ones start at the file's folder.
    Path,
    /// Several of them.
    Paths,
    /// A log filter.
    Text,
}

/// A setting: its key in files, its variable, and the subcommands and flag it is the default of.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) variable: Option<&'static str>,
    kind: Kind,
    flags: &'static [(&'static str, &'static str)],
    /// What holds where nothing is set, for people.
    default: &'static str,
}

/// Every setting.
pub(crate) const KEYS: [Key; 8] = [
    Key {
        name: "target",
        variable: Some("ZEROFORGE_TARGET"),
        kind: Kind::Targets,
        flags: &[("compile", "target")],
        default: "cpu",
    },
    Key {
        name: "device",
        variable: Some("ZEROFORGE_DEVICE"),
        kind: Kind::Word(&["auto", "cpu", "cuda", "software"]),
        flags: &[("run", "device"), ("bench", "device")],
        default: "auto",
    },
    Key {
        name: "threads",
        variable: Some("ZEROFORGE_THREADS"),
        kind: Kind::Count,
        flags: &[
            ("run", "threads"),
            ("bench", "threads"),
            ("verify", "threads"),
            ("emulate", "threads"),
        ],
        default: "all cores",
    },
    Key {
        name: "cache_dir",
        variable: Some("ZEROFORGE_CACHE_DIR"),
        kind: Kind::Path,
        flags: &[],
        default: "$XDG_CACHE_HOME/zeroforge or ~/.cache/zeroforge",
    },
    Key {
        name: "trust",
        variable: None,
        kind: Kind::Paths,
        flags: &[("run", "trust")],
        default: "artifacts need no signature",
    },
    Key {
        name: "secret_key",
        variable: Some("ZEROFORGE_SECRET_KEY"),
        kind: Kind::Path,
        flags: &[("sign", "key")],
        default: "zeroforge.key",
    },
    Key {
        name: "public_key",
        variable: Some("ZEROFORGE_PUBLIC_KEY"),
        kind: Kind::Path,
        flags: &[("verify-signature", "key")],
        default: "zeroforge.pub",
    },
    Key {
        name: "log",
        variable: Some("ZEROFORGE_LOG"),
        kind: Kind::Text,
        flags: &[],
        default: "warn",
    },
];

/// A value with where it was written.
#[derive(Clone, Debug)]
struct Setting {
    values: Vec<String>,
    file: PathBuf,
    line: usize,
}

/// What the files say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    settings: BTreeMap<&'static str, Setting>,
}

impl Config {
    /// Reads the files that apply in the current folder.
    pub(crate) fn load() -> Result<Config, ConfigError> {
        let mut config = Config::default();
        // The nearer file wins: it is read last.
        for path in files() {
            config.read(&path)?;
        }
        Ok(config)
    }

    fn read(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |e: std::io::Error| ConfigError(format!("reading `{}`: {e}", path.display()));
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > MAX_BYTES {
            return Err(ConfigError(format!(
                "`{}` has {size} bytes; a configuration file has at most {MAX_BYTES}",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        for (name, setting) in parse(path, &text)? {
            self.settings.insert(name, setting);
        }
        Ok(())
    }

    /// The command line with the files' values in place of its defaults.
    pub(crate) fn apply(&self, mut command: Command) -> Command {
        for key in &KEYS {
            let Some(setting) = self.settings.get(key.name) else { continue };
            for &(subcommand, flag) in key.flags {
                let values = setting.values.clone();
                command = command
                    .mut_subcommand(subcommand, |c| c.mut_arg(flag, |a| a.default_values(values)));
            }
        }
        command
    }

    /// A setting that no flag has.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.settings.get(name)?.values.first().map(String::as_str)
    }

    /// Every key with its value and where that comes from, flags aside.
    pub(crate) fn origins(&self) -> Vec<(&'static str, String, String)> {
        KEYS.iter()
            .map(|key| {
                let variable = key.variable.and_then(|name| {
                    let value = std::env::var(name).ok().filter(|v| !v.is_empty())?;
                    Some((value, format!("variable {name}")))
                });
                let file = || {
                    let s = self.settings.get(key.name)?;
                    Some((s.values.join(", "), format!("{}:{}", s.file.display(), s.line)))
                };
                let (value, origin) = variable
                    .or_else(file)
                    .unwrap_or_else(|| (key.default.to_owned(), "default".to_owned()));
                (key.name, value, origin)
            })
            .collect()
    }
}

/// The files that exist, the one that gives way first.
fn files() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|h| h.join(".config")));
    let user = base.map(|b| b.join("zeroforge/config.toml"));
    let here = std::env::current_dir().unwrap_or_default();
    let project = here.ancestors().map(|f| f.join("zeroforge.toml")).find(|p| p.is_file());
    user.into_iter().filter(|p| p.is_file()).chain(project).collect()
}

fn parse(path: &Path, text: &str) -> Result<Vec<(&'static str, Setting)>, ConfigError> {
    let line_of = |at: usize| 1 + text.bytes().take(at).filter(|b| *b == b'\n').count();
    let wrong = |at: usize, reason: String| {
        ConfigError(format!("`{}` line {}: {reason}", path.display(), line_of(at)))
    };
    let table = DeTable::parse(text)
        .map_err(|e| wrong(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut settings = Vec::new();
    for (name, value) in table.get_ref() {
        let at = name.span().start;
        let name: &str = name.get_ref();
        let Some(key) = KEYS.iter().find(|k| k.name == name) else {
            return Err(wrong(at, format!("unknown key `{name}`{}", nearest(name))));
        };
        let values = values(key.kind, value, folder)
            .map_err(|expected| wrong(value.span().start, format!("`{name}` takes {expected}")))?;
        settings.push((key.name, Setting { values, file: path.to_owned(), line: line_of(at) }));
    }
    Ok(settings)
}

/// The texts of a value; what was expected otherwise.
fn values(kind: Kind, value: &Spanned<DeValue<'_>>, folder: &Path) -> Result<Vec<String>, String> {
    let text = |v: &DeValue<'_>| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
    let path = |v: &DeValue<'_>| text(v).map(|t| folder.join(t).to_string_lossy().into_owned());
    let list = |each: &dyn Fn(&DeValue<'_>) -> Option<String>| match value.get_ref() {
        DeValue::Array(list) => list.iter().map(|v| each(v.get_ref())).collect(),
        one => each(one).map(|v| vec![v]),
    };
    let one = |found: Option<String>, expected: &str| match found {
        Some(v) => Ok(vec![v]),
        None => Err(expected.to_owned()),
    };
    let value = value.get_ref();
    match kind {
        Kind::Word(words) => {
            let found = text(value).filter(|v| words.contains(&v.as_str()));
            one(found, &format!("one of \"{}\"", words.join("\", \"")))
        }
        Kind::Count => {
            let number = value.as_integer().filter(|n| n.radix() == 10);
            let number = number.and_then(|n| n.as_str().replace('_', "").parse::<u32>().ok());
            let number = number.filter(|n| *n > 0);
            one(number.map(|n| n.to_string()), "a whole number of at least 1")
        }
        Kind::Targets => {
            let known = |t: &String| t == "cpu" || t.parse::<zeroforge_artifact::Target>().is_ok();
            list(&|v| text(v).filter(known)).filter(|l: &Vec<_>| !l.is_empty()).ok_or_else(|| {
                "a target or a list of them: \"cpu\", \"x86-64-v3\", \"x86-64-v4\", \"sm_90a\""
                    .to_owned()
            })
        }
        Kind::Path => one(path(value), "a path"),
        Kind::Paths => list(&path).ok_or_else(|| "a path or a list of them".to_owned()),
        Kind::Text => one(text(value), "text"),
    }
}

/// `; did you mean ...?` for a key that is nearly one, else all keys.
fn nearest(name: &str) -> String {
    let best = KEYS.iter().map(|k| (distance(name, k.name), k.name)).min();
    match best {
        Some((d, known)) if d <= 1 + known.len() / 3 => format!("; did you mean `{known}`?"),
        _ => {
            let all: Vec<&str> = KEYS.iter().map(|k| k.name).collect();
            format!("; known are {}", all.join(", "))
        }
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(&'static str, Vec<String>)>, String> {
        let settings = parse(Path::new("/p/zeroforge.toml"), text).map_err(|e| e.to_string())?;
        Ok(settings.into_iter().map(|(name, s)| (name, s.values)).collect())
    }

    #[test]
    fn values_are_typed_and_paths_are_relative_to_the_file() {
        let found = read("# comment\ntarget = [\"cpu\", \"sm_90a\"]\nthreads = 1_0\n").unwrap();
        assert!(found.contains(&("threads", vec!["10".to_owned()])));
        assert!(found.contains(&("target", vec!["cpu".to_owned(), "sm_90a".to_owned()])));
        let found = read("trust = [\"a.pub\", \"/b.pub\"]").unwrap();
        assert_eq!(found, [("trust", vec!["/p/a.pub".to_owned(), "/b.pub".to_owned()])]);
    }

    #[test]
    fn errors_name_file_line_and_remedy() {
        for (text, words) in [
            ("\ntreads = 3", &["line 2", "`treads`", "did you mean `threads`?"][..]),
            ("zzzzzzzzzz = 3", &["line 1", "known are target, device"]),
            ("threads = 0", &["line 1", "at least 1"]),
            ("threads = \"3\"", &["whole number"]),
            ("threads = 99999999999999999999", &["line 1"]),
            ("device = \"gpu\"", &["\"cpu\", \"cuda\""]),
            ("target = [\"cpu\", \"sm_9\"]", &["sm_90a"]),
            ("target = []", &["sm_90a"]),
            ("threads = 3\nthreads = 4", &["line 2"]),
            ("a = [[[", &["line 1"]),
            ("[compile]\ntarget = \"cpu\"", &["unknown key `compile`"]),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("/p/zeroforge.toml"), "{error}");
            for word in words {
                assert!(error.contains(word), "{text}: `{word}` is not in: {error}");
            }
        }
    }
}
