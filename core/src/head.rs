//! The output head in chunks of rows, so that no `[rows, V]` tensor outgrows a byte budget.

use alloc::vec::Vec;
use core::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor};

use crate::precision::Precision;
use crate::shape::expect_axis;

/// How log-probs are made of hidden states and a head weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoringSettings {
    /// Logits are divided by this, as when sampling: after their product, in 32 bits or more. Above
    /// 0.
    pub temperature: f64,
    /// No `[rows, V]` tensor larger than this is made, unless a single row is.
    pub max_logits_bytes: usize,
    /// What matrix products are computed in, forwards and backwards.
    pub precision: Precision,
}

impl ScoringSettings {
    /// `x / temperature`, without a pass over it at 1.
    ///
    /// Logits on the way forward. On the way back the loss's gradient with respect to log-probs and
    /// other scores of a row, which that of its logits is linear in: `[M]`, not `[M, V]`.
    pub fn over_temperature<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if self.temperature == 1.0 {
            x
        } else {
            x.mul_scalar(1.0 / self.temperature)
        }
    }
}

/// Gradients with respect to the two inputs of the output head.
#[derive(Clone, Debug)]
pub struct HeadGradients {
    /// With respect to the hidden states, `[M, D]`, untracked.
    pub hidden: Tensor<2>,
    /// With respect to the head weight, `[V, D]`, untracked, summed over the rows.
    pub head: Tensor<2>,
}

/// Number of rows of logits that fit into `max_chunk_bytes` as 32-bit floats, at least one.
///
/// One row is `4 V` bytes; a smaller budget is exceeded by that one row.
pub fn rows_per_chunk(vocab_size: usize, max_chunk_bytes: usize) -> usize {
    let row_bytes = vocab_size.max(1).saturating_mul(size_of::<f32>());
    (max_chunk_bytes / row_bytes).max(1)
}

/// The row ranges `0..num_rows` is worked through in.
fn chunks(num_rows: usize, chunk_rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..num_rows)
        .step_by(chunk_rows)
        .map(move |start| start..(start + chunk_rows).min(num_rows))
}

/// Hidden states and head weight of one model, without autodiff, as operands of its products: in 32
/// bits or more, or rounded once for all chunks. Logits are 32-bit at once, but out of products in
/// half precision they are off by up to a 256th of their size, hundredths of a nat.
pub(crate) struct Head {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    settings: ScoringSettings,
}

/// Softmax statistics of one chunk of rows, z its logits divided by the temperature.
pub(crate) struct ChunkLogits {
    /// `z - max z` of each row, `[r, V]`.
    pub shifted: Tensor<2>,
    /// `softmax(z)`, `[r, V]`.
    pub probs: Tensor<2>,
    /// `log sum_j exp(z_j - max z)`, `[r, 1]`.
    pub log_sum: Tensor<2>,
}

impl Head {
    /// # Panics
    ///
    /// If the widths of `hidden` `[M, D]` and `weight` `[V, D]` differ.
    pub fn new(hidden: Tensor<2>, weight: Tensor<2>, settings: &ScoringSettings) -> Self {
        expect_axis("head", "D", weight.dims()[1], "hidden", hidden.dims()[1]);
        let operand = |x: Tensor<2>| settings.precision.operand(at_least_f32(x.inner()));
        Self {
            hidden: operand(hidden),
            weight: operand(weight),
            settings: *settings,
        }
    }

    pub fn num_rows(&self) -> usize {
        self.hidden.dims()[0]
    }

    pub fn vocab_size(&self) -> usize {
        self.weight.dims()[0]
    }

