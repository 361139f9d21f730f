//! Tensors from golden arrays, and comparison with them.

#![allow(dead_code, reason = "each test binary uses its part")]

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rlvr_core::{Precision, ScoringSettings};
use rlvr_fixtures::Array;

/// Log-probs at temperature 1 in f32, in chunks of at most so many bytes.
pub fn scoring(max_logits_bytes: usize) -> ScoringSettings {
    ScoringSettings {
        temperature: 1.0,
        max_logits_bytes,
        precision: Precision::F32,
    }
}

/// The device of these tests, without autodiff.
pub fn device() -> Device {
    Device::flex()
}

/// The array as a tensor without autodiff.
pub fn tensor<const D: usize>(array: &Array) -> Tensor<D> {
    from_vec(array.to_f32(), array.dims::<D>())
}

/// The array as a tensor whose gradient is retained.
pub fn tracked<const D: usize>(array: &Array) -> Tensor<D> {
    tensor(array).autodiff().require_grad()
}

/// Numbers as a tensor without autodiff.
pub fn from_vec<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data, shape), &device())
}

/// The array as a mask.
pub fn mask<const D: usize>(array: &Array) -> Tensor<D, Bool> {
    mask_from_vec(array.to_bool(), array.dims::<D>())
}

/// Booleans as a tensor.
pub fn mask_from_vec<const D: usize>(data: Vec<bool>, shape: [usize; D]) -> Tensor<D, Bool> {
    Tensor::from_data(TensorData::new(data, shape), &device())
}

/// Token ids as a tensor.
pub fn ints(data: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(data.to_vec(), [data.len()]), &device())
}

/// The numbers of a tensor in 64 bits.
pub fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor
        .clone()
        .inner()
        .try_into_vec_as::<f64>()
        .expect("readable")
}

/// A mask's numbers: 0 and 1.
pub fn flags<const D: usize>(mask: &Tensor<D, Bool>) -> Vec<f64> {
    numbers(&mask.clone().inner().float())
}

/// Panics unless both agree within `1e-5 (1 + abs(expected))` everywhere.
#[track_caller]
pub fn assert_close(name: &str, given: &[f64], expected: &[f64]) {
    assert_near(name, given, expected, 1e-5);
}

/// Panics unless both agree within `tolerance (1 + abs(expected))` everywhere.
#[track_caller]
pub fn assert_near(name: &str, given: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(given.len(), expected.len(), "{name}: number of values");
    for (i, (&a, &b)) in given.iter().zip(expected).enumerate() {
        let is_near = a == b || (a - b).abs() <= tolerance * (1.0 + b.abs());
        assert!(is_near, "{name}[{i}]: {a} instead of {b}");
    }
}

/// Panics unless the tensor agrees with the array, shape included.
#[track_caller]
pub fn assert_golden<const D: usize>(name: &str, given: &Tensor<D>, expected: &Array) {
    assert_eq!(given.dims(), expected.dims::<D>(), "{name}: shape");
    assert_close(name, &numbers(given), &expected.data);
}
