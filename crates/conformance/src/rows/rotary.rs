//! `rotary` against products in f64, and in f32.

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::Refusal;
use zeroforge_kernels::rows::{Array, Rotary, RotaryArgs, rotary};

use super::{CANARY, Case, Layout, Output, SECTOR_BYTES, near, values};
use crate::random::Random;
use crate::tensor::{encode, round};

/// `[token][head]` strides in elements and the elements before, of heads of `dim`.
struct Heads {
    before: i64,
    strides: [i64; 2],
}

impl Heads {
    fn draw(random: &mut Random, tokens: i64, heads: i64, dim: i64) -> Heads {
        let gap = random.pick(&[0, 0, 16, 3]);
        let before = random.pick(&[0, 0, 32, 5]);
        let (near, far) = (dim + gap, random.pick(&[0, 0, 16]));
        // Heads of a token side by side, or tokens of a head.
        let strides = match random.one_in(2) {
            true => [near * heads + far, near],
            false => [near, near * tokens + far],
        };
        Heads { before, strides }
    }

    fn ranges(
        &self,
        tokens: i64,
        heads: i64,
        dim: i64,
        size: usize,
    ) -> Vec<std::ops::Range<usize>> {
        let mut ranges = Vec::new();
        for t in 0..tokens {
            for h in 0..heads {
                let start = (self.before + t * self.strides[0] + h * self.strides[1]) as usize;
                ranges.push(start * size..(start + dim as usize) * size);
            }
        }
        ranges
    }

    fn exprs(&self) -> [Expr; 2] {
        self.strides.map(Expr::constant)
    }
}

pub(super) fn case(random: &mut Random) -> Result<Case, Refusal> {
    let dtype = random.pick(&[DType::F32, DType::Bf16, DType::F16]);
    let (dim, rotary_dim) =
        random.pick(&[(64, 64), (128, 128), (80, 32), (64, 24), (10, 6), (2, 2), (96, 90)]);
    let interleaved = random.one_in(2);
    let (tokens, heads) = (random.range(1, 9), random.range(1, 4));
    let (in_place, own_positions) = (random.one_in(2), random.one_in(2));
    let table_rows = random.range(1, 12);
    let size = dtype.size();
    let pairs = rotary_dim / 2;
    let mut place = Heads::draw(random, tokens, heads, dim);
    let mut target = Heads::draw(random, tokens, heads, dim);
    if interleaved {
        // Pairs begin at even elements.
        for heads in [&mut place, &mut target] {
            heads.before += heads.before % 2;
            heads.strides = heads.strides.map(|s| s + s % 2);
        }
    }
    let x = values(random, dtype, tokens * heads * dim, 2.0);
    let angles: Vec<f64> =
        (0..table_rows * pairs).map(|_| random.unit() * std::f64::consts::TAU).collect();
    let table = |f: fn(f64) -> f64| -> Vec<f64> {
        angles.iter().map(|a| round(DType::F32, f(*a))).collect()
    };
    let (cosine, sine) = (table(f64::cos), table(f64::sin));
    let first = random.range(-2, 3);
    let positions: Vec<i64> = (0..tokens)
        .map(|t| if own_positions { random.range(-1, table_rows) } else { t + first })
        .collect();

    let (mut exact, mut naive) = (x.clone(), x.clone());
    for token in 0..tokens {
        let position = positions[token as usize];
        if !(0..table_rows).contains(&position) {
            continue;
        }
        for head in 0..heads {
            let start = ((token * heads + head) * dim) as usize;
            for pair in 0..pairs as usize {
                let (i, j) = match interleaved {
                    true => (start + 2 * pair, start + 2 * pair + 1),
                    false => (start + pair, start + pair + pairs as usize),
                };
                let at = position as usize * pairs as usize + pair;
                let (a, b, c, s) = (x[i], x[j], cosine[at], sine[at]);
                exact[i] = a * c - b * s;
                exact[j] = b * c + a * s;
                let (a, b, c, s) = (a as f32, b as f32, c as f32, s as f32);
                naive[i] = round(dtype, f64::from(a * c - b * s));
                naive[j] = round(dtype, f64::from(b * c + a * s));
            }
        }
    }

    let dense = encode(dtype, &x);
    let ranges = place.ranges(tokens, heads, dim, size);
    let head_bytes = dim as usize * size;
    let mut bytes = vec![CANARY; ranges.iter().map(|r| r.end).max().unwrap_or(0)];
    for (range, head) in ranges.iter().zip(dense.chunks(head_bytes)) {
        bytes[range.clone()].copy_from_slice(head);
    }
    let mut layout = Layout::new(random);
    layout.buffers.push(bytes);
    let array = |buffer: usize, heads: &Heads| Array {
        buffer: buffer as u32,
        offset: Expr::constant(heads.before * size as i64),
    };
    let x = array(0, &place);
    let (out, out_strides, written) = match in_place {
        true => (x.clone(), place.exprs(), ranges),
        false => {
            let ranges = target.ranges(tokens, heads, dim, size);
            layout.buffers.push(vec![CANARY; ranges.iter().map(|r| r.end).max().unwrap_or(0)]);
            (array(1, &target), target.exprs(), ranges)
        }
    };
    let judge = near(dtype, exact, naive);
    layout.outputs.push(Output { name: "out", buffer: out.buffer, rows: written, judge });
    let position_bytes: Vec<u8> = positions.iter().flat_map(|p| p.to_le_bytes()).collect();
    let args = RotaryArgs {
        tokens: Expr::constant(tokens),
        heads: Expr::constant(heads),
        x,
        x_strides: place.exprs(),
        out,
        out_strides,
        cosine: layout.matrix(&encode(DType::F32, &cosine), table_rows, pairs, 4),
        sine: layout.matrix(&encode(DType::F32, &sine), table_rows, pairs, 4),
        table_rows: Expr::constant(table_rows),
        positions: own_positions.then(|| layout.array(&position_bytes, 8)),
        first: Expr::constant(first),
    };
    let spec = Rotary { dtype, dim, rotary_dim, interleaved };
    let name = format!("{tokens} tokens, {heads} heads, in place {in_place}");
    let case = layout.case(name, rotary(spec, &args)?);
    Ok(Case { narrow: head_bytes < SECTOR_BYTES, ..case })
}
