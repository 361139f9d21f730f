//! Tokens from logits that stay on their device: what [`super::sampling`] does on the host, in
//! tensor operations that every backend has. A call uploads one number per row and reads three.
//!
//! Log-prob and entropy are those of `softmax(logits / temperature)` over the whole vocabulary;
//! top-k, top-p and min-p shape only the draw, which inverts the cumulative distribution in token
//! order. There is no repetition penalty here, which would need every row's history: the engine
//! then samples on the host.
//!
//! # How it stays parallel
//!
//! Burn sorts on the host, and its cumulative sum on CubeCL reads all that comes before, for every
//! element. So nothing is sorted: the thresholds of top-k and top-p are found by `NUM_HALVINGS`
//! halvings of an interval of exponents, one sum over the vocabulary each. And the draw goes in two
//! levels: chunks of `CHUNK` tokens are summed, the chunk is chosen by their cumulative sums, the
//! token by those within the chunk.
//!
//! # What differs from the host
//!
//! Weights and sums are f32, the uniform number is rounded to f32: a token differs from the host's
//! where the number lies within about 1e-6 of a boundary of the cumulative distribution, and then
//! it is a neighbour in token order. The same holds for a token that stands that close to the
//! threshold of a filter. Exponents that differ by less than [`RESOLUTION`] count as tied; ties are
//! treated as on the host (top-k keeps all of them, top-p those first in token order). Weights
//! below `exp(-104)` of the largest are nothing.

use burn::tensor::{Bool, DType, FloatDType, Int, Tensor, TensorData};

use super::sampling::Draw;
use super::worker::read;
use super::{RolloutError, SamplingParams};

/// Vocabularies from here on have tokens that an f32 does not hold.
pub const VOCAB_LIMIT: usize = 1 << 24;

/// Tokens that are summed before the draw looks closer. A power of two that divides the usual
/// vocabularies: others are padded, which copies them.
const CHUNK: usize = 128;

/// Exponents below this are raised to it; their weight is zero in f32.
const LEAST_EXPONENT: f32 = -128.0;

/// How often the interval of a threshold is halved.
const NUM_HALVINGS: u32 = 32;

/// Exponents closer than this may count as tied: an interval from `LEAST_EXPONENT` to 1, halved.
pub const RESOLUTION: f32 = 3.1e-8;

/// Logits that are worked on at once; there are up to [`COPIES`] tensors of this size meanwhile.
const PART_VALUES: usize = 1 << 24;

/// Most tensors of the size of a part of the logits that are alive at the same time.
const COPIES: usize = 6;

/// Stands for the token of a row with a logit that is not finite.
const NO_TOKEN: f32 = -1.0;

/// Bytes that sampling `rows` rows needs beside their logits.
pub fn sampling_bytes(rows: usize, vocab: usize) -> u64 {
    let part = (rows * vocab).min(PART_VALUES.max(vocab));
    (COPIES * part * size_of::<f32>()) as u64
}

/// Samples rows on the device of their logits.
#[derive(Debug)]
pub struct DeviceSampler<'a> {
    params: &'a SamplingParams,
    /// `[1, V]`: the tokens, if top-p has to tell tied ones apart.
    tokens: Option<Tensor<2, Int>>,
}

impl<'a> DeviceSampler<'a> {
    /// A sampler for logits of `vocab` columns on `device`. It does not read the repetition
    /// penalty.
    ///
    /// # Panics
    /// If the vocabulary has [`VOCAB_LIMIT`] tokens or more.
    pub fn new(params: &'a SamplingParams, vocab: usize, device: &burn::tensor::Device) -> Self {
        assert!(vocab < VOCAB_LIMIT, "DeviceSampler: {vocab} tokens");
        let tokens = || Tensor::<1, Int>::arange(0..vocab as i64, device).unsqueeze();
        Self {
            params,
            tokens: params.top_p.is_some().then(tokens),
        }
    }

    /// One token per row with uniform numbers in [0, 1), or nothing for a row with a logit that is
    /// not finite. Waits for the device, once.
    ///
    /// # Shapes
    /// - `logits`: `[R, V]`; `uniforms`: `[R]`
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If there is not one number per row.
    pub fn draw(
        &self,
        logits: Tensor<2>,
        uniforms: &[f64],
    ) -> Result<Vec<Option<Draw>>, RolloutError> {
        if logits.dims()[0] == 0 && uniforms.is_empty() {
            return Ok(Vec::new());
        }
        read_draws(self.draw_unread(logits, uniforms))
    }

