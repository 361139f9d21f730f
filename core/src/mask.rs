//! Masked sums and means: the only place that divides by a token count.
//!
//! `completion_mask` is true where a position counts. What lies outside may be anything, NaN and
//! infinities included, so it is replaced *before* the operation: `NaN * 0` is NaN, and masking
//! only the result of an operation gives the right value with a NaN gradient.

use burn::tensor::{Bool, Tensor};

use crate::shape::expect_same;

/// `x` where `mask` is true and `value` elsewhere; not an aggregate.
///
/// Gradient: flows to `x` where `mask` is true; exactly zero elsewhere, even when `x` holds NaN
/// there.
///
/// # Shapes
///
/// - `x`, `mask`, result: any, all equal
///
/// # Panics
///
/// If the shapes differ.
pub fn fill_outside<const D: usize>(x: Tensor<D>, mask: Tensor<D, Bool>, value: f64) -> Tensor<D> {
    expect_same("mask", mask.dims(), "x", x.dims());
    x.mask_fill(mask.bool_not(), value)
}

/// Sum over the positions where `mask` is true; divides by nothing.
///
/// ```text
/// sum_{n,c} mask[n,c] x[n,c]
/// ```
///
/// Gradient: one at the counted positions, zero elsewhere.
///
/// # Shapes
///
/// - `x`, `mask`: any, both equal
/// - result: `[1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn masked_sum<const D: usize>(x: Tensor<D>, mask: Tensor<D, Bool>) -> Tensor<1> {
    fill_outside(x, mask, 0.0).sum()
}

/// Sum of each row over the positions where `mask` is true; divides by nothing.
///
/// # Shapes
///
/// - `x`, `mask`: `[N, C]`
/// - result: `[N, 1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn masked_row_sum(x: Tensor<2>, mask: Tensor<2, Bool>) -> Tensor<2> {
    fill_outside(x, mask, 0.0).sum_dim(1)
}

/// Mean of each row over its own counted positions; 0 for a row that has none.
///
/// ```text
/// (1 / |mask_n|) sum_c mask[n,c] x[n,c]
/// ```
///
/// Gradient: `1 / |mask_n|` at the counted positions, zero elsewhere.
///
/// # Shapes
///
/// - `x`, `mask`: `[N, C]`
/// - result: `[N, 1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn masked_row_mean(x: Tensor<2>, mask: Tensor<2, Bool>) -> Tensor<2> {
    let lengths = row_lengths(mask.clone(), &x).clamp_min(1.0);
    masked_row_sum(x, mask) / lengths
}

/// Mean over all counted positions of this tensor alone; 0 if there are none.
///
/// A mean over a micro-batch is not the mean over its batch: for a loss, pass the batch's own
/// denominators to [`aggregate`](crate::aggregate::aggregate).
///
/// # Shapes
///
/// - `x`, `mask`: any, both equal
/// - result: `[1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn masked_mean<const D: usize>(x: Tensor<D>, mask: Tensor<D, Bool>) -> Tensor<1> {
    let count = as_float(mask.clone(), &x).sum().clamp_min(1.0);
    masked_sum(x, mask) / count
}

/// Number of counted positions of each row, as numbers of `like`'s type, untracked.
///
/// # Shapes
///
/// - `mask`: `[N, C]`
/// - result: `[N, 1]`
pub fn row_lengths(mask: Tensor<2, Bool>, like: &Tensor<2>) -> Tensor<2> {
    as_float(mask, like).sum_dim(1)
}

/// The mask as zeros and ones of `like`'s number type, untracked.
pub(crate) fn as_float<const D: usize, const E: usize>(
    mask: Tensor<D, Bool>,
    like: &Tensor<E>,
) -> Tensor<D> {
    mask.inner().float().cast(like.dtype())
}
