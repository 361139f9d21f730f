//! The gate as one CubeCL kernel that reads gate and up where one product left them.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Tensor as Rows};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;
use rlvr_core::Precision;

use crate::kernels::cube::{FusedOps, element, in_rows, is_cube};

pub(super) fn has_kernel(x: &Rows<2>) -> bool {
    x.dims()[0] > 0 && is_cube(&x.device())
}

pub(super) fn swiglu(gate_up: Rows<2>, precision: Precision) -> Rows<2> {
    Rows::from_dispatch(Dispatch::swiglu(gate_up.into_dispatch(), precision.dtype()))
}

/// As [`super::swiglu_operand`], with a result of this type.
pub(in crate::kernels) fn launch(gate_up: CubeTensor, dtype: DType) -> CubeTensor {
    let gate_up = in_rows(gate_up);
    let (client, device) = (gate_up.client.clone(), gate_up.device.clone());
    let [rows, width] = gate_up.shape().dims();
    let shape = [rows, width / 2].into();
    let output = empty_device_dtype(client.clone(), device, shape, dtype);
    let count = rows * width / 2;
    let cube_dim = CubeDim::new(&client, count);
    let types = [element(gate_up.dtype), element(dtype)];
    swiglu_kernel::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, cube_dim),
        cube_dim,
        gate_up.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        types,
    );
    output
}

#[cube(launch)]
fn swiglu_kernel<X: Float, O: Float>(
    gate_up: &Tensor<X>,    // [N, 2 F]
    output: &mut Tensor<O>, // [N, F]
    #[define(X, O)] _types: [ElemType; 2],
) {
    let width = output.shape(1);
    let place = ABSOLUTE_POS;
    if place >= output.shape(0) * width {
        terminate!();
    }
    let (row, column) = (place / width, place % width);
    let start = row * gate_up.stride(0) + column;
    let gate = f32::cast_from(gate_up[start]);
    let up = f32::cast_from(gate_up[start + width]);
    let sigmoid = 1.0f32 / (1.0f32 + (-gate).exp());
    let to = row * output.stride(0) + column;
    output[to] = O::cast_from(sigmoid * gate * up);
}
