//! The turn as one CubeCL kernel, a cube per row; Burn's operations are five launches.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Tensor as Rows};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::Rotation;
use crate::kernels::cube::rows::{cubes_of_rows, row};
use crate::kernels::cube::{FusedOps, element, in_rows, is_cube};

/// Units of a cube.
const UNITS: u32 = 128;

pub(super) fn has_kernel(x: &Rows<2>) -> bool {
    x.dims()[0] > 0 && is_cube(&x.device())
}

/// `x cos + sign swap(x) sin`, of this type.
pub(in crate::kernels) fn turn(
    x: Rows<2>,
    rotation: &Rotation,
    sign: f32,
    dtype: DType,
) -> Rows<2> {
    Rows::from_dispatch(Dispatch::turn(
        x.into_dispatch(),
        rotation.cos.clone().into_dispatch(),
        rotation.sin.clone().into_dispatch(),
        sign,
        dtype,
    ))
}

/// As [`turn`].
pub(in crate::kernels) fn launch(
    x: CubeTensor,
    angles: [CubeTensor; 2],
    sign: f32,
    dtype: DType,
) -> CubeTensor {
    let x = in_rows(x);
    let [cos, sin] = angles.map(in_rows);
    let (client, shape) = (x.client.clone(), x.shape());
    let output = empty_device_dtype(client.clone(), x.device.clone(), shape.clone(), dtype);
    let types = [element(x.dtype), element(dtype)];
    turn_kernel::launch(
        &client,
        cubes_of_rows(shape[0]),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        cos.into_tensor_arg(),
        sin.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        sign,
        types,
    );
    output
}

#[cube(launch)]
fn turn_kernel<X: Float, O: Float>(
    x: &Tensor<X>,          // [L, heads * K]
    cos: &Tensor<f32>,      // [L, K]
    sin: &Tensor<f32>,      // [L, K]
    output: &mut Tensor<O>, // [L, heads * K]
    sign: f32,
    #[define(X, O)] _types: [ElemType; 2],
) {
    let row = row();
    if row >= x.shape(0) {
        terminate!();
    }
    let (columns, width) = (x.shape(1), cos.shape(1));
    let half = width / 2;
    let (from, to) = (row * x.stride(0), row * output.stride(0));
    let (cos_start, sin_start) = (row * cos.stride(0), row * sin.stride(0));
    let mut place = UNIT_POS_X as usize;
    while place < columns {
        let inner = place % width;
        let mut other = place + half;
        if inner >= half {
            other = place - half;
        }
        let turned = f32::cast_from(x[from + place]) * cos[cos_start + inner]
            + f32::cast_from(x[from + other]) * sin[sin_start + inner] * sign;
        output[to + place] = O::cast_from(turned);
        place += comptime!(UNITS as usize);
    }
}
