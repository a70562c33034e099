//! `cargo xtask selection`: the tables of `kernels/selection/`.

use std::path::Path;

use anyhow::{Context, Result};
use zeroforge_kernels::selection::{SLICES, text};

pub(crate) fn write() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/selection");
    for sms in SLICES {
        let path = folder.join(format!("{sms}.toml"));
        std::fs::write(&path, text(sms))
            .with_context(|| format!("writing `{}`", path.display()))?;
    }
    Ok(())
}
