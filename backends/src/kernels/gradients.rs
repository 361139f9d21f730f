//! Passes over whole gradients: their sum, their norm, their scale.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::host::{Values, edit_all, is_host, tensor};
use super::lanes::{dot, wide, work};

/// Values of one task of a kernel; part of the order of summation of [`sum_of_squares`].
const TASK: usize = 16_384;

/// `a + b`, in the memory of `a` where nothing else holds it.
///
/// # Panics
/// If the shapes differ.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    assert_eq!(a.dims(), b.dims(), "add: gradients of one shape");
    if !is_host(&a) {
        return a + b;
    }
    let Some(b) = Values::of(&b) else {
        return a + b;
    };
    let [a] = edit_all([a], |[a]| {
        let tasks = a.par_chunks_mut(TASK).zip(b.slice().par_chunks(TASK));
        tasks.for_each(|(a, b)| wide::<Add>((a, b)));
    });
    a
}

/// `factor * a`, in the memory of `a` where nothing else holds it.
pub fn scale<const D: usize>(a: Tensor<D>, factor: f32) -> Tensor<D> {
    if !is_host(&a) {
        return a.mul_scalar(factor);
    }
    let [a] = edit_all([a], |[a]| {
        let tasks = a.par_chunks_mut(TASK);
        tasks.for_each(|a| wide::<Scale>((a, factor)));
    });
    a
}

/// Numbers that add up to `sum_i a_i^2`: one, or a few where a kernel leaves the rest of the sum to
/// whoever reads them. The order of the sum depends on the shape alone.
pub fn sum_of_squares<const D: usize>(a: &Tensor<D>) -> Tensor<1> {
    let Some(values) = Values::of(a) else {
        #[cfg(feature = "cube")]
        if super::cube::is_cube(&a.device()) {
            return super::cube::squares::parts(a);
        }
        // The last axis first: on Mesa's llvmpipe the sum of one row of 2^18 ones or more was seen
        // to be 262,132, with no error.
        return a.clone().square().sum_dim(D - 1).sum();
    };
    let tasks = values.slice().par_chunks(TASK);
    let parts: Vec<f32> = tasks.map(wide::<Squares>).collect();
    let sum: f64 = parts.into_iter().map(f64::from).sum();
    tensor(vec![sum as f32], [1, 1], &a.device()).squeeze_dim(0)
}

work!(Add = add_values, 'a, (&'a mut [f32], &'a [f32]) => ());
work!(Scale = scale_values, 'a, (&'a mut [f32], f32) => ());
work!(Squares = squares_of, 'a, &'a [f32] => f32);

#[inline(always)]
fn add_values((a, b): (&mut [f32], &[f32])) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

#[inline(always)]
fn scale_values((a, factor): (&mut [f32], f32)) {
    for a in a {
        *a *= factor;
    }
}

#[inline(always)]
fn squares_of(a: &[f32]) -> f32 {
    dot(a, a)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{noise, values};

    /// More values than one task, and a rest that fills no vector.
    const SHAPE: [usize; 2] = [131, 379];

    #[test]
    fn sums_and_scales_have_the_bits_of_the_portable_operations() {
        let (a, b) = (noise(SHAPE, 1), noise(SHAPE, 2));
        let expected = values(a.clone() + b.clone());
        assert_eq!(values(add(a.clone(), b)), expected);
        assert_eq!(values(scale(a.clone(), 0.3)), values(a.mul_scalar(0.3f32)));
    }

    #[test]
    fn what_nothing_else_holds_is_changed_in_place() {
        let place = |x: &Tensor<2>| Values::of(x).expect("on the host").slice().as_ptr();
        let a = noise(SHAPE, 1);
        let before = place(&a);
        let a = scale(add(a, noise(SHAPE, 2)), 0.3);
        assert_eq!(place(&a), before);
        let held = a.clone();
        assert_ne!(place(&scale(a, 0.3)), before);
        assert_eq!(place(&held), before);
    }

    #[test]
    fn squares_add_up_to_what_f64_says() {
        let a = noise(SHAPE, 3);
        let exact: f64 = values(a.clone())
            .iter()
            .map(|&x| f64::from(x).powi(2))
            .sum();
        let found = f64::from(values(sum_of_squares(&a))[0]);
        assert!((found / exact - 1.0).abs() < 1e-6, "{found} and {exact}");
    }

    #[test]
    fn the_order_of_the_sum_does_not_follow_the_threads() {
        let a = noise(SHAPE, 4);
        let sum = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.expect("threads");
            pool.install(|| values(sum_of_squares(&a))[0].to_bits())
        };
        assert_eq!(sum(1), sum(2));
        assert_eq!(sum(1), sum(4));
    }
}
