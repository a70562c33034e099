//! What a session needs of a device. Two implementations: `cpu` and `cuda`.

use std::path::PathBuf;
use std::time::Duration;

use zeroforge_artifact::manifest::WeightStorage;
use zeroforge_artifact::program::Program;

use crate::bind::Bound;
use crate::{Model, RunError, Tensor};

/// A device with a program's code and weights on it.
pub(crate) trait Device: std::fmt::Debug + Send {
    /// For people: `cpu, 4 threads` or the GPU's name.
    fn name(&self) -> String;

    /// Puts mutable buffers back to their initial contents.
    fn reset(&mut self, program: &Program, weights: &Weights) -> Result<(), RunError>;

    /// Contents of the mutable buffer of this index.
    fn state(&self, buffer: u32) -> Result<Option<Vec<u8>>, RunError>;

    /// Runs the steps. Inputs that the program updates hold their new values afterwards.
    fn call(&mut self, call: Call<'_>) -> Result<(), RunError>;
}

/// One call with its sizes bound.
pub(crate) struct Call<'a> {
    pub(crate) program: &'a Program,
    pub(crate) weights: &'a Weights,
    pub(crate) bound: &'a mut Bound,
    pub(crate) inputs: &'a mut [Tensor],
    pub(crate) outputs: &'a mut [Tensor],
    /// Where the time of each step goes, if wanted.
    pub(crate) profile: Option<&'a mut Vec<StepTime>>,
}

/// The time of one step of the last call.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The model's nodes.
    pub origin: String,
    /// The kernel.
    pub kernel: String,
    /// How long.
    pub time: Duration,
    /// Floating-point operations.
    pub flops: i64,
}

impl StepTime {
    pub(crate) fn of(program: &Program, step: usize, symbols: &[i64], time: Duration) -> StepTime {
        let info = &program.steps[step];
        StepTime {
            origin: info.origin.clone(),
            kernel: program.kernels[info.kernel as usize].doc.clone(),
            time,
            flops: info.flops.eval(symbols).unwrap_or(0),
        }
    }
}

/// A target's weights in host memory: mapped from the artifact or laid out at load.
#[derive(Debug)]
pub struct Weights {
    model: Model,
    weights: Vec<Weight>,
}

#[derive(Debug)]
enum Weight {
    /// In the mapped artifact, by index into the manifest's weights.
    Mapped(u32),
    /// In memory of our own.
    Owned(Tensor),
}

impl Weights {
    /// The weights of a target; those that the artifact does not hold come from `external`.
    pub fn of(model: &Model, target: usize, external: &[PathBuf]) -> Result<Weights, RunError> {
        let entry = &model.manifest().targets[target];
        let mut weights = Vec::with_capacity(entry.weights.len());
        for &w in &entry.weights {
            weights.push(match &model.manifest().weights[w as usize].storage {
                WeightStorage::Embedded { .. } => Weight::Mapped(w),
                WeightStorage::External { .. } => {
                    Weight::Owned(crate::external::load(model, w, external)?)
                }
            });
        }
        Ok(Weights { model: model.clone(), weights })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The number of weights.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// The stored bytes of a weight.
    pub fn bytes(&self, index: u32) -> Result<&[u8], RunError> {
        let bytes = match self.weights.get(index as usize) {
            Some(Weight::Mapped(w)) => self.model.artifact.weight_bytes(*w),
            Some(Weight::Owned(tensor)) => Some(tensor.bytes()),
            None => None,
        };
        bytes.ok_or_else(|| RunError::Weight {
            name: index.to_string(),
            reason: "it is not in the artifact".to_owned(),
        })
    }

    /// Initial contents of a mutable buffer of `bytes` bytes; `None` means zeros.
    pub fn initial(
        &self,
        name: &str,
        weight: Option<u32>,
        bytes: i64,
    ) -> Result<Option<&[u8]>, RunError> {
        let Some(weight) = weight else { return Ok(None) };
        let source = self.bytes(weight)?;
        if source.len() as i64 == bytes {
            return Ok(Some(source));
        }
        Err(RunError::Size {
            what: format!("state `{name}`"),
            value: bytes,
            reason: "its initial contents have another size",
        })
    }
}

/// Refuses a tensor that does not have the size of its buffer.
pub(crate) fn check_size(tensor: &Tensor, name: &str, bytes: u64) -> Result<(), RunError> {
    if tensor.bytes().len() as u64 == bytes {
        return Ok(());
    }
    Err(RunError::Size {
        what: format!("buffer `{name}`"),
        value: bytes as i64,
        reason: "its tensor has another size",
    })
}
