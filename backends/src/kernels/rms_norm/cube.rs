//! The norm as one CubeCL kernel, a cube per row; Burn's operations are three launches.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Tensor as Rows};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use rlvr_core::Precision;

use crate::kernels::cube::rows::{cubes_of_rows, row};
use crate::kernels::cube::sums::total;
use crate::kernels::cube::{FusedOps, element, in_rows, is_cube};

/// Units of a cube.
const UNITS: u32 = 128;

pub(super) fn has_kernel(x: &Rows<2>) -> bool {
    x.dims()[0] > 0 && is_cube(&x.device())
}

pub(super) fn rms_norm(x: Rows<2>, gamma: Rows<1>, eps: f64, precision: Precision) -> Rows<2> {
    let (x, gamma) = (x.into_dispatch(), gamma.into_dispatch());
    Rows::from_dispatch(Dispatch::rms_norm(x, gamma, eps as f32, precision.dtype()))
}

pub(super) fn add_rms_norm(
    x: Rows<2>,
    delta: Rows<2>,
    gamma: Rows<1>,
    eps: f64,
    precision: Precision,
) -> [Rows<2>; 2] {
    let (x, delta, gamma) = (
        x.into_dispatch(),
        delta.into_dispatch(),
        gamma.into_dispatch(),
    );
    let (sum, norm) = Dispatch::add_rms_norm(x, delta, gamma, eps as f32, precision.dtype());
    [Rows::from_dispatch(sum), Rows::from_dispatch(norm)]
}

/// As [`super::rms_norm`], with a result of this type.
pub(in crate::kernels) fn launch(
    x: CubeTensor,
    gamma: CubeTensor,
    eps: f32,
    dtype: DType,
) -> CubeTensor {
    let (x, gamma) = (in_rows(x), in_rows(gamma));
    let (client, device, shape) = (x.client.clone(), x.device.clone(), x.shape());
    let output = empty_device_dtype(client.clone(), device, shape.clone(), dtype);
    rms_norm_kernel::launch(
        &client,
        cubes_of_rows(shape[0]),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        gamma.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        eps,
        element(dtype),
    );
    output
}

/// As [`super::add_rms_norm`], with a norm of this type.
pub(in crate::kernels) fn launch_add(
    x: CubeTensor,
    delta: CubeTensor,
    gamma: CubeTensor,
    eps: f32,
    dtype: DType,
) -> (CubeTensor, CubeTensor) {
    let [x, delta, gamma] = [x, delta, gamma].map(in_rows);
    let (client, shape) = (x.client.clone(), x.shape());
    let empty = |dtype| empty_device_dtype(client.clone(), x.device.clone(), shape.clone(), dtype);
    let (sum, output) = (empty(x.dtype), empty(dtype));
    let types = [element(delta.dtype), element(dtype)];
    add_rms_norm_kernel::launch(
        &client,
        cubes_of_rows(shape[0]),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        delta.into_tensor_arg(),
        gamma.into_tensor_arg(),
        sum.clone().into_tensor_arg(),
        output.clone().into_tensor_arg(),
        eps,
        types,
    );
    (sum, output)
}

/// What a row is multiplied with, from the squares that each unit has added up.
#[cube]
fn inverse_rms(squares: f32, width: usize, eps: f32) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let mean = total(squares, &mut shared) / f32::cast_from(width as u32);
    1.0f32 / (mean + eps).sqrt()
}

#[cube(launch)]
fn rms_norm_kernel<O: Float>(
    x: &Tensor<f32>,        // [N, D]
    gamma: &Tensor<f32>,    // [D]
    output: &mut Tensor<O>, // [N, D]
    eps: f32,
    #[define(O)] _type: ElemType,
) {
    let row = row();
    if row >= x.shape(0) {
        terminate!();
    }
    let width = x.shape(1);
    let (start, output_start) = (row * x.stride(0), row * output.stride(0));
    let mut squares = 0.0f32;
    let mut place = UNIT_POS_X as usize;
    while place < width {
        let value = x[start + place];
        squares += value * value;
        place += comptime!(UNITS as usize);
    }
    let scale = inverse_rms(squares, width, eps);
    let mut place = UNIT_POS_X as usize;
    while place < width {
        output[output_start + place] = O::cast_from(x[start + place] * scale * gamma[place]);
        place += comptime!(UNITS as usize);
    }
}

#[cube(launch)]
fn add_rms_norm_kernel<X: Float, O: Float>(
    x: &Tensor<f32>,        // [N, D]
    delta: &Tensor<X>,      // [N, D]
    gamma: &Tensor<f32>,    // [D]
    sum: &mut Tensor<f32>,  // [N, D]
    output: &mut Tensor<O>, // [N, D]
    eps: f32,
    #[define(X, O)] _types: [ElemType; 2],
) {
    let row = row();
    if row >= x.shape(0) {
        terminate!();
    }
    let width = x.shape(1);
    let (start, delta_start) = (row * x.stride(0), row * delta.stride(0));
    let (sum_start, output_start) = (row * sum.stride(0), row * output.stride(0));
    let mut squares = 0.0f32;
    let mut place = UNIT_POS_X as usize;
    while place < width {
        let value = x[start + place] + f32::cast_from(delta[delta_start + place]);
        sum[sum_start + place] = value;
        squares += value * value;
        place += comptime!(UNITS as usize);
    }
    let scale = inverse_rms(squares, width, eps);
    // Each unit reads what it wrote itself.
    let mut place = UNIT_POS_X as usize;
    while place < width {
        let value = sum[sum_start + place] * scale * gamma[place];
        output[output_start + place] = O::cast_from(value);
        place += comptime!(UNITS as usize);
    }
}
