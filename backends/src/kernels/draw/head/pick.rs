//! The draw from sums over strips of tokens: a cube per row.

use burn::backend::TensorMetadata;
use burn::tensor::bf16;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::choice::{Term, choose, term};
use super::super::{NO_TOKEN, PART, STRIP};
use super::strips::Part;
use super::{beside, rounded};
use crate::kernels::cube::in_rows;
use crate::kernels::cube::sums::{largest, total};
use crate::kernels::cube::tensor_cores::{
    BLOCK, BLOCK_ROWS, LANES, PAIR, Pair, multiply_block, zeros,
};

/// Units of a cube: a plane for every block of a strip.
const UNITS: usize = STRIP / BLOCK * LANES as usize;

/// Strips that are chosen among together.
const RUN: usize = 16;

/// Token, log-prob and entropy from the [`Part`]s of every row, `[R, 3]`.
pub(super) fn launch(
    parts: CubeTensor,
    [hidden, weight]: [CubeTensor; 2],
    uniforms: CubeTensor,
    inverse_temperature: f32,
    is_greedy: bool,
) -> CubeTensor {
    let (rows, vocab) = (hidden.shape()[0], weight.shape()[0]);
    let output = beside(&hidden, [rows, 3]);
    pick_kernel::launch(
        &hidden.client.clone(),
        CubeCount::Static(rows as u32, 1, 1),
        CubeDim::new_1d(UNITS as u32),
        parts.into_tensor_arg(),
        hidden.into_tensor_arg(),
        weight.into_tensor_arg(),
        in_rows(uniforms).into_tensor_arg(),
        output.clone().into_tensor_arg(),
        inverse_temperature,
        is_greedy,
        vocab.div_ceil(STRIP),
    );
    output
}

#[cube(launch)]
fn pick_kernel(
    parts: &Tensor<Part>,        // [R, S PART]
    hidden: &Tensor<Pair<bf16>>, // [R, D]
    weight: &Tensor<Pair<bf16>>, // [V, D]
    uniforms: &Tensor<f32>,      // [R, 1]
    output: &mut Tensor<f32>,    // [R, 3]
    inverse_temperature: f32,
    #[comptime] is_greedy: bool,
    #[comptime] num_strips: usize,
) {
    let row = CUBE_POS_X as usize;
    let unit = UNIT_POS_X as usize;
    let start = row * (parts.stride(0) / PART);
    let mut shared = Shared::<[f32]>::new_slice(UNITS);

    let mut most = f32::min_value();
    let mut damage = 0.0f32;
    let mut strip = unit;
    while strip < num_strips {
        let part = parts[start + strip];
        most = max(most, part.extract(0usize));
        damage = max(damage, part.extract(3usize));
        strip += UNITS;
    }
    let is_damaged = largest(damage, &mut shared) > 0.0;
    let most = largest(most, &mut shared);

    let mut strips = Shared::<[f32]>::new_slice(num_strips);
    let mut weights = 0.0f32;
    let mut moments = 0.0f32;
    let mut strip = unit;
    while strip < num_strips {
        let part = parts[start + strip];
        // Of the strip's largest logit: its weights are relative to that.
        let top = term(part.extract(0usize), most, inverse_temperature);
        let weight = top.weight * part.extract(1usize);
        weights += weight;
        moments += top.weight * part.extract(2usize) + weight * top.exponent;
        if comptime!(is_greedy) {
            strips[strip] = stake(top, is_greedy);
        } else {
            strips[strip] = weight;
        }
        strip += UNITS;
    }
    let weights = total(weights, &mut shared);
    let moments = total(moments, &mut shared);

    let num_runs = comptime!(num_strips.div_ceil(RUN));
    let mut runs = Shared::<[f32]>::new_slice(num_runs);
    let mut run = unit;
    while run < num_runs {
        let mut sum = 0.0f32;
        for strip in run * RUN..min((run + 1) * RUN, num_strips) {
            sum += strips[strip];
        }
        runs[run] = sum;
        run += UNITS;
    }
    sync_cube();

    // All that follows is the same in every unit, except for the logits.
    let mut all = 0.0f32;
    for run in 0..num_runs {
        all += runs[run];
    }
    let mut target = 0.0f32;
    if comptime!(!is_greedy) {
        target = all * uniforms[row * uniforms.stride(0)];
    }
    let run = choose(&runs, 0, num_runs, target);
    let target = target - run.before;
    let first = run.part * RUN;
    let strip = choose(&strips, first, min(num_strips - first, RUN), target);
    let target = target - strip.before;

    let first = strip.part * STRIP;
    let mut logits = Shared::<[f32]>::new_slice(STRIP);
    multiply_strip(hidden, weight, &mut logits, row, first);
    sync_cube();
    if unit < STRIP {
        let mut own = 0.0f32;
        if first + unit < weight.shape(0) {
            own = stake(term(logits[unit], most, inverse_temperature), is_greedy);
        }
        shared[unit] = own;
    }
    sync_cube();
    if unit == 0 {
        let place = choose(&shared, 0, STRIP, target);
        let log_total = weights.ln();
        let term = term(logits[place.part], most, inverse_temperature);
        let mut drawn = f32::cast_from((first + place.part) as u32);
        if is_damaged {
            drawn = NO_TOKEN;
        }
        let start = row * output.stride(0);
        output[start] = drawn;
        output[start + 1] = term.exponent - log_total;
        output[start + 2] = log_total - moments / weights;
    }
}

/// What a token counts for in the draw: its weight, or 1 if it is the most likely one.
#[cube]
fn stake(term: Term, #[comptime] is_greedy: bool) -> f32 {
    if comptime!(is_greedy) {
        if term.exponent >= 0.0 { 1.0f32 } else { 0.0f32 }
    } else {
        term.weight
    }
}

/// Logits of the strip from token `first` on, once more: a block by each plane, with the row in all 16
/// rows of the left operand.
#[cube]
fn multiply_strip(
    hidden: &Tensor<Pair<bf16>>,
    weight: &Tensor<Pair<bf16>>,
    logits: &mut Shared<[f32]>,
    row: usize,
    first: usize,
) {
    let (plane, lane) = (UNIT_POS_X / LANES, UNIT_POS_X % LANES);
    let block = plane as usize * BLOCK;
    let token = min(first + block + lane as usize / 4, weight.shape(0) - 1);
    let column = lane as usize % 4;
    let left_start = row * (hidden.stride(0) / PAIR) + column;
    let right_start = token * (weight.stride(0) / PAIR) + column;
    let mut left = Array::<Pair<bf16>>::new(4usize);
    let mut right = Array::<Pair<bf16>>::new(2usize);
    let mut sums = zeros(BLOCK);
    for step in 0..hidden.shape(1) / BLOCK_ROWS {
        let along = step * comptime!(BLOCK_ROWS / PAIR);
        #[unroll]
        for half in 0..2usize {
            let along = along + comptime!(half * BLOCK / PAIR);
            let pair = hidden[left_start + along];
            left[comptime!(2 * half)] = pair;
            left[comptime!(2 * half + 1)] = pair;
            right[half] = weight[right_start + along];
        }
        multiply_block(&mut sums[0usize], &left, &right);
    }
    if lane < 4 {
        #[unroll]
        for side in 0..PAIR {
            logits[block + column * PAIR + side] = rounded(sums[0usize][0usize].extract(side));
        }
    }
}
