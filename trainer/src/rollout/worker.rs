//! One worker: its slots, its cache, and the loop of admit, decode, sample, retire.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use burn::tensor::Tensor;

use super::active::{Active, Done};
use super::burst::Rows;
use super::draws::Draws;
use super::engine::Call;
use super::prefill::{batches, prompts};
use super::sampling::Draw;
use super::seats::{PromptSlots, Ready, Seat};
use super::{Request, RolloutError};
use crate::policy::cache::{CacheShape, KvCache, PromptKv};

/// Rows of a decode step off the host are a multiple of this.
const ROW_BUCKET: usize = 8;

/// What a worker made and what it took.
#[derive(Debug, Default)]
pub(super) struct WorkerOutput {
    pub(super) done: Vec<Done>,
    pub(super) prefill_tokens: u64,
    pub(super) num_reused_prompts: u64,
    pub(super) decode_steps: u64,
    pub(super) decode_reads: u64,
    pub(super) replayed_steps: u64,
    pub(super) decode_rows: u64,
    pub(super) prefill_secs: f64,
    pub(super) decode_secs: f64,
    pub(super) sampling_secs: f64,
}

pub(super) struct Worker<'a> {
    call: &'a Call<'a>,
    cache: KvCache,
    draws: Draws<'a>,
    slots: Vec<Option<Seat<'a>>>,
    prompt_slots: PromptSlots,
    ready: VecDeque<Ready<'a>>,
    output: WorkerOutput,
}

