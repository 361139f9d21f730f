//! The draw as one CubeCL kernel: a cube per row, which reads the row's logits twice, and some twelve times
//! more for top-k or top-p.
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

use super::choice::{Term, choose, term};
use super::kept::{Kept, Limits, LimitsLaunch, Which, kept, kept_weight, most_likely};
use super::{Drawing, MOST_DRAWN, NO_TOKEN};
use crate::kernels::cube::sums::{largest, total};
use crate::kernels::cube::{FusedOps, element, in_rows, is_cube};

/// Units of a cube, and tokens of a strip: what every device has.
pub(super) const UNITS: usize = 256;

/// Strips of a block.
const STRIPS: usize = 32;

/// Tokens of a block.
const BLOCK: usize = STRIPS * UNITS;

/// A cube keeps the sums of so many blocks.
const _: () = assert!(MOST_DRAWN <= 256 * BLOCK);

pub(super) fn has_kernel(logits: &Rows<2>) -> bool {
    let [rows, vocab] = logits.dims();
    rows > 0 && vocab <= MOST_DRAWN && is_cube(&logits.device())
}

pub(super) fn draw(logits: Rows<2>, uniforms: Rows<2>, drawing: &Drawing) -> Rows<2> {
    let operands = (logits.into_dispatch(), uniforms.into_dispatch());
    Rows::from_dispatch(Dispatch::draw(operands.0, operands.1, *drawing))
}

/// As [`super::draw`].
pub(in crate::kernels) fn launch(
    logits: CubeTensor,
    uniforms: CubeTensor,
    drawing: Drawing,
) -> CubeTensor {
    let (logits, uniforms) = (in_rows(logits), in_rows(uniforms));
    let [rows, vocab] = logits.shape().dims();
    let (client, device) = (logits.client.clone(), logits.device.clone());
    let output = empty_device_dtype(client.clone(), device, [rows, 3].into(), DType::F32);
    let dtype = element(logits.dtype);
    let filters = drawing.filters;
    draw_kernel::launch(
        &client,
        CubeCount::Static(rows as u32, 1, 1),
        CubeDim::new_1d(UNITS as u32),
        logits.into_tensor_arg(),
        uniforms.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        drawing.inverse_temperature,
        LimitsLaunch::new(
            filters.top_k.unwrap_or(vocab) as f32,
            filters.top_p.unwrap_or(1.0),
            filters.min_p.unwrap_or(0.0),
        ),
        Which::of(&drawing, vocab),
        vocab.div_ceil(BLOCK),
        dtype,
    );
    output
}

/// A row of logits.
#[derive(CubeType, Clone, Copy)]
pub(super) struct LogitRow {
    start: usize,
    pub(super) vocab: usize,
    /// The largest logit.
    most: f32,
    inverse_temperature: f32,
}

/// What a token comes to.
#[cube]
pub(super) fn term_of<L: Float>(logits: &Tensor<L>, row: &LogitRow, token: usize) -> Term {
    let logit = f32::cast_from(logits[row.start + token]);
    term(logit, row.most, row.inverse_temperature)
}

/// What a row's units share.
#[derive(CubeType)]
pub(super) struct Scratch {
    pub(super) units: Shared<[f32]>,
    blocks: Shared<[f32]>,
    strips: Shared<[f32]>,
}

/// A token that was chosen, and sums over the vocabulary.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Chosen {
    pub(super) token: usize,
    weights: f32,
    /// Of weights times exponents.
    moments: f32,
}

