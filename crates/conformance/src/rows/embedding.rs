//! `embedding` against a copy.

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::Refusal;
use zeroforge_kernels::rows::{Embedding, EmbeddingArgs, embedding};

use super::{Case, Layout, SECTOR_BYTES, exactly, values};
use crate::random::Random;
use crate::tensor::encode;

pub(super) fn case(random: &mut Random) -> Result<Case, Refusal> {
    let dtype = random.pick(&[DType::F32, DType::Bf16, DType::F16]);
    let index = random.pick(&[DType::I32, DType::I64]);
    let width = random.pick(&[1, 3, 12, 64, 129, 768]);
    let (table_rows, count) = (random.range(1, 40), random.range(1, 30));
    let size = dtype.size();
    let table = encode(dtype, &values(random, dtype, table_rows * width, 1.0));
    let row_bytes = width as usize * size;
    let (mut indices, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..count {
        // Some outside: zeros.
        let at = match random.one_in(5) {
            true => random.pick(&[-1, table_rows, i32::MIN.into(), i32::MAX.into()]),
            false => random.range(0, table_rows - 1),
        };
        match index {
            DType::I32 => indices.extend((at as i32).to_le_bytes()),
            _ => indices.extend(at.to_le_bytes()),
        }
        match usize::try_from(at) {
            Ok(row) if at < table_rows => {
                expected.extend_from_slice(&table[row * row_bytes..(row + 1) * row_bytes]);
            }
            _ => expected.extend(std::iter::repeat_n(0, row_bytes)),
        }
    }
    let mut layout = Layout::new(random);
    let args = EmbeddingArgs {
        table: layout.matrix(&table, table_rows, width, size),
        table_rows: Expr::constant(table_rows),
        indices: layout.array(&indices, index.size()),
        count: Expr::constant(count),
        out: layout.output("out", (count, width, size), exactly(expected, size)),
    };
    let name = format!("{count} of {table_rows} rows by {index}");
    let narrow = row_bytes < SECTOR_BYTES;
    let case = layout.case(name, embedding(Embedding { dtype, index, width }, &args)?);
    Ok(Case { narrow, ..case })
}
