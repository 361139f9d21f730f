//! Squares of a gradient, added up by a few cubes; Burn's operations are four launches.

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor as Values};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::sums::total;
use super::{FusedOps, in_rows};

/// Units of a cube.
const UNITS: u32 = 256;

/// Cubes at most.
const MOST_CUBES: usize = 256;

/// Values of a cube at least.
const LEAST_VALUES: usize = 4096;

/// The sum of each cube.
pub(in crate::kernels) fn parts<const D: usize>(a: &Values<D>) -> Values<1> {
    let columns = a.dims()[D - 1];
    let rows: Values<2> = a.clone().reshape([-1, columns as i32]);
    let cubes = rows
        .shape()
        .num_elements()
        .div_ceil(LEAST_VALUES)
        .clamp(1, MOST_CUBES);
    Values::from_dispatch(Dispatch::squares(rows.into_dispatch(), cubes))
}

/// As [`parts`].
pub(super) fn launch(a: CubeTensor, cubes: usize) -> CubeTensor {
    let a = in_rows(a);
    let (client, device) = (a.client.clone(), a.device.clone());
    let output = empty_device_dtype(client.clone(), device, [cubes].into(), DType::F32);
    squares_kernel::launch(
        &client,
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_1d(UNITS),
        a.into_tensor_arg(),
        output.clone().into_tensor_arg(),
    );
    output
}

#[cube(launch)]
fn squares_kernel(
    a: &Tensor<f32>,          // [N, D]
    output: &mut Tensor<f32>, // [cubes]
) {
    let width = a.shape(1);
    let count = a.shape(0) * width;
    let mut sum = 0.0f32;
    let mut place = ABSOLUTE_POS;
    while place < count {
        let value = a[place / width * a.stride(0) + place % width];
        sum += value * value;
        place += CUBE_COUNT_X as usize * comptime!(UNITS as usize);
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let sum = total(sum, &mut shared);
    if UNIT_POS_X == 0 {
        output[CUBE_POS_X as usize] = sum;
    }
}