    /// As [`DeviceSampler::draw`], without waiting: what [`read_draws`] reads and [`next_tokens`]
    /// goes on with.
    ///
    /// # Shapes
    /// - `logits`: `[R, V]`, at least one row; `uniforms`: `[R]`
    /// - output: `[R, 3]`; token, log-prob and entropy
    ///
    /// # Panics
    /// If there is not one number per row.
    pub(super) fn draw_unread(&self, logits: Tensor<2>, uniforms: &[f64]) -> Tensor<2> {
        let [rows, vocab] = logits.dims();
        assert_eq!(uniforms.len(), rows, "draw: one number per row [R]");
        let uniforms: Vec<f32> = uniforms.iter().map(|&uniform| uniform as f32).collect();
        let uniforms = TensorData::new(uniforms, [rows, 1]);
        let uniforms = Tensor::<2>::from_data(uniforms, (&logits.device(), DType::F32));
        let most = (PART_VALUES / vocab).max(1);
        let parts = (0..rows).step_by(most).map(|first| {
            let count = most.min(rows - first);
            let own = |x: &Tensor<2>| x.clone().narrow(0, first, count);
            self.part(own(&logits).cast(FloatDType::F32), own(&uniforms))
        });
        Tensor::cat(parts.collect(), 0)
    }

    /// Token (or [`NO_TOKEN`]), log-prob and entropy, `[R, 3]`, of logits `[R, V]` and uniform
    /// numbers `[R, 1]`.
    fn part(&self, logits: Tensor<2>, uniforms: Tensor<2>) -> Tensor<2> {
        let vocab = logits.dims()[1];
        let is_greedy = self.params.temperature == 0.0;
        let inverse_temperature = match is_greedy {
            true => 1.0,
            // Its inverse has to be finite too.
            false => 1.0 / self.params.temperature.max(1e-30),
        };
        let is_finite = count(logits.clone().is_finite()).equal_elem(vocab as i64);
        let max = logits.clone().max_dim(1);
        let is_max = logits.clone().greater_equal(max.clone());
        let exponents = (logits - max) * inverse_temperature;
        let exponents = exponents.clamp_min(LEAST_EXPONENT);
        let weights = exponents.clone().exp();
        let total = weights.clone().sum_dim(1);
        let moment = (weights.clone() * exponents.clone()).sum_dim(1);
        let token = match is_greedy {
            true => invert(is_max.cast(FloatDType::F32), uniforms * 0.0),
            false => {
                let kept = self.keep(&exponents, weights);
                let target = kept.clone().sum_dim(1) * uniforms;
                invert(kept, target)
            }
        };
        let log_total = total.clone().log();
        let logprob = exponents.gather(1, token.clone()) - log_total.clone();
        let entropy = log_total - moment / total;
        let token = token.cast(FloatDType::F32);
        let token = token.mask_fill(is_finite.bool_not(), NO_TOKEN);
        Tensor::cat(vec![token, logprob, entropy], 1)
    }

    /// The weights, zero where a filter drops a token. The largest exponent of a row is 0.
    fn keep(&self, exponents: &Tensor<2>, mut weights: Tensor<2>) -> Tensor<2> {
        let vocab = weights.dims()[1];
        let mut lowest = exponents.clone().min_dim(1);
        if let Some(k) = self.params.top_k
            && k < vocab
        {
            let holds_k = |threshold: Tensor<2>| {
                let is_kept = exponents.clone().greater_equal(threshold);
                count(is_kept).greater_equal_elem(k as i64)
            };
            [lowest, _] = bisect(lowest, holds_k);
            let is_dropped = exponents.clone().lower(lowest.clone());
            weights = weights.mask_fill(is_dropped, 0.0);
        }
        if let (Some(p), Some(tokens)) = (self.params.top_p, &self.tokens)
            && p < 1.0
        {
            weights = keep_top_p(exponents, weights, lowest, p, tokens.clone());
        }
        if let Some(p) = self.params.min_p {
            // The most likely token has weight 1.
            let is_dropped = weights.clone().lower_elem(p);
            weights = weights.mask_fill(is_dropped, 0.0);
        }
        weights
    }
}

/// The draws of some rows, on the host; nothing for a row with a logit that is not finite.
///
/// # Shapes
/// - `drawn`: `[R, 3]`, of [`DeviceSampler::draw_unread`]
///
/// # Errors
/// If the device fails.
pub(super) fn read_draws(drawn: Tensor<2>) -> Result<Vec<Option<Draw>>, RolloutError> {
    let draw = |row: &[f32; 3]| {
        let &[token, logprob, entropy] = row;
        (token >= 0.0).then_some(Draw {
            token: token as u32,
            logprob,
            entropy,
        })
    };
    Ok(read(drawn)?.as_chunks().0.iter().map(draw).collect())
}