impl<'a> Worker<'a> {
    pub(super) fn new(call: &'a Call<'a>, cache: CacheShape) -> Self {
        let device = call.decoder.head_weight().device();
        let config = call.decoder.config();
        Self {
            call,
            cache: KvCache::new(config, cache, call.precision, &device),
            draws: Draws::new(call, cache.slots),
            slots: (0..cache.slots).map(|_| None).collect(),
            prompt_slots: PromptSlots::new(cache.prompt_slots),
            ready: VecDeque::new(),
            output: WorkerOutput::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<WorkerOutput, RolloutError> {
        loop {
            self.admit()?;
            self.compact();
            let num_active = self.slots.iter().flatten().count();
            if num_active == 0 || self.call.queue.is_aborted() {
                self.output.sampling_secs = self.draws.secs();
                self.output.replayed_steps = self.draws.num_replayed();
                return Ok(self.output);
            }
            let start = Instant::now();
            self.decode(num_active)?;
            self.output.decode_secs += start.elapsed().as_secs_f64();
        }
    }

    /// Fills the free slots from prompts already run, then from new ones.
    fn admit(&mut self) -> Result<(), RolloutError> {
        loop {
            self.seat();
            let num_free = self.slots.iter().filter(|slot| slot.is_none()).count();
            if num_free == 0 || !self.ready.is_empty() {
                return Ok(());
            }
            // A few prompts ahead, so that single free slots do not mean single-prompt batches.
            let taken = self.call.queue.take(num_free.max(self.slots.len() / 4));
            if taken.is_empty() {
                return Ok(());
            }
            let fresh = self.adopt(taken)?;
            self.seat();
            for batch in batches(fresh, self.call.prefill_tokens) {
                self.prefill(&batch)?;
                // Seating at once lets the batch's keys and values go before the next.
                self.seat();
            }
        }
    }

    /// Gives free slots to completions of prompts that have been run.
    fn seat(&mut self) {
        for slot in 0..self.slots.len() {
            while self.slots[slot].is_none() {
                if !self.fill(slot) {
                    return;
                }
            }
        }
    }

    /// Takes the next completion that waits into a slot, or, if its first token ended it, out. False
    /// if there is none, or no place for its prompt: all of them are held by seats then, so that
    /// this comes to an end.
    fn fill(&mut self, slot: usize) -> bool {
        let Some(ready) = self.ready.front_mut() else {
            return false;
        };
        if let Some(mut active) = ready.waiting.pop_front() {
            if let Some(done) = active.done(self.call) {
                self.output.done.push(done);
            } else {
                let stored = store(ready, &mut self.prompt_slots, &mut self.cache);
                let Some(prompt_slot) = stored else {
                    ready.waiting.push_front(active);
                    return false;
                };
                self.prompt_slots.hold(prompt_slot);
                self.slots[slot] = Some(Seat {
                    active,
                    prompt_slot,
                });
            }
        }
        if ready.waiting.is_empty() {
            if let Some(slot) = ready.prompt_slot {
                self.prompt_slots.release(slot);
            }
            self.ready.pop_front();
        }
        true
    }

    /// Readies the completions of prompts whose keys and values are `sources`: draws their first
    /// tokens.
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`, final hidden states of the last token of each prompt
    fn make_ready(
        &mut self,
        requests: &[(usize, &'a Request)],
        sources: Vec<(Vec<PromptKv>, Range<usize>)>,
        hidden: Tensor<2>,
    ) -> Result<(), RolloutError> {
        let call = self.call;
        let first = self.ready.len();
        let mut places = Vec::new();
        for (row, (&(place, request), (layers, rows))) in requests.iter().zip(sources).enumerate() {
            let indices = 0..request.num_completions;
            places.extend(indices.clone().map(|_| row));
            let new = |index| Active::new(call, place, request, index);
            self.ready.push_back(Ready {
                waiting: indices.map(new).collect(),
                layers,
                rows,
                prompt_slot: None,
            });
        }
        let waiting = self.ready.range_mut(first..);
        let waiting = waiting.flat_map(|ready| &mut ready.waiting).collect();
        self.draws.at_places(hidden, &places, waiting)
    }

    /// Readies the requests whose prompts have been run already and gives back the others.
    fn adopt(
        &mut self,
        taken: Vec<(usize, &'a Request)>,
    ) -> Result<Vec<(usize, &'a Request)>, RolloutError> {
        let call = self.call;
        let Some(pool) = call.pool else {
            return Ok(taken);
        };
        let start = Instant::now();
        let is_pooled = |(_, it): &(usize, &Request)| call.pooled.contains_key(&it.prompt_id);
        let (pooled, fresh): (Vec<_>, Vec<_>) = taken.into_iter().partition(is_pooled);
        if pooled.is_empty() {
            return Ok(fresh);
        }
        let places: Vec<_> = pooled
            .iter()
            .map(|(_, it)| call.pooled[&it.prompt_id])
            .collect();
        let hidden = pool.last_hidden(&places);
        let prompts = places.iter().map(|&place| pool.prompt(place));
        let sources = prompts.map(|it| (it.layers.to_vec(), it.rows)).collect();
        self.make_ready(&pooled, sources, hidden)?;
        self.output.num_reused_prompts += places.len() as u64;
        self.output.prefill_secs += start.elapsed().as_secs_f64();
        Ok(fresh)
    }

    /// Runs a batch of prompts.
    fn prefill(&mut self, batch: &[(usize, &'a Request)]) -> Result<(), RolloutError> {
        let start = Instant::now();
        let call = self.call;
        let prefill = call.decoder.prefill(&prompts(batch), call.precision);
        let rows = prefill.rows.into_iter();
        self.output.prefill_tokens += rows.clone().map(|rows| rows.len() as u64).sum::<u64>();
        let sources = rows.map(|rows| (prefill.layers.clone(), rows)).collect();
        self.make_ready(batch, sources, prefill.last_hidden)?;
        self.output.prefill_secs += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Moves the last completions into holes, so that the active slots come first.
    fn compact(&mut self) {
        let mut end = self.slots.len();
        for hole in 0..self.slots.len() {
            while end > hole && self.slots[end - 1].is_none() {
                end -= 1;
            }
            if end <= hole {
                return;
            }
            if self.slots[hole].is_none() {
                self.slots.swap(hole, end - 1);
                self.cache.move_slot(end - 1, hole);
            }
        }
    }

    /// A token for every active slot, or several before the host reads them.
    fn decode(&mut self, num_active: usize) -> Result<(), RolloutError> {
        let call = self.call;
        let num_rows = match (call.records, call.pads_rows) {
            (true, _) => part(num_active, self.slots.len()),
            (false, true) => bucket(num_active).min(self.slots.len()),
            (false, false) => num_active,
        };
        let rows = Rows::new(self.slots.iter_mut().flatten().collect(), num_rows);
        let steps = self.draws.steps(rows, &mut self.cache)?;
        self.output.decode_reads += 1;
        for draws in &steps {
            self.append(draws)?;
        }
        self.clear_damaged(&steps, num_active);
        Ok(())
    }

    /// Appends the draws of one step, row by row, to the completions that have not ended before it.
    fn append(&mut self, draws: &[Option<Draw>]) -> Result<(), RolloutError> {
        self.output.decode_steps += 1;
        for (slot, draw) in self.slots.iter_mut().zip(draws) {
            if let Some(seat) = slot {
                seat.active.push(*draw)?;
                self.output.decode_rows += 1;
            }
        }
        self.retire();
        Ok(())
    }

    /// Clears the slots whose completion has ended and went on in vain to logits that are not
    /// finite: so may be the keys and values that led there, and the next completion of the slot
    /// would be damaged by them where attention reads hidden columns.
    fn clear_damaged(&mut self, steps: &[Vec<Option<Draw>>], num_active: usize) {
        for slot in 0..num_active {
            let is_damaged = steps.iter().any(|draws| draws[slot].is_none());
            if is_damaged && self.slots[slot].is_none() {
                self.cache.clear_slot(slot);
            }
        }
    }

    /// Frees the slots of completions that have ended.
    fn retire(&mut self) {
        for slot in &mut self.slots {
            let Some(seat) = slot else { continue };
            if let Some(done) = seat.active.done(self.call) {
                self.output.done.push(done);
                self.prompt_slots.release(seat.prompt_slot);
                *slot = None;
            }
        }
    }
}

/// The slot that holds the prompt's keys and values, where they are copied on the first call; none
/// if all are taken.
fn store(ready: &mut Ready<'_>, slots: &mut PromptSlots, cache: &mut KvCache) -> Option<usize> {
    if ready.prompt_slot.is_none() {
        let slot = slots.take()?;
        cache.write_prompt(slot, &ready.layers, &ready.rows);
        ready.prompt_slot = Some(slot);
    }
    ready.prompt_slot
}

/// Rows are rounded up to a few sizes, so that shapes repeat while completions end: a device
/// prepares and tunes its kernels for each. At most an eighth of them is in vain, or seven.
fn bucket(num_rows: usize) -> usize {
    let step = (num_rows.next_power_of_two() / ROW_BUCKET).max(ROW_BUCKET);
    num_rows.next_multiple_of(step)
}

/// Rows where steps are recorded: all slots, or a half, a quarter or an eighth of them. A recording is
/// made for each, and rows in vain cost a replay little: fewer sizes than of [`bucket`].
fn part(num_rows: usize, slots: usize) -> usize {
    let parts = [8, 4, 2].map(|part| slots.div_ceil(part));
    parts
        .into_iter()
        .find(|part| *part >= num_rows)
        .unwrap_or(slots)
}

/// Values on the host, row by row.
pub(super) fn read<const D: usize>(values: Tensor<D>) -> Result<Vec<f32>, RolloutError> {
    values
        .try_into_vec_as::<f32>()
        .map_err(|error| RolloutError::Device {
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_rows_are_a_part_of_the_slots() {
        let of = |slots: usize| {
            let mut sizes: Vec<usize> = (1..=slots).map(|rows| part(rows, slots)).collect();
            assert!(sizes.iter().enumerate().all(|(index, size)| *size > index));
            sizes.dedup();
            sizes
        };
        assert_eq!(of(256), [32, 64, 128, 256]);
        assert_eq!(of(13), [2, 4, 7, 13]);
        assert_eq!(of(1), [1]);
    }

    #[test]
    fn buckets_are_few_and_hold_their_rows() {
        let sizes: Vec<usize> = (1..=1024).map(bucket).collect();
        for (index, size) in sizes.iter().enumerate() {
            let rows = index + 1;
            assert!(
                *size >= rows && *size - rows < 8.max(rows.div_ceil(4)),
                "{rows}: {size}"
            );
        }
        let mut distinct = sizes;
        distinct.dedup();
        assert_eq!(distinct[..10], [8, 16, 24, 32, 40, 48, 56, 64, 80, 96]);
        assert!(distinct.len() < 30, "{distinct:?}");
    }
}
