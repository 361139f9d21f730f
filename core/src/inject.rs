//! Puts a gradient that was computed by hand into an autodiff graph.

use burn::tensor::Tensor;

use crate::shape::expect_same;

/// A scalar whose backward pass adds exactly `gradient` to the gradient of `tracked`.
///
/// ```text
/// inject(x, g) = sum(x * stop_gradient(g)),   d inject / dx = g
/// ```
///
/// Its *value* means nothing; it is not a loss. Add the scalars of several injections (and of
/// an ordinary loss) and call `backward` once.
///
/// Gradient: `gradient`, to `tracked`; none to `gradient`. `tracked` must be finite, because the
/// value is formed although nobody reads it.
///
/// # Shapes
///
/// - `tracked`, `gradient`: any, both equal
/// - result: `[1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn inject<const D: usize>(tracked: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    expect_same("gradient", gradient.dims(), "tracked", tracked.dims());
    let gradient = gradient.inner().cast(tracked.dtype());
    (tracked * gradient).sum()
}
