//! Decode steps that are read together.
//!
//! Where tokens are drawn on the device, a step needs from the host only what is known beforehand:
//! positions, and the numbers to draw with. Each step leaves the next what it needs, so host and
//! device wait for each other once per burst. A completion that ends within it goes on in vain, in its
//! own slot; the worker drops what was drawn behind its end.

use rlvr_backends::kernels::{FirstRows, RowSpan};

use super::RolloutError;
use super::active::Active;
use super::device_sampling::drawn_of;
use super::engine::Call;
use super::repeat::{Repeated, Stepper};
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

    /// As many steps as some completion can still use, and as every row has columns left for.
    fn num_steps(&self, call: &Call<'_>, columns: usize) -> usize {
        let left = self.active.iter().map(|active| active.most_left(call));
        let longest = self.spans.iter().map(|span| span.own_columns).max();
        call.steps_per_read
            .min(left.max().unwrap_or(0))
            .min(columns + 1 - longest.unwrap_or(1))
    }

    /// With the numbers that each completion draws its next tokens with.
    fn first(self, num_steps: usize) -> FirstRows {
        let numbers = |active: &mut Active<'_>| {
            let numbers = (0..num_steps).map(|ahead| active.uniform(ahead) as f32);
            numbers.collect()
        };
        FirstRows {
            uniforms: self.active.into_iter().map(numbers).collect(),
            tokens: self.tokens,
            spans: self.spans,
        }
    }
}

/// Draws of up to `rollout.steps_per_read` steps, by step and row, from one read.
///
/// # Errors
/// If the device fails.
pub(super) fn burst(
    stepper: Stepper<'_>,
    repeated: &mut Repeated,
    rows: Rows<'_, '_>,
    cache: &mut KvCache,
) -> Result<Vec<Vec<Option<Draw>>>, RolloutError> {
    let num_steps = rows.num_steps(stepper.call, cache.shape().columns);
    let drawn = repeated.run(stepper, rows.first(num_steps), num_steps, cache)?;
    let of_step = |step| {
        let of_row = |row: &Vec<[f32; 3]>| drawn_of(&row[step]);
        drawn.iter().map(of_row).collect()
    };
    Ok((0..num_steps).map(of_step).collect())
}
