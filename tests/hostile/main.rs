//! Files that are well formed and hostile: archives, artifacts, keys and tensors whose structure, checksums
//! and hashes are right and whose contents lie. Every reader refuses them with an error that says where and
//! what to do, without a panic and without memory that the file's own size does not justify.
//!
//! All edits come from fixed seeds, so a failure repeats. Blind damage is `corrupt.rs`; what fuzzing
//! (`make fuzz`) finds gets its own case here.

mod archive;
mod artifact;
mod expressions;
mod harness;
mod kernels;
mod signature;
mod tensors;
mod weight_files;
mod zip;

#[global_allocator]
static ALLOCATOR: harness::Counting = harness::Counting;
