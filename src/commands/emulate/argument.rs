//! The arguments of an emulated kernel: text to parameter bytes and memory.

use std::path::Path;

use anyhow::Result;
use half::{bf16, f16};
use zeroforge_artifact::DType;
use zeroforge_emulator::DeviceMemory;
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TensorMap, TiledArguments,
};
use zeroforge_runtime::{Tensor, tensor_io};

use crate::exit::UsageError;

/// Memory of an argument.
pub(super) struct Region {
    /// Where the kernel sees it.
    pub(super) address: u64,
    pub(super) dtype: DType,
    pub(super) shape: Vec<i64>,
    /// Whether it is shown and saved afterwards.
    pub(super) kept: bool,
}

/// The arguments so far.
pub(super) struct Arguments<'a> {
    memory: &'a DeviceMemory,
    /// Memory by argument, members of structs included.
    pub(super) regions: Vec<(String, Region)>,
}

/// A parameter's bytes and their alignment.
pub(super) struct Parameter {
    pub(super) bytes: Vec<u8>,
    align: usize,
}

fn wrong(text: &str, reason: impl std::fmt::Display) -> anyhow::Error {
    UsageError(format!("argument `{text}`: {reason}")).into()
}

/// The names of number types, with those of CUDA that a tensor has under another name.
fn dtype_of(name: &str) -> Option<DType> {
    let name = match name {
        "u16" => "i16",
        "u32" => "i32",
        "u64" => "i64",
        "e4m3" | "e5m2" => "u8",
        name => name,
    };
    DType::ALL.into_iter().find(|d| d.name() == name)
}

/// `f32[8,128]`.
fn tensor_type(text: &str) -> Result<(DType, Vec<i64>), String> {
    let expected = "a type and a shape such as f32[8,128] are expected";
    let (name, rest) = text.split_once('[').ok_or(expected)?;
    let sizes = rest.strip_suffix(']').ok_or(expected)?;
    let dtype = dtype_of(name).ok_or_else(|| format!("`{name}` is no element type"))?;
    let size = |s: &str| s.trim().parse::<i64>().ok().filter(|&n| n >= 0);
    let shape: Option<Vec<i64>> =
        if sizes.is_empty() { Some(Vec::new()) } else { sizes.split(',').map(size).collect() };
    Ok((dtype, shape.ok_or(expected)?))
}

/// Sizes separated by `x`.
fn sizes<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, String> {
    text.split('x')
        .map(|s| s.trim().parse().map_err(|_| format!("`{text}` is no list like 64x128")))
        .collect()
}

impl<'a> Arguments<'a> {
    pub(super) fn new(memory: &'a DeviceMemory) -> Arguments<'a> {
        Arguments { memory, regions: Vec::new() }
    }

    /// The argument of an index.
    pub(super) fn parse(&mut self, text: &str, index: usize) -> Result<Parameter> {
        self.one(text, &format!("arg{index}"))
    }

    fn one(&mut self, text: &str, name: &str) -> Result<Parameter> {
        if let Some(members) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            return self.structure(members, name);
        }
        let Some((kind, value)) = text.split_once('=') else {
            return Err(wrong(text, "KIND=VALUE is expected; see `zeroforge emulate --help`"));
        };
        let region = match kind {
            "in" | "inout" => self.filled(&read(value)?, kind == "inout"),
            "zeros" | "out" | "random" => {
                let (ty, seed) = value.rsplit_once(':').unwrap_or((value, "0"));
                let (ty, seed) = if kind == "random" { (ty, seed) } else { (value, "0") };
                let (dtype, shape) = tensor_type(ty).map_err(|e| wrong(text, e))?;
                let seed = seed.parse().map_err(|_| wrong(text, "the seed is no whole number"))?;
                match kind {
                    "out" => self.unwritten(dtype, shape),
                    "zeros" => self.filled(&Tensor::zeros(dtype, &shape)?, true),
                    _ => self.filled(&random(dtype, &shape, seed)?, true),
                }
            }
            "tensormap" => {
                let bytes = self.tensor_map(value).map_err(|e| wrong(text, e))?;
                return Ok(Parameter { bytes, align: 64 });
            }
            "bytes" => {
                let digits: Vec<char> = value.chars().collect();
                let byte = |pair: &[char]| {
                    let pair: String = pair.iter().collect();
                    u8::from_str_radix(&pair, 16).ok().filter(|_| pair.len() == 2)
                };
                let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
                let bytes = bytes.ok_or_else(|| wrong(text, "hexadecimal digits are expected"))?;
                return Ok(Parameter { bytes, align: 1 });
            }
            _ => {
                let bytes = number(kind, value).map_err(|e| wrong(text, e))?;
                return Ok(Parameter { align: bytes.len(), bytes });
            }
        }?;
        let bytes = region.address.to_le_bytes().to_vec();
        self.regions.push((name.to_owned(), region));
        Ok(Parameter { bytes, align: 8 })
    }

