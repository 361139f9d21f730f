//! Inputs and the autodiff reference for the tests of the kernels.

use burn::tensor::{Device, Tensor, TensorData};

/// Values between -1 and 1 that repeat nowhere.
pub(super) fn noise(shape: [usize; 2], salt: usize) -> Tensor<2> {
    let count = shape[0] * shape[1];
    let values: Vec<f32> = (0..count)
        .map(|place| ((place * 7 + salt * 131) as f32 * 0.618_034 + salt as f32).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

pub(super) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// The nearest number of 8 bits, the even one of two.
pub(super) fn rounded(value: f32) -> f64 {
    let bits = value.to_bits();
    let bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    f64::from(f32::from_bits(bits))
}

/// Value of `function` and gradients of `sum(weight * function)` with respect to every input.
pub(super) fn gradient<const N: usize>(
    inputs: [Tensor<2>; N],
    weight: &Tensor<2>,
    function: impl FnOnce([Tensor<2>; N]) -> Tensor<2>,
) -> (Vec<f32>, [Vec<f32>; N]) {
    let inputs = inputs.map(|input| Tensor::from_inner(input).require_grad());
    let value = function(inputs.clone());
    let loss = (value.clone() * Tensor::from_inner(weight.clone())).sum();
    let gradients = loss.backward();
    let found = inputs.map(|input| {
        let gradient = input.grad(&gradients);
        values(gradient.expect("the function uses every input"))
    });
    (values(value.inner()), found)
}

/// Every value within `tolerance` of the largest expected one.
pub(super) fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0, "nothing to compare with");
    for (place, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{place}: {a} and {b}");
    }
}
