//! The engine: checks a call, sizes the cache, shares the work and puts the completions in order.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::Device;
use rlvr_backends::graph::records_launches;
use rlvr_backends::kernels::{DecodeState, VOCAB_LIMIT};
use rlvr_backends::{Precision, is_host};

use super::active::Done;
use super::memory::{Demand, total_bytes};
use super::pool::PromptPool;
use super::queue::Queue;
use super::repeat::Recordings;
use super::room::Room;
use super::stop::StopRules;
use super::worker::{Worker, WorkerOutput};
use super::{Request, RolloutConfig, RolloutError, RolloutOutput, RolloutStats, SamplingParams};
use crate::policy::cache::{CacheShape, KvCache};
use crate::policy::config::ModelConfig;
use crate::policy::decode::DecodeWeights;
use crate::policy::decoder::Decoder;
use crate::record::{Completion, PromptId};
use crate::seed::Stage;

/// Turns tokens into text, for stop strings.
pub type TokenDecoder<'a> = &'a (dyn Fn(&[u32]) -> String + Sync);

/// Makes completions. Holds no memory between calls.
#[derive(Clone, Debug)]
pub struct Engine {
    model: ModelConfig,
    rollout: RolloutConfig,
    precision: Precision,
    recordings: Recordings,
    room: Room,
}

/// What every worker of one call shares.
pub(super) struct Call<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) weights: DecodeWeights,
    pub(super) decode: TokenDecoder<'a>,
    pub(super) params: &'a SamplingParams,
    pub(super) rules: StopRules<'a>,
    pub(super) queue: Queue<'a>,
    /// Prompts that have been run already, and where in the pool they are.
    pub(super) pool: Option<&'a PromptPool>,
    pub(super) pooled: BTreeMap<PromptId, (usize, usize)>,
    pub(super) seed: u64,
    pub(super) stage: Stage,
    pub(super) step: u64,
    pub(super) prefill_tokens: usize,
    pub(super) precision: Precision,
    pub(super) sampling_threads: usize,
    pub(super) samples_on_device: bool,
    /// Decode steps between two reads, at least 1, where samples are drawn on the device.
    pub(super) steps_per_read: usize,
    /// Decode steps have a few numbers of rows only.
    pub(super) pads_rows: bool,
    /// Launches of decode steps are recorded and repeated.
    pub(super) records: bool,
}

impl Call<'_> {
    /// Of decode steps of so many rows that are read together.
    pub(super) fn state(&self, num_rows: usize, cache: &KvCache) -> DecodeState {
        let steps = self.steps_per_read.min(cache.shape().columns);
        let heads = self.decoder.config().heads();
        DecodeState::new(num_rows, steps, heads, &self.weights.device())
    }
}

impl Engine {
    /// An engine for decoders of one shape, whose products are computed in `precision`.
    pub fn new(model: &ModelConfig, rollout: RolloutConfig, precision: Precision) -> Self {
        Self {
            model: model.clone(),
            rollout,
            precision,
            recordings: Recordings::default(),
            room: Room::default(),
        }
    }

