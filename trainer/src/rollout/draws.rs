//! The next token of several completions, drawn where the call samples.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};

use super::RolloutError;
use super::active::Active;
use super::burst::{Rows, burst};
use super::device_sampling::DeviceSampler;
use super::engine::Call;
use super::repeat::{Repeated, Stepper};
use super::sampling::{Draw, Sampler};
use super::worker::read;
use crate::policy::cache::KvCache;

/// Smallest vocabulary and number of rows that are worth several sampling threads.
const THREADED_VOCAB: usize = 16_384;
const THREADED_ROWS: usize = 8;

/// Draws tokens.
pub(super) enum Draws<'a> {
    /// Reads the logits.
    Host {
        call: &'a Call<'a>,
        /// Time in sampling, without the read.
        secs: f64,
    },
    /// Leaves the logits where they are.
    Device {
        call: &'a Call<'a>,
        sampler: DeviceSampler,
        repeated: Repeated,
        /// Rows that are drawn for at once at most.
        most_rows: usize,
    },
}

impl<'a> Draws<'a> {
    /// As the call samples, for a worker of this many slots.
    pub(super) fn new(call: &'a Call<'a>, num_slots: usize) -> Self {
        match call.samples_on_device {
            false => Self::Host { call, secs: 0.0 },
            true => Self::Device {
                call,
                sampler: DeviceSampler::new(call.params),
                repeated: Repeated::default(),
                most_rows: num_slots,
            },
        }
    }

    /// Time in sampling on the host so far.
    pub(super) fn secs(&self) -> f64 {
        match self {
            Self::Host { secs, .. } => *secs,
            Self::Device { .. } => 0.0,
        }
    }

    /// Decode steps so far that were replays of a recorded one.
    pub(super) fn num_replayed(&self) -> u64 {
        match self {
            Self::Host { .. } => 0,
            Self::Device { repeated, .. } => repeated.num_replayed,
        }
    }

    /// The draws of one decode step, or of several that are read together: by step, then by row, of
    /// which those behind the completions are in vain. The cache is written.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn steps(
        &mut self,
        rows: Rows<'_, '_>,
        cache: &mut KvCache,
    ) -> Result<Vec<Vec<Option<Draw>>>, RolloutError> {
        match self {
            Self::Host { call, secs } => {
                let weights = &call.weights;
                let tokens = weights.upload(&rows.tokens);
                let spans = cache.rows(rows.spans);
                let hidden = weights.step(tokens, &spans, cache);
                let logits = weights.logits(hidden);
                let mut active = rows.active;
                let places: Vec<usize> = (0..active.len()).collect();
                Ok(vec![on_host(call, logits, &places, &mut active, secs)?])
            }
            Self::Device {
                call,
                sampler,
                repeated,
                ..
            } => burst(Stepper { call, sampler }, repeated, rows, cache),
        }
    }

    /// Appends a token to every completion; completion `i` reads row `places[i]`.
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`, final hidden states
    ///
    /// # Errors
    /// If a logit is not finite or the device fails.
    pub(super) fn at_places(
        &mut self,
        hidden: Tensor<2>,
        places: &[usize],
        mut active: Vec<&mut Active<'_>>,
    ) -> Result<(), RolloutError> {
        let (weights, sampler, most_rows) = match self {
            Self::Host { call, secs } => {
                let logits = call.weights.logits(hidden);
                let draws = on_host(call, logits, places, &mut active, secs)?;
                return append(active, draws);
            }
            Self::Device {
                call,
                sampler,
                most_rows,
                ..
            } => (&call.weights, sampler, *most_rows),
        };
        for places in places.chunks(most_rows) {
            let rest = active.split_off(places.len());
            let index: Vec<i64> = places.iter().map(|&place| place as i64).collect();
            let index = TensorData::new(index, [places.len()]);
            let index = Tensor::<1, Int>::from_data(index, &hidden.device());
            let uniforms = active.iter_mut().map(|active| active.uniform(0));
            let uniforms: Vec<f64> = uniforms.collect();
            let own = hidden.clone().select(0, index);
            let draws = sampler.draw_hidden(weights, own, &uniforms)?;
            append(active, draws)?;
            active = rest;
        }
        Ok(())
    }
}

fn append(active: Vec<&mut Active<'_>>, draws: Vec<Option<Draw>>) -> Result<(), RolloutError> {
    let mut pairs = active.into_iter().zip(draws);
    pairs.try_for_each(|(active, draw)| active.push(draw))
}

/// One draw per completion; completion `i` reads row `places[i]`.
fn on_host(
    call: &Call<'_>,
    logits: Tensor<2>,
    places: &[usize],
    active: &mut [&mut Active<'_>],
    secs: &mut f64,
) -> Result<Vec<Option<Draw>>, RolloutError> {
    let vocab = logits.dims()[1];
    let logits = read(logits)?;
    let start = Instant::now();
    let rows = places
        .iter()
        .map(|&place| &logits[place * vocab..][..vocab]);
    let rows = active.iter_mut().map(|active| &mut **active).zip(rows);
    let rows: Vec<_> = rows.collect();
    let threads = match vocab >= THREADED_VOCAB && rows.len() >= THREADED_ROWS {
        true => call.sampling_threads,
        false => 1,
    };
    let draws = draw_all(call, rows, threads);
    *secs += start.elapsed().as_secs_f64();
    Ok(draws)
}

/// One draw per row. Every row is computed by itself, so threads do not change it.
fn draw_all(
    call: &Call<'_>,
    mut rows: Vec<(&mut Active<'_>, &[f32])>,
    threads: usize,
) -> Vec<Option<Draw>> {
    let draw_some = |rows: &mut [(&mut Active<'_>, &[f32])]| -> Vec<_> {
        let mut sampler = Sampler::new(call.params);
        let rows = rows.iter_mut();
        rows.map(|(active, logits)| {
            let uniform = active.uniform(0);
            sampler.draw(logits, active.seen(), uniform)
        })
        .collect()
    };
    if threads < 2 {
        return draw_some(&mut rows);
    }
    let share = rows.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let draw_some = &draw_some;
        let handles: Vec<_> = rows
            .chunks_mut(share)
            .map(|rows| scope.spawn(move || draw_some(rows)))
            .collect();
        let draws = handles.into_iter().flat_map(|handle| match handle.join() {
            Ok(draws) => draws,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        draws.collect()
    })
}
