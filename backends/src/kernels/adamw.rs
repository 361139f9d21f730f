//! One step of AdamW over one parameter tensor, its weights and moments moved in place.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::host::{Values, edit_all, is_host};
use super::lanes::{wide, work};

/// Values of one task of the kernel.
const TASK: usize = 16_384;

/// Constants of one step. `correction_i` is `1 - beta_i^t` at step `t`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// `1 - beta_1^t`.
    pub correction_1: f32,
    /// `1 - beta_2^t`.
    pub correction_2: f32,
    /// Guard of the division.
    pub eps: f32,
    /// `1 - learning_rate * weight_decay`.
    pub decay: f32,
    /// Learning rate.
    pub learning_rate: f32,
}

/// Weights and both moments of one parameter, of one shape.
#[derive(Clone, Debug)]
pub struct Moved<const D: usize> {
    /// The parameter.
    pub weights: Tensor<D>,
    /// Mean of the gradients.
    pub moment_1: Tensor<D>,
    /// Mean of their squares.
    pub moment_2: Tensor<D>,
}

/// Moves weights and moments by one gradient.
///
/// ```text
/// m' = b1 m + (1 - b1) g,   v' = b2 v + (1 - b2) g^2
/// w' = decay w - lr (m' / c1) / (sqrt(v' / c2) + eps)
/// ```
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2017), arXiv:1711.05101. Kernel
/// and portable path round after the same operations, so their results have the same bits.
///
/// # Shapes
/// - all: one shape
///
/// # Panics
/// If the shapes differ.
pub fn adamw<const D: usize>(state: Moved<D>, grad: Tensor<D>, step: &AdamWStep) -> Moved<D> {
    let shape = grad.dims();
    assert!(
        [&state.weights, &state.moment_1, &state.moment_2]
            .iter()
            .all(|x| x.dims() == shape),
        "adamw: weights, moments and gradient of one shape"
    );
    let is_host = is_host(&state.weights) && is_host(&state.moment_1) && is_host(&state.moment_2);
    match Values::of(&grad).filter(|_| is_host) {
        Some(grad) => in_place(state, grad.slice(), step),
        None => portable(state, grad, step),
    }
}

fn portable<const D: usize>(state: Moved<D>, grad: Tensor<D>, step: &AdamWStep) -> Moved<D> {
    let Moved {
        weights,
        moment_1,
        moment_2,
    } = state;
    let fresh_1 = grad.clone().mul_scalar(1.0 - step.beta_1);
    let moment_1 = moment_1.mul_scalar(step.beta_1) + fresh_1;
    let fresh_2 = grad.square().mul_scalar(1.0 - step.beta_2);
    let moment_2 = moment_2.mul_scalar(step.beta_2) + fresh_2;
    let mean = moment_1.clone().div_scalar(step.correction_1);
    let spread = moment_2.clone().div_scalar(step.correction_2).sqrt();
    let delta = mean / spread.add_scalar(step.eps);
    let weights = weights.mul_scalar(step.decay) - delta.mul_scalar(step.learning_rate);
    Moved {
        weights,
        moment_1,
        moment_2,
    }
}

fn in_place<const D: usize>(state: Moved<D>, grad: &[f32], step: &AdamWStep) -> Moved<D> {
    let all = [state.weights, state.moment_1, state.moment_2];
    let [weights, moment_1, moment_2] = edit_all(all, |[weights, moment_1, moment_2]| {
        let tasks = weights
            .par_chunks_mut(TASK)
            .zip(moment_1.par_chunks_mut(TASK))
            .zip(moment_2.par_chunks_mut(TASK))
            .zip(grad.par_chunks(TASK));
        tasks.for_each(|(((w, m), v), g)| wide::<Step>((*step, [w, m, v], g)));
    });
    Moved {
        weights,
        moment_1,
        moment_2,
    }
}

work!(Step = step_values, 'a, (AdamWStep, [&'a mut [f32]; 3], &'a [f32]) => ());

#[inline(always)]
fn step_values((step, [weights, moment_1, moment_2], grad): (AdamWStep, [&mut [f32]; 3], &[f32])) {
    let (rest_1, rest_2) = (1.0 - step.beta_1, 1.0 - step.beta_2);
    let moments = moment_1.iter_mut().zip(moment_2);
    for ((weight, (m, v)), &g) in weights.iter_mut().zip(moments).zip(grad) {
        // No fused products: the portable path rounds after each.
        *m = *m * step.beta_1 + g * rest_1;
        *v = *v * step.beta_2 + g * g * rest_2;
        let delta = (*m / step.correction_1) / ((*v / step.correction_2).sqrt() + step.eps);
        *weight = *weight * step.decay - delta * step.learning_rate;
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{noise, values};

    fn step(t: i32) -> AdamWStep {
        AdamWStep {
            beta_1: 0.9,
            beta_2: 0.999,
            correction_1: 1.0 - 0.9f32.powi(t),
            correction_2: 1.0 - 0.999f32.powi(t),
            eps: 1e-8,
            decay: 1.0 - 0.01 * 0.1,
            learning_rate: 0.01,
        }
    }

    fn bits(x: Tensor<2>) -> Vec<u32> {
        values(x).into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn kernel_and_portable_path_have_the_same_bits() {
        // More values than one task, and a rest that fills no vector.
        let shape = [131, 379];
        let start = || Moved {
            weights: noise(shape, 1),
            moment_1: Tensor::zeros(shape, &noise(shape, 1).device()),
            moment_2: Tensor::zeros(shape, &noise(shape, 1).device()),
        };
        let (mut fused, mut plain) = (start(), start());
        for t in 1..4 {
            let grad = noise(shape, 10 + t) * 3.0;
            fused = adamw(fused, grad.clone(), &step(t as i32));
            plain = portable(plain, grad, &step(t as i32));
        }
        assert_ne!(bits(plain.weights.clone()), bits(start().weights));
        assert_eq!(bits(fused.weights), bits(plain.weights));
        assert_eq!(bits(fused.moment_1), bits(plain.moment_1));
        assert_eq!(bits(fused.moment_2), bits(plain.moment_2));
    }

    #[test]
    fn weights_and_moments_that_nothing_else_holds_stay_in_their_memory() {
        let place = |x: &Tensor<2>| Values::of(x).expect("on the host").slice().as_ptr();
        let state = Moved {
            weights: noise([131, 379], 1),
            moment_1: noise([131, 379], 2).abs(),
            moment_2: noise([131, 379], 3).abs(),
        };
        let places = |it: &Moved<2>| [&it.weights, &it.moment_1, &it.moment_2].map(place);
        let before = places(&state);
        assert_eq!(
            places(&adamw(state, noise([131, 379], 4), &step(1))),
            before
        );
    }

    #[test]
    fn tensors_that_are_held_elsewhere_stay_as_they_are() {
        let (weights, zeros) = (noise([3, 5], 1), noise([3, 5], 1).zeros_like());
        let before = bits(weights.clone());
        let state = Moved {
            weights: weights.clone(),
            moment_1: zeros.clone(),
            moment_2: zeros.clone(),
        };
        let moved = adamw(state, noise([3, 5], 2), &step(1));
        assert_ne!(bits(moved.weights), before);
        assert_eq!(bits(weights), before);
        assert!(values(zeros).iter().all(|value| *value == 0.0));
    }
}
