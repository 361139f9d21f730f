//! Root-mean-square norm of rows and its gradient.

#[cfg(feature = "cube")]
pub(super) mod cube;

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;
use rlvr_core::Precision;

use super::host::{Values, tensor};
use super::lanes::{dot, wide, work};

/// Rows of one task of the kernel; part of the order of summation of `gamma`'s gradient.
const TASK_ROWS: usize = 64;

/// Each row divided by its root mean square, times `gamma`.
///
/// ```text
/// r = (mean_j x_j^2 + eps)^(-1/2),   y_j = x_j r gamma_j
/// ```
///
/// Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), arXiv:1910.07467. The mean
/// is taken in f32.
///
/// # Shapes
/// - `x`: `[N, D]`, `gamma`: `[D]`
/// - output: `[N, D]`
///
/// # Panics
/// If D differs.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f64) -> Tensor<2> {
    assert_eq!(x.dims()[1], gamma.dims()[0], "rms_norm: x and gamma [D]");
    match (Values::of(&x), Values::of(&gamma)) {
        (Some(values), Some(scale)) => {
            let output = kernel(values.slice(), scale.slice(), eps as f32);
            tensor(output, x.dims(), &x.device())
        }
        #[cfg(feature = "cube")]
        _ if cube::has_kernel(&x) => cube::rms_norm(x, gamma, eps, Precision::F32),
        _ => portable(x, gamma, eps),
    }
}

/// As [`rms_norm`], as an operand of products in `precision`.
///
/// # Panics
/// As [`rms_norm`].
pub fn rms_norm_operand(
    x: Tensor<2>,
    gamma: Tensor<1>,
    eps: f64,
    precision: Precision,
) -> Tensor<2> {
    #[cfg(feature = "cube")]
    if cube::has_kernel(&x) {
        return cube::rms_norm(x, gamma, eps, precision);
    }
    precision.operand(rms_norm(x, gamma, eps))
}

/// `x + delta`, and its norm as an operand of products in `precision`.
///
/// # Shapes
/// - `x`: `[N, D]`, f32; `delta`: `[N, D]`, f32 or in the type of an operand; `gamma`: `[D]`
/// - output: `[N, D]`, f32, and `[N, D]`
///
/// # Panics
/// If N or D differ.
pub fn add_rms_norm(
    x: Tensor<2>,
    delta: Tensor<2>,
    gamma: Tensor<1>,
    eps: f64,
    precision: Precision,
) -> [Tensor<2>; 2] {
    assert_eq!(x.dims(), delta.dims(), "add_rms_norm: x and delta [N, D]");
    assert_eq!(x.dims()[1], gamma.dims()[0], "rms_norm: x and gamma [D]");
    #[cfg(feature = "cube")]
    if cube::has_kernel(&x) {
        return cube::add_rms_norm(x, delta, gamma, eps, precision);
    }
    let sum = x + precision.result(delta);
    [sum.clone(), rms_norm_operand(sum, gamma, eps, precision)]
}

/// Gradients of [`rms_norm`] with respect to `x`, `[N, D]`, and `gamma`, `[D]`.
///
/// With `g = grad * gamma`:
///
/// ```text
/// dx_j = r g_j - x_j r^3 mean_i(g_i x_i),   dgamma_j = sum over rows of grad_j x_j r
/// ```
///
/// # Shapes
/// - `x`, `grad`: `[N, D]`, `gamma`: `[D]`
///
/// # Panics
/// If N or D differ.
pub fn rms_norm_backward(
    x: Tensor<2>,
    gamma: Tensor<1>,
    eps: f64,
    grad: Tensor<2>,
) -> (Tensor<2>, Tensor<1>) {
    assert_eq!(x.dims()[1], gamma.dims()[0], "rms_norm: x and gamma [D]");
    assert_eq!(x.dims(), grad.dims(), "rms_norm: x and its gradient [N, D]");
    #[cfg(feature = "cube")]
    if cube::has_backward_kernel(&x) {
        return cube::backward(x, gamma, eps, grad);
    }
    let operands = (Values::of(&x), Values::of(&gamma), Values::of(&grad));
    let (Some(values), Some(scale), Some(slope)) = operands else {
        return portable_backward(x, gamma, eps, grad);
    };
    let (grad_x, grad_gamma) =
        kernel_backward(values.slice(), scale.slice(), eps as f32, slope.slice());
    let [_, width] = x.dims();
    let grad_gamma = tensor(grad_gamma, [1, width], &x.device()).squeeze_dim(0);
    (tensor(grad_x, x.dims(), &x.device()), grad_gamma)
}

fn portable(x: Tensor<2>, gamma: Tensor<1>, eps: f64) -> Tensor<2> {
    let inverse = inverse_rms(&x, eps);
    x * inverse * gamma.unsqueeze()
}

fn portable_backward(
    x: Tensor<2>,
    gamma: Tensor<1>,
    eps: f64,
    grad: Tensor<2>,
) -> (Tensor<2>, Tensor<1>) {
    let inverse = inverse_rms(&x, eps);
    let normed = x * inverse.clone();
    let grad_gamma = (grad.clone() * normed.clone()).sum_dim(0).squeeze_dim(0);
    let scaled = grad * gamma.unsqueeze();
    let along = (scaled.clone() * normed.clone()).mean_dim(1);
    ((scaled - normed * along) * inverse, grad_gamma)
}

