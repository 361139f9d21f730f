//! The kernels: a cube per row of scores, which goes over what the row sees and writes zeros
//! elsewhere. Sums and exponentials are in 32 bits.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::Tensor as Rows;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Scores, Weights, scale};
use crate::kernels::cube::rows::{cubes_of_rows, row};
use crate::kernels::cube::sums::{largest, total};
use crate::kernels::cube::{FusedOps, element, in_rows};

/// Units of a cube: as many as share out the columns of a row, a few for each, within what every
/// device has.
fn units(columns: usize) -> u32 {
    const COLUMNS: usize = 4;
    (columns / COLUMNS).next_power_of_two().clamp(32, 128) as u32
}

/// Below every score.
const LEAST: f32 = -1e30;

pub(super) fn probs(scores: &Scores<'_>) -> Rows<4> {
    Rows::from_dispatch(Dispatch::attention_probs(
        scores.raw.clone().into_dispatch(),
        scores.batch.lengths.clone().into_dispatch(),
        scores.heads.group as u32,
        scale(scores.heads) as f32,
    ))
}

pub(super) fn backward(scores: &Scores<'_>, d_probs: Rows<4>) -> Weights {
    let (probs, d_scores) = Dispatch::attention_probs_backward(
        scores.raw.clone().into_dispatch(),
        d_probs.into_dispatch(),
        scores.batch.lengths.clone().into_dispatch(),
        scores.heads.group as u32,
        scale(scores.heads) as f32,
    );
    Weights {
        probs: Rows::from_dispatch(probs),
        d_scores: Rows::from_dispatch(d_scores),
    }
}

fn num_rows(scores: &CubeTensor) -> usize {
    scores.shape()[..3].iter().product()
}

fn empty_like(x: &CubeTensor) -> CubeTensor {
    empty_device_dtype(x.client.clone(), x.device.clone(), x.shape(), x.dtype)
}

/// As [`probs`].
pub(in crate::kernels) fn launch(
    scores: CubeTensor,
    lengths: CubeTensor,
    group: u32,
    scale: f32,
) -> CubeTensor {
    let (scores, lengths) = (in_rows(scores), in_rows(lengths));
    let output = empty_like(&scores);
    let units = units(scores.shape()[3]);
    let types = [element(scores.dtype), element(lengths.dtype)];
    probs_kernel::launch(
        &scores.client.clone(),
        cubes_of_rows(num_rows(&scores)),
        CubeDim::new_1d(units),
        scores.into_tensor_arg(),
        lengths.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        group,
        scale,
        units as usize,
        types,
    );
    output
}

/// As [`backward`].
pub(in crate::kernels) fn launch_backward(
    scores: CubeTensor,
    d_probs: CubeTensor,
    lengths: CubeTensor,
    group: u32,
    scale: f32,
) -> (CubeTensor, CubeTensor) {
    let [scores, d_probs, lengths] = [scores, d_probs, lengths].map(in_rows);
    let (probs, d_scores) = (empty_like(&scores), empty_like(&scores));
    let units = units(scores.shape()[3]);
    let types = [
        element(scores.dtype),
        element(d_probs.dtype),
        element(lengths.dtype),
    ];
    backward_kernel::launch(
        &scores.client.clone(),
        cubes_of_rows(num_rows(&scores)),
        CubeDim::new_1d(units),
        scores.into_tensor_arg(),
        d_probs.into_tensor_arg(),
        lengths.into_tensor_arg(),
        probs.clone().into_tensor_arg(),
        d_scores.clone().into_tensor_arg(),
        group,
        scale,
        units as usize,
        types,
    );
    (probs, d_scores)
}

/// Where a row stands and what it sees: `length` columns from the first on, and those from `prompt`
/// to `end`.
#[derive(CubeType, Clone, Copy)]
struct Seen {
    segment: usize,
    head: usize,
    folded: usize,
    length: usize,
    prompt: usize,
    end: usize,
}

#[cube]
fn seen<S: Float, I: Int>(row: usize, scores: &Tensor<S>, lengths: &Tensor<I>, group: u32) -> Seen {
    let (heads, folded) = (scores.shape(1), scores.shape(2));
    let rows = folded / group as usize;
    let prompt = scores.shape(3) - rows;
    let segment = row / (heads * folded);
    let inner = row % folded;
    Seen {
        segment,
        head: row / folded % heads,
        folded: inner,
        length: u32::cast_from(lengths[segment]) as usize,
        prompt,
        end: prompt + inner % rows + 1,
    }
}

/// Where the row begins in a tensor of these strides.
#[cube]
fn start(seen: &Seen, segment: usize, head: usize, folded: usize) -> usize {
    seen.segment * segment + seen.head * head + seen.folded * folded
}

