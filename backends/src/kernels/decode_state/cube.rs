//! The state on a device, in memory that is written in place by two kernels, a unit per row.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int as Ids, Tensor as Rows, TensorData};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::draw::NO_TOKEN;
use super::FirstRows;
use crate::graph::{GraphError, Storage};
use crate::kernels::cube::{FusedOps, element, in_rows, sole};
use crate::kernels::index::index;

/// Units of a cube.
const UNITS: u32 = 64;

/// Numbers of a row: its last token, the slot of its prompt, the prompt's columns, its own columns,
/// and how many steps it has made. A row in vain has made all.
const GIVEN: usize = 5;

#[derive(Debug)]
pub(super) struct OnDevice {
    device: Device,
    most_steps: usize,
    /// `[R]`.
    pub(super) tokens: Rows<1, Ids>,
    /// `[R, 4]`: all that is given but the token.
    pub(super) spans: Rows<2, Ids>,
    /// `[R, 1]`: of the next step.
    pub(super) uniform: Rows<2>,
    /// `[R, S]`: of every step.
    uniforms: Rows<2>,
    /// `[R, 3 S]`: of every step.
    pub(super) draws: Rows<2>,
}

impl OnDevice {
    pub(super) fn new(num_rows: usize, most_steps: usize, device: &Device) -> Self {
        let floats = |columns: usize| Rows::zeros([num_rows, columns], (device, DType::F32));
        // As `begin` makes what it copies from, so that their types are the same.
        let ints = |columns: usize| index(vec![0; num_rows * columns], device);
        Self {
            device: device.clone(),
            most_steps,
            tokens: ints(1),
            spans: ints(GIVEN - 1).reshape([num_rows, GIVEN - 1]),
            uniform: floats(1),
            uniforms: floats(most_steps),
            draws: floats(3 * most_steps),
        }
    }

    pub(super) fn begin(self, first: &FirstRows) -> Self {
        let (tokens, spans, uniform, uniforms, draws) = Dispatch::begin_rows(
            self.given(first).into_dispatch(),
            self.numbers(first).into_dispatch(),
            self.tokens.into_dispatch(),
            self.spans.into_dispatch(),
            self.uniform.into_dispatch(),
            self.uniforms.into_dispatch(),
            self.draws.into_dispatch(),
        );
        Self {
            tokens: Rows::from_dispatch(tokens),
            spans: Rows::from_dispatch(spans),
            uniform: Rows::from_dispatch(uniform),
            uniforms: Rows::from_dispatch(uniforms),
            draws: Rows::from_dispatch(draws),
            ..self
        }
    }

    /// `[R, 5]`.
    fn given(&self, first: &FirstRows) -> Rows<2, Ids> {
        let rows = first.tokens.iter().zip(&first.spans).enumerate();
        let given = rows.flat_map(|(row, (&token, span))| {
            let is_in_vain = row >= first.uniforms.len();
            [
                token as usize,
                span.prompt_slot,
                span.prompt_columns,
                span.own_columns,
                if is_in_vain { self.most_steps } else { 0 },
            ]
        });
        index(given.collect(), &self.device).reshape([first.tokens.len(), GIVEN])
    }

    /// `[R, S]`.
    fn numbers(&self, first: &FirstRows) -> Rows<2> {
        let (rows, steps) = (first.tokens.len(), self.most_steps);
        let mut numbers = vec![0f32; rows * steps];
        for (numbers, own) in numbers.chunks_mut(steps).zip(&first.uniforms) {
            numbers[..own.len()].copy_from_slice(own);
        }
        let numbers = TensorData::new(numbers, [rows, steps]);
        Rows::from_data(numbers, (&self.device, DType::F32))
    }

    pub(super) fn advance(self, drawn: Rows<2>) -> Self {
        let (tokens, spans, uniform, draws) = Dispatch::advance_rows(
            drawn.into_dispatch(),
            self.uniforms.clone().into_dispatch(),
            self.tokens.into_dispatch(),
            self.spans.into_dispatch(),
            self.uniform.into_dispatch(),
            self.draws.into_dispatch(),
        );
        Self {
            tokens: Rows::from_dispatch(tokens),
            spans: Rows::from_dispatch(spans),
            uniform: Rows::from_dispatch(uniform),
            draws: Rows::from_dispatch(draws),
            ..self
        }
    }

    pub(super) fn storage(&self) -> Result<Vec<Storage>, GraphError> {
        let ints = [
            Storage::of_ints(&self.tokens),
            Storage::of_ints(&self.spans),
        ];
        let floats = [&self.uniform, &self.uniforms, &self.draws].map(Storage::of);
        ints.into_iter().chain(floats).collect()
    }
}

