//! GGUF files of the `llama` architecture: tensors dequantised to f32, under transformers' names.
//!
//! Format: the GGUF specification of the ggml project. Rotary pairs of q and k are adjacent rows in
//! GGUF and half a head apart in transformers, so those rows are put back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most tensors or metadata entries a file may have.
const MAX_ENTRIES: u64 = 1 << 20;
/// Largest alignment of tensor data.
const MAX_ALIGN: usize = 1 << 20;
/// Longest string.
const MAX_STRING: u64 = 1 << 24;

/// A tensor as transformers has it.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    /// Little-endian f32.
    pub(crate) bytes: Vec<u8>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.bytes.len());
        let end =
            end.ok_or_else(|| format!("the file ends at byte {} of a GGUF header", self.at))?;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let slice = self.take(N)?;
        slice.try_into().map_err(|_| "short read".to_owned())
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.number()?))
    }

    fn string(&mut self) -> Result<String, String> {
        let len = self.u64()?;
        if len > MAX_STRING {
            return Err(format!("a string of {len} bytes"));
        }
        Ok(String::from_utf8_lossy(self.take(len as usize)?).into_owned())
    }

    /// Reads a metadata value; integers and strings are returned, the rest is skipped.
    fn value(&mut self, kind: u32, depth: u32) -> Result<Value, String> {
        match kind {
            0 | 1 | 7 => self.take(1).map(|b| Value::Int(b[0].into())),
            2 | 3 => Ok(Value::Int(u16::from_le_bytes(self.number()?).into())),
            4 | 5 => Ok(Value::Int(self.u32()?.into())),
            6 => self.take(4).map(|_| Value::Other),
            8 => self.string().map(Value::Text),
            9 if depth < 4 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                for _ in 0..count {
                    self.value(kind, depth + 1)?;
                }
                Ok(Value::Other)
            }
            10 | 11 => self.u64().map(Value::Int),
            12 => self.take(8).map(|_| Value::Other),
            _ => Err(format!("metadata of unknown type {kind}")),
        }
    }
}

enum Value {
    Int(u64),
    Text(String),
    Other,
}

/// Bytes and weights per block of a quantisation.
fn block(kind: u32) -> Result<(usize, usize), String> {
    Ok(match kind {
        0 => (4, 1),
        1 | 30 => (2, 1),
        2 => (18, 32),
        3 => (20, 32),
        6 => (22, 32),
        7 => (24, 32),
        8 => (34, 32),
        _ => {
            return Err(format!(
                "quantisation type {kind} is not supported; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 are"
            ));
        }
    })
}