    /// The row ranges that the rows are worked through in.
    pub fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let chunk_rows = rows_per_chunk(self.vocab_size(), self.settings.max_logits_bytes);
        chunks(self.num_rows(), chunk_rows)
    }

    /// Softmax statistics of the rows `rows`.
    ///
    /// `log_sum` comes from the largest probability, `max p = 1 / sum_j exp(z_j - max z)`, which
    /// saves a pass over the chunk.
    pub fn chunk(&self, rows: Range<usize>) -> ChunkLogits {
        let hidden = self.hidden.clone().slice([rows]);
        let weight = self.weight.clone().transpose();
        let logits = self.settings.precision.matmul(hidden, weight);
        let max = logits.clone().max_dim(1);
        let shifted = self.settings.over_temperature(logits - max);
        let probs = softmax(shifted.clone(), 1);
        let log_sum = probs.clone().max_dim(1).log().neg();
        ChunkLogits {
            shifted,
            probs,
            log_sum,
        }
    }

    /// Pulls gradients with respect to the logits, as the product gives them, back to hidden states
    /// and head weight.
    ///
    /// `logit_gradient(rows)` gives `[r, V]` for one chunk; the head's gradient is summed in
    /// place over the chunks.
    pub fn pull_back(&self, logit_gradient: impl Fn(Range<usize>) -> Tensor<2>) -> HeadGradients {
        let [_, width] = self.hidden.dims();
        let (device, precision) = (self.hidden.device(), self.settings.precision);
        let mut hidden_parts = Vec::new();
        let mut head: Option<Tensor<2>> = None;
        for rows in self.chunks() {
            let d_logits = precision.operand(logit_gradient(rows.clone()));
            let hidden = self.hidden.clone().slice([rows]);
            let part = precision.matmul(d_logits.clone().transpose(), hidden);
            hidden_parts.push(precision.matmul(d_logits, self.weight.clone()));
            head = Some(match head {
                Some(sum) => sum + part,
                None => part,
            });
        }
        if hidden_parts.is_empty() {
            hidden_parts.push(Tensor::zeros([0, width], &device));
        }
        HeadGradients {
            hidden: Tensor::cat(hidden_parts, 0),
            head: head.unwrap_or_else(|| Tensor::zeros(self.weight.dims(), &device)),
        }
    }
}

impl ChunkLogits {
    /// `sum_j p_j (z_j - max z)` of each row, `[r, 1]`.
    pub fn mean_shifted(&self) -> Tensor<2> {
        (self.probs.clone() * self.shifted.clone()).sum_dim(1)
    }

    /// Entropy in nats of each row, `[r, 1]`; consumes the chunk so that no copy is made.
    pub fn into_entropy(self) -> Tensor<2> {
        self.log_sum - (self.probs * self.shifted).sum_dim(1)
    }
}

/// Half precision is for storage: log-probs, entropies and their gradients are 32 bits or more.
pub(crate) fn at_least_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F64 {
        x
    } else {
        x.cast(DType::F32)
    }
}

/// Concatenates columns `[r, 1]` to one vector `[M]`; an empty one if there are none.
pub(crate) fn stack_columns(parts: Vec<Tensor<2>>, like: &Head) -> Tensor<1> {
    if parts.is_empty() {
        return Tensor::zeros([0], &like.hidden.device());
    }
    let column: Tensor<2> = Tensor::cat(parts, 0);
    column.squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_sets_the_rows_and_one_row_always_passes() {
        assert_eq!(rows_per_chunk(1000, 4000 * 7 + 3999), 7);
        assert_eq!(rows_per_chunk(1000, 1), 1);
        assert_eq!(rows_per_chunk(1000, 0), 1);
        assert_eq!(rows_per_chunk(0, 64), 16);
        assert_eq!(rows_per_chunk(usize::MAX, 64), 1);
    }

    #[test]
    fn chunks_cover_every_row_once() {
        let ranges: Vec<_> = chunks(7, 3).collect();
        assert_eq!(ranges, [0..3, 3..6, 6..7]);
        assert_eq!(chunks(0, 3).count(), 0);
        assert_eq!(chunks(3, 3).count(), 1);
    }
}