/// Columns that are seen.
#[cube]
fn count(seen: &Seen) -> usize {
    seen.length + seen.end - seen.prompt
}

/// The column of one of them.
#[cube]
fn column(seen: &Seen, index: usize) -> usize {
    let mut column = index;
    if index >= seen.length {
        column = index - seen.length + seen.prompt;
    }
    column
}

#[cube]
fn is_seen(seen: &Seen, column: usize) -> bool {
    column < seen.length || (column >= seen.prompt && column < seen.end)
}

#[cube]
fn most<S: Float>(
    seen: &Seen,
    scores: &Tensor<S>,
    from: usize,
    scale: f32,
    shared: &mut Shared<[f32]>,
) -> f32 {
    let mut most = f32::new(LEAST);
    let mut index = UNIT_POS_X as usize;
    while index < count(seen) {
        let score = f32::cast_from(scores[from + column(seen, index)]) * scale;
        most = max(most, score);
        index += CUBE_DIM_X as usize;
    }
    largest(most, shared)
}

#[cube(launch)]
fn probs_kernel<S: Float, I: Int>(
    scores: &Tensor<S>,     // [n, Hkv, g T, S]
    lengths: &Tensor<I>,    // [n]
    output: &mut Tensor<S>, // [n, Hkv, g T, S]
    group: u32,
    scale: f32,
    #[comptime] units: usize,
    #[define(S, I)] _types: [ElemType; 2],
) {
    let row = row();
    if row >= scores.shape(0) * scores.shape(1) * scores.shape(2) {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(units);
    let seen = seen::<S, I>(row, scores, lengths, group);
    let from = start(&seen, scores.stride(0), scores.stride(1), scores.stride(2));
    let most = most::<S>(&seen, scores, from, scale, &mut shared);
    let mut sum = 0.0f32;
    let mut index = UNIT_POS_X as usize;
    while index < count(&seen) {
        let score = f32::cast_from(scores[from + column(&seen, index)]) * scale;
        sum += (score - most).exp();
        index += units;
    }
    let sum = total(sum, &mut shared);
    let to = start(&seen, output.stride(0), output.stride(1), output.stride(2));
    let mut place = UNIT_POS_X as usize;
    while place < scores.shape(3) {
        let mut prob = 0.0f32;
        if is_seen(&seen, place) {
            let score = f32::cast_from(scores[from + place]) * scale;
            prob = (score - most).exp() / sum;
        }
        output[to + place] = S::cast_from(prob);
        place += units;
    }
}

#[cube(launch)]
fn backward_kernel<S: Float, D: Float, I: Int>(
    scores: &Tensor<S>,       // [n, Hkv, g T, S]
    d_probs: &Tensor<D>,      // [n, Hkv, g T, S]
    lengths: &Tensor<I>,      // [n]
    probs: &mut Tensor<S>,    // [n, Hkv, g T, S]
    d_scores: &mut Tensor<S>, // [n, Hkv, g T, S]
    group: u32,
    scale: f32,
    #[comptime] units: usize,
    #[define(S, D, I)] _types: [ElemType; 3],
) {
    let row = row();
    if row >= scores.shape(0) * scores.shape(1) * scores.shape(2) {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(units);
    let seen = seen::<S, I>(row, scores, lengths, group);
    let (from, d_from) = (
        start(&seen, scores.stride(0), scores.stride(1), scores.stride(2)),
        start(
            &seen,
            d_probs.stride(0),
            d_probs.stride(1),
            d_probs.stride(2),
        ),
    );
    let most = most::<S>(&seen, scores, from, scale, &mut shared);
    let mut sum = 0.0f32;
    let mut along = 0.0f32;
    let mut index = UNIT_POS_X as usize;
    while index < count(&seen) {
        let place = column(&seen, index);
        let weight = (f32::cast_from(scores[from + place]) * scale - most).exp();
        sum += weight;
        along += weight * f32::cast_from(d_probs[d_from + place]);
        index += units;
    }
    let sum = total(sum, &mut shared);
    let along = total(along, &mut shared) / sum;
    let (to, d_to) = (
        start(&seen, probs.stride(0), probs.stride(1), probs.stride(2)),
        start(
            &seen,
            d_scores.stride(0),
            d_scores.stride(1),
            d_scores.stride(2),
        ),
    );
    let mut place = UNIT_POS_X as usize;
    while place < scores.shape(3) {
        let mut prob = 0.0f32;
        let mut d_score = 0.0f32;
        if is_seen(&seen, place) {
            prob = (f32::cast_from(scores[from + place]) * scale - most).exp() / sum;
            d_score = prob * (f32::cast_from(d_probs[d_from + place]) - along) * scale;
        }
        probs[to + place] = S::cast_from(prob);
        d_scores[d_to + place] = S::cast_from(d_score);
        place += units;
    }
}
