//! The norm as one CubeCL kernel, a cube per row; Burn's operations are three launches. Its gradient as
//! one too, a cube for a strip of rows, with a sum over the strips behind it for that of `gamma`.

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

/// Rows of a strip at least, and strips at most unless rows are many.
const STRIP: usize = 8;
const MOST_STRIPS: usize = 1024;

/// Columns of which a unit keeps the gradient of `gamma`.
const MOST_COLUMNS: usize = 64;

/// True if each unit can keep its columns.
pub(super) fn has_backward_kernel(x: &Rows<2>) -> bool {
    has_kernel(x) && x.dims()[1] <= MOST_COLUMNS * UNITS as usize
}

pub(super) fn backward(x: Rows<2>, gamma: Rows<1>, eps: f64, grad: Rows<2>) -> (Rows<2>, Rows<1>) {
    let strips = strips(x.dims()[0]);
    let (grad_x, parts) = Dispatch::rms_norm_backward(
        x.into_dispatch(),
        gamma.into_dispatch(),
        grad.into_dispatch(),
        eps as f32,
        strips,
    );
    let parts: Rows<2> = Rows::from_dispatch(parts);
    (Rows::from_dispatch(grad_x), parts.sum_dim(0).squeeze_dim(0))
}

/// Strips of so many rows.
fn strips(rows: usize) -> usize {
    rows.div_ceil(STRIP).min(MOST_STRIPS)
}

/// Gradient of `x`, and the part of each strip in that of `gamma`, `[strips, D]`.
pub(in crate::kernels) fn launch_backward(
    x: CubeTensor,
    gamma: CubeTensor,
    grad: CubeTensor,
    eps: f32,
    strips: usize,
) -> (CubeTensor, CubeTensor) {
    let [x, gamma, grad] = [x, gamma, grad].map(in_rows);
    let (client, device, shape) = (x.client.clone(), x.device.clone(), x.shape());
    let empty = |shape| empty_device_dtype(client.clone(), device.clone(), shape, DType::F32);
    let (grad_x, parts) = (empty(shape.clone()), empty([strips, shape[1]].into()));
    backward_kernel::launch(
        &client,
        CubeCount::Static(strips as u32, 1, 1),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        gamma.into_tensor_arg(),
        grad.into_tensor_arg(),
        grad_x.clone().into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        eps,
        shape[1].div_ceil(UNITS as usize),
    );
    (grad_x, parts)
}

#[cube(launch)]
fn backward_kernel(
    x: &Tensor<f32>,          // [N, D]
    gamma: &Tensor<f32>,      // [D]
    grad: &Tensor<f32>,       // [N, D]
    grad_x: &mut Tensor<f32>, // [N, D]
    parts: &mut Tensor<f32>,  // [strips, D]
    eps: f32,
    #[comptime] columns: usize,
) {
    let (unit, strip) = (UNIT_POS_X as usize, CUBE_POS_X as usize);
    let width = x.shape(1);
    let mut part = Array::<f32>::new(columns);
    #[unroll]
    for index in 0..columns {
        part[index] = 0.0;
    }
    // A strip is every so-manieth row.
    let mut row = strip;
    while row < x.shape(0) {
        let (start, grad_start) = (row * x.stride(0), row * grad.stride(0));
        let mut squares = 0.0f32;
        let mut along = 0.0f32;
        #[unroll]
        for index in 0..columns {
            let place = index * comptime!(UNITS as usize) + unit;
            if place < width {
                let value = x[start + place];
                squares += value * value;
                along += value * grad[grad_start + place] * gamma[place];
            }
        }
        let scale = inverse_rms(squares, width, eps);
        let mut shared = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
        let mean = total(along, &mut shared) / f32::cast_from(width as u32);
        let back = mean * scale * scale;
        let to = row * grad_x.stride(0);
        #[unroll]
        for index in 0..columns {
            let place = index * comptime!(UNITS as usize) + unit;
            if place < width {
                let (value, slope) = (x[start + place], grad[grad_start + place]);
                grad_x[to + place] = (slope * gamma[place] - value * back) * scale;
                part[index] += slope * value * scale;
            }
        }
        row += CUBE_COUNT_X as usize;
    }
    let to = strip * parts.stride(0);
    #[unroll]
    for index in 0..columns {
        let place = index * comptime!(UNITS as usize) + unit;
        if place < width {
            parts[to + place] = part[index];
        }
    }
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
