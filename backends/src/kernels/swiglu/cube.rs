//! The gate and its gradient as a CubeCL kernel each, which read what products left and write what the
//! next multiply; Burn's operations are eight launches, unless it fuses them.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Tensor as Rows};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;
use rlvr_core::Precision;

use super::SwigluGradients;
use crate::kernels::cube::{FusedOps, element, in_rows, is_cube};

/// Most values that a unit reads at once.
const VECTOR: usize = 4;

pub(super) fn has_kernel(x: &Rows<2>) -> bool {
    x.dims()[0] > 0 && is_cube(&x.device())
}

pub(super) fn swiglu(gate: Rows<2>, up: Rows<2>, precision: Precision) -> Rows<2> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Rows::from_dispatch(Dispatch::swiglu(gate, up, 0, precision.dtype()))
}

/// As [`swiglu`], of gate and up side by side.
pub(super) fn swiglu_halves(gate_up: Rows<2>, precision: Precision) -> Rows<2> {
    let start = gate_up.dims()[1] / 2;
    let (gate, up) = (gate_up.clone().into_dispatch(), gate_up.into_dispatch());
    Rows::from_dispatch(Dispatch::swiglu(gate, up, start, precision.dtype()))
}

pub(super) fn backward([gate, up, grad]: [Rows<2>; 3], precision: Precision) -> SwigluGradients {
    let (value, gate, up) = Dispatch::swiglu_backward(
        gate.into_dispatch(),
        up.into_dispatch(),
        grad.into_dispatch(),
        precision.dtype(),
    );
    SwigluGradients {
        value: Rows::from_dispatch(value),
        gate: Rows::from_dispatch(gate),
        up: Rows::from_dispatch(up),
    }
}

/// Values that a unit reads at once from all of these, of which `width` of a row count.
fn vector_size(inputs: &[&CubeTensor], width: usize) -> usize {
    let strides = inputs.iter().map(|it| it.meta.strides()[0]);
    let is_whole = strides.chain([width]).all(|it| it.is_multiple_of(VECTOR));
    if is_whole { VECTOR } else { 1 }
}

/// As [`super::swiglu`], with a result of this type; `up` begins behind `up_start` columns, and `gate`
/// ends with as many.
pub(in crate::kernels) fn launch(
    gate: CubeTensor,
    up: CubeTensor,
    up_start: usize,
    dtype: DType,
) -> CubeTensor {
    let [gate, up] = [gate, up].map(in_rows);
    let (client, device) = (gate.client.clone(), gate.device.clone());
    let [rows, columns] = gate.shape().dims();
    let width = columns - up_start;
    let output = empty_device_dtype(client.clone(), device, [rows, width].into(), dtype);
    let vector = vector_size(&[&gate, &up, &output], width);
    let count = rows * width / vector;
    let cube_dim = CubeDim::new(&client, count);
    let types = [element(gate.dtype), element(up.dtype), element(dtype)];
    swiglu_kernel::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, cube_dim),
        cube_dim,
        vector,
        gate.into_tensor_arg(),
        up.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        up_start / vector,
        vector,
        types,
    );
    output
}

/// As [`super::swiglu_backward`], with results of this type.
pub(in crate::kernels) fn launch_backward(
    inputs: [CubeTensor; 3],
    dtype: DType,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [gate, up, grad] = inputs.map(in_rows);
    let (client, shape) = (gate.client.clone(), gate.shape());
    let empty = || empty_device_dtype(client.clone(), gate.device.clone(), shape.clone(), dtype);
    let (value, d_gate, d_up) = (empty(), empty(), empty());
    let [rows, width] = shape.dims();
    let vector = vector_size(&[&gate, &up, &grad, &value], width);
    let count = rows * width / vector;
    let cube_dim = CubeDim::new(&client, count);
    let types = [gate.dtype, up.dtype, grad.dtype, dtype].map(element);
    backward_kernel::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, cube_dim),
        cube_dim,
        vector,
        gate.into_tensor_arg(),
        up.into_tensor_arg(),
        grad.into_tensor_arg(),
        value.clone().into_tensor_arg(),
        d_gate.clone().into_tensor_arg(),
        d_up.clone().into_tensor_arg(),
        vector,
        types,
    );
    (value, d_gate, d_up)
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0);
    one / (one + (-x).exp())
}

/// The vector of this row and column, with the column in vectors.
#[cube]
fn place(stride: usize, row: usize, column: usize, #[comptime] vector: usize) -> usize {
    row * stride / vector + column
}

#[cube(launch)]
fn swiglu_kernel<G: Float, U: Float, O: Float, N: Size>(
    gate: &Tensor<Vector<G, N>>,       // [N, F + up_start]
    up: &Tensor<Vector<U, N>>,         // [N, up_start + F]
    output: &mut Tensor<Vector<O, N>>, // [N, F]
    up_start: usize,
    #[comptime] vector: usize,
    #[define(G, U, O)] _types: [ElemType; 3],
) {
    let width = output.shape(1) / vector;
    if ABSOLUTE_POS >= output.shape(0) * width {
        terminate!();
    }
    let (row, column) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
    let z = Vector::<f32, N>::cast_from(gate[place(gate.stride(0), row, column, vector)]);
    let u = Vector::<f32, N>::cast_from(up[place(up.stride(0), row, column + up_start, vector)]);
    let to = place(output.stride(0), row, column, vector);
    output[to] = Vector::<O, N>::cast_from(sigmoid(z) * z * u);
}

#[cube(launch)]
fn backward_kernel<G: Float, U: Float, D: Float, O: Float, N: Size>(
    gate: &Tensor<Vector<G, N>>,       // [N, F]
    up: &Tensor<Vector<U, N>>,         // [N, F]
    grad: &Tensor<Vector<D, N>>,       // [N, F]
    value: &mut Tensor<Vector<O, N>>,  // [N, F]
    d_gate: &mut Tensor<Vector<O, N>>, // [N, F]
    d_up: &mut Tensor<Vector<O, N>>,   // [N, F]
    #[comptime] vector: usize,
    #[define(G, U, D, O)] _types: [ElemType; 4],
) {
    let width = value.shape(1) / vector;
    if ABSOLUTE_POS >= value.shape(0) * width {
        terminate!();
    }
    let (row, column) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
    let z = Vector::<f32, N>::cast_from(gate[place(gate.stride(0), row, column, vector)]);
    let u = Vector::<f32, N>::cast_from(up[place(up.stride(0), row, column, vector)]);
    let g = Vector::<f32, N>::cast_from(grad[place(grad.stride(0), row, column, vector)]);
    let sigmoid = sigmoid(z);
    let silu = z * sigmoid;
    let slope = sigmoid + silu * (Vector::<f32, N>::new(1.0) - sigmoid);
    // All three are laid out alike.
    let to = place(value.stride(0), row, column, vector);
    value[to] = Vector::<O, N>::cast_from(silu * u);
    d_gate[to] = Vector::<O, N>::cast_from(g * u * slope);
    d_up[to] = Vector::<O, N>::cast_from(g * silu);
}
