//! Tokens drawn from logits where these are: what sampling on the host does, without reading them.
//!
//! Log-prob and entropy are those of `softmax(logits / temperature)` over the whole vocabulary;
//! top-k, top-p and min-p shape only the draw, which inverts the cumulative distribution in token
//! order.
//!
//! # How the portable path stays parallel
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
//!
//! # The kernel
//!
//! CubeCL devices draw in one kernel that reads every logit twice, twelve times more for top-k and fourteen
//! for top-p; the portable path is some sixty launches, which go over them some twenty times, and one or
//! two hundred more. Tensor cores need no logits in memory without filters: [`project_and_draw`].

#[cfg(feature = "cube")]
mod choice;
#[cfg(feature = "cube")]
pub(super) mod cube;
mod filters;
#[cfg(feature = "cube")]
pub(super) mod head;
#[cfg(feature = "cube")]
mod kept;

use burn::tensor::{Bool, DType, FloatDType, Int, Tensor};
use rlvr_core::Precision;

use super::{Projection, project_raw};
use crate::BackendKind;
pub use filters::{Filters, RESOLUTION};

/// Vocabularies from here on have tokens that an f32 does not hold.
pub const VOCAB_LIMIT: usize = 1 << 24;

/// Tokens that are summed before the draw looks closer. A power of two that divides the usual
/// vocabularies: others are padded, which copies them.
const CHUNK: usize = 128;

/// Exponents below this are raised to it; their weight is zero in f32.
const LEAST_EXPONENT: f32 = -128.0;

/// Logits that the portable path works on at once; there are up to [`COPIES`] tensors of this size
/// meanwhile.
const PART_VALUES: usize = 1 << 24;

/// Most tensors of the size of a part of the logits that are alive at the same time.
const COPIES: usize = 6;

/// Stands for the token of a row with a logit that is not finite.
pub const NO_TOKEN: f32 = -1.0;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Drawing {
    /// Takes the most likely token, the first of several; log-probs are then those of temperature 1.
    pub is_greedy: bool,
    /// Of the temperature; 1 if greedy.
    pub inverse_temperature: f32,
    /// What may be drawn.
    pub filters: Filters,
}

impl Drawing {
    /// Greedy at temperature 0; a temperature so small that it has no inverse in f32 is raised.
    pub fn at(temperature: f32, filters: Filters) -> Self {
        let is_greedy = temperature == 0.0;
        Self {
            is_greedy,
            inverse_temperature: match is_greedy {
                true => 1.0,
                false => 1.0 / temperature.max(1e-30),
            },
            filters,
        }
    }
}

/// Tokens of a strip, of which [`project_and_draw`] keeps sums.
const STRIP: usize = 64;

/// Numbers that it keeps of a row and a strip.
const PART: usize = 4;

/// Terms of a product that tensor cores add at once.
const WHOLE_PRODUCT: usize = 16;

/// Vocabularies up to here are drawn from by the kernel.
const MOST_DRAWN: usize = 1 << 21;

/// Vocabularies up to here have sums of strips that fit into the shared memory of every device.
const MOST_TOKENS: usize = 1 << 19;

/// True if the kernels of [`project_and_draw`] take such a head: width and vocabulary.
fn fits_kernel(precision: Precision, [width, vocab]: [usize; 2], filters: &Filters) -> bool {
    precision == Precision::Bf16
        && width.is_multiple_of(WHOLE_PRODUCT)
        && vocab <= MOST_TOKENS
        && filters.keep_all(vocab)
}

/// Bytes that [`project_and_draw`] needs for `rows` rows at most: their logits and what drawing takes
/// beside them, or on CUDA in bf16, without filters, the sums of their strips.
pub fn project_and_draw_bytes(
    kind: BackendKind,
    precision: Precision,
    rows: usize,
    head: [usize; 2],
    filters: &Filters,
) -> u64 {
    let [_, vocab] = head;
    let is_kernel = kind == BackendKind::Cuda && fits_kernel(precision, head, filters);
    let values = match is_kernel {
        true => rows * vocab.div_ceil(STRIP) * PART,
        false => rows * vocab,
    };
    let beside = match kind.is_host() || vocab > MOST_DRAWN {
        true => portable_bytes(rows, vocab),
        false => 0,
    };
    (values * size_of::<f32>()) as u64 + beside
}

