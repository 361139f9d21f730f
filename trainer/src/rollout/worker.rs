//! One worker: its slots, its cache, and the loop of admit, decode, sample, retire.

use std::ops::Range;
use std::time::Instant;

use burn::tensor::Tensor;

use super::engine::Call;
use super::prefill::{batches, prompts};
use super::sampling::{Draw, Sampler};
use super::{Request, RolloutError};
use crate::policy::cache::{KvCache, PromptKv};
use crate::policy::rope::RopeTable;
use crate::record::Completion;
use crate::seed::{Stream, stream};

/// Smallest vocabulary and number of rows that are worth several sampling threads.
const THREADED_VOCAB: usize = 16_384;
const THREADED_ROWS: usize = 8;

/// A finished completion.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) request: usize,
    pub(super) completion: Completion,
}

/// What a worker made and what it took.
#[derive(Debug, Default)]
pub(super) struct WorkerOutput {
    pub(super) done: Vec<Done>,
    pub(super) prefill_tokens: u64,
    pub(super) num_reused_prompts: u64,
    pub(super) decode_steps: u64,
    pub(super) decode_rows: u64,
    pub(super) prefill_secs: f64,
    pub(super) decode_secs: f64,
    pub(super) sampling_secs: f64,
}

/// A prompt that has been run and still owes completions.
struct Ready<'a> {
    place: usize,
    request: &'a Request,
    next_index: u32,
    layers: Vec<PromptKv>,
    rows: Range<usize>,
    logits: Vec<f32>,
}

/// A completion in a slot.
struct Active<'a> {
    place: usize,
    request: &'a Request,
    index: u32,
    stream: Stream,
    tokens: Vec<u32>,
    sampler_logprobs: Vec<f32>,
    entropies: Vec<f32>,
    /// Prompt and completion, kept only for the repetition penalty.
    seen: Vec<u32>,
}

pub(super) struct Worker<'a> {
    call: &'a Call<'a>,
    cache: KvCache,
    rope: RopeTable,
    slots: Vec<Option<Active<'a>>>,
    ready: Vec<Ready<'a>>,
    output: WorkerOutput,
}

