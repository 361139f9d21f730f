//! The next token of several completions, drawn where the call samples.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};

use super::RolloutError;
use super::active::Active;
use super::device_sampling::DeviceSampler;
use super::engine::Call;
use super::sampling::{Draw, Sampler};
use super::worker::read;

/// Smallest vocabulary and number of rows that are worth several sampling threads.
const THREADED_VOCAB: usize = 16_384;
const THREADED_ROWS: usize = 8;

/// Draws tokens and appends them.
pub(super) enum Draws<'a> {
    /// Reads the logits.
    Host {
        call: &'a Call<'a>,
        /// Time in sampling, without the read.
        secs: f64,
    },
    /// Leaves the logits where they are.
    Device {
        sampler: Box<DeviceSampler<'a>>,
        /// Rows of which logits are made at most.
        most_rows: usize,
    },
}

impl<'a> Draws<'a> {
    /// As the call samples, for a worker of this many slots.
    pub(super) fn new(call: &'a Call<'a>, num_slots: usize) -> Self {
        match call.samples_on_device {
            false => Self::Host { call, secs: 0.0 },
            true => Self::Device {
                sampler: Box::new(DeviceSampler::new(
                    call.params,
                    call.decoder.config().vocab_size,
                    &call.decoder.head_weight().device(),
                )),
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

    /// A token for every completion; completion `i` reads row `i`. Rows behind are not read.
    ///
    /// # Shapes
    /// - `logits`: `[R, V]`, at least one row per completion
    ///
    /// # Errors
    /// If a logit is not finite or the device fails.
    pub(super) fn one_each(
        &mut self,
        logits: Tensor<2>,
        active: Vec<&mut Active<'_>>,
    ) -> Result<(), RolloutError> {
        match self {
            Self::Host { call, secs } => {
                let places: Vec<usize> = (0..active.len()).collect();
                on_host(call, logits, &places, active, secs)
            }
            Self::Device { sampler, .. } => on_device(sampler, logits, active),
        }
    }

    /// As [`Draws::one_each`], with completion `i` reading row `places[i]`.
    pub(super) fn at_places(
        &mut self,
        logits: Tensor<2>,
        places: &[usize],
        mut active: Vec<&mut Active<'_>>,
    ) -> Result<(), RolloutError> {
        let (sampler, most_rows) = match self {
            Self::Host { call, secs } => return on_host(call, logits, places, active, secs),
            Self::Device { sampler, most_rows } => (sampler, *most_rows),
        };
        for places in places.chunks(most_rows) {
            let rest = active.split_off(places.len());
            let index: Vec<i64> = places.iter().map(|&place| place as i64).collect();
            let index = TensorData::new(index, [places.len()]);
            let index = Tensor::<1, Int>::from_data(index, &logits.device());
            on_device(sampler, logits.clone().select(0, index), active)?;
            active = rest;
        }
        Ok(())
    }
}

fn on_device(
    sampler: &DeviceSampler<'_>,
    logits: Tensor<2>,
    mut active: Vec<&mut Active<'_>>,
) -> Result<(), RolloutError> {
    let mut uniforms: Vec<f64> = active.iter_mut().map(|active| active.uniform()).collect();
    uniforms.resize(logits.dims()[0], 0.0);
    let draws = sampler.draw(logits, &uniforms)?;
    let mut pairs = active.into_iter().zip(draws);
    pairs.try_for_each(|(active, draw)| active.push(draw))
}

fn on_host(
    call: &Call<'_>,
    logits: Tensor<2>,
    places: &[usize],
    mut active: Vec<&mut Active<'_>>,
    secs: &mut f64,
) -> Result<(), RolloutError> {
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
    let mut pairs = active.into_iter().zip(draws);
    pairs.try_for_each(|(active, draw)| active.push(draw))
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
            let uniform = active.uniform();
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
