//! The draw as one CubeCL kernel: a cube per row, which reads the row's logits twice.
//!
//! The vocabulary is cut into blocks of [`BLOCK`] tokens, a block into strips of a token per unit.
//! Sums of blocks choose a block, sums of its strips a strip, and the tokens of that strip are gone
//! through one by one. At every level the choice is the first part whose cumulative weight exceeds
//! the target, or else the last that has any.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Tensor as Rows};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::choice::{choose, stake, term};
use super::{Drawing, NO_TOKEN};
use crate::kernels::cube::sums::{largest, total};
use crate::kernels::cube::{FusedOps, element, in_rows, is_cube};

/// Units of a cube, and tokens of a strip: what every device has.
const UNITS: u32 = 256;

/// Tokens of a block.
const BLOCK: usize = 32 * UNITS as usize;

/// Blocks whose sums a cube keeps.
const MOST_BLOCKS: usize = 256;

pub(super) fn has_kernel(logits: &Rows<2>, drawing: &Drawing) -> bool {
    let [rows, vocab] = logits.dims();
    rows > 0
        && vocab <= BLOCK * MOST_BLOCKS
        && drawing.filters.keep_all(vocab)
        && is_cube(&logits.device())
}

pub(super) fn draw(logits: Rows<2>, uniforms: Rows<2>, drawing: &Drawing) -> Rows<2> {
    let operands = (logits.into_dispatch(), uniforms.into_dispatch());
    Rows::from_dispatch(Dispatch::draw(
        operands.0,
        operands.1,
        drawing.inverse_temperature,
        drawing.is_greedy,
    ))
}

/// As [`super::draw`].
pub(in crate::kernels) fn launch(
    logits: CubeTensor,
    uniforms: CubeTensor,
    inverse_temperature: f32,
    is_greedy: bool,
) -> CubeTensor {
    let (logits, uniforms) = (in_rows(logits), in_rows(uniforms));
    let [rows, vocab] = logits.shape().dims();
    let (client, device) = (logits.client.clone(), logits.device.clone());
    let output = empty_device_dtype(client.clone(), device, [rows, 3].into(), DType::F32);
    let dtype = element(logits.dtype);
    draw_kernel::launch(
        &client,
        CubeCount::Static(rows as u32, 1, 1),
        CubeDim::new_1d(UNITS),
        logits.into_tensor_arg(),
        uniforms.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        inverse_temperature,
        is_greedy,
        vocab.div_ceil(BLOCK),
        dtype,
    );
    output
}

#[cube(launch)]
fn draw_kernel<L: Float>(
    logits: &Tensor<L>,       // [R, V]
    uniforms: &Tensor<f32>,   // [R, 1]
    output: &mut Tensor<f32>, // [R, 3]
    inverse_temperature: f32,
    #[comptime] is_greedy: bool,
    #[comptime] num_blocks: usize,
    #[define(L)] _type: ElemType,
) {
    let row = CUBE_POS_X as usize;
    let unit = UNIT_POS_X as usize;
    let units = comptime!(UNITS as usize);
    let strips = comptime!(BLOCK / UNITS as usize);
    let vocab = logits.shape(1);
    let start = row * logits.stride(0);
    let mut shared = Shared::<[f32]>::new_slice(units);
    let mut blocks = Shared::<[f32]>::new_slice(num_blocks);

    let mut most = f32::min_value();
    let mut damage = 0.0f32;
    let mut token = unit;
    while token < vocab {
        let logit = f32::cast_from(logits[start + token]);
        if logit.is_nan() || logit.is_inf() {
            damage = 1.0;
        }
        most = max(most, logit);
        token += units;
    }
    let is_damaged = largest(damage, &mut shared) > 0.0;
    let most = largest(most, &mut shared);

    let mut weights = 0.0f32;
    let mut moments = 0.0f32;
    for block in 0..num_blocks {
        let mut stakes = 0.0f32;
        for strip in 0..strips {
            let token = (block * strips + strip) * units + unit;
            if token < vocab {
                let term = term(
                    f32::cast_from(logits[start + token]),
                    most,
                    inverse_temperature,
                );
                weights += term.weight;
                moments += term.weight * term.exponent;
                stakes += stake(term, is_greedy);
            }
        }
        let stakes = total(stakes, &mut shared);
        if unit == 0 {
            blocks[block] = stakes;
        }
    }
    let weights = total(weights, &mut shared);
    let moments = total(moments, &mut shared);

    // All that follows is the same in every unit, except for the sums.
    let mut all = 0.0f32;
    for block in 0..num_blocks {
        all += blocks[block];
    }
    let mut target = 0.0f32;
    if comptime!(!is_greedy) {
        target = all * uniforms[row * uniforms.stride(0)];
    }
    let block = choose(&blocks, 0, num_blocks, target);
    let target = target - block.before;

    let mut parts = Shared::<[f32]>::new_slice(strips);
    for strip in 0..strips {
        let token = (block.part * strips + strip) * units + unit;
        let mut own = 0.0f32;
        if token < vocab {
            own = stake(
                term(
                    f32::cast_from(logits[start + token]),
                    most,
                    inverse_temperature,
                ),
                is_greedy,
            );
        }
        let own = total(own, &mut shared);
        if unit == 0 {
            parts[strip] = own;
        }
    }
    sync_cube();
    let strip = choose(&parts, 0, strips, target);
    let target = target - strip.before;

    let first = (block.part * strips + strip.part) * units;
    let mut own = 0.0f32;
    if first + unit < vocab {
        own = stake(
            term(
                f32::cast_from(logits[start + first + unit]),
                most,
                inverse_temperature,
            ),
            is_greedy,
        );
    }
    shared[unit] = own;
    sync_cube();
    if unit == 0 {
        let place = choose(&shared, 0, units, target);
        let token = first + place.part;
        let log_total = weights.ln();
        let term = term(
            f32::cast_from(logits[start + token]),
            most,
            inverse_temperature,
        );
        let mut drawn = f32::cast_from(token as u32);
        if is_damaged {
            drawn = NO_TOKEN;
        }
        let start = row * output.stride(0);
        output[start] = drawn;
        output[start + 1] = term.exponent - log_total;
        output[start + 2] = log_total - moments / weights;
    }
}