/// [`draw`] from the logits `hidden head^T`, products computed in `precision`; with the numbers, and so
/// the tokens, of [`draw`] up to the order of a logit's sum.
///
/// # Shapes
/// - `hidden`: `[R, D]`; the head's weight: `[V, D]`; `uniforms`: `[R, 1]`, in [0, 1)
/// - output: `[R, 3]`, f32
///
/// # Panics
/// As [`draw`] and [`super::project`].
pub fn project_and_draw(
    hidden: Tensor<2>,
    head: &Projection,
    uniforms: Tensor<2>,
    drawing: &Drawing,
    precision: Precision,
) -> Tensor<2> {
    #[cfg(feature = "cube")]
    if head::has_kernel(&hidden, head, &drawing.filters, precision) {
        let ([rows, width], weight) = (hidden.dims(), head.weight.clone());
        assert!(
            rows > 0 && uniforms.dims() == [rows, 1] && weight.dims()[1] == width,
            "project_and_draw: {rows} rows of {width} values"
        );
        return head::draw(hidden, weight, uniforms, drawing);
    }
    draw(project_raw(hidden, head, precision), uniforms, drawing)
}

/// Bytes that the portable path needs beside `rows` rows of logits, at most.
fn portable_bytes(rows: usize, vocab: usize) -> u64 {
    let part = (rows * vocab).min(PART_VALUES.max(vocab));
    (COPIES * part * size_of::<f32>()) as u64
}

/// Token (or [`NO_TOKEN`], for a row with a logit that is not finite), log-prob and entropy.
///
/// # Shapes
/// - `logits`: `[R, V]`, of any float type; `uniforms`: `[R, 1]`, in [0, 1)
/// - output: `[R, 3]`, f32
///
/// # Panics
/// If R differs or is 0, or the vocabulary has [`VOCAB_LIMIT`] tokens or more.
pub fn draw(logits: Tensor<2>, uniforms: Tensor<2>, drawing: &Drawing) -> Tensor<2> {
    let [rows, vocab] = logits.dims();
    assert!(
        rows > 0 && vocab < VOCAB_LIMIT,
        "draw: {rows} rows of {vocab} tokens"
    );
    assert_eq!(uniforms.dims(), [rows, 1], "draw: a number per row [R, 1]");
    #[cfg(feature = "cube")]
    if cube::has_kernel(&logits) {
        return cube::draw(logits, uniforms, drawing);
    }
    let most = (PART_VALUES / vocab).max(1);
    let parts = (0..rows).step_by(most).map(|first| {
        let count = most.min(rows - first);
        let own = |x: &Tensor<2>| x.clone().narrow(0, first, count);
        portable(own(&logits).cast(FloatDType::F32), own(&uniforms), drawing)
    });
    Tensor::cat(parts.collect(), 0)
}

fn portable(logits: Tensor<2>, uniforms: Tensor<2>, drawing: &Drawing) -> Tensor<2> {
    let vocab = logits.dims()[1];
    let is_finite = count(logits.clone().is_finite()).equal_elem(vocab as i64);
    let max = logits.clone().max_dim(1);
    let is_max = logits.clone().greater_equal(max.clone());
    let exponents = (logits - max) * drawing.inverse_temperature;
    let exponents = exponents.clamp_min(LEAST_EXPONENT);
    let weights = exponents.clone().exp();
    let total = weights.clone().sum_dim(1);
    let moment = (weights.clone() * exponents.clone()).sum_dim(1);
    let token = match drawing.is_greedy {
        true => invert(is_max.cast(FloatDType::F32), uniforms * 0.0),
        false => {
            let kept = drawing.filters.keep(&exponents, weights);
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