    fn structure(&mut self, members: &str, name: &str) -> Result<Parameter> {
        let mut all = Parameter { bytes: Vec::new(), align: 1 };
        for (i, member) in members.split(';').map(str::trim).enumerate() {
            let part = self.one(member, &format!("{name}.{i}"))?;
            all.bytes.resize(all.bytes.len().next_multiple_of(part.align), 0);
            all.bytes.extend(part.bytes);
            all.align = all.align.max(part.align);
        }
        all.bytes.resize(all.bytes.len().next_multiple_of(all.align), 0);
        Ok(all)
    }

    fn filled(&self, tensor: &Tensor, kept: bool) -> Result<Region> {
        let region = Region { kept, ..self.unwritten(tensor.dtype(), tensor.shape().to_vec())? };
        self.memory.write(region.address, tensor.bytes())?;
        Ok(region)
    }

    fn unwritten(&self, dtype: DType, shape: Vec<i64>) -> Result<Region> {
        let bytes = zeroforge_runtime::tensor::byte_len(dtype, &shape)
            .ok_or_else(|| UsageError(format!("a tensor of {dtype} {shape:?} cannot exist")))?;
        let address = self.memory.alloc(bytes as u64)?;
        Ok(Region { address, dtype, shape, kept: true })
    }

    /// `0:bf16,dims=64x128,box=64x64,strides=128,swizzle=128,oob=nan`.
    fn tensor_map(&self, text: &str) -> Result<Vec<u8>, String> {
        let expected = "`tensormap=0:bf16,dims=64x128,box=64x64` is the form";
        let (argument, rest) = text.split_once(':').ok_or(expected)?;
        let wanted = format!("arg{argument}");
        let region = self.regions.iter().find(|(name, _)| *name == wanted);
        let (_, region) = region
            .ok_or_else(|| format!("argument {argument} is no memory, or comes after this one"))?;
        let mut parts = rest.split(',');
        let dtype = match parts.next().unwrap_or_default() {
            "u8" | "e4m3" | "e5m2" => DataType::Uint8,
            "u16" => DataType::Uint16,
            "u32" => DataType::Uint32,
            "i32" => DataType::Int32,
            "u64" => DataType::Uint64,
            "i64" => DataType::Int64,
            "f16" => DataType::Float16,
            "bf16" => DataType::Bfloat16,
            "f32" => DataType::Float32,
            "tf32" => DataType::Tfloat32,
            "f64" => DataType::Float64,
            other => return Err(format!("`{other}` is no element type of tensor maps")),
        };
        let (mut dims, mut strides, mut boxes) = (Vec::<u64>::new(), Vec::<u64>::new(), Vec::new());
        let (mut steps, mut swizzle, mut oob) = (Vec::new(), Swizzle::None, OobFill::Zero);
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}`: {expected}"))?;
            match key {
                "dims" => dims = sizes(value)?,
                "strides" => strides = sizes(value)?,
                "box" => boxes = sizes::<u32>(value)?,
                "element_strides" => steps = sizes::<u32>(value)?,
                "swizzle" => {
                    swizzle = match value {
                        "none" | "0" => Swizzle::None,
                        "32" => Swizzle::Bytes32,
                        "64" => Swizzle::Bytes64,
                        "128" => Swizzle::Bytes128,
                        _ => return Err(format!("swizzle {value} is not none, 32, 64 or 128")),
                    }
                }
                "oob" => {
                    oob = match value {
                        "zero" => OobFill::Zero,
                        "nan" => OobFill::NanRequestZeroFma,
                        _ => return Err(format!("oob {value} is not zero or nan")),
                    }
                }
                _ => return Err(format!("`{key}` is not known; {expected}")),
            }
        }
        if strides.is_empty() {
            // Packed.
            let mut stride = u64::from(dtype.bytes());
            for n in dims.iter().take(dims.len().saturating_sub(1)) {
                stride = stride.saturating_mul(*n);
                strides.push(stride);
            }
        }
        if steps.is_empty() {
            steps = vec![1; dims.len()];
        }
        let map = TensorMap::tiled(&TiledArguments {
            dtype,
            address: region.address,
            dims: &dims,
            strides: &strides,
            box_dims: &boxes,
            element_strides: &steps,
            interleave: Interleave::None,
            swizzle,
            l2_promotion: L2Promotion::None,
            oob_fill: oob,
        });
        Ok(map.map_err(|e| e.to_string())?.encode().to_vec())
    }
}

/// `x.npy`, or `x.safetensors:name`.
fn read(text: &str) -> Result<Tensor> {
    if let Some((file, name)) = text.rsplit_once(':').filter(|(f, _)| f.ends_with(".safetensors")) {
        let tensors = tensor_io::read_safetensors(Path::new(file))?;
        let found = tensors.into_iter().find(|(n, _)| n == name);
        return found
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| UsageError(format!("`{file}` holds no tensor `{name}`")).into());
    }
    Ok(tensor_io::read_npy(Path::new(text))?)
}

/// A number as the bytes of its type.
fn number(kind: &str, value: &str) -> Result<Vec<u8>, String> {
    let float = || value.parse::<f64>().map_err(|_| format!("`{value}` is no number"));
    let int = |low: i128, high: i128| {
        let parsed = match value.strip_prefix("0x") {
            Some(digits) => i128::from_str_radix(digits, 16).ok(),
            None => value.parse::<i128>().ok(),
        };
        let bytes = |v: i128| v.to_le_bytes().to_vec();
        parsed
            .filter(|v| (low..=high).contains(v))
            .map(bytes)
            .ok_or_else(|| format!("`{value}` is no whole number of {low} to {high}"))
    };
    let signed = |bits: u32| int(-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
    let unsigned = |bits: u32| int(0, (1 << bits) - 1);
    let (bytes, size) = match kind {
        "f16" => return Ok(f16::from_f64(float()?).to_le_bytes().to_vec()),
        "bf16" => return Ok(bf16::from_f64(float()?).to_le_bytes().to_vec()),
        "f32" => return Ok((float()? as f32).to_le_bytes().to_vec()),
        "f64" => return Ok(float()?.to_le_bytes().to_vec()),
        "bool" => (int(0, 1)?, 1),
        "u8" => (unsigned(8)?, 1),
        "u16" => (unsigned(16)?, 2),
        "u32" => (unsigned(32)?, 4),
        "u64" => (unsigned(64)?, 8),
        "i8" => (signed(8)?, 1),
        "i16" => (signed(16)?, 2),
        "i32" => (signed(32)?, 4),
        "i64" => (signed(64)?, 8),
        _ => {
            return Err(format!("`{kind}` is no kind of argument; see `zeroforge emulate --help`"));
        }
    };
    Ok(bytes[..size].to_vec())
}

/// Floats of -1 to 1; integers of their whole range.
fn random(dtype: DType, shape: &[i64], seed: u64) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d | 1;
    let mut tensor = Tensor::zeros(dtype, shape)?;
    for element in tensor.bytes_mut().chunks_exact_mut(dtype.size()) {
        // xorshift64*.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let v = (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        match dtype {
            DType::F16 => element.copy_from_slice(&f16::from_f64(v).to_le_bytes()),
            DType::Bf16 => element.copy_from_slice(&bf16::from_f64(v).to_le_bytes()),
            DType::F32 => element.copy_from_slice(&(v as f32).to_le_bytes()),
            DType::F64 => element.copy_from_slice(&v.to_le_bytes()),
            DType::Bool => element[0] = (bits >> 63) as u8,
            _ => element.copy_from_slice(&bits.to_le_bytes()[..dtype.size()]),
        }
    }
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<Vec<u8>, String> {
        let memory = DeviceMemory::new(1 << 30);
        let mut arguments = Arguments::new(&memory);
        arguments.parse(text, 0).map(|p| p.bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn numbers_have_the_bytes_of_their_type() {
        assert_eq!(bytes("u8=255"), Ok(vec![255]));
        assert_eq!(bytes("i16=-2"), Ok(vec![0xfe, 0xff]));
        assert_eq!(bytes("u32=0x10"), Ok(vec![16, 0, 0, 0]));
        assert_eq!(bytes("bf16=1"), Ok(vec![0x80, 0x3f]));
        assert_eq!(bytes("u64=18446744073709551615"), Ok(vec![255; 8]));
        assert_eq!(bytes("bytes=0aff"), Ok(vec![10, 255]));
        assert!(bytes("u8=256").unwrap_err().contains("0 to 255"));
        assert!(bytes("f32=x").unwrap_err().contains("no number"));
        assert!(bytes("q=1").unwrap_err().contains("no kind of argument"));
        assert!(bytes("5").unwrap_err().contains("KIND=VALUE"));
    }

    #[test]
    fn members_of_a_struct_are_aligned() {
        let found = bytes("{u8=1; u32=2; i64=3; u8=4}").unwrap();
        assert_eq!(found.len(), 24);
        assert_eq!((found[0], found[4], found[8], found[16]), (1, 2, 3, 4));
    }

    #[test]
    fn memory_has_its_contents() {
        let memory = DeviceMemory::new(1 << 30);
        let mut arguments = Arguments::new(&memory);
        for (i, text) in ["random=bf16[64,128]:7", "zeros=f32[3]", "out=u32[5]"].iter().enumerate()
        {
            arguments.parse(text, i).unwrap();
        }
        let map = arguments.parse("tensormap=0:bf16,dims=128x64,box=64x64,swizzle=128", 3).unwrap();
        assert_eq!((map.bytes.len(), map.align), (128, 64));
        let names: Vec<&str> = arguments.regions.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["arg0", "arg1", "arg2"]);
        let later = arguments.parse("tensormap=9:bf16,dims=128x64,box=64x64", 4);
        assert!(later.err().unwrap().to_string().contains("argument 9"));
        let large = arguments.parse("tensormap=0:bf16,dims=128x64,box=512x64", 5);
        assert!(large.err().unwrap().to_string().contains("boxDim"));
    }
}