fn half(bytes: &[u8]) -> f32 {
    half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Dequantises whole blocks into little-endian f32; both lengths were checked by the caller.
fn dequantise(kind: u32, bytes: &[u8], out: &mut [u8]) {
    let Ok((size, weights)) = block(kind) else { return };
    let blocks = bytes.chunks_exact(size).zip(out.chunks_exact_mut(weights * 4));
    match kind {
        0 => out.copy_from_slice(bytes),
        1 => blocks.for_each(|(b, o)| o.copy_from_slice(&half(b).to_le_bytes())),
        30 => blocks.for_each(|(b, o)| o.copy_from_slice(&[0, 0, b[0], b[1]])),
        2 | 3 => blocks.for_each(|(b, o)| {
            let d = half(b);
            let (m, q) = if kind == 3 { (half(&b[2..]), &b[4..]) } else { (-8.0 * d, &b[2..]) };
            let (low, high) = o.split_at_mut(64);
            store(low, q.iter().map(|q| f32::from(q & 15) * d + m));
            store(high, q.iter().map(|q| f32::from(q >> 4) * d + m));
        }),
        6 | 7 => blocks.for_each(|(b, o)| {
            let d = half(b);
            let (m, rest) = if kind == 7 { (half(&b[2..]), &b[4..]) } else { (-16.0 * d, &b[2..]) };
            let fifth = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
            let q = &rest[4..];
            let bit = |i: usize| ((fifth >> i & 1) << 4) as u8;
            let (low, high) = o.split_at_mut(64);
            store(low, (0..16).map(|i| f32::from(q[i] & 15 | bit(i)) * d + m));
            store(high, (0..16).map(|i| f32::from(q[i] >> 4 | bit(i + 16)) * d + m));
        }),
        _ => blocks.for_each(|(b, o)| {
            let d = half(b);
            store(o, b[2..].iter().map(|q| f32::from(q.cast_signed()) * d));
        }),
    }
}

fn store(out: &mut [u8], values: impl Iterator<Item = f32>) {
    for (out, value) in out.chunks_exact_mut(4).zip(values) {
        out.copy_from_slice(&value.to_le_bytes());
    }
}

/// transformers' name of a llama tensor.
fn rename(name: &str) -> String {
    let fixed = match name {
        "token_embd.weight" => "model.embed_tokens.weight",
        "output_norm.weight" => "model.norm.weight",
        "output.weight" => "lm_head.weight",
        _ => "",
    };
    if !fixed.is_empty() {
        return fixed.to_owned();
    }
    let Some((layer, part)) = name.strip_prefix("blk.").and_then(|r| r.split_once('.')) else {
        return name.to_owned();
    };
    let (part, kind) = part.rsplit_once('.').unwrap_or((part, "weight"));
    let part = match part {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => other,
    };
    format!("model.layers.{layer}.{part}.{kind}")
}

/// Undoes the row order of rotary projections.
fn restore_rotary(values: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (width, d) = (values.len() / rows.max(1), rows / heads.max(1));
    let mut out = vec![0; values.len()];
    for row in 0..heads * d {
        let (head, i) = (row / d, row % d);
        let from = head * d + if i < d / 2 { 2 * i } else { 2 * (i - d / 2) + 1 };
        out[row * width..(row + 1) * width]
            .copy_from_slice(&values[from * width..(from + 1) * width]);
    }
    out
}

/// Elements and bytes of a tensor; `None` if they overflow or do not fill whole blocks.
fn extent(shape: &[i64], size: usize, weights: usize) -> Option<(usize, usize)> {
    let count = shape.iter().try_fold(1usize, |p, &n| p.checked_mul(usize::try_from(n).ok()?))?;
    let bytes = (count.is_multiple_of(weights)).then(|| (count / weights).checked_mul(size))??;
    // Values are held as f32.
    count.checked_mul(4).filter(|&n| n <= isize::MAX as usize)?;
    Some((count, bytes))
}

/// Reads every tensor.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let mut r = Reader { bytes, at: 0 };
    if r.take(4)? != b"GGUF" {
        return Err("not a GGUF file".to_owned());
    }
    let version = r.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF version {version}; 2 and 3 are read"));
    }
    let (tensors, entries) = (r.u64()?, r.u64()?);
    if tensors > MAX_ENTRIES || entries > MAX_ENTRIES {
        return Err(format!("{tensors} tensors and {entries} metadata entries are over the limit"));
    }
    let (mut architecture, mut align) = (String::new(), 32usize);
    let (mut heads, mut kv_heads) = (0, 0);
    for _ in 0..entries {
        let key = r.string()?;
        let kind = r.u32()?;
        match (key.as_str(), r.value(kind, 0)?) {
            ("general.architecture", Value::Text(t)) => architecture = t,
            ("general.alignment", Value::Int(v)) => {
                align =
                    usize::try_from(v).ok().filter(|a| (1..=MAX_ALIGN).contains(a)).ok_or_else(
                        || format!("an alignment of {v} bytes; 1 to {MAX_ALIGN} are allowed"),
                    )?;
            }
            (k, Value::Int(v)) if k.ends_with(".attention.head_count") => heads = v as usize,
            (k, Value::Int(v)) if k.ends_with(".attention.head_count_kv") => kv_heads = v as usize,
            _ => {}
        }
    }
    if architecture != "llama" {
        return Err(format!(
            "architecture `{architecture}`; only `llama` files are mapped to transformers' names"
        ));
    }
    let mut infos = Vec::new();
    for _ in 0..tensors {
        let name = r.string()?;
        let rank = r.u32()?;
        if rank > 8 {
            return Err(format!("tensor `{name}` has {rank} axes"));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(
                i64::try_from(r.u64()?).map_err(|_| format!("tensor `{name}` is too large"))?,
            );
        }
        // Innermost first in the file.
        shape.reverse();
        infos.push((name, shape, r.u32()?, r.u64()?));
    }
    let data = r.at.next_multiple_of(align);
    // Tensors over the same bytes would let a small file ask for any amount of memory.
    let mut taken: Vec<(usize, usize, &str)> = Vec::with_capacity(infos.len());
    for (name, shape, kind, offset) in &infos {
        let (size, weights) = block(*kind).map_err(|e| format!("tensor `{name}`: {e}"))?;
        let range = extent(shape, size, weights).and_then(|(_, n)| {
            let start = data.checked_add(usize::try_from(*offset).ok()?)?;
            let end = start.checked_add(n)?;
            (end <= bytes.len()).then_some((start, end, name.as_str()))
        });
        taken.push(range.ok_or_else(|| {
            format!(
                "tensor `{name}` of shape {shape:?} at byte {offset} of the data leaves the file, which is damaged or cut off"
            )
        })?);
    }
    taken.sort_unstable();
    taken.retain(|(start, end, _)| start < end);
    if let Some(pair) = taken.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        return Err(format!("tensors `{}` and `{}` overlap", pair[0].2, pair[1].2));
    }
    let rotary_heads = |name: &str| match name.rsplit('.').nth(1) {
        Some("attn_q") => heads,
        Some("attn_k") if kv_heads == 0 => heads,
        Some("attn_k") => kv_heads,
        _ => 0,
    };
    type Info = (String, Vec<i64>, u32, u64);
    let read_one = |(name, shape, kind, offset): &Info| -> Result<Tensor, String> {
        let (size, weights) = block(*kind).map_err(|e| format!("tensor `{name}`: {e}"))?;
        let (count, n) =
            extent(shape, size, weights).ok_or_else(|| format!("tensor `{name}` is too large"))?;
        // In the file: checked above.
        let start = data + *offset as usize;
        let mut values = vec![0; count * 4];
        dequantise(*kind, &bytes[start..start + n], &mut values);
        let rows = shape.first().map_or(0, |&n| n as usize);
        let heads = rotary_heads(name);
        if heads > 0 && rows > 0 && rows % heads == 0 && (rows / heads) % 2 == 0 {
            values = restore_rotary(&values, rows, heads);
        }
        Ok(Tensor { name: rename(name), shape: shape.clone(), bytes: values })
    };
    // On all cores: most of an import's time goes here.
    let next = AtomicUsize::new(0);
    let out = Mutex::new(Vec::with_capacity(infos.len()));
    let worker = || -> Result<(), String> {
        while let Some((i, info)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            infos.get(i).map(|info| (i, info))
        } {
            let tensor = read_one(info)?;
            out.lock().unwrap_or_else(PoisonError::into_inner).push((i, tensor));
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(infos.len());
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().try_for_each(|h| match h.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut out = out.into_inner().unwrap_or_else(PoisonError::into_inner);
    out.sort_unstable_by_key(|(i, _)| *i);
    Ok(out.into_iter().map(|(_, tensor)| tensor).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(kind: u32, block: &[u8]) -> Vec<f32> {
        let weights = super::block(kind).unwrap().1;
        let mut out = vec![0; weights * 4];
        dequantise(kind, block, &mut out);
        out.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// Blocks as ggml's `quantize_row_*_ref` lays them out: scale 0.5 and minimum 3 as f16, the low
    /// halves of 16 bytes before the high ones, the fifth bits in one word.
    #[test]
    fn blocks_are_dequantised() {
        let (scale, minimum) = (0x3800u16.to_le_bytes(), 0x4200u16.to_le_bytes());
        let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
        let fifth = 0x8001_0002u32.to_le_bytes();
        let of = |i: usize| if i < 16 { i as f32 } else { (31 - i) as f32 };
        let bit = |i: usize| if matches!(i, 1 | 16 | 31) { 16.0 } else { 0.0 };
        let expect = |f: &dyn Fn(usize) -> f32| (0..32).map(f).collect::<Vec<f32>>();

        let q4_0 = [&scale[..], &nibbles].concat();
        assert_eq!(values(2, &q4_0), expect(&|i| 0.5 * (of(i) - 8.0)));
        let q4_1 = [&scale[..], &minimum, &nibbles].concat();
        assert_eq!(values(3, &q4_1), expect(&|i| 0.5 * of(i) + 3.0));
        let q5_0 = [&scale[..], &fifth, &nibbles].concat();
        assert_eq!(values(6, &q5_0), expect(&|i| 0.5 * (of(i) + bit(i) - 16.0)));
        let q5_1 = [&scale[..], &minimum, &fifth, &nibbles].concat();
        assert_eq!(values(7, &q5_1), expect(&|i| 0.5 * (of(i) + bit(i)) + 3.0));
        let signed: Vec<u8> = (0..32).map(|i: i8| (i - 20).cast_unsigned()).collect();
        let q8_0 = [&scale[..], &signed].concat();
        assert_eq!(values(8, &q8_0), expect(&|i| 0.5 * (i as f32 - 20.0)));
        assert_eq!(values(0, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(values(1, &0xc000u16.to_le_bytes()), [-2.0]);
        assert_eq!(values(30, &0xc000u16.to_le_bytes()), [-2.0]);
    }

    /// llama.cpp interleaves the two halves of every head's rows; transformers does not.
    #[test]
    fn rotary_rows_go_back_to_their_halves() {
        // Two heads of four rows, one byte a row.
        let interleaved = [0, 2, 1, 3, 4, 6, 5, 7];
        assert_eq!(restore_rotary(&interleaved, 8, 2), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
