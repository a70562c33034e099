//! Attention of a few queries over a KV cache: what a model's decode steps run (`kernels/attention/decode.cuh`).
//!
//! A call is up to three launches ([`plan`]): new keys and values into the cache (`append.cuh`), attention over splits
//! of the cache (`decode.cuh`), and the splits' results into one (`combine.cuh`). Lengths of sequences are on the
//! device and may change without a new plan.

mod contract;
mod plan;
mod source;
mod splits;
#[cfg(test)]
mod tests;

use zeroforge_artifact::{DType, Expr};

pub use plan::{Launch, plan, workspace_bytes};
pub use source::{BLOCK_ROWS, append_instance, combine_instance, decode_instance, tile_keys};
pub use splits::{MAX_SPLITS, num_splits};

/// Element type of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// That of queries and output.
    Same,
    /// FP8 e4m3: one byte an element, multiplied by a descale per sequence and KV head.
    E4m3,
}

/// Rotary embedding of queries and new keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rotary {
    /// The first so many dimensions are rotated; a multiple of 16.
    pub dim: u32,
    /// Pairs are neighbours (GPT-J); otherwise half of `dim` apart (GPT-NeoX).
    pub interleaved: bool,
}

/// How tiles of the cache come into shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Copies {
    /// Every thread copies 16-byte pieces (`cp.async`): any cache.
    Threads,
    /// Tensor copies of so many rows at a time, which divide a tile and a page: fewer instructions.
    Tensor(u32),
}

/// What is compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecodeSpec {
    /// Of queries, new keys and values, rotary tables and output: bf16 or f16.
    pub dtype: DType,
    /// Of the cache.
    pub cache: CacheType,
    /// Columns of queries and keys.
    pub head_dim: u32,
    /// Columns of values and output.
    pub value_dim: u32,
    /// Values are the first `value_dim` columns of the keys (multi-head latent attention).
    pub latent: bool,
    /// The cache is in pages.
    pub paged: bool,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: bool,
    /// Scores lose a slope times their distance.
    pub alibi: bool,
    /// Queries and new keys are rotated.
    pub rotary: Option<Rotary>,
    /// How the cache is read.
    pub copies: Copies,
}

impl DecodeSpec {
    /// The same with the copies that take the fewest instructions for pages of so many rows (any number of a dense
    /// cache): whole tiles where pages are multiples of a tile; threads for smaller pages and e4m3.
    pub fn with_copies_for(self, page_rows: i64) -> DecodeSpec {
        let tile = tile_keys(&self);
        let whole = !self.paged || page_rows % i64::from(tile) == 0;
        let copies = match self.cache {
            CacheType::Same if whole => Copies::Tensor(tile),
            _ => Copies::Threads,
        };
        DecodeSpec { copies, ..self }
    }
}

/// A place in a buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The buffer's number in the program.
    pub buffer: u32,
    /// Bytes from its start.
    pub offset: Expr,
}

/// A tensor [first, head, row, column] in a buffer, columns contiguous.
#[derive(Clone, Debug, PartialEq)]
pub struct Strided {
    /// The first element.
    pub at: Place,
    /// Elements from one sequence (of a cache: sequence or page), head and row to the next.
    pub strides: [Expr; 3],
}

/// The table of a paged cache, int32 `[batch, stride]`. Entries behind a sequence's end are not looked at; entries
/// that name no page count as pages of zeros, and nothing is written to them.
#[derive(Clone, Debug, PartialEq)]
pub struct PageTable {
    /// The table.
    pub at: Place,
    /// Entries from one sequence to the next.
    pub stride: Expr,
    /// Rows of a page: a multiple of 16.
    pub page_rows: i64,
}

/// A KV cache.
#[derive(Clone, Debug, PartialEq)]
pub struct KvCache {
    /// Keys.
    pub k: Strided,
    /// Values; `None` where they are part of the keys (latent).
    pub v: Option<Strided>,
    /// int32 `[batch]`: filled rows; without it every sequence fills `capacity`. Numbers outside of 0..=capacity count
    /// as the nearest.
    pub lengths: Option<Place>,
    /// int32 `[batch]`: rows at the start that do not count.
    pub left_padding: Option<Place>,
    /// int32 `[batch]`: a sequence's number in a dense cache; one that is not in the cache has no rows.
    pub batch_index: Option<Place>,
    /// Of a paged cache.
    pub page_table: Option<PageTable>,
    /// Sequences in a dense cache, pages in a paged one.
    pub units: Expr,
    /// Rows that a sequence may have.
    pub capacity: Expr,
}

/// Rows to add to the cache behind its lengths. Rows that do not fit are dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRows {
    /// Keys `[batch, kv_heads, rows, head_dim]`, not yet rotated.
    pub k: Strided,
    /// Values.
    pub v: Option<Strided>,
    /// How many.
    pub rows: i64,
}

/// Rotary tables `[positions, dim / 2]`, contiguous.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryTables {
    /// Cosines.
    pub cos: Place,
    /// Sines.
    pub sin: Place,
    /// Rows of both; a later position takes the last.
    pub positions: Expr,
}

/// Operands and sizes of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeCall {
    /// Sequences.
    pub batch: Expr,
    /// Query heads.
    pub heads: i64,
    /// Heads of the cache.
    pub kv_heads: i64,
    /// Queries of a sequence. The last stands at the sequence's last row.
    pub queries: i64,
    /// Queries `[batch, heads, queries, head_dim]`.
    pub q: Strided,
    /// Output `[batch, heads, queries, value_dim]`.
    pub o: Strided,
    /// Keys and values.
    pub cache: KvCache,
    /// Rows that are added first.
    pub new: Option<NewRows>,
    /// Where [`DecodeSpec::rotary`] is.
    pub rotary: Option<RotaryTables>,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Where [`DecodeSpec::softcap`] is.
    pub softcap: f32,
    /// Rows before a query's that it sees; `None` for all.
    pub window_left: Option<i64>,
    /// And behind it: 0 for causal attention, `None` for all.
    pub window_right: Option<i64>,
    /// f32 `[heads]`: a logit that takes part in the softmax without a value.
    pub sinks: Option<Place>,
    /// f32 `[heads]`: where [`DecodeSpec::alibi`] is.
    pub slopes: Option<Place>,
    /// f32 `[batch, kv_heads]` that keys of the cache are multiplied by; of a latent cache, values too.
    pub k_descale: Option<Place>,
    /// The same for values.
    pub v_descale: Option<Place>,
    /// f32 `[batch, heads, queries]`: the natural logarithm of the sum of exponentials, sinks included.
    pub lse: Option<Place>,
    /// Parts that the keys are split into ([`num_splits`]).
    pub splits: u32,
    /// Scratch memory of [`workspace_bytes`], where there is more than one split.
    pub workspace: Option<Place>,
}
