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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn example() -> (Tensor<2>, Tensor<2, Bool>) {
        let device = Device::flex();
        let data = [
            [1.0, 2.0, f32::NAN],
            [f32::INFINITY, f32::NAN, f32::NAN],
            [4.0, 5.0, 3.0],
        ];
        let mask = [
            [true, true, false],
            [false, false, false],
            [true, true, true],
        ];
        let x = Tensor::from_data(TensorData::from(data), &device.clone().autodiff());
        (
            x.require_grad(),
            Tensor::from_data(TensorData::from(mask), &device),
        )
    }

    fn numbers<const D: usize>(x: Tensor<D>) -> alloc::vec::Vec<f64> {
        x.try_into_vec_as().expect("readable")
    }

    #[test]
    fn sums_and_means_see_counted_positions_only() {
        let (x, mask) = example();
        assert_eq!(numbers(masked_sum(x.clone(), mask.clone())), [15.0]);
        assert_eq!(numbers(masked_mean(x.clone(), mask.clone())), [3.0]);
        assert_eq!(
            numbers(masked_row_sum(x.clone(), mask.clone())),
            [3.0, 0.0, 12.0]
        );
        assert_eq!(
            numbers(masked_row_mean(x.clone(), mask.clone())),
            [1.5, 0.0, 4.0]
        );
        assert_eq!(numbers(row_lengths(mask, &x)), [2.0, 0.0, 3.0]);
    }

    #[test]
    fn the_gradient_is_zero_outside_the_mask() {
        let (x, mask) = example();
        let grads = masked_row_mean(x.clone(), mask).sum().backward();
        let third = f64::from(1.0_f32 / 3.0);
        let expected = [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, third, third, third];
        assert_eq!(numbers(x.grad(&grads).expect("tracked")), expected);
    }

    #[test]
    fn a_mask_without_a_true_position_gives_zero() {
        let (x, mask) = example();
        let none = mask.clone().bool_and(mask.bool_not());
        assert_eq!(numbers(masked_mean(x, none)), [0.0]);
    }
}
