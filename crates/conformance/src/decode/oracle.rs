//! One row of attention: exactly (f64), and as a plain implementation in the kernel's types does it.

use zeroforge_artifact::DType;

use crate::tensor::round;

pub(super) struct Oracle {
    pub(super) dtype: DType,
    pub(super) scale: f64,
    pub(super) softcap: Option<f64>,
    pub(super) slope: Option<f64>,
    pub(super) sink: Option<f64>,
    pub(super) columns: usize,
}

/// A query and the rows of its sequence; it sees rows `from..to` and stands at `center`.
pub(super) struct Row<'a> {
    pub(super) query: &'a [f64],
    pub(super) keys: &'a [Vec<f64>],
    pub(super) values: &'a [Vec<f64>],
    pub(super) center: i64,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Oracle {
    /// Output and logarithm in f64.
    pub(super) fn exact(&self, row: &Row<'_>) -> (Vec<f64>, f64) {
        self.attend(row, |x| x, |x| x)
    }

    /// The same with what a kernel without fusion would store, products, probabilities and output, rounded to the type.
    pub(super) fn naive(&self, row: &Row<'_>) -> (Vec<f64>, f64) {
        let (o, lse) = self.attend(row, |x| round(self.dtype, x), |x| f64::from(x as f32));
        (o.into_iter().map(|x| round(self.dtype, x)).collect(), lse)
    }

    fn attend(
        &self,
        row: &Row<'_>,
        stored: impl Fn(f64) -> f64,
        single: impl Fn(f64) -> f64,
    ) -> (Vec<f64>, f64) {
        let seen = row.from.min(row.to) as usize..row.to as usize;
        let scores: Vec<f64> = seen
            .clone()
            .map(|j| {
                let product: f64 = row.query.iter().zip(&row.keys[j]).map(|(q, k)| q * k).sum();
                let mut score = single(stored(product) * self.scale);
                if let Some(cap) = self.softcap {
                    score = single(cap * (score / cap).tanh());
                }
                if let Some(slope) = self.slope {
                    score = single(score - slope * (row.center - j as i64).abs() as f64);
                }
                score
            })
            .collect();
        let most = scores.iter().copied().chain(self.sink).fold(f64::NEG_INFINITY, f64::max);
        if most == f64::NEG_INFINITY {
            return (vec![0.0; self.columns], f64::NEG_INFINITY);
        }
        let exponentials: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let sum: f64 =
            exponentials.iter().sum::<f64>() + self.sink.map_or(0.0, |sink| (sink - most).exp());
        let mut o = vec![0.0; self.columns];
        for (j, e) in seen.zip(&exponentials) {
            let p = stored(e / sum);
            for (o, v) in o.iter_mut().zip(&row.values[j]) {
                *o += p * v;
            }
        }
        (o, single(most + sum.ln()))
    }
}