/// The first token whose cumulative stake exceeds the target, or the last with a stake. The target is a
/// share of all stakes, or as it is.
#[cube]
pub(super) fn invert<L: Float>(
    logits: &Tensor<L>,
    row: &LogitRow,
    kept: &Kept,
    target: f32,
    scratch: &mut Scratch,
    #[comptime] is_share: bool,
    #[comptime] num_blocks: usize,
) -> Chosen {
    let unit = UNIT_POS_X as usize;
    let mut weights = 0.0f32;
    let mut moments = 0.0f32;
    for block in 0..num_blocks {
        let mut stakes = 0.0f32;
        for strip in 0..STRIPS {
            let token = (block * STRIPS + strip) * UNITS + unit;
            if token < row.vocab {
                let term = term_of(logits, row, token);
                weights += term.weight;
                moments += term.weight * term.exponent;
                stakes += kept_weight(kept, &term, token);
            }
        }
        let stakes = total(stakes, &mut scratch.units);
        if unit == 0 {
            scratch.blocks[block] = stakes;
        }
    }
    let weights = total(weights, &mut scratch.units);
    let moments = total(moments, &mut scratch.units);

    // All that follows is the same in every unit, except for the sums.
    let mut target = target;
    if comptime!(is_share) {
        let mut all = 0.0f32;
        for block in 0..num_blocks {
            all += scratch.blocks[block];
        }
        target *= all;
    }
    let block = choose(&scratch.blocks, 0, num_blocks, target);
    let target = target - block.before;
    for strip in 0..STRIPS {
        let token = (block.part * STRIPS + strip) * UNITS + unit;
        let own = stake_of(logits, row, kept, token);
        let own = total(own, &mut scratch.units);
        if unit == 0 {
            scratch.strips[strip] = own;
        }
    }
    sync_cube();
    let strip = choose(&scratch.strips, 0, STRIPS, target);
    let target = target - strip.before;
    let first = (block.part * STRIPS + strip.part) * UNITS;
    scratch.units[unit] = stake_of(logits, row, kept, first + unit);
    sync_cube();
    let place = choose(&scratch.units, 0, UNITS, target);
    sync_cube();
    Chosen {
        token: first + place.part,
        weights,
        moments,
    }
}

/// What a token counts for, behind the last one nothing.
#[cube]
fn stake_of<L: Float>(logits: &Tensor<L>, row: &LogitRow, kept: &Kept, token: usize) -> f32 {
    let mut stake = 0.0f32;
    if token < row.vocab {
        stake = kept_weight(kept, &term_of(logits, row, token), token);
    }
    stake
}

#[cube(launch)]
fn draw_kernel<L: Float>(
    logits: &Tensor<L>,       // [R, V]
    uniforms: &Tensor<f32>,   // [R, 1]
    output: &mut Tensor<f32>, // [R, 3]
    inverse_temperature: f32,
    limits: &Limits,
    #[comptime] which: Which,
    #[comptime] num_blocks: usize,
    #[define(L)] _type: ElemType,
) {
    let place = CUBE_POS_X as usize;
    let start = place * logits.stride(0);
    let vocab = logits.shape(1);
    let mut scratch = Scratch {
        units: Shared::<[f32]>::new_slice(UNITS),
        blocks: Shared::<[f32]>::new_slice(num_blocks),
        strips: Shared::<[f32]>::new_slice(STRIPS),
    };

    let mut most = f32::min_value();
    let mut damage = 0.0f32;
    let mut token = UNIT_POS_X as usize;
    while token < vocab {
        let logit = f32::cast_from(logits[start + token]);
        if logit.is_nan() || logit.is_inf() {
            damage = 1.0;
        }
        most = max(most, logit);
        token += UNITS;
    }
    let is_damaged = largest(damage, &mut scratch.units) > 0.0;
    let most = largest(most, &mut scratch.units);
    let row = LogitRow {
        start,
        vocab,
        most,
        inverse_temperature,
    };

    let stakes = if comptime!(which.is_greedy) {
        most_likely()
    } else {
        kept(logits, &row, limits, &mut scratch, which, num_blocks)
    };
    let mut target = 0.0f32;
    if comptime!(!which.is_greedy) {
        target = uniforms[place * uniforms.stride(0)];
    }
    let chosen = invert(
        logits,
        &row,
        &stakes,
        target,
        &mut scratch,
        true,
        num_blocks,
    );
    if UNIT_POS_X == 0 {
        let log_total = chosen.weights.ln();
        let term = term_of(logits, &row, chosen.token);
        let mut drawn = f32::cast_from(chosen.token as u32);
        if is_damaged {
            drawn = NO_TOKEN;
        }
        let start = place * output.stride(0);
        output[start] = drawn;
        output[start + 1] = term.exponent - log_total;
        output[start + 2] = log_total - chosen.moments / chosen.weights;
    }
}
