//! What is computed, and how it is divided into tiles among SMs.

use serde::{Deserialize, Serialize};

use super::rates::{Device, Rates};

/// A problem for a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Problem {
    /// Attention, forward.
    Attention {
        /// Sequences.
        batch: u64,
        /// Query heads.
        heads: u64,
        /// Length of queries and keys.
        length: u64,
        /// Head dimension of queries and keys.
        head_dim: u64,
        /// Head dimension of values.
        value_dim: u64,
        /// Keys after the query are masked.
        causal: bool,
    },
    /// A matrix product.
    Gemm {
        /// Rows of the result.
        m: u64,
        /// Columns.
        n: u64,
        /// Summed.
        k: u64,
    },
}

/// How a kernel's source divides a problem: what the machine code does not show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    /// Rows of a block's tile: queries, or rows of the result.
    pub tile_m: u64,
    /// Columns: keys of an iteration, or columns of the result.
    pub tile_n: u64,
    /// Summed in an iteration; matrix products only.
    #[serde(default)]
    pub tile_k: u64,
    /// Iterations whose operands are loaded ahead.
    pub stages: usize,
    /// Tiles whose queries are loaded ahead; 2 where they are double-buffered.
    #[serde(default = "one")]
    pub query_stages: usize,
    /// The result is stored from the slots of the values: the next tile's first values wait for the store.
    #[serde(default)]
    pub output_in_values: bool,
    /// Bytes of an element of the operands.
    pub element_bytes: u64,
    /// Consumer warpgroups take tiles in turn (ping-pong of matrix products), else each its rows of one tile.
    #[serde(default)]
    pub alternate: bool,
}

fn one() -> usize {
    1
}

/// Most tiles of a problem, and most iterations of an SM, that the model replays.
const LARGEST: u64 = 1 << 22;

/// A launch: what `zeroforge analyze --launch` reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchFile {
    /// Where it runs: `h100`, or `h200-slice` for 60 SMs of an H200.
    pub device: DeviceName,
    /// Threads per block, if the kernel does not state them.
    pub threads: Option<u32>,
    /// Bytes of dynamic shared memory.
    #[serde(default)]
    pub dynamic_shared: u64,
    /// Special functions take as long as in an idle unit, not what the model was calibrated to.
    #[serde(default)]
    pub idle_latencies: bool,
    /// What is computed.
    pub problem: Problem,
    /// How it is divided.
    pub tiling: Tiling,
}

/// A device by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    /// [`Device::H100`].
    H100,
    /// [`Device::H200_SLICE`].
    H200Slice,
}

impl DeviceName {
    /// The device.
    pub fn device(self) -> Device {
        match self {
            DeviceName::H100 => Device::H100,
            DeviceName::H200Slice => Device::H200_SLICE,
        }
    }
}

impl LaunchFile {
    /// The model's constants for it.
    pub fn rates(&self) -> Rates {
        if self.idle_latencies { Rates::idle() } else { Rates::default() }
    }

    /// From the text of a file.
    ///
    /// # Errors
    ///
    /// What TOML or a name in it is wrong, and where.
    pub fn parse(text: &str) -> Result<LaunchFile, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }
}

/// A tile of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tile {
    /// Operations for one warpgroup, whole iterations.
    pub flops: u64,
    /// Iterations in all.
    pub iterations: u64,
    /// Iterations that need a mask.
    pub masked: u64,
}

impl Problem {
    /// Whether the model can replay it.
    pub(super) fn check(&self, t: &Tiling) -> Result<(), String> {
        let product = |values: &[u64]| {
            values.iter().try_fold(1u64, |a, &b| a.checked_mul(b)).filter(|&p| p > 0 && p < 1 << 50)
        };
        let bad = || "a size of the launch is zero or too large".to_owned();
        let (sizes, tiles, iterations) = match *self {
            Problem::Attention { batch, heads, length, head_dim, value_dim, .. } => (
                vec![batch, heads, length, length, head_dim, value_dim],
                product(&[batch, heads, length.div_ceil(t.tile_m.max(1))]),
                length.div_ceil(t.tile_n.max(1)),
            ),
            Problem::Gemm { m, n, k } => {
                if t.tile_k == 0 {
                    return Err("a matrix product's tiling has no tile_k".to_owned());
                }
                let tiles = product(&[m.div_ceil(t.tile_m.max(1)), n.div_ceil(t.tile_n.max(1))]);
                (vec![m, n, k], tiles, k.div_ceil(t.tile_k))
            }
        };
        let ok = sizes.iter().all(|&s| s > 0 && s < 1 << 32)
            && [t.tile_m, t.tile_n, t.element_bytes].iter().all(|&s| s > 0 && s < 1 << 16)
            && t.tile_k < 1 << 16
            && sizes.iter().try_fold(1u64, |a, &b| a.checked_mul(b)).is_some();
        let tiles = tiles.filter(|&n| n <= LARGEST && ok).ok_or_else(bad)?;
        // At least 60 SMs share them.
        if tiles.div_ceil(60).saturating_mul(iterations) > LARGEST {
            return Err("the launch is too long to be replayed".to_owned());
        }
        Ok(())
    }