/// `[N, 1]`.
fn inverse_rms(x: &Tensor<2>, eps: f64) -> Tensor<2> {
    let square = x.clone().cast(DType::F32).square();
    (square.mean_dim(1) + eps).sqrt().recip().cast(x.dtype())
}

#[inline(always)]
fn inverse_of(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

/// What a task of either kernel reads besides its rows.
#[derive(Clone, Copy)]
struct Norm<'a> {
    gamma: &'a [f32],
    eps: f32,
}

fn kernel(x: &[f32], gamma: &[f32], eps: f32) -> Vec<f32> {
    let task = TASK_ROWS * gamma.len();
    let norm = Norm { gamma, eps };
    let mut output = vec![0f32; x.len()];
    let tasks = output.par_chunks_mut(task).zip(x.par_chunks(task));
    tasks.for_each(|(output, x)| wide::<ForwardRows>((norm, output, x)));
    output
}

fn kernel_backward(x: &[f32], gamma: &[f32], eps: f32, grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let task = TASK_ROWS * gamma.len();
    let norm = Norm { gamma, eps };
    let mut output = vec![0f32; x.len()];
    let tasks = output.par_chunks_mut(task);
    let tasks = tasks.zip(x.par_chunks(task)).zip(grad.par_chunks(task));
    let parts: Vec<Vec<f32>> = tasks
        .map(|((output, x), grad)| wide::<BackwardRows>((norm, output, x, grad)))
        .collect();
    let mut grad_gamma = vec![0f32; gamma.len()];
    for part in parts {
        for (sum, value) in grad_gamma.iter_mut().zip(part) {
            *sum += value;
        }
    }
    (output, grad_gamma)
}

work!(ForwardRows = forward_rows, 'a, (Norm<'a>, &'a mut [f32], &'a [f32]) => ());
work!(
    BackwardRows = backward_rows,
    'a,
    (Norm<'a>, &'a mut [f32], &'a [f32], &'a [f32]) => Vec<f32>
);

#[inline(always)]
fn forward_rows((norm, output, x): (Norm<'_>, &mut [f32], &[f32])) {
    let width = norm.gamma.len();
    for (y, x) in output.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let inverse = inverse_of(x, norm.eps);
        for ((y, x), gamma) in y.iter_mut().zip(x).zip(norm.gamma) {
            *y = x * inverse * gamma;
        }
    }
}

/// Fills the gradient of some rows of `x`; returns their part of that of `gamma`.
#[inline(always)]
fn backward_rows((norm, output, x, grad): (Norm<'_>, &mut [f32], &[f32], &[f32])) -> Vec<f32> {
    let gamma = norm.gamma;
    let width = gamma.len();
    let mut grad_gamma = vec![0f32; width];
    let mut scaled = vec![0f32; width];
    let rows = output.chunks_exact_mut(width);
    let rows = rows
        .zip(x.chunks_exact(width))
        .zip(grad.chunks_exact(width));
    for ((output, x), grad) in rows {
        let inverse = inverse_of(x, norm.eps);
        let sums = scaled.iter_mut().zip(grad_gamma.iter_mut());
        for (((scaled, sum), (x, grad)), gamma) in sums.zip(x.iter().zip(grad)).zip(gamma) {
            *scaled = grad * gamma;
            *sum = (grad * inverse).mul_add(*x, *sum);
        }
        let along = dot(&scaled, x) / width as f32 * inverse * inverse;
        for ((output, x), scaled) in output.iter_mut().zip(x).zip(&scaled) {
            *output = x.mul_add(-along, *scaled) * inverse;
        }
    }
    grad_gamma
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, gradient, noise, values};

    #[test]
    fn kernel_and_portable_path_agree_with_autodiff() {
        // More rows than one task, a width that fills no vector.
        let (x, weight) = (noise([150, 37], 1), noise([150, 37], 2));
        let gamma: Tensor<1> = noise([1, 37], 3).squeeze_dim(0);
        let plain = |x: Tensor<2>, gamma: Tensor<2>| {
            x.clone() / (x.square().mean_dim(1) + 1e-2).sqrt() * gamma
        };
        let row = gamma.clone().unsqueeze_dim(0);
        let (value, expected) = gradient([x.clone(), row], &weight, |[x, gamma]| plain(x, gamma));
        close(
            &values(rms_norm(x.clone(), gamma.clone(), 1e-2)),
            &value,
            1e-6,
        );
        close(
            &values(portable(x.clone(), gamma.clone(), 1e-2)),
            &value,
            1e-6,
        );
        for backward in [rms_norm_backward, portable_backward] {
            let (grad, grad_gamma) = backward(x.clone(), gamma.clone(), 1e-2, weight.clone());
            close(&values(grad), &expected[0], 2e-6);
            close(&values(grad_gamma), &expected[1], 2e-6);
        }
    }
}