/// The tokens of some rows, still on the device: 0 for a row without one.
///
/// # Shapes
/// - `drawn`: `[R, 3]`, of [`DeviceSampler::draw_unread`]
/// - output: `[R]`
pub(super) fn next_tokens(drawn: &Tensor<2>) -> Tensor<1, Int> {
    let tokens = drawn.clone().narrow(1, 0, 1).squeeze_dim::<1>(1);
    tokens.int().clamp_min(0)
}

/// Keeps a token if the more likely ones together hold less than `p`; among tied tokens the
/// smaller ones are the more likely.
fn keep_top_p(
    exponents: &Tensor<2>,
    weights: Tensor<2>,
    lowest: Tensor<2>,
    p: f32,
    tokens: Tensor<2, Int>,
) -> Tensor<2> {
    let goal = weights.clone().sum_dim(1) * p;
    let from = |threshold: Tensor<2>| {
        let is_below = exponents.clone().lower(threshold);
        weights.clone().mask_fill(is_below, 0.0)
    };
    let holds_p = |threshold| from(threshold).sum_dim(1).greater_equal(goal.clone());
    let [low, high] = bisect(lowest, holds_p);
    let above = from(high);
    let tied = from(low) - above.clone();
    let missing = goal - above.clone().sum_dim(1);
    let number = (missing / tied.clone().max_dim(1)).ceil().clamp_min(1.0);
    let is_tied = tied.clone().greater_elem(0.0).cast(FloatDType::F32);
    let last = invert(is_tied, number - 0.5);
    above + tied.mask_fill(tokens.greater(last), 0.0)
}

/// Two neighbours between `lowest` and 1: `is_enough` holds for the first and not for the second.
/// It is taken to hold for `lowest` and not for 1, and never again once it does not.
///
/// # Shapes
/// - all: `[R, 1]`
fn bisect(lowest: Tensor<2>, is_enough: impl Fn(Tensor<2>) -> Tensor<2, Bool>) -> [Tensor<2>; 2] {
    let mut high = lowest.ones_like();
    let mut low = lowest;
    for _ in 0..NUM_HALVINGS {
        let middle = (low.clone() + high.clone()) * 0.5;
        let holds = is_enough(middle.clone());
        low = low.mask_where(holds.clone(), middle.clone());
        high = middle.mask_where(holds, high);
    }
    [low, high]
}

/// First token whose cumulative weight exceeds the target, or the last that adds to it.
///
/// # Shapes
/// - `weights`: `[R, V]`; `target`, output: `[R, 1]`
fn invert(weights: Tensor<2>, target: Tensor<2>) -> Tensor<2, Int> {
    let [rows, vocab] = weights.dims();
    let weights = match vocab.next_multiple_of(CHUNK) - vocab {
        0 => weights,
        missing => {
            let options = (&weights.device(), DType::F32);
            Tensor::cat(vec![weights, Tensor::zeros([rows, missing], options)], 1)
        }
    };
    let weights: Tensor<3> = weights.reshape([rows, vocab.div_ceil(CHUNK), CHUNK]);
    let sums = weights.clone().sum_dim(2).squeeze_dim::<2>(2).cumsum(1);
    let chunk = passed(sums.clone(), target.clone());
    let is_first = chunk.clone().equal_elem(0);
    let before = sums.gather(1, (chunk.clone() - 1).clamp_min(0));
    let before = before.mask_fill(is_first, 0.0);
    let index = chunk.clone().unsqueeze_dim::<3>(2);
    let inner = weights.gather(1, index.expand([rows, 1, CHUNK]));
    let inner = inner.squeeze_dim::<2>(1).cumsum(1);
    let token = chunk * CHUNK as i64 + passed(inner, target - before);
    // Sums that are not numbers compare as a device pleases.
    token.clamp_max(vocab as i64 - 1)
}

/// Index of the first of some cumulative sums that exceeds the target, but not behind the first
/// that reaches the last one.
///
/// # Shapes
/// - `sums`: `[R, N]`; `target`, output: `[R, 1]`
fn passed(sums: Tensor<2>, target: Tensor<2>) -> Tensor<2, Int> {
    let most = sums.dims()[1] - 1;
    let last = sums.clone().narrow(1, most, 1);
    let is_before = sums.clone().lower_equal(target);
    count(is_before.bool_and(sums.lower(last))).clamp_max(most as i64)
}

/// How many are true in each row, `[R, 1]`.
fn count(mask: Tensor<2, Bool>) -> Tensor<2, Int> {
    mask.int().sum_dim(1)
}
