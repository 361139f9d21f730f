//! The gate of a SwiGLU feed-forward and its gradient.

#[cfg(feature = "cube")]
pub(super) mod cube;

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use rayon::prelude::*;
use rlvr_core::Precision;

use super::host::{Values, tensor};
use super::lanes::{exp, wide, work};

/// Values of one task of the kernel.
const TASK: usize = 16_384;

/// Gradients of [`swiglu`], and its value again, as operands, `[N, F]` each.
#[derive(Clone, Debug)]
pub struct SwigluGradients {
    /// `silu(gate) * up`, for the gradient of the projection behind it.
    pub value: Tensor<2>,
    /// With respect to `gate`.
    pub gate: Tensor<2>,
    /// With respect to `up`.
    pub up: Tensor<2>,
}

/// `silu(gate) * up`, with `silu(z) = z sigmoid(z)`, as an operand of products in `precision`.
///
/// Shazeer, "GLU Variants Improve Transformer" (2020), arXiv:2002.05202.
///
/// # Shapes
/// - `gate`, `up`: `[N, F]`, f32 or in the type of an operand; output: `[N, F]`
///
/// # Panics
/// If the shapes differ.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>, precision: Precision) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "swiglu: gate and up [N, F]");
    #[cfg(feature = "cube")]
    if cube::has_kernel(&gate) {
        return cube::swiglu(gate, up, precision);
    }
    let [gate, up] = [gate, up].map(|x| precision.result(x));
    precision.operand(match (Values::of(&gate), Values::of(&up)) {
        (Some(z), Some(u)) => tensor(kernel(z.slice(), u.slice()), gate.dims(), &gate.device()),
        _ => portable(gate, up),
    })
}

/// As [`swiglu`], of gate and up side by side, as an operand of products in `precision`.
///
/// # Shapes
/// - `gate_up`: `[N, 2 F]`, f32 or in the type of an operand; output: `[N, F]`
///
/// # Panics
/// If the width is odd.
pub fn swiglu_operand(gate_up: Tensor<2>, precision: Precision) -> Tensor<2> {
    let [_, width] = gate_up.dims();
    assert_eq!(width % 2, 0, "swiglu_operand: [N, 2 F]");
    #[cfg(feature = "cube")]
    if cube::has_kernel(&gate_up) {
        return cube::swiglu_halves(gate_up, precision);
    }
    let half = |first| gate_up.clone().narrow(1, first, width / 2);
    swiglu(half(0), half(width / 2), precision)
}

/// Gradients of a loss whose gradient with respect to [`swiglu`] is `grad`, as operands of products in
/// `precision`.
///
/// ```text
/// dup = grad silu(z),   dgate = grad up s (1 + z (1 - s)),   s = sigmoid(z), z = gate
/// ```
///
/// # Shapes
/// - all: `[N, F]`; inputs f32 or in the type of an operand
///
/// # Panics
/// If the shapes differ.
pub fn swiglu_backward(
    gate: Tensor<2>,
    up: Tensor<2>,
    grad: Tensor<2>,
    precision: Precision,
) -> SwigluGradients {
    assert_eq!(gate.dims(), up.dims(), "swiglu: gate and up [N, F]");
    assert_eq!(gate.dims(), grad.dims(), "swiglu: gate and gradient [N, F]");
    #[cfg(feature = "cube")]
    if cube::has_kernel(&gate) {
        return cube::backward([gate, up, grad], precision);
    }
    let [gate, up, grad] = [gate, up, grad].map(|x| precision.result(x));
    let SwigluGradients { value, gate, up } = backward(gate, up, grad);
    let [value, gate, up] = [value, gate, up].map(|x| precision.operand(x));
    SwigluGradients { value, gate, up }
}

/// In 32 bits.
fn backward(gate: Tensor<2>, up: Tensor<2>, grad: Tensor<2>) -> SwigluGradients {
    let operands = (Values::of(&gate), Values::of(&up), Values::of(&grad));
    let (Some(z), Some(u), Some(g)) = operands else {
        return portable_backward(gate, up, grad);
    };
    let parts = kernel_backward(z.slice(), u.slice(), g.slice());
    let [value, gate, up] = parts.map(|values| tensor(values, grad.dims(), &grad.device()));
    SwigluGradients { value, gate, up }
}

