//! The records of these kernels in `kernels/variants.toml`.

use std::sync::OnceLock;

use serde::Deserialize;
use zeroforge_artifact::DType;

use super::Contract;
use crate::Refusal;

/// One kernel and what it is made for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name.
    pub kernel: String,
    /// Threads of a block.
    pub threads: i64,
    /// Element types.
    pub dtypes: Vec<DType>,
    /// The largest size; of what, the file says.
    pub most: i64,
}

/// All records, in the order of the file.
pub fn variants() -> &'static [Variant] {
    #[derive(Deserialize)]
    struct File {
        rows: Vec<Variant>,
    }
    static VARIANTS: OnceLock<Vec<Variant>> = OnceLock::new();
    VARIANTS.get_or_init(|| {
        let text = include_str!("../../../../kernels/variants.toml");
        toml::from_str::<File>(text).expect("the crate's own records, see the test").rows
    })
}

impl Contract {
    /// The record of this kernel, which takes elements of `dtype`.
    pub(super) fn variant(&self, dtype: DType) -> Result<&'static Variant, Refusal> {
        let variant = variants().iter().find(|v| v.kernel == self.kernel);
        let variant =
            variant.ok_or_else(|| Refusal::new(self.kernel, "kernel", "has no variant"))?;
        let names: Vec<&str> = variant.dtypes.iter().map(|d| d.name()).collect();
        self.rule(variant.dtypes.contains(&dtype), "dtype", || {
            format!("is {dtype}; this kernel takes {}", names.join(", "))
        })?;
        Ok(variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_its_record() {
        let names: Vec<&str> = variants().iter().map(|v| v.kernel.as_str()).collect();
        assert_eq!(names, ["arg_max", "top_k", "sample", "rotary", "embedding", "norm"]);
        assert!(variants().iter().all(|v| v.threads % 32 == 0 && (32..=1024).contains(&v.threads)));
    }
}
