//! Rollouts to tensors: the only code that pads, packs and builds masks.
//!
//! Masks come from lengths, never from token values. Tokens are packed without padding, a prompt
//! once for all its completions of the micro-batch; only completion positions ever reach the
//! vocabulary projection. Values per completion token are right-padded for the loss.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rlvr_backends::kernels::PromptSpan;

use crate::policy::packed::PackedTokens;
use crate::record::{Completion, Prompt, PromptId};

/// One rollout as the update sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The prompt it belongs to.
    pub prompt_id: PromptId,
    /// Index within its group.
    pub rollout_index: u32,
    /// Prompt tokens, then completion tokens.
    pub tokens: Vec<u32>,
    /// How many of `tokens` are the prompt; at least one.
    pub num_prompt_tokens: usize,
    /// Group-relative advantage.
    pub advantage: f64,
    /// What decoding reported for each completion token, nats.
    pub sampler_logprobs: Vec<f32>,
    /// Log-probabilities under the weights at the start of the step; `None` until known.
    pub old_logprobs: Option<Vec<f32>>,
}

impl Row {
    /// A completion as it was sampled; nothing is known yet of the weights at the start of the step.
    pub fn of(prompt: &Prompt, completion: &Completion, advantage: f64) -> Self {
        Self {
            prompt_id: prompt.id,
            rollout_index: completion.index,
            tokens: [&prompt.prompt_tokens[..], &completion.tokens].concat(),
            num_prompt_tokens: prompt.prompt_tokens.len(),
            advantage,
            sampler_logprobs: completion.sampler_logprobs.clone(),
            old_logprobs: None,
        }
    }

    /// Tokens of the completion.
    pub fn num_completion_tokens(&self) -> usize {
        self.tokens.len() - self.num_prompt_tokens
    }

    /// The completion.
    pub fn completion_tokens(&self) -> &[u32] {
        &self.tokens[self.num_prompt_tokens..]
    }
}

/// Splits rows into micro-batches of at most `max_tokens` packed rows each (one completion at
/// least). Rows of one prompt stay together as far as that allows; each micro-batch runs the
/// prompt again. The order is a function of the rows alone.
pub fn microbatches(rows: &[&Row], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut filled = 0;
    for group in groups(rows) {
        let prompt = rows[group[0]].num_prompt_tokens;
        // Whether the prompt is in the last micro-batch already.
        let mut is_shared = false;
        for row in group {
            let own = num_packed(rows[row]);
            let needed = own + if is_shared { 0 } else { prompt };
            match batches.last_mut() {
                Some(batch) if filled + needed <= max_tokens => {
                    batch.push(row);
                    filled += needed;
                }
                _ => {
                    batches.push(vec![row]);
                    filled = prompt + own;
                }
            }
            is_shared = true;
        }
    }
    batches
}

/// Packed rows of the largest micro-batch of those that [`microbatches`] gave, of more than one
/// completion; `None` if each has only one, so that no smaller limit would change them.
pub fn largest_divisible(rows: &[&Row], batches: &[Vec<usize>]) -> Option<usize> {
    let divisible = batches.iter().filter(|batch| batch.len() > 1);
    let packed = divisible.map(|batch| {
        let members: Vec<&Row> = batch.iter().map(|&row| rows[row]).collect();
        let prompts = groups(&members).into_iter();
        let prompts = prompts.map(|group| members[group[0]].num_prompt_tokens);
        let completions = members.iter().map(|row| num_packed(row));
        prompts.sum::<usize>() + completions.sum::<usize>()
    });
    packed.max()
}

/// Completion tokens that are read: the last one predicts nothing.
fn num_packed(row: &Row) -> usize {
    row.num_completion_tokens() - 1
}

/// Indices of the rows that can share their prompt: same id and same tokens. In order of first
/// appearance, each in the order given.
fn groups(rows: &[&Row]) -> Vec<Vec<usize>> {
    let mut found: BTreeMap<(u64, &[u32]), usize> = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let key = (row.prompt_id.0, &row.tokens[..row.num_prompt_tokens]);
        let place = *found.entry(key).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(index);
    }
    groups
}

/// Packed tokens on the host.
struct Packing {
    tokens: Vec<i32>,
    spans: Vec<PromptSpan>,
    /// For each row given, where its prompt ends and where its completion starts.
    places: Vec<(usize, usize)>,
}