    /// Completes every request.
    ///
    /// `decoder` is the untracked (`valid()`) policy. `seed`, `stage` and `step` key the random
    /// streams together with prompt id and index.
    ///
    /// # Errors
    /// A prompt that is empty, too long or not of this vocabulary; values that cannot be used; a
    /// budget, or a device, that holds no sequence; logits that are not finite.
    #[expect(
        clippy::too_many_arguments,
        reason = "three of them key the random streams"
    )]
    pub fn roll_out(
        &self,
        decoder: &Decoder,
        decode: TokenDecoder<'_>,
        requests: &[Request],
        params: &SamplingParams,
        seed: u64,
        stage: Stage,
        step: u64,
    ) -> Result<RolloutOutput, RolloutError> {
        self.roll_out_pooled(decoder, decode, requests, params, seed, stage, step, None)
    }

    /// As [`Engine::roll_out`], from the keys and values of a pool where it holds the prompt. On
    /// the CPU in f32 the completions are the same as without it, token for token.
    ///
    /// `pool` comes with the version of `decoder`'s weights.
    ///
    /// # Errors
    /// As [`Engine::roll_out`], and if the pool is of another version of the weights.
    #[expect(
        clippy::too_many_arguments,
        reason = "three of them key the random streams"
    )]
    pub fn roll_out_pooled(
        &self,
        decoder: &Decoder,
        decode: TokenDecoder<'_>,
        requests: &[Request],
        params: &SamplingParams,
        seed: u64,
        stage: Stage,
        step: u64,
        pool: Option<(&PromptPool, u64)>,
    ) -> Result<RolloutOutput, RolloutError> {
        if let Some((pool, weights_version)) = pool {
            pool.check(weights_version)?;
        }
        let pool = pool.map(|(pool, _)| pool);
        debug_assert!(
            !decoder.head_weight().device().is_autodiff(),
            "roll_out: the decoder is tracked, pass its valid()"
        );
        let start = Instant::now();
        params.validate()?;
        self.check(requests)?;
        let precision = self.precision;
        let demand = demand(requests, params);
        let device = decoder.head_weight().device();
        let is_host = is_host(&device);
        let samples_on_device = self.samples_on_device(params, is_host);
        let records = samples_on_device && self.records(&device);
        let rollout = match records {
            true => self.rollout.recorded(),
            false => self.rollout.clone(),
        };
        let call = |rollout: &RolloutConfig, num_workers, records| Call {
            decoder,
            weights: DecodeWeights::new(decoder, rollout.copy_weights, precision),
            decode,
            params,
            rules: StopRules::new(params, self.model.max_position_embeddings),
            queue: Queue::new(requests),
            pooled: pool.map(PromptPool::places).unwrap_or_default(),
            pool,
            seed,
            stage,
            step,
            prefill_tokens: rollout.prefill_tokens,
            precision,
            sampling_threads: sampling_threads(num_workers),
            samples_on_device,
            steps_per_read: rollout.steps_per_read.max(1),
            pads_rows: samples_on_device || !is_host,
            records,
        };
        // Whatever fails for want of a recording or of memory is run again: a completion depends on
        // nothing that was done so far.
        let shapes = |rollout: &RolloutConfig| demand.caches(&self.model, rollout, precision);
        let attempt = |rollout: &RolloutConfig, caches: &[CacheShape]| {
            let run = |records| run(&call(rollout, caches.len(), records), caches);
            let outputs = match run(records && self.recordings.are_possible()) {
                Err(RolloutError::Recording { reason }) => {
                    self.recordings.fail(reason);
                    run(false)?
                }
                outputs => outputs?,
            };
            let mut stats = total(&outputs, caches);
            stats.kv_bytes = total_bytes(caches, &self.model, precision);
            Ok((outputs, stats))
        };
        let (outputs, mut stats) = self.room.attempt(&rollout, &device, shapes, attempt)?;
        let completions = collect(requests, outputs);
        stats.wall_secs = start.elapsed().as_secs_f64();
        Ok(RolloutOutput { completions, stats })
    }

    /// Whether launches of decode steps are recorded, as long as that has not failed.
    fn records(&self, device: &Device) -> bool {
        self.rollout.record_steps
            && self.recordings.are_possible()
            && DecodeState::stays_on_device(self.model.heads(), device)
            && records_launches(device)
    }

    /// What to tell the user, once, if the device had no room, or if launches of decode steps could not
    /// be recorded.
    pub fn warning(&self) -> Option<String> {
        let warnings = [self.room.warning(), self.recordings.warning()];
        let warnings: Vec<String> = warnings.into_iter().flatten().collect();
        (!warnings.is_empty()).then(|| warnings.join("; "))
    }

    /// A repetition penalty needs the history of every row, and a token has to fit in an f32.
    fn samples_on_device(&self, params: &SamplingParams, is_host: bool) -> bool {
        let is_wanted = self.rollout.sampling.is_device(is_host);
        let is_possible = params.repetition_penalty == 1.0 && self.model.vocab_size < VOCAB_LIMIT;
        is_wanted && is_possible
    }

    /// Most tokens in one prefill batch.
    pub(super) fn prefill_tokens(&self) -> usize {
        self.rollout.prefill_tokens
    }

    /// What products are computed in.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn check(&self, requests: &[Request]) -> Result<(), RolloutError> {
        let context_tokens = self.model.max_position_embeddings;
        let vocab_size = self.model.vocab_size;
        for request in requests {
            let (prompt_id, tokens) = (request.prompt_id, &request.prompt_tokens);
            if tokens.is_empty() {
                return Err(RolloutError::EmptyPrompt { prompt_id });
            }
            if tokens.len() >= context_tokens {
                return Err(RolloutError::PromptTooLong {
                    prompt_id,
                    prompt_tokens: tokens.len(),
                    context_tokens,
                });
            }
            if let Some(&token) = tokens.iter().find(|t| **t as usize >= vocab_size) {
                return Err(RolloutError::UnknownToken {
                    prompt_id,
                    token,
                    vocab_size,
                });
            }
        }
        Ok(())
    }
}