    /// Operations that count: what a benchmark divides by the time.
    pub fn flops(&self) -> f64 {
        match *self {
            Problem::Attention { batch, heads, length, head_dim, value_dim, causal } => {
                let all =
                    2.0 * (batch * heads * length * length) as f64 * (head_dim + value_dim) as f64;
                if causal { all / 2.0 } else { all }
            }
            Problem::Gemm { m, n, k } => 2.0 * m as f64 * n as f64 * k as f64,
        }
    }

    /// Bytes that memory moves at least: every operand read once, the result written once.
    pub fn bytes(&self, element: u64) -> f64 {
        let bytes = match *self {
            Problem::Attention { batch, heads, length, head_dim, value_dim, .. } => {
                batch * heads * length * (2 * head_dim * element + value_dim * (element + 2))
            }
            Problem::Gemm { m, n, k } => (m * k + k * n) * element + m * n * 2,
        };
        bytes as f64
    }

    /// Bytes of each load of an iteration, by class in the order of waits, then of a tile's own load.
    pub(super) fn load_bytes(&self, t: &Tiling, classes_in_loop: usize) -> (Vec<u64>, u64) {
        match *self {
            Problem::Attention { head_dim, value_dim, .. } => {
                let (k, v) =
                    (t.tile_n * head_dim * t.element_bytes, t.tile_n * value_dim * t.element_bytes);
                let loads = if classes_in_loop == 1 { vec![k + v] } else { vec![k, v] };
                (loads, t.tile_m * head_dim * t.element_bytes)
            }
            Problem::Gemm { .. } => {
                let (a, b) =
                    (t.tile_m * t.tile_k * t.element_bytes, t.tile_n * t.tile_k * t.element_bytes);
                let loads = if classes_in_loop == 1 { vec![a + b] } else { vec![a, b] };
                (loads, 0)
            }
        }
    }

    /// Tiles that read the same operands in their iterations, on average: bytes loaded per byte that exists.
    pub(super) fn shared_loads(&self, t: &Tiling) -> f64 {
        match *self {
            Problem::Attention { length, causal, .. } => {
                let rows = length.div_ceil(t.tile_m) as f64;
                if causal { (rows + 1.0) / 2.0 } else { rows }
            }
            Problem::Gemm { m, n, k } => {
                let (rows, columns) = (m.div_ceil(t.tile_m), n.div_ceil(t.tile_n));
                let loaded = rows * columns * k * (t.tile_m + t.tile_n);
                loaded as f64 / (k * (m + n)).max(1) as f64
            }
        }
    }

    /// Bytes of a tile of the result, in 16-bit elements.
    pub(super) fn output_bytes(&self, t: &Tiling) -> u64 {
        2 * t.tile_m
            * match *self {
                Problem::Attention { value_dim, .. } => value_dim,
                Problem::Gemm { .. } => t.tile_n,
            }
    }

    /// All tiles; those of most work first where they differ. `rows` are the rows of a warpgroup.
    fn tiles(&self, t: &Tiling, rows: u64) -> Vec<Tile> {
        match *self {
            Problem::Attention { batch, heads, length, head_dim, value_dim, causal } => {
                let mut list = Vec::new();
                for row in (0..length.div_ceil(t.tile_m)).rev() {
                    let last = ((row + 1) * t.tile_m).min(length);
                    let keys = if causal { last } else { length };
                    let iterations = keys.div_ceil(t.tile_n);
                    // Tiles with a key after the first query of the tile, or past the end.
                    let whole = if causal { row * t.tile_m / t.tile_n } else { length / t.tile_n };
                    let masked = iterations - whole.min(iterations);
                    let flops = 2 * rows * t.tile_n * (head_dim + value_dim) * iterations;
                    list.extend(std::iter::repeat_n(
                        Tile { flops, iterations, masked },
                        (batch * heads) as usize,
                    ));
                }
                list
            }
            Problem::Gemm { m, n, k } => {
                let iterations = k.div_ceil(t.tile_k.max(1));
                let flops = 2 * rows * t.tile_n * t.tile_k * iterations;
                let count = m.div_ceil(t.tile_m) * n.div_ceil(t.tile_n);
                vec![Tile { flops, iterations, masked: 0 }; count as usize]
            }
        }
    }

    /// The tiles of the SM that has most to do: each tile goes to the SM that is free first. Tiles cost their iterations and
    /// about one more for what is before and after them.
    pub(super) fn busiest(&self, t: &Tiling, rows: u64, sms: u64) -> Vec<Tile> {
        let tiles = self.tiles(t, rows);
        let mut load: std::collections::BinaryHeap<std::cmp::Reverse<(u64, usize)>> =
            (0..sms as usize).map(|s| std::cmp::Reverse((0, s))).collect();
        let mut lists: Vec<(u64, Vec<Tile>)> = vec![(0, Vec::new()); sms as usize];
        for tile in tiles {
            let Some(std::cmp::Reverse((cost, s))) = load.pop() else { break };
            let cost = cost + tile.iterations + 1;
            lists[s].0 = cost;
            lists[s].1.push(tile);
            load.push(std::cmp::Reverse((cost, s)));
        }
        lists.into_iter().max_by_key(|(cost, _)| *cost).map(|(_, l)| l).unwrap_or_default()
    }
}