impl Packing {
    fn new(rows: &[&Row]) -> Self {
        let mut packing = Self {
            tokens: Vec::new(),
            spans: Vec::new(),
            places: vec![(0, 0); rows.len()],
        };
        for group in groups(rows) {
            let first = rows[group[0]];
            let prompt = first.num_prompt_tokens;
            packing.push(&first.tokens[..prompt]);
            let prompt_end = packing.tokens.len();
            for &row in &group {
                packing.places[row] = (prompt_end, packing.tokens.len());
                packing.push(&rows[row].completion_tokens()[..num_packed(rows[row])]);
            }
            packing.spans.push(PromptSpan {
                num_prompt_rows: prompt,
                completion_rows: group.iter().map(|&row| num_packed(rows[row])).collect(),
            });
        }
        packing
    }

    fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend(tokens.iter().map(|&token| token as i32));
    }

    /// The packed row whose hidden state predicts completion token `token` of row `row`: the last
    /// of the prompt, then the completion token before. This is the only place where the shift by
    /// one is made.
    fn predictor(&self, row: usize, token: usize) -> usize {
        let (prompt_end, completion) = self.places[row];
        match token {
            0 => prompt_end - 1,
            _ => completion + token - 1,
        }
    }
}

/// A micro-batch on the device. N rows, L packed rows, C completion positions, M completion tokens
/// in all.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    /// Every prompt once, every completion without its last token, `[L]`.
    pub packed: PackedTokens,
    /// For each completion token, the packed row whose hidden state predicts it, `[M]`.
    pub positions: Tensor<1, Int>,
    /// The completion tokens, row after row, `[M]`.
    pub targets: Tensor<1, Int>,
    /// Where each padded completion position finds its token among the M, `[N * C]`; 0 where
    /// masked.
    pub unpack: Tensor<1, Int>,
    /// True counts in the loss, `[N, C]`.
    pub completion_mask: Tensor<2, Bool>,
    /// `[N]`.
    pub advantages: Tensor<1>,
    /// What decoding reported, 0 where masked, `[N, C]`.
    pub sampler_logprobs: Tensor<2>,
    /// Under the weights at the start of the step, 0 where masked, `[N, C]`; `None` if any row
    /// does not know them yet.
    pub old_logprobs: Option<Tensor<2>>,
    /// Completion lengths, in row order.
    pub lengths: Vec<usize>,
}

impl MicroBatch {
    /// Packs and pads `rows` onto `device`, which must not record gradients.
    ///
    /// # Panics
    /// If `rows` is empty, a row has no prompt or no completion, or all are too long to index.
    pub fn new(rows: &[&Row], device: &Device) -> Self {
        assert!(!rows.is_empty(), "MicroBatch::new: no rows");
        let lengths: Vec<usize> = rows.iter().map(|row| row.num_completion_tokens()).collect();
        assert!(
            rows.iter().all(|row| row.num_prompt_tokens > 0) && lengths.iter().all(|&c| c > 0),
            "MicroBatch::new: every row needs a prompt and a completion"
        );
        let num_rows = rows.len();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let packing = Packing::new(rows);
        let (mut positions, mut targets) = (Vec::new(), Vec::new());
        let mut unpack = vec![0i32; num_rows * longest];
        let mut mask = vec![false; num_rows * longest];
        for (n, row) in rows.iter().enumerate() {
            for (c, &token) in row.completion_tokens().iter().enumerate() {
                unpack[n * longest + c] = targets.len() as i32;
                mask[n * longest + c] = true;
                positions.push(packing.predictor(n, c) as i32);
                targets.push(token as i32);
            }
        }
        let old_logprobs: Option<Vec<&[f32]>> =
            rows.iter().map(|row| row.old_logprobs.as_deref()).collect();
        let sampler: Vec<&[f32]> = rows
            .iter()
            .map(|row| row.sampler_logprobs.as_slice())
            .collect();
        let advantages: Vec<f32> = rows.iter().map(|row| row.advantage as f32).collect();
        Self {
            packed: PackedTokens {
                tokens: upload(packing.tokens, device),
                spans: packing.spans,
            },
            positions: upload(positions, device),
            targets: upload(targets, device),
            unpack: upload(unpack, device),
            completion_mask: Tensor::from_data(TensorData::new(mask, [num_rows, longest]), device),
            advantages: Tensor::from_data(TensorData::new(advantages, [num_rows]), device),
            sampler_logprobs: pad(&sampler, longest, device),
            old_logprobs: old_logprobs.map(|values| pad(&values, longest, device)),
            lengths,
        }
    }

    /// Packed per-token values `[M]` to padded `[N, C]`; masked positions hold a copy of the first
    /// value and must stay masked.
    pub fn unpack(&self, packed: Tensor<1>) -> Tensor<2> {
        let [num_rows, longest] = self.completion_mask.dims();
        packed
            .select(0, self.unpack.clone())
            .reshape([num_rows, longest])
    }

