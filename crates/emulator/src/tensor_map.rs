//! Tensor maps: what `cuTensorMapEncodeTiled` makes and tensor copies read (PTX ISA 5.5.8, CUDA driver API).
//!
//! NVIDIA does not document the 128 bytes; ours hold the arguments, a magic number and a checksum.
