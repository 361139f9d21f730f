//! Matrix products of whole tensors.
//!
//! The CPU backend clears the memory of a product and copies it once before `gemm` fills it. Here
//! `gemm` fills new memory, with the same arguments and so with the same bits.

use burn::tensor::Tensor;

use super::host::{Strided, edit, is_host, tensor};
use super::product::{add_product, fresh_product};

/// `a b`.
///
/// # Shapes
/// - `a`: `[n, k]`, `b`: `[k, m]`, transposed views welcome; output: `[n, m]`
///
/// # Panics
/// If k differs.
pub fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    assert_eq!(a.dims()[1], b.dims()[0], "matmul: inner axes [k]");
    match (Strided::of(&a), Strided::of(&b)) {
        (Some(left), Some(right)) => {
            let product = fresh_product(left.matrix(), right.matrix());
            tensor(product, [a.dims()[0], b.dims()[1]], &a.device())
        }
        _ => a.matmul(b),
    }
}

/// `sum + a b`, in place if nothing else holds `sum`.
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
    use crate::kernels::test_tools::{noise, values};

    #[test]
    fn products_have_the_bits_of_the_backend() {
        for (n, k, m) in [(1, 5, 3), (40, 700, 30), (250, 300, 120)] {
            let (a, b) = (noise([n, k], 1), noise([k, m], 2));
            let expected = values(a.clone().matmul(b.clone()));
            assert_eq!(values(matmul(a.clone(), b.clone())), expected);
            let (at, bt) = (noise([k, n], 3).transpose(), noise([m, k], 4).transpose());
            for (a, b) in [(a.clone(), bt.clone()), (at.clone(), b), (at, bt)] {
                let expected = values(a.clone().matmul(b.clone()));
                assert_eq!(values(matmul(a, b)), expected);
            }
            let part = a.narrow(1, 1, k - 2);
            let other = noise([k - 2, m], 5);
            let expected = values(part.clone().matmul(other.clone()));
            assert_eq!(values(matmul(part, other)), expected);
        }
    }

    #[test]
    fn a_product_is_added_in_place() {
        let (a, b) = (noise([30, 200], 1), noise([200, 40], 2));
        let sum = noise([30, 40], 3);
        let expected = values(sum.clone() + a.clone().matmul(b.clone()));
        assert_eq!(values(matmul_add(sum, a, b)), expected);
    }
}
