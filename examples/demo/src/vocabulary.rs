//! The words of a GGUF file: token ids back into text.
//!
//! Tokens are spelled with one character for each byte: printable ASCII and Latin-1 stand for themselves, the other
//! bytes for the characters from U+0100 on, in order (byte-level BPE, Radford et al., "Language Models are
//! Unsupervised Multitask Learners", 2019).

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// Where the file keeps its tokens.
const KEY: &str = "tokenizer.ggml.tokens";
const STRING: u32 = 8;
const ARRAY: u32 = 9;

pub(crate) struct Vocabulary {
    tokens: Vec<String>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8]> {
        let split = usize::try_from(n).ok().and_then(|n| self.0.split_at_checked(n));
        let (head, rest) = split.context("the file ends in its header")?;
        self.0 = rest;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into()?))
    }

    fn string(&mut self) -> Result<String> {
        let n = self.u64()?;
        Ok(std::str::from_utf8(self.take(n)?)?.to_owned())
    }

    fn skip(&mut self, kind: u32) -> Result<()> {
        let bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            STRING => self.u64()?,
            ARRAY => {
                let (kind, count) = (self.u32()?, self.u64()?);
                ensure!(kind != ARRAY, "arrays of arrays are not read");
                return (0..count).try_for_each(|_| self.skip(kind));
            }
            _ => bail!("metadata of unknown type {kind}"),
        };
        self.take(bytes).map(|_| ())
    }
}

impl Vocabulary {
    pub(crate) fn read(path: &Path) -> Result<Vocabulary> {
        let file = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        parse(&file).with_context(|| format!("the tokens of {}", path.display()))
    }

    /// Text of token ids.
    pub(crate) fn decode(&self, ids: &[i64]) -> Result<String> {
        let mut bytes = Vec::new();
        for &id in ids {
            let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
            for c in token.with_context(|| format!("there is no token {id}"))?.chars() {
                bytes.push(byte(c).with_context(|| format!("token {id} holds {c:?}"))?);
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn parse(file: &[u8]) -> Result<Vocabulary> {
    let mut r = Reader(file);
    ensure!(r.take(4)? == b"GGUF", "it is no GGUF file");
    let (_version, _tensors, entries) = (r.u32()?, r.u64()?, r.u64()?);
    for _ in 0..entries {
        let (key, kind) = (r.string()?, r.u32()?);
        if key != KEY {
            r.skip(kind)?;
            continue;
        }
        ensure!((kind, r.u32()?) == (ARRAY, STRING), "`{KEY}` is no list of strings");
        let count = r.u64()?;
        return Ok(Vocabulary { tokens: (0..count).map(|_| r.string()).collect::<Result<_>>()? });
    }
    bail!("it has no `{KEY}`")
}

/// Bytes that stand for themselves.
fn plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The byte that a character stands for.
fn byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    if let Some(byte) = u8::try_from(code).ok().filter(|&b| plain(b)) {
        return Some(byte);
    }
    (0..=255).filter(|&b| !plain(b)).nth(usize::try_from(code.checked_sub(0x100)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    #[test]
    fn tokens_become_text() {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(3u64.to_le_bytes());
        file.extend([string("a"), 4u32.to_le_bytes().to_vec(), vec![0; 4]].concat());
        file.extend([string("b"), ARRAY.to_le_bytes().to_vec()].concat());
        file.extend([&STRING.to_le_bytes()[..], &1u64.to_le_bytes(), &string("x")].concat());
        file.extend([string(KEY), ARRAY.to_le_bytes().to_vec()].concat());
        file.extend([&STRING.to_le_bytes()[..], &3u64.to_le_bytes()].concat());
        // A space is U+0120, a newline U+010A; the last token is the two bytes of `é`.
        let whole =
            [&file[..], &string("The"), &string("\u{120}end\u{10a}"), &string("Ã©")].concat();
        let words = parse(&whole).unwrap();
        assert_eq!(words.decode(&[0, 1, 2]).unwrap(), "The end\né");
        assert!(words.decode(&[3]).is_err() && words.decode(&[-1]).is_err());
        assert!(parse(&whole[..whole.len() - 1]).is_err());
        assert!(parse(b"GGUF").is_err() && parse(b"what").is_err());
    }

    #[test]
    fn every_byte_has_a_character() {
        let all: Vec<u8> = (0x21..0x200).filter_map(|c| byte(char::from_u32(c)?)).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=255).collect::<Vec<u8>>());
    }
}
