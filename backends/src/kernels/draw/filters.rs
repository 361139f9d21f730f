//! What may be drawn: top-k, top-p and min-p, by halvings of an interval instead of a sort.

use burn::tensor::{Bool, FloatDType, Int, Tensor};

use super::{count, invert};

/// How often the interval of a threshold is halved.
const NUM_HALVINGS: u32 = 32;

/// Exponents closer than this may count as tied: an interval from -128 to 1, halved.
pub const RESOLUTION: f32 = 3.1e-8;

/// What may be drawn; all of it by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filters {
    /// The `k` most likely tokens and those tied with the last of them.
    pub top_k: Option<usize>,
    /// The fewest most likely tokens that together have this probability.
    pub top_p: Option<f32>,
    /// Tokens at least this likely, as a share of the most likely one.
    pub min_p: Option<f32>,
}

impl Filters {
    /// True if every token of a vocabulary may be drawn.
    pub fn keep_all(&self, vocab: usize) -> bool {
        self.top_k.is_none_or(|k| k >= vocab)
            && self.top_p.is_none_or(|p| p >= 1.0)
            && self.min_p.is_none_or(|p| p <= 0.0)
    }

    /// The weights, zero where a filter drops a token. The largest exponent of a row is 0.
    ///
    /// # Shapes
    /// - all: `[R, V]`
    pub(super) fn keep(&self, exponents: &Tensor<2>, mut weights: Tensor<2>) -> Tensor<2> {
        let vocab = weights.dims()[1];
        let mut lowest = exponents.clone().min_dim(1);
        if let Some(k) = self.top_k
            && k < vocab
        {
            let holds_k = |threshold: Tensor<2>| {
                let is_kept = exponents.clone().greater_equal(threshold);
                count(is_kept).greater_equal_elem(k as i64)
            };
            [lowest, _] = bisect(lowest, holds_k);
            let is_dropped = exponents.clone().lower(lowest.clone());
            weights = weights.mask_fill(is_dropped, 0.0);
        }
        if let Some(p) = self.top_p
            && p < 1.0
        {
            weights = keep_top_p(exponents, weights, lowest, p);
        }
        if let Some(p) = self.min_p {
            // The most likely token has weight 1.
            let is_dropped = weights.clone().lower_elem(p);
            weights = weights.mask_fill(is_dropped, 0.0);
        }
        weights
    }
}

/// Keeps a token if the more likely ones together hold less than `p`; among tied tokens the
/// smaller ones are the more likely.
fn keep_top_p(exponents: &Tensor<2>, weights: Tensor<2>, lowest: Tensor<2>, p: f32) -> Tensor<2> {
    let [_, vocab] = weights.dims();
    let goal = weights.clone().sum_dim(1) * p;
    let from = |threshold: Tensor<2>| {
        let is_below = exponents.clone().lower(threshold);
        weights.clone().mask_fill(is_below, 0.0)
    };
    let holds_p = |threshold| from(threshold).sum_dim(1).greater_equal(goal.clone());
    let [low, high] = bisect(lowest, holds_p);
    let above = from(high);
    let tied = from(low) - above.clone();
    let missing = goal - above.clone().sum_dim(1);
    let number = (missing / tied.clone().max_dim(1)).ceil().clamp_min(1.0);
    let is_tied = tied.clone().greater_elem(0.0).cast(FloatDType::F32);
    let last = invert(is_tied, number - 0.5);
    let tokens = Tensor::<1, Int>::arange(0..vocab as i64, &tied.device());
    above + tied.mask_fill(tokens.unsqueeze::<2>().greater(last), 0.0)
}

/// Two neighbours between `lowest` and 1: `is_enough` holds for the first and not for the second.
/// It is taken to hold for `lowest` and not for 1, and never again once it does not.
///
/// # Shapes
/// - all: `[R, 1]`
fn bisect(lowest: Tensor<2>, is_enough: impl Fn(Tensor<2>) -> Tensor<2, Bool>) -> [Tensor<2>; 2] {
    let mut high = lowest.ones_like();
    let mut low = lowest;
    for _ in 0..NUM_HALVINGS {
        let middle = (low.clone() + high.clone()) * 0.5;
        let holds = is_enough(middle.clone());
        low = low.mask_where(holds.clone(), middle.clone());
        high = middle.mask_where(holds, high);
    }
    [low, high]
}
