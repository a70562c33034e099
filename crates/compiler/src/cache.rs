//! The kernel cache: compiled code by the hash of everything that went into it.
//!
//! One file per entry, written under a temporary name and renamed, so that compiles can share a
//! cache; each entry carries the hash of its contents, and one that does not match counts as absent.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Bytes that a cache may hold before its oldest entries are removed.
pub const DEFAULT_LIMIT: u64 = 2 << 30;

/// A folder of compiled kernels, or none.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

/// The folder of a configuration file.
static CONFIGURED: OnceLock<PathBuf> = OnceLock::new();

/// Sets the user's cache for this process where `$ZEROFORGE_CACHE_DIR` does not. The first call counts.
pub fn configure_user_folder(folder: PathBuf) {
    let _ = CONFIGURED.set(folder);
}

/// The user's cache: `$ZEROFORGE_CACHE_DIR`, else the configured folder, else `$XDG_CACHE_HOME/zeroforge`, else
/// `~/.cache/zeroforge`.
pub fn user_folder() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("ZEROFORGE_CACHE_DIR")
        .or_else(|| CONFIGURED.get().cloned())
        .or_else(|| var("XDG_CACHE_HOME").map(|p| p.join("zeroforge")))
        .or_else(|| var("HOME").map(|p| p.join(".cache/zeroforge")))
}

impl Cache {
    /// The kernels in the user's cache, [`user_folder`].
    pub fn user() -> Cache {
        Cache { folder: user_folder().map(|b| b.join("kernels")) }
    }

    /// A cache in a folder, created when first written.
    pub fn at(folder: &Path) -> Cache {
        Cache { folder: Some(folder.to_owned()) }
    }

    /// No cache: everything is compiled.
    pub fn none() -> Cache {
        Cache { folder: None }
    }

    /// The key of something made from these parts, in order.
    pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().to_hex().to_string()
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(key))
    }

    /// An entry, if it is there and whole.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let mut bytes = std::fs::read(&path).ok()?;
        let split = bytes.len().checked_sub(32)?;
        let hash = bytes.split_off(split);
        if *blake3::hash(&bytes).as_bytes() != hash[..] {
            tracing::warn!("cache entry {} is damaged; it is made again", path.display());
            return None;
        }
        // The access keeps it from being the oldest; a cache on a read-only disk still serves.
        if let Ok(file) = std::fs::File::options().append(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(bytes)
    }

    /// Stores an entry. A cache that cannot be written costs time, not results: it is logged.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let (Some(folder), Some(path)) = (&self.folder, self.path(key)) else { return };
        let write = || -> std::io::Result<()> {
            use std::io::Write;
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(bytes)?;
            file.write_all(blake3::hash(bytes).as_bytes())?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        if let Err(e) = write() {
            tracing::warn!("the kernel cache {} cannot be written: {e}", folder.display());
        }
    }

    /// Removes the entries used longest ago until at most `limit` bytes remain.
    pub fn trim(&self, limit: u64) {
        let Some(folder) = &self.folder else { return };
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|e| {
                let e = e.ok()?;
                let meta = e.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), e.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|f| f.1).sum();
        for (_, len, path) in files {
            if total <= limit {
                break;
            }
            // Another compile may have removed it already.
            let _ = std::fs::remove_file(path);
            total -= len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_entries_count_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let key = Cache::key([&b"source"[..], b"flags"]);
        assert_eq!(cache.get(&key), None);
        cache.put(&key, b"code");
        assert_eq!(cache.get(&key).as_deref(), Some(&b"code"[..]));
        std::fs::write(folder.path().join(&key), b"codX and something of 32 bytes or more....")
            .unwrap();
        assert_eq!(cache.get(&key), None);
        // Parts are delimited: moving a byte between them is another key.
        assert_ne!(key, Cache::key([&b"sourcef"[..], b"lags"]));
    }

    #[test]
    fn trimming_removes_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        for (i, key) in ["old", "new"].into_iter().enumerate() {
            cache.put(key, &[0; 100]);
            let file = std::fs::File::options().append(true).open(folder.path().join(key)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i as u64 + 1);
            file.set_modified(time).unwrap();
        }
        cache.trim(150);
        assert_eq!((cache.get("old"), cache.get("new").is_some()), (None, true));
    }
}