/// What some requests ask of the cache.
fn demand(requests: &[Request], params: &SamplingParams) -> Demand {
    let wanted = requests.iter().filter(|it| it.num_completions > 0);
    let groups = wanted.clone().map(|it| it.num_completions as usize);
    Demand {
        longest_prompt: wanted.map(|it| it.prompt_tokens.len()).max().unwrap_or(0),
        num_prompts: groups.clone().count(),
        least_group: groups.clone().min().unwrap_or(1),
        num_completions: groups.sum(),
        max_new_tokens: params.max_new_tokens,
    }
}

/// Threads that one worker may sample with.
fn sampling_threads(num_workers: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    (cores / num_workers).clamp(1, 8)
}

fn run(call: &Call<'_>, caches: &[CacheShape]) -> Result<Vec<WorkerOutput>, RolloutError> {
    let work = |cache: CacheShape| {
        let output = Worker::new(call, cache).run();
        if output.is_err() {
            call.queue.abort();
        }
        output
    };
    if let [cache] = caches {
        return Ok(vec![work(*cache)?]);
    }
    std::thread::scope(|scope| {
        let handles: Vec<_> = caches
            .iter()
            .map(|cache| scope.spawn(move || work(*cache)))
            .collect();
        let outputs: Vec<_> = handles
            .into_iter()
            .map(|handle| match handle.join() {
                Ok(output) => output,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect();
        outputs.into_iter().collect()
    })
}

fn total(outputs: &[WorkerOutput], caches: &[CacheShape]) -> RolloutStats {
    let workers = caches.len() as f64;
    let mut sum = RolloutStats {
        num_slots: caches.iter().map(|cache| cache.slots).sum(),
        num_workers: caches.len(),
        ..RolloutStats::default()
    };
    let (mut rows, mut places) = (0u64, 0u64);
    for (output, cache) in outputs.iter().zip(caches) {
        sum.prefill_tokens += output.prefill_tokens;
        sum.num_reused_prompts += output.num_reused_prompts;
        sum.decode_tokens += output
            .done
            .iter()
            .map(|d| d.completion.tokens.len() as u64)
            .sum::<u64>();
        sum.decode_steps += output.decode_steps;
        sum.decode_reads += output.decode_reads;
        sum.replayed_steps += output.replayed_steps;
        sum.prefill_secs += output.prefill_secs / workers;
        sum.decode_secs += output.decode_secs / workers;
        sum.sampling_secs += output.sampling_secs / workers;
        rows += output.decode_rows;
        places += output.decode_steps * cache.slots as u64;
    }
    sum.slot_use_frac = rows as f64 / places.max(1) as f64;
    sum
}

/// By request, then by index.
fn collect(requests: &[Request], outputs: Vec<WorkerOutput>) -> Vec<Vec<Completion>> {
    let mut completions: Vec<Vec<Completion>> = requests
        .iter()
        .map(|request| Vec::with_capacity(request.num_completions as usize))
        .collect();
    for Done {
        request,
        completion,
    } in outputs.into_iter().flat_map(|output| output.done)
    {
        completions[request].push(completion);
    }
    for group in &mut completions {
        group.sort_unstable_by_key(|completion| completion.index);
    }
    completions
}