/// Cubes for so many rows.
fn cubes(rows: usize) -> CubeCount {
    CubeCount::Static((rows as u32).div_ceil(UNITS), 1, 1)
}

/// Writes what is given into tokens, spans, the next number and all numbers. Nothing is drawn yet: what no step
/// writes must not be taken for what the steps before have drawn.
pub(in crate::kernels) fn launch_begin(
    read: [CubeTensor; 2],
    edited: [CubeTensor; 5],
) -> [CubeTensor; 5] {
    let [given, numbers] = read.map(in_rows);
    let edited = edited.map(sole);
    let [tokens, spans, uniform, uniforms, draws] = edited.clone();
    let dtype = element(tokens.dtype);
    begin_kernel::launch(
        &given.client.clone(),
        cubes(given.meta.shape()[0]),
        CubeDim::new_1d(UNITS),
        given.into_tensor_arg(),
        numbers.into_tensor_arg(),
        tokens.into_tensor_arg(),
        spans.into_tensor_arg(),
        uniform.into_tensor_arg(),
        uniforms.into_tensor_arg(),
        draws.into_tensor_arg(),
        dtype,
    );
    edited
}

/// Writes what the next step begins with into tokens, spans and its number, and what was drawn.
pub(in crate::kernels) fn launch_advance(
    read: [CubeTensor; 2],
    edited: [CubeTensor; 4],
) -> [CubeTensor; 4] {
    let [drawn, uniforms] = read.map(in_rows);
    let edited = edited.map(sole);
    let [tokens, spans, uniform, draws] = edited.clone();
    let dtype = element(tokens.dtype);
    advance_kernel::launch(
        &drawn.client.clone(),
        cubes(drawn.meta.shape()[0]),
        CubeDim::new_1d(UNITS),
        drawn.into_tensor_arg(),
        uniforms.into_tensor_arg(),
        tokens.into_tensor_arg(),
        spans.into_tensor_arg(),
        uniform.into_tensor_arg(),
        draws.into_tensor_arg(),
        dtype,
    );
    edited
}

#[cube(launch)]
fn begin_kernel<I: Int>(
    given: &Tensor<I>,          // [R, 5]
    numbers: &Tensor<f32>,      // [R, S]
    tokens: &mut Tensor<I>,     // [R]
    spans: &mut Tensor<I>,      // [R, 4]
    uniform: &mut Tensor<f32>,  // [R, 1]
    uniforms: &mut Tensor<f32>, // [R, S]
    draws: &mut Tensor<f32>,    // [R, 3 S]
    #[define(I)] _type: ElemType,
) {
    let row = ABSOLUTE_POS;
    if row < given.shape(0) {
        let start = row * given.stride(0);
        let token = row * tokens.stride(0);
        tokens[token] = given[start];
        let span = row * spans.stride(0);
        for place in 0..comptime!(GIVEN - 1) {
            spans[span + place] = given[start + 1 + place];
        }
        let start = row * numbers.stride(0);
        let next = row * uniform.stride(0);
        uniform[next] = numbers[start];
        let all = row * uniforms.stride(0);
        for step in 0..numbers.shape(1) {
            uniforms[all + step] = numbers[start + step];
        }
        let all = row * draws.stride(0);
        for place in 0..draws.shape(1) {
            draws[all + place] = NO_TOKEN;
        }
    }
}

#[cube(launch)]
fn advance_kernel<I: Int>(
    drawn: &Tensor<f32>,       // [R, 3]
    uniforms: &Tensor<f32>,    // [R, S]
    tokens: &mut Tensor<I>,    // [R]
    spans: &mut Tensor<I>,     // [R, 4]
    uniform: &mut Tensor<f32>, // [R, 1]
    draws: &mut Tensor<f32>,   // [R, 3 S]
    #[define(I)] _type: ElemType,
) {
    let row = ABSOLUTE_POS;
    if row < drawn.shape(0) {
        let span = row * spans.stride(0);
        let step = u32::cast_from(spans[span + 3]) as usize;
        let steps = uniforms.shape(1);
        if step < steps {
            let start = row * drawn.stride(0);
            let own = row * draws.stride(0) + 3 * step;
            for part in 0..3usize {
                draws[own + part] = drawn[start + part];
            }
            // Nothing was drawn from logits that are not finite.
            let token = row * tokens.stride(0);
            tokens[token] = I::cast_from(max(drawn[start], 0.0f32));
            spans[span + 2] += I::from_int(1);
            spans[span + 3] += I::from_int(1);
            if step + 1 < steps {
                let next = row * uniform.stride(0);
                uniform[next] = uniforms[row * uniforms.stride(0) + step + 1];
            }
        }
    }
}
