//! Decode steps that are read together.
//!
//! Where tokens are drawn on the device, a step needs from the host only what is known beforehand:
//! positions, and the numbers to draw with. The tokens of a step go to the next as a tensor, so
//! host and device wait for each other once per burst. A completion that ends within it goes on in
//! vain, in its own slot; the worker drops what was drawn behind its end.

use burn::tensor::Tensor;
use rlvr_backends::kernels::RowSpan;

use super::RolloutError;
use super::active::Active;
use super::device_sampling::{DeviceSampler, next_tokens, read_draws};
use super::engine::Call;
use super::sampling::Draw;
use super::seats::Seat;
use crate::policy::cache::KvCache;

/// The rows of a decode step: one per completion, in the order of the slots, then some in vain.
pub(super) struct Rows<'s, 'a> {
    pub(super) active: Vec<&'s mut Active<'a>>,
    /// `[R]`: the last token of each row.
    pub(super) tokens: Vec<u32>,
    /// `[R]`: what it sees.
    pub(super) spans: Vec<RowSpan>,
}

impl<'s, 'a> Rows<'s, 'a> {
    /// Rows of `num_rows` slots. Those without a completion write the first column of a free slot,
    /// which the first token of a completion overwrites before anything reads it.
    pub(super) fn new(seats: Vec<&'s mut Seat<'a>>, num_rows: usize) -> Self {
        let mut tokens: Vec<u32> = seats.iter().map(|seat| seat.active.last()).collect();
        let mut spans: Vec<RowSpan> = seats.iter().map(|seat| seat.span()).collect();
        let in_vain = RowSpan {
            own_columns: 1,
            ..RowSpan::default()
        };
        tokens.resize(num_rows, 0);
        spans.resize(num_rows, in_vain);
        Self {
            active: seats.into_iter().map(|seat| &mut seat.active).collect(),
            tokens,
            spans,
        }
    }
}

/// Draws of up to `rollout.steps_per_read` steps, by step and row, from one read.
///
/// # Errors
/// If the device fails.
pub(super) fn burst(
    call: &Call<'_>,
    sampler: &DeviceSampler,
    rows: Rows<'_, '_>,
    cache: &mut KvCache,
) -> Result<Vec<Vec<Option<Draw>>>, RolloutError> {
    let num_steps = num_steps(call, &rows, cache.shape().columns);
    let Rows {
        mut active,
        tokens,
        mut spans,
    } = rows;
    let num_rows = tokens.len();
    let mut drawn: Vec<Tensor<2>> = Vec::with_capacity(num_steps);
    for ahead in 0..num_steps {
        let tokens = match drawn.last() {
            None => call.weights.upload(&tokens),
            Some(drawn) => next_tokens(drawn),
        };
        let logits = call.weights.step(tokens, &spans, cache);
        drawn.push(sampler.draw_unread(logits, &uniforms(&mut active, ahead, num_rows)));
        let own = &mut spans[..active.len()];
        own.iter_mut().for_each(|span| span.own_columns += 1);
    }
    let draws = read_draws(Tensor::cat(drawn, 0))?;
    Ok(draws.chunks(num_rows).map(<[_]>::to_vec).collect())
}

/// As many as some completion can still use, and as every row has columns left for.
fn num_steps(call: &Call<'_>, rows: &Rows<'_, '_>, columns: usize) -> usize {
    let left = rows.active.iter().map(|active| active.most_left(call));
    let longest = rows.spans.iter().map(|span| span.own_columns).max();
    call.steps_per_read
        .min(left.max().unwrap_or(0))
        .min(columns + 1 - longest.unwrap_or(1))
}

/// The numbers that the token `ahead` behind the next is drawn with, and zeros for rows in vain.
pub(super) fn uniforms(active: &mut [&mut Active<'_>], ahead: usize, num_rows: usize) -> Vec<f64> {
    let own = active.iter_mut().map(|active| active.uniform(ahead));
    let mut uniforms: Vec<f64> = own.collect();
    uniforms.resize(num_rows, 0.0);
    uniforms
}