    /// Packed host values cut back into one vector per row.
    pub fn split(&self, packed: &[f32]) -> Vec<Vec<f32>> {
        let mut rest = packed;
        self.lengths
            .iter()
            .map(|&length| {
                let (row, tail) = rest.split_at(length);
                rest = tail;
                row.to_vec()
            })
            .collect()
    }
}

fn upload(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// Rows of different lengths to `[N, C]`, zero on the right.
fn pad(rows: &[&[f32]], width: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0f32; rows.len() * width];
    for (n, row) in rows.iter().enumerate() {
        values[n * width..n * width + row.len()].copy_from_slice(row);
    }
    Tensor::from_data(TensorData::new(values, [rows.len(), width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: &[u32], completion: &[u32]) -> Row {
        Row {
            prompt_id: PromptId(1),
            rollout_index: 0,
            tokens: [prompt, completion].concat(),
            num_prompt_tokens: prompt.len(),
            advantage: 0.5,
            sampler_logprobs: completion.iter().map(|&token| -(token as f32)).collect(),
            old_logprobs: None,
        }
    }

    #[test]
    fn positions_predict_their_targets_and_masks_follow_lengths() {
        let device = crate::test_device();
        let (short, long) = (row(&[5, 6], &[7]), row(&[1], &[2, 3, 2]));
        let other = row(&[5, 6], &[8, 9]);
        let batch = MicroBatch::new(&[&short, &long, &other], &device);
        let ints = |tensor: Tensor<1, Int>| tensor.into_data().iter::<i64>().collect::<Vec<_>>();
        // One prompt of two completions, then one of one; no last tokens.
        assert_eq!(ints(batch.packed.tokens.clone()), vec![5, 6, 8, 1, 2, 3]);
        let spans =
            [(2, vec![0, 1]), (1, vec![2])].map(|(num_prompt_rows, completion_rows)| PromptSpan {
                num_prompt_rows,
                completion_rows,
            });
        assert_eq!(batch.packed.spans, spans);
        assert_eq!(ints(batch.positions.clone()), vec![1, 3, 4, 5, 1, 2]);
        assert_eq!(ints(batch.targets.clone()), vec![7, 2, 3, 2, 8, 9]);
        let mask: Vec<bool> = batch.completion_mask.clone().into_data().iter().collect();
        let expected = [
            [true, false, false],
            [true, true, true],
            [true, true, false],
        ];
        assert_eq!(mask, expected.concat());
        let values: Vec<f32> = (1..7).map(|value| 10.0 * value as f32).collect();
        let packed = Tensor::<1>::from_floats(values.as_slice(), &device);
        let padded: Vec<f32> = batch.unpack(packed).into_data().iter().collect();
        assert_eq!([padded[0], padded[3], padded[6]], [10.0, 20.0, 50.0]);
        assert_eq!(
            batch.split(&values),
            vec![vec![10.0], vec![20.0, 30.0, 40.0], vec![50.0, 60.0]]
        );
    }

    #[test]
    fn a_prompt_is_shared_only_under_the_same_id_and_tokens() {
        let one = row(&[5, 6], &[7, 8]);
        let mut other_id = row(&[5, 6], &[7, 8]);
        other_id.prompt_id = PromptId(2);
        let cut_shorter = row(&[5], &[6, 7, 8]);
        assert_eq!(groups(&[&one, &other_id, &cut_shorter, &one]).len(), 3);
    }

    #[test]
    fn microbatches_hold_every_row_once_and_respect_the_budget() {
        let rows: Vec<Row> = (1..20usize)
            .map(|n| row(&vec![1; n % 3 + 1], &vec![2; n % 7 + 1]))
            .collect();
        let rows: Vec<&Row> = rows.iter().collect();
        let batches = microbatches(&rows, 16);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..rows.len()).collect::<Vec<_>>());
        let num_rows = |batch: &[usize]| {
            let members: Vec<&Row> = batch.iter().map(|&row| rows[row]).collect();
            Packing::new(&members).tokens.len()
        };
        for pair in batches.windows(2) {
            assert!(pair[0].len() == 1 || num_rows(&pair[0]) <= 16);
            // The next row would not have fitted.
            let more = [pair[0].as_slice(), &pair[1][..1]].concat();
            assert!(num_rows(&more) > 16, "{more:?} would have fitted");
        }
        let largest = batches.iter().map(|batch| num_rows(batch)).max();
        assert_eq!(largest_divisible(&rows, &batches), largest);
        let alone = microbatches(&rows, 1);
        assert_eq!(alone.len(), rows.len());
        assert_eq!(largest_divisible(&rows, &alone), None);
    }
}
