//! Views of stored tensors as an offset and strides.
//!
//! Layout ops cost nothing as long as the view stays expressible this way; contraction and
//! attention kernels take their operands as strided views, so this is what lets Q, K and V be read
//! straight out of a projection's result.

use zeroforge_artifact::Expr;
use zeroforge_graph::Op;

use super::storage::StorageId;

/// Elements of a storage: element `index` is at `offset + sum(index[i] * strides[i])`, in elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StridedView {
    /// The memory.
    pub(crate) storage: StorageId,
    /// Elements from its start.
    pub(crate) offset: Expr,
    /// Size per axis.
    pub(crate) shape: Vec<Expr>,
    /// Elements between neighbours per axis; 0 where broadcast.
    pub(crate) strides: Vec<Expr>,
}

/// Row-major strides of a shape.
pub(crate) fn contiguous_strides(shape: &[Expr]) -> Vec<Expr> {
    let mut strides = vec![Expr::constant(1); shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1].clone() * shape[i + 1].clone();
    }
    strides
}

impl StridedView {
    /// The whole of a storage, row-major.
    pub(crate) fn contiguous(storage: StorageId, shape: &[Expr]) -> StridedView {
        StridedView {
            storage,
            offset: Expr::constant(0),
            shape: shape.to_vec(),
            strides: contiguous_strides(shape),
        }
    }

    /// Whether the elements lie row-major without gaps.
    pub(crate) fn is_contiguous(&self) -> bool {
        let dense = contiguous_strides(&self.shape);
        self.shape.iter().zip(&self.strides).zip(&dense).all(|((n, a), b)| n.is(1) || a == b)
    }

    /// Applies a layout op; `None` when the result is no strided view (or the op is no layout op).
    pub(crate) fn apply(&self, op: &Op) -> Option<StridedView> {
        let mut view = self.clone();
        match op {
            Op::Permute(perm) => {
                view.shape = perm.iter().map(|&p| self.shape[p].clone()).collect();
                view.strides = perm.iter().map(|&p| self.strides[p].clone()).collect();
            }
            Op::Expand(shape) => return self.broadcast(shape),
            Op::Slice { axis, start, end, step } => {
                let step = Expr::constant(*step);
                view.offset = view.offset + start.clone() * self.strides[*axis].clone();
                view.shape[*axis] = (end.clone() - start.clone()).ceil_div(&step);
                view.strides[*axis] = self.strides[*axis].clone() * step;
            }
            Op::Reshape(shape) => return self.reshape(shape),
            _ => return None,
        }
        Some(view)
    }

    /// Broadcasts to `shape`, aligning at the right.
    pub(crate) fn broadcast(&self, shape: &[Expr]) -> Option<StridedView> {
        let pad = shape.len().checked_sub(self.shape.len())?;
        let mut view = self.clone();
        view.shape = shape.to_vec();
        view.strides = vec![Expr::constant(0); shape.len()];
        for (i, (n, stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            if n == &shape[pad + i] {
                // A stride over a single element is never taken; zero is the better known value.
                view.strides[pad + i] = if n.is(1) { Expr::constant(0) } else { stride.clone() };
            } else if !n.is(1) {
                return None;
            }
        }
        Some(view)
    }

    /// Splits and merges axes where the strides allow it.
    fn reshape(&self, shape: &[Expr]) -> Option<StridedView> {
        let mut strides = vec![Expr::constant(0); shape.len()];
        for (from, to) in reshape_groups(&self.shape, shape)? {
            // Merge the group's source axes into one (ignoring ones) ...
            let axes: Vec<usize> = from.filter(|&i| !self.shape[i].is(1)).collect();
            for pair in axes.windows(2) {
                let (outer, inner) = (pair[0], pair[1]);
                if self.strides[outer] != self.strides[inner].clone() * self.shape[inner].clone() {
                    return None;
                }
            }
            // ... and split it into the target axes.
            let mut stride = match axes.last() {
                Some(&last) => self.strides[last].clone(),
                None => Expr::constant(0),
            };
            for i in to.rev() {
                if !shape[i].is(1) {
                    strides[i] = stride.clone();
                }
                stride = stride * shape[i].clone();
            }
        }
        Some(StridedView {
            storage: self.storage,
            offset: self.offset.clone(),
            shape: shape.to_vec(),
            strides,
        })
    }
}

/// Cuts a reshape into independent groups of axes: pairs of (source axes, target axes) whose
/// element counts are equal and which cannot be cut further. `None` if the sizes cannot be matched
/// symbolically.
pub(crate) fn reshape_groups(
    from: &[Expr],
    to: &[Expr],
) -> Option<Vec<(std::ops::Range<usize>, std::ops::Range<usize>)>> {
    let mut groups = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let (i0, j0) = (i, j);
        let mut a = Expr::constant(1);
        let mut b = Expr::constant(1);
        loop {
            // Take one axis from the side that is provably behind, preferring equal products.
            if i > i0 && j > j0 && a == b {
                break;
            }
            let take_from = match (i < from.len(), j < to.len()) {
                (true, true) => i == i0 || (j > j0 && behind(&a, &b)),
                (true, false) => true,
                (false, true) => false,
                (false, false) => break,
            };
            if take_from {
                a = a * from[i].clone();
                i += 1;
            } else {
                b = b * to[j].clone();
                j += 1;
            }
        }
        if a != b {
            return None;
        }
        // Trailing ones belong to the group before them.
        while i < from.len() && from[i].is(1) {
            i += 1;
        }
        while j < to.len() && to[j].is(1) {
            j += 1;
        }
        groups.push((i0..i, j0..j));
    }
    Some(groups)
}

