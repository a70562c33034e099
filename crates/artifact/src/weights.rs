//! Transformations of weights that compiler and runtime share.

use crate::manifest::Layout;

/// Why a weight could not be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// Shape, element size and byte count do not agree.
    #[error(
        "weight of shape {shape:?} with {element} bytes an element has {found} bytes, expected {expected}"
    )]
    Size {
        /// The shape.
        shape: Vec<i64>,
        /// Bytes per element.
        element: usize,
        /// Bytes given.
        found: usize,
        /// Bytes that it must have.
        expected: u64,
    },
    /// Panels exist for matrices only.
    #[error("a weight of shape {0:?} cannot be packed into panels; only matrices can")]
    NotAMatrix(Vec<i64>),
}

/// Bytes of the stored form, checked for overflow.
pub fn stored_bytes(layout: &Layout, shape: &[i64], element: usize) -> Option<u64> {
    let size = |n: i64| u64::try_from(n).ok();
    match layout {
        Layout::RowMajor => {
            shape.iter().try_fold(element as u64, |product, &n| product.checked_mul(size(n)?))
        }
        Layout::Panels { nr, transposed } => {
            let [rows, columns] = *shape else { return None };
            let (k, n) = if *transposed { (columns, rows) } else { (rows, columns) };
            let padded = size(n)?.checked_next_multiple_of(u64::from(*nr))?;
            padded.checked_mul(size(k)?)?.checked_mul(element as u64)
        }
    }
}

/// Brings row-major bytes into a layout.
pub fn lay_out(
    layout: &Layout,
    shape: &[i64],
    element: usize,
    bytes: &[u8],
) -> Result<Vec<u8>, LayoutError> {
    let expected = stored_bytes(&Layout::RowMajor, shape, element).unwrap_or(u64::MAX);
    if bytes.len() as u64 != expected {
        let (shape, found) = (shape.to_vec(), bytes.len());
        return Err(LayoutError::Size { shape, element, found, expected });
    }
    match layout {
        Layout::RowMajor => Ok(bytes.to_vec()),
        Layout::Panels { nr, transposed } => match *shape {
            [rows, columns] => {
                // Both are non-negative: their product is the length of `bytes`.
                let (rows, columns) = (rows as usize, columns as usize);
                Ok(match element {
                    2 => pack_panels::<2>(bytes, rows, columns, *nr as usize, *transposed),
                    4 => pack_panels::<4>(bytes, rows, columns, *nr as usize, *transposed),
                    8 => pack_panels::<8>(bytes, rows, columns, *nr as usize, *transposed),
                    _ => pack_panels::<1>(bytes, rows, columns, *nr as usize, *transposed),
                })
            }
            _ => Err(LayoutError::NotAMatrix(shape.to_vec())),
        },
    }
}

/// Rows of K that are packed at once.
const PACK_BLOCK: usize = 64;

/// Packs a matrix of `E`-byte elements into panels of `nr` columns of the `[K, N]` operand:
/// `[ceil(N / nr)][K][nr]`, zero padded. `transposed` says that the matrix is stored `[N, K]`.
pub fn pack_panels<const E: usize>(
    bytes: &[u8],
    rows: usize,
    columns: usize,
    nr: usize,
    transposed: bool,
) -> Vec<u8> {
    let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
    let panels = n.div_ceil(nr.max(1));
    let mut out = vec![0u8; panels * k * nr * E];
    for (panel, out) in out.chunks_exact_mut((k * nr * E).max(1)).enumerate() {
        let first = panel * nr;
        let width = nr.min(n - first);
        if transposed {
            // Blocks of K, so that a stretch of every row and what is written stay in the cache.
            for start in (0..k).step_by(PACK_BLOCK) {
                let length = PACK_BLOCK.min(k - start);
                let out = &mut out[start * nr * E..(start + length) * nr * E];
                for j in 0..width {
                    let at = ((first + j) * k + start) * E;
                    let row = bytes[at..at + length * E].chunks_exact(E);
                    for (element, out) in row.zip(out.chunks_exact_mut(nr * E)) {
                        out[j * E..(j + 1) * E].copy_from_slice(element);
                    }
                }
            }
        } else {
            for i in 0..k {
                let from = (i * n + first) * E;
                out[i * nr * E..(i * nr + width) * E]
                    .copy_from_slice(&bytes[from..from + width * E]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orientations_pack_alike() {
        // K = 2, N = 3, panels of 2 columns.
        let kn: Vec<u8> = vec![1, 2, 3, 4, 5, 6];
        let nk: Vec<u8> = vec![1, 4, 2, 5, 3, 6];
        let expected = vec![1, 2, 4, 5, 3, 0, 6, 0];
        assert_eq!(pack_panels::<1>(&kn, 2, 3, 2, false), expected);
        assert_eq!(pack_panels::<1>(&nk, 3, 2, 2, true), expected);
        let layout = Layout::Panels { nr: 2, transposed: true };
        assert_eq!(stored_bytes(&layout, &[3, 2], 1), Some(8));
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let layout = Layout::Panels { nr: 2, transposed: true };
        assert!(lay_out(&layout, &[3, 2], 4, &[0; 23]).is_err());
        assert!(lay_out(&layout, &[3], 4, &[0; 12]).is_err());
        assert_eq!(stored_bytes(&Layout::RowMajor, &[i64::MAX, 9], 8), None);
        assert_eq!(stored_bytes(&Layout::RowMajor, &[-1], 8), None);
    }
}
