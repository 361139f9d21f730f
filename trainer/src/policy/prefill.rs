//! Runs prompts once and keeps what their completions go on from.
//!
//! Prompts are packed without padding and run as the update runs them, by the operations of
//! [`super::packed`]; what differs is only what is kept.
//!
//! # Order of summation
//!
//! A prompt's result does not depend on what it is packed with. On the CPU in f32 that holds bit
//! for bit, because attention goes prompt by prompt, norms and elementwise operations row by row,
//! and a matrix product sums one output over its inner axis front to back, cut at places that
//! follow from the length of that axis. Two cases take other kernels or other cuts: a single row,
//! and at most 64 rows into at most 64 columns. So at least 65 rows are run.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rlvr_backends::Precision;
use rlvr_backends::kernels::PromptSpan;

use super::cache::PromptKv;
use super::decoder::Decoder;
use super::packed::{PackedTokens, norm};

/// Rows from which on a product sums in one order, see above.
const LEAST_ROWS: usize = 65;

/// What a prefill leaves behind.
#[derive(Debug)]
pub struct Prefill {
    /// Final hidden state of the last token of every prompt, `[N, D]`.
    pub last_hidden: Tensor<2>,
    /// Keys and values, one entry per block.
    pub layers: Vec<PromptKv>,
    /// Rows of every prompt in `layers`.
    pub rows: Vec<Range<usize>>,
}

/// A prefill with the hidden states that predict the prompts' own tokens.
#[derive(Debug)]
pub struct ScoredPrefill {
    /// What decoding needs.
    pub prefill: Prefill,
    /// Final hidden states of all but the last token of every prompt, packed prompt after prompt,
    /// `[M, D]`; none if every prompt has one token.
    pub hidden: Option<Tensor<2>>,
}

impl Prefill {
    /// Only the prompts at `places`, in this order, in memory of their own.
    ///
    /// # Panics
    /// If a place lies behind the last prompt.
    pub fn keep(self, places: &[usize]) -> Self {
        let device = self.last_hidden.device();
        let index = |rows: Vec<usize>| {
            let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
            Tensor::<1, Int>::from_data(rows.as_slice(), &device)
        };
        let kept = places.iter().flat_map(|&place| self.rows[place].clone());
        let kept = index(kept.collect());
        let layers = self.layers.into_iter().map(|kv| PromptKv {
            keys: kv.keys.select(0, kept.clone()),
            values: kv.values.select(0, kept.clone()),
        });
        Self {
            last_hidden: self.last_hidden.select(0, index(places.to_vec())),
            layers: layers.collect(),
            rows: one_behind_the_other(places.iter().map(|&place| self.rows[place].len())),
        }
    }
}

impl Decoder {
    /// Runs prompts once, products in `precision`, and keeps their keys and values.
    ///
    /// # Panics
    /// If there is no prompt, or one without tokens.
    pub fn prefill(&self, prompts: &[&[u32]], precision: Precision) -> Prefill {
        self.run(prompts, precision, |_| Vec::new()).prefill
    }

    /// As [`Decoder::prefill`], and keeps the hidden states of the positions before the last.
    ///
    /// # Panics
    /// As [`Decoder::prefill`].
    pub fn prefill_all(&self, prompts: &[&[u32]], precision: Precision) -> ScoredPrefill {
        let inner = |rows: &[Range<usize>]| {
            let inner = rows.iter().flat_map(|rows| rows.start..rows.end - 1);
            inner.collect()
        };
        self.run(prompts, precision, inner)
    }

    fn run(
        &self,
        prompts: &[&[u32]],
        precision: Precision,
        inner: impl FnOnce(&[Range<usize>]) -> Vec<usize>,
    ) -> ScoredPrefill {
        assert!(!prompts.is_empty(), "prefill: at least one prompt");
        let device = self.embed_tokens.weight.val().device();
        let is_whole = prompts.iter().all(|prompt| !prompt.is_empty());
        assert!(is_whole, "prefill: a prompt has no tokens");
        let rows = one_behind_the_other(prompts.iter().map(|prompt| prompt.len()));
        let (x, layers) = self.packed_prompts(&packed(prompts, &device), precision);
        let normed = |rows: Vec<usize>| {
            let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
            let rows = Tensor::from_data(rows.as_slice(), &device);
            norm(&self.norm, x.clone().select(0, rows))
        };
        let inner = inner(&rows);
        let hidden = (!inner.is_empty()).then(|| normed(inner));
        ScoredPrefill {
            prefill: Prefill {
                last_hidden: normed(rows.iter().map(|rows| rows.end - 1).collect()),
                layers,
                rows,
            },
            hidden,
        }
    }
}

