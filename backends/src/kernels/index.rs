//! Indices of rows and columns, and what hides those that must not be seen.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Added to a score that must not count: its exponential is exactly zero in f32.
pub const MASKED: f32 = -1e9;

/// Places, on `device`.
pub(super) fn index(places: Vec<usize>, device: &Device) -> Tensor<1, Int> {
    let places: Vec<i64> = places.into_iter().map(|place| place as i64).collect();
    let length = places.len();
    Tensor::from_data(TensorData::new(places, [length]), device)
}