/// Whether the partial product `a` must grow to reach `b`.
fn behind(a: &Expr, b: &Expr) -> bool {
    match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => a < b,
        // `b` is a multiple of `a`: `a` is behind. Otherwise let the other side grow.
        _ => b.exact_div(a).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroforge_artifact::Symbol;

    fn c(values: &[i64]) -> Vec<Expr> {
        values.iter().map(|&v| Expr::constant(v)).collect()
    }

    fn view(shape: &[Expr]) -> StridedView {
        StridedView::contiguous(StorageId(0), shape)
    }

    #[test]
    fn heads_are_a_view_of_the_projection() {
        let (b, s) = (Expr::symbol(Symbol(0)), Expr::symbol(Symbol(1)));
        let hidden = [b.clone(), s.clone(), Expr::constant(384)];
        let split = [b.clone(), s.clone(), Expr::constant(12), Expr::constant(32)];
        let v = view(&hidden).apply(&Op::Reshape(split.to_vec())).unwrap();
        let v = v.apply(&Op::Permute(vec![0, 2, 1, 3])).unwrap();
        let expected = vec![
            s * Expr::constant(384),
            Expr::constant(32),
            Expr::constant(384),
            Expr::constant(1),
        ];
        assert_eq!(v.strides, expected);
        // Back again merges the heads.
        let v = v.apply(&Op::Permute(vec![0, 2, 1, 3])).unwrap();
        let v = v.apply(&Op::Reshape(hidden.to_vec())).unwrap();
        assert!(v.is_contiguous());
    }

    #[test]
    fn merging_transposed_axes_is_no_view() {
        let v = view(&c(&[2, 3, 4])).apply(&Op::Permute(vec![1, 0, 2])).unwrap();
        assert_eq!(v.apply(&Op::Reshape(c(&[6, 4]))), None);
        assert!(v.apply(&Op::Reshape(c(&[3, 2, 2, 2]))).is_some());
    }

    #[test]
    fn slices_and_broadcasts_compose() {
        let v = view(&c(&[4, 6]))
            .apply(&Op::Slice {
                axis: 1,
                start: Expr::constant(1),
                end: Expr::constant(6),
                step: 2,
            })
            .unwrap();
        assert_eq!(
            (v.offset.as_const(), &v.shape, &v.strides),
            (Some(1), &c(&[4, 3]), &c(&[6, 2]))
        );
        let v = v.apply(&Op::Reshape(c(&[4, 1, 3]))).unwrap();
        let v = v.apply(&Op::Expand(c(&[4, 5, 3]))).unwrap();
        assert_eq!(v.strides, c(&[6, 0, 2]));
    }

    #[test]
    fn reshape_groups_cut_at_equal_products() {
        let (b, s) = (Expr::symbol(Symbol(0)), Expr::symbol(Symbol(1)));
        let from = [b.clone() * s.clone(), Expr::constant(8)];
        let to = [b, s, Expr::constant(2), Expr::constant(4)];
        assert_eq!(reshape_groups(&from, &to), Some(vec![(0..1, 0..2), (1..2, 2..4)]));
        assert_eq!(reshape_groups(&c(&[]), &c(&[1, 1])), Some(vec![(0..0, 0..2)]));
        assert_eq!(reshape_groups(&c(&[2, 3]), &c(&[6])), Some(vec![(0..2, 0..1)]));
        assert_eq!(reshape_groups(&c(&[2, 3]), &c(&[5])), None);
    }
}