/// Stretches of these lengths.
fn one_behind_the_other(lengths: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut next = 0;
    let stretch = |length| {
        next += length;
        next - length..next
    };
    lengths.map(stretch).collect()
}

/// The prompts, and behind them one of zeros that fills up to [`LEAST_ROWS`].
fn packed(prompts: &[&[u32]], device: &Device) -> PackedTokens {
    let mut tokens: Vec<i64> = Vec::new();
    let mut spans = Vec::new();
    for prompt in prompts {
        tokens.extend(prompt.iter().map(|&token| i64::from(token)));
        spans.push(span(prompt.len()));
    }
    if tokens.len() < LEAST_ROWS {
        spans.push(span(LEAST_ROWS - tokens.len()));
        tokens.resize(LEAST_ROWS, 0);
    }
    let length = tokens.len();
    PackedTokens {
        tokens: Tensor::<1, Int>::from_data(TensorData::new(tokens, [length]), device),
        spans,
    }
}

fn span(num_prompt_rows: usize) -> PromptSpan {
    PromptSpan {
        num_prompt_rows,
        completion_rows: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decoder::tests::tiny_config;

    fn values(x: Tensor<2>) -> Vec<f32> {
        x.into_data().try_to_vec::<f32>().unwrap()
    }

    fn prompt(length: usize, salt: usize) -> Vec<u32> {
        (0..length)
            .map(|t| ((t * 7 + salt * 5) % 48) as u32)
            .collect()
    }

    #[test]
    fn a_prefill_gives_the_hidden_states_of_the_whole_forward() {
        let device = Device::default();
        let decoder = Decoder::init(&tiny_config(), 0, &device);
        let prompts = [prompt(9, 0), prompt(1, 1), prompt(80, 2)];
        let found = decoder.prefill_all(&prompts.each_ref().map(Vec::as_slice), Precision::F32);
        let inner = values(found.hidden.unwrap());
        let last = values(found.prefill.last_hidden);
        let mut seen = 0;
        for (place, prompt) in prompts.iter().enumerate() {
            let tokens: Vec<i64> = prompt.iter().map(|&t| i64::from(t)).collect();
            let tokens = TensorData::new(tokens, [1, prompt.len()]);
            let hidden = decoder.hidden(Tensor::from_data(tokens, &device));
            let expected = values(hidden.reshape([prompt.len(), 32]));
            let (before, end) = expected.split_at((prompt.len() - 1) * 32);
            let close = |found: &[f32], expected: &[f32]| {
                for (a, b) in found.iter().zip(expected) {
                    assert!((a - b).abs() < 1e-5, "{a} and {b}");
                }
            };
            close(&inner[seen..][..before.len()], before);
            close(&last[place * 32..][..32], end);
            seen += before.len();
        }
        assert_eq!(seen, inner.len());
    }

    #[test]
    fn a_prompt_does_not_depend_on_its_neighbours() {
        let decoder = Decoder::init(&tiny_config(), 0, &Device::default());
        for length in [1, 2, 17, 64, 65, 90] {
            let own = prompt(length, 3);
            let alone = decoder.prefill(&[&own], Precision::F32);
            let others = [prompt(70, 1), prompt(3, 2)];
            let packed = decoder.prefill(&[&others[0], &own, &others[1]], Precision::F32);
            let rows = packed.rows[1].clone();
            for (alone, packed) in alone.layers.iter().zip(&packed.layers) {
                let cut = |x: &Tensor<2>, start| values(x.clone().narrow(0, start, length));
                assert_eq!(cut(&packed.keys, rows.start), cut(&alone.keys, 0));
                assert_eq!(cut(&packed.values, rows.start), cut(&alone.values, 0));
            }
            let last = packed.last_hidden.narrow(0, 1, 1);
            assert_eq!(values(last), values(alone.last_hidden));
        }
    }
}
