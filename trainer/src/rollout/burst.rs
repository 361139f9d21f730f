//! Decode steps that are read together.
//!
//! Where tokens are drawn on the device, a step needs from the host only what is known beforehand:
//! positions, and the numbers to draw with. The tokens of a step go to the next as a tensor, so
//! host and device wait for each other once per burst. A completion that ends within it goes on in
//! vain, in its own slot; the worker drops what was drawn behind its end.

use burn::tensor::Tensor;

use super::RolloutError;
use super::active::Active;
use super::device_sampling::{DeviceSampler, next_tokens, read_draws};
use super::engine::Call;
use super::sampling::Draw;
use crate::policy::cache::KvCache;
use crate::policy::rope::RopeTable;

/// The rows of a decode step: one per completion, in the order of the slots, then some in vain.
pub(super) struct Rows<'s, 'a> {
    pub(super) active: Vec<&'s mut Active<'a>>,
    /// `[R]`: the last token of each row.
    pub(super) tokens: Vec<u32>,
    /// `[R]`: where it stands.
    pub(super) positions: Vec<usize>,
}

impl<'s, 'a> Rows<'s, 'a> {
    /// Rows of `num_rows` slots. Those without a completion write the first column of a free slot,
    /// which a prompt overwrites before anything reads it.
    pub(super) fn new(active: Vec<&'s mut Active<'a>>, num_rows: usize) -> Self {
        let (mut tokens, mut positions) = (vec![0; num_rows], vec![0; num_rows]);
        for (row, active) in active.iter().enumerate() {
            (tokens[row], positions[row]) = active.last();
        }
        Self {
            active,
            tokens,
            positions,
        }
    }
}

/// Draws of up to `rollout.steps_per_read` steps, by step and row, from one read.
///
/// # Errors
/// If the device fails.
pub(super) fn burst(
    call: &Call<'_>,
    sampler: &DeviceSampler<'_>,
    rows: Rows<'_, '_>,
    rope: &RopeTable,
    cache: &mut KvCache,
) -> Result<Vec<Vec<Option<Draw>>>, RolloutError> {
    let num_steps = num_steps(call, &rows);
    let Rows {
        mut active,
        tokens,
        mut positions,
    } = rows;
    let num_rows = tokens.len();
    let mut drawn: Vec<Tensor<2>> = Vec::with_capacity(num_steps);
    for ahead in 0..num_steps {
        let tokens = match drawn.last() {
            None => call.weights.upload(&tokens),
            Some(drawn) => next_tokens(drawn),
        };
        let logits = call.weights.step(tokens, &positions, rope, cache);
        drawn.push(sampler.draw_unread(logits, &uniforms(&mut active, ahead, num_rows)));
        let own = &mut positions[..active.len()];
        own.iter_mut().for_each(|position| *position += 1);
    }
    let draws = read_draws(Tensor::cat(drawn, 0))?;
    Ok(draws.chunks(num_rows).map(<[_]>::to_vec).collect())
}

/// As many as some completion can still use, and as every row has columns left for: the cache is
/// one tensor, in which the column behind the last of a slot belongs to another.
fn num_steps(call: &Call<'_>, rows: &Rows<'_, '_>) -> usize {
    let left = rows.active.iter().map(|active| active.most_left(call));
    let furthest = rows.positions.iter().max();
    let columns = call.slot_tokens - furthest.copied().unwrap_or(0);
    call.steps_per_read
        .min(left.max().unwrap_or(0))
        .min(columns)
}

/// The numbers that the token `ahead` behind the next is drawn with, and zeros for rows in vain.
pub(super) fn uniforms(active: &mut [&mut Active<'_>], ahead: usize, num_rows: usize) -> Vec<f64> {
    let own = active.iter_mut().map(|active| active.uniform(ahead));
    let mut uniforms: Vec<f64> = own.collect();
    uniforms.resize(num_rows, 0.0);
    uniforms
}