impl<'a> Worker<'a> {
    pub(super) fn new(call: &'a Call<'a>, num_slots: usize) -> Self {
        let device = call.decoder.head_weight().device();
        let config = call.decoder.config();
        Self {
            call,
            cache: KvCache::new(config, num_slots, call.slot_tokens, call.precision, &device),
            rope: RopeTable::new(config, call.slot_tokens),
            slots: (0..num_slots).map(|_| None).collect(),
            ready: Vec::new(),
            output: WorkerOutput::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<WorkerOutput, RolloutError> {
        loop {
            self.admit()?;
            self.compact();
            let num_active = self.slots.iter().flatten().count();
            if num_active == 0 || self.call.queue.is_aborted() {
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
            self.seat()?;
            let num_free = self.slots.iter().filter(|slot| slot.is_none()).count();
            if num_free == 0 {
                return Ok(());
            }
            // A few prompts ahead, so that single free slots do not mean single-prompt batches.
            let taken = self.call.queue.take(num_free.max(self.slots.len() / 4));
            if taken.is_empty() {
                return Ok(());
            }
            let fresh = self.adopt(taken)?;
            self.seat()?;
            for batch in batches(fresh, self.call.prefill_tokens) {
                self.prefill(&batch)?;
                // Seating at once lets the batch's keys and values go before the next.
                self.seat()?;
            }
        }
    }

    /// Gives free slots to completions of prompts that have been run.
    fn seat(&mut self) -> Result<(), RolloutError> {
        let mut sampler = Sampler::new(self.call.params);
        for slot in 0..self.slots.len() {
            while self.slots[slot].is_none() {
                let Some(ready) = self.ready.first_mut() else {
                    return Ok(());
                };
                let index = ready.next_index;
                ready.next_index += 1;
                let mut active = Active::new(self.call, ready.place, ready.request, index);
                let draw = active.draw(&mut sampler, &ready.logits);
                active.push(draw?);
                if let Some(done) = active.done(self.call) {
                    self.output.done.push(done);
                } else {
                    self.cache.write_prompt(slot, &ready.layers, &ready.rows);
                    self.slots[slot] = Some(active);
                }
                if ready.next_index == ready.request.num_completions {
                    self.ready.remove(0);
                }
            }
        }
        Ok(())
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
        let logits = read(call.weights.logits(pool.last_hidden(&places)))?;
        let vocab = call.decoder.config().vocab_size;
        for (index, (place, request)) in pooled.into_iter().enumerate() {
            let prompt = pool.prompt(places[index]);
            self.ready.push(Ready {
                place,
                request,
                next_index: 0,
                layers: prompt.layers.to_vec(),
                rows: prompt.rows,
                logits: logits[index * vocab..][..vocab].to_vec(),
            });
        }
        self.output.num_reused_prompts += places.len() as u64;
        self.output.prefill_secs += start.elapsed().as_secs_f64();
        Ok(fresh)
    }

    /// Runs a batch of prompts.
    fn prefill(&mut self, batch: &[(usize, &'a Request)]) -> Result<(), RolloutError> {
        let start = Instant::now();
        let prefill = self
            .call
            .decoder
            .prefill(&prompts(batch), self.call.precision);
        let logits = read(self.call.weights.logits(prefill.last_hidden))?;
        let vocab = self.call.decoder.config().vocab_size;
        let logits = logits.chunks_exact(vocab);
        for ((rows, logits), (place, request)) in prefill.rows.iter().zip(logits).zip(batch) {
            self.ready.push(Ready {
                place: *place,
                request,
                next_index: 0,
                layers: prefill.layers.clone(),
                rows: rows.clone(),
                logits: logits.to_vec(),
            });
            self.output.prefill_tokens += rows.len() as u64;
        }
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

    /// One token for every active slot.
    fn decode(&mut self, num_active: usize) -> Result<(), RolloutError> {
        let mut tokens = vec![0; num_active];
        let mut positions = vec![0; num_active];
        for (row, active) in self.slots.iter().flatten().enumerate() {
            tokens[row] = active.tokens.last().copied().unwrap_or(0);
            positions[row] = active.request.prompt_tokens.len() + active.tokens.len() - 1;
        }
        let weights = &self.call.weights;
        let logits = read(weights.step(&tokens, &positions, &self.rope, &mut self.cache))?;
        let start = Instant::now();
        self.sample(&logits, num_active)?;
        self.output.sampling_secs += start.elapsed().as_secs_f64();
        self.output.decode_steps += 1;
        self.output.decode_rows += num_active as u64;
        Ok(())
    }

    /// Draws for every active slot and retires what ends.
    fn sample(&mut self, logits: &[f32], num_active: usize) -> Result<(), RolloutError> {
        let vocab = self.call.decoder.config().vocab_size;
        let active: Vec<&mut Active<'a>> = self.slots.iter_mut().flatten().collect();
        let threads = match vocab >= THREADED_VOCAB && num_active >= THREADED_ROWS {
            true => self.call.sampling_threads,
            false => 1,
        };
        let draws = draw_all(self.call, active, logits, vocab, threads);
        for (slot, draw) in draws.into_iter().enumerate() {
            let Some(active) = &mut self.slots[slot] else {
                continue;
            };
            active.push(draw?);
            if let Some(done) = active.done(self.call) {
                self.output.done.push(done);
                self.slots[slot] = None;
            }
        }
        Ok(())
    }
}

/// Values on the host, row by row.
pub(super) fn read<const D: usize>(values: Tensor<D>) -> Result<Vec<f32>, RolloutError> {
    values
        .try_into_vec_as::<f32>()
        .map_err(|error| RolloutError::Device {
            reason: error.to_string(),
        })
}

/// One draw per row. Every row is computed by itself, so threads do not change it.
fn draw_all(
    call: &Call<'_>,
    mut rows: Vec<&mut Active<'_>>,
    logits: &[f32],
    vocab: usize,
    threads: usize,
) -> Vec<Result<Draw, RolloutError>> {
    let draw_some = |rows: &mut [&mut Active<'_>], logits: &[f32]| -> Vec<_> {
        let mut sampler = Sampler::new(call.params);
        let logits = logits.chunks_exact(vocab);
        let rows = rows.iter_mut().zip(logits);
        rows.map(|(row, logits)| row.draw(&mut sampler, logits))
            .collect()
    };
    if threads < 2 {
        return draw_some(&mut rows, logits);
    }
    let share = rows.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let draw_some = &draw_some;
        let handles: Vec<_> = rows
            .chunks_mut(share)
            .zip(logits.chunks(share * vocab))
            .map(|(rows, logits)| scope.spawn(move || draw_some(rows, logits)))
            .collect();
        let draws = handles.into_iter().flat_map(|handle| match handle.join() {
            Ok(draws) => draws,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        draws.collect()
    })
}

impl<'a> Active<'a> {
    fn new(call: &Call<'_>, place: usize, request: &'a Request, index: u32) -> Self {
        let is_penalised = call.params.repetition_penalty != 1.0;
        Self {
            place,
            request,
            index,
            stream: stream(call.seed, call.stage, call.step, request.prompt_id, index),
            tokens: Vec::new(),
            sampler_logprobs: Vec::new(),
            entropies: Vec::new(),
            seen: match is_penalised {
                true => request.prompt_tokens.clone(),
                false => Vec::new(),
            },
        }
    }

    fn draw(&mut self, sampler: &mut Sampler<'_>, logits: &[f32]) -> Result<Draw, RolloutError> {
        let position = self.tokens.len();
        let uniform = self.stream.uniform_at(position as u64);
        sampler
            .draw(logits, &self.seen, uniform)
            .ok_or(RolloutError::NonFinite {
                prompt_id: self.request.prompt_id,
                index: self.index,
                position,
            })
    }

    fn push(&mut self, draw: Draw) {
        self.tokens.push(draw.token);
        self.sampler_logprobs.push(draw.logprob);
        self.entropies.push(draw.entropy);
        if !self.seen.is_empty() {
            self.seen.push(draw.token);
        }
    }

    /// The completion, if its last token ends it; its buffers are then taken.
    fn done(&mut self, call: &Call<'_>) -> Option<Done> {
        let prompt_tokens = self.request.prompt_tokens.len();
        let stop = call.rules.check(prompt_tokens, &self.tokens, call.decode)?;
        Some(Done {
            request: self.place,
            completion: Completion {
                prompt_id: self.request.prompt_id,
                index: self.index,
                tokens: std::mem::take(&mut self.tokens),
                sampler_logprobs: std::mem::take(&mut self.sampler_logprobs),
                entropies: std::mem::take(&mut self.entropies),
                stop,
            },
        })
    }
}
