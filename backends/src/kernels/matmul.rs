//! Matrix products of whole tensors.
//!
//! The CPU backend clears the memory of a product and copies it once before `gemm` fills it. Here
//! `gemm` fills new memory, with the same arguments and so with the same bits. Products in half
//! precision are the device's own.

use burn::tensor::Tensor;
use rlvr_core::Precision;

use super::host::{Strided, edit, is_host, tensor};
use super::product::{add_product, fresh_product};

/// `a b`, computed in `precision`.
///
/// # Shapes
/// - `a`: `[n, k]`, `b`: `[k, m]`, transposed views welcome; output: `[n, m]`, f32
///
/// # Panics
/// If k differs.
pub fn matmul(a: Tensor<2>, b: Tensor<2>, precision: Precision) -> Tensor<2> {
    precision.result(matmul_raw(a, b, precision))
}

/// As [`matmul`], as the device leaves it, in the type of an operand: for what reads either.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_raw(a: Tensor<2>, b: Tensor<2>, precision: Precision) -> Tensor<2> {
    assert_eq!(a.dims()[1], b.dims()[0], "matmul: inner axes [k]");
    if precision != Precision::F32 {
        return precision.product(a, b);
    }
    match (Strided::of(&a), Strided::of(&b)) {
        (Some(left), Some(right)) => {
            let product = fresh_product(left.matrix(), right.matrix());
            tensor(product, [a.dims()[0], b.dims()[1]], &a.device())
        }
        _ => a.matmul(b),
    }
}

/// `sum + a b` in f32, in place if nothing else holds `sum`.
///
/// # Shapes
/// - `sum`: `[n, m]`; others as in [`matmul`]
///
/// # Panics
/// If n, k or m differ.
pub fn matmul_add(sum: Tensor<2>, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    assert_eq!(a.dims()[1], b.dims()[0], "matmul: inner axes [k]");
    assert_eq!(sum.dims(), [a.dims()[0], b.dims()[1]], "matmul: sum [n, m]");
    match (Strided::of(&a), Strided::of(&b)) {
        (Some(left), Some(right)) if is_host(&sum) => {
            edit(sum, |sum| add_product(sum, left.matrix(), right.matrix()))
        }
        _ => sum + a.matmul(b),
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, noise, rounded, values};

    #[test]
    fn products_have_the_bits_of_the_backend() {
        for (n, k, m) in [(1, 5, 3), (40, 700, 30), (250, 300, 120)] {
            let (a, b) = (noise([n, k], 1), noise([k, m], 2));
            let expected = values(a.clone().matmul(b.clone()));
            assert_eq!(
                values(matmul(a.clone(), b.clone(), Precision::F32)),
                expected
            );
            let (at, bt) = (noise([k, n], 3).transpose(), noise([m, k], 4).transpose());
            for (a, b) in [(a.clone(), bt.clone()), (at.clone(), b), (at, bt)] {
                let expected = values(a.clone().matmul(b.clone()));
                assert_eq!(values(matmul(a, b, Precision::F32)), expected);
            }
            let part = a.narrow(1, 1, k - 2);
            let other = noise([k - 2, m], 5);
            let expected = values(part.clone().matmul(other.clone()));
            assert_eq!(values(matmul(part, other, Precision::F32)), expected);
        }
    }

    /// The definition in f64: operands to 8 bits, an exact sum.
    #[test]
    fn a_product_in_half_precision_is_that_of_rounded_operands() {
        let (n, k, m) = (30, 200, 40);
        let (a, b) = (noise([n, k], 1), noise([m, k], 2).transpose());
        let (left, right) = (values(a.clone()), values(b.clone()));
        let product = |value: fn(f32) -> f64| -> Vec<f32> {
            let of = |row: usize, column: usize| -> f64 {
                let terms = (0..k).map(|i| (left[row * k + i], right[i * m + column]));
                terms.map(|(a, b)| value(a) * value(b)).sum()
            };
            let places = (0..n * m).map(|place| of(place / m, place % m) as f32);
            places.collect()
        };
        let found = values(matmul(a, b, Precision::Bf16));
        for (found, sum) in found.iter().zip(product(rounded)) {
            assert_eq!(f64::from(*found), rounded(*found), "a result of 8 bits");
            // Half a unit in the last place, and f32's order of sums.
            assert!((found - sum).abs() <= sum.abs() / 256.0 + 1e-5);
        }
        let exact = product(f64::from);
        close(&found, &exact, 1e-2);
        let gap = found.iter().zip(&exact).map(|(a, b)| (a - b).abs());
        assert!(gap.fold(0f32, f32::max) > 1e-3, "nothing was rounded");
    }

    #[test]
    fn a_product_is_added_in_place() {
        let (a, b) = (noise([30, 200], 1), noise([200, 40], 2));
        let sum = noise([30, 40], 3);
        let expected = values(sum.clone() + a.clone().matmul(b.clone()));
        assert_eq!(values(matmul_add(sum, a, b)), expected);
    }
}