fn portable(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    sigmoid(gate.clone()) * gate * up
}

fn portable_backward(gate: Tensor<2>, up: Tensor<2>, grad: Tensor<2>) -> SwigluGradients {
    let sigmoid = sigmoid(gate.clone());
    let silu = sigmoid.clone() * gate.clone();
    let slope = sigmoid.clone() * (gate * (sigmoid.neg() + 1.0) + 1.0);
    SwigluGradients {
        value: silu.clone() * up.clone(),
        gate: grad.clone() * up * slope,
        up: grad * silu,
    }
}

#[inline(always)]
fn sigmoid_of(z: f32) -> f32 {
    1.0 / (1.0 + exp(-z))
}

fn kernel(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut output = vec![0f32; gate.len()];
    let tasks = output.par_chunks_mut(TASK).zip(gate.par_chunks(TASK));
    let tasks = tasks.zip(up.par_chunks(TASK));
    tasks.for_each(|((value, gate), up)| wide::<ForwardValues>((value, gate, up)));
    output
}

/// Value and gradients of gate and up.
fn kernel_backward(gate: &[f32], up: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
    let [mut value, mut d_gate, mut d_up] = [(); 3].map(|()| vec![0f32; gate.len()]);
    let outputs = value
        .par_chunks_mut(TASK)
        .zip(d_gate.par_chunks_mut(TASK))
        .zip(d_up.par_chunks_mut(TASK));
    let inputs = gate.par_chunks(TASK).zip(up.par_chunks(TASK));
    let inputs = inputs.zip(grad.par_chunks(TASK));
    outputs.zip(inputs).for_each(|(outputs, inputs)| {
        let (((value, d_gate), d_up), ((gate, up), grad)) = (outputs, inputs);
        wide::<BackwardValues>(([value, d_gate, d_up], [gate, up, grad]));
    });
    [value, d_gate, d_up]
}

work!(ForwardValues = forward_values, 'a, (&'a mut [f32], &'a [f32], &'a [f32]) => ());
work!(BackwardValues = backward_values, 'a, ([&'a mut [f32]; 3], [&'a [f32]; 3]) => ());

#[inline(always)]
fn forward_values((value, gate, up): (&mut [f32], &[f32], &[f32])) {
    for ((value, &z), &u) in value.iter_mut().zip(gate).zip(up) {
        *value = z * sigmoid_of(z) * u;
    }
}

#[inline(always)]
fn backward_values(([value, d_gate, d_up], [gate, up, grad]): ([&mut [f32]; 3], [&[f32]; 3])) {
    let outputs = value.iter_mut().zip(d_gate).zip(d_up);
    let inputs = gate.iter().zip(up).zip(grad);
    for (((value, d_gate), d_up), ((&z, &u), &g)) in outputs.zip(inputs) {
        let sigmoid = sigmoid_of(z);
        let silu = z * sigmoid;
        *value = silu * u;
        *d_up = g * silu;
        *d_gate = g * u * silu.mul_add(1.0 - sigmoid, sigmoid);
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, gradient, noise, values};
    use burn::tensor::activation::silu;

    #[test]
    fn kernel_and_portable_path_agree_with_autodiff() {
        // More values than one task.
        let shape = [130, 137];
        let (gate, up, weight) = (noise(shape, 1) * 9.0, noise(shape, 2), noise(shape, 3));
        let (value, expected) = gradient([gate.clone(), up.clone()], &weight, |[z, u]| silu(z) * u);
        let found = swiglu(gate.clone(), up.clone(), Precision::F32);
        close(&values(found), &value, 1e-6);
        close(&values(portable(gate.clone(), up.clone())), &value, 1e-6);
        for backward in [backward, portable_backward] {
            let found = backward(gate.clone(), up.clone(), weight.clone());
            close(&values(found.value), &value, 1e-6);
            close(&values(found.gate), &expected[0], 1e-6);
            close(&values(found.up), &expected[1], 1e-6);
        }
    }
}
