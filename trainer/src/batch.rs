//! Rollouts to tensors: the only code that pads, packs and builds masks.
//!
//! Masks come from lengths, never from token values. Sequences are right-padded, so a causal model
//! needs no pad mask; only completion positions ever reach the vocabulary projection, packed
//! without padding.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::record::PromptId;

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
    /// Tokens of the completion.
    pub fn num_completion_tokens(&self) -> usize {
        self.tokens.len() - self.num_prompt_tokens
    }

    /// The completion.
    pub fn completion_tokens(&self) -> &[u32] {
        &self.tokens[self.num_prompt_tokens..]
    }
}

/// Splits rows into micro-batches of at most `max_tokens` padded positions each (one row at
/// least), similar lengths together. The order is a function of the rows alone.
pub fn microbatches(rows: &[&Row], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| (core::cmp::Reverse(rows[row].tokens.len()), row));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut widest = 0;
    for row in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * widest <= max_tokens => batch.push(row),
            _ => {
                widest = rows[row].tokens.len();
                batches.push(vec![row]);
            }
        }
    }
    batches
}

/// A micro-batch on the device. N rows, T positions, C completion positions, M completion tokens
/// in all.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    /// Right-padded tokens, `[N, T]`.
    pub tokens: Tensor<2, Int>,
    /// For each completion token, the flat position (row · T + t) whose hidden state predicts it,
    /// `[M]`. This is the only place where the shift by one is made.
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
    /// Pads and packs `rows` onto `device`, which must not record gradients.
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
        let width = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut tokens = vec![0i32; num_rows * width];
        let (mut positions, mut targets) = (Vec::new(), Vec::new());
        let mut unpack = vec![0i32; num_rows * longest];
        let mut mask = vec![false; num_rows * longest];
        for (n, row) in rows.iter().enumerate() {
            for (t, &token) in row.tokens.iter().enumerate() {
                tokens[n * width + t] = token as i32;
            }
            for (c, &token) in row.completion_tokens().iter().enumerate() {
                unpack[n * longest + c] = targets.len() as i32;
                mask[n * longest + c] = true;
                positions.push((n * width + row.num_prompt_tokens + c - 1) as i32);
                targets.push(token as i32);
            }
        }
        let num_targets = targets.len();
        let old_logprobs: Option<Vec<&[f32]>> =
            rows.iter().map(|row| row.old_logprobs.as_deref()).collect();
        let sampler: Vec<&[f32]> = rows
            .iter()
            .map(|row| row.sampler_logprobs.as_slice())
            .collect();
        let advantages: Vec<f32> = rows.iter().map(|row| row.advantage as f32).collect();
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, [num_rows, width]), device),
            positions: Tensor::from_data(TensorData::new(positions, [num_targets]), device),
            targets: Tensor::from_data(TensorData::new(targets, [num_targets]), device),
            unpack: Tensor::from_data(TensorData::new(unpack, [num_rows * longest]), device),
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
        let batch = MicroBatch::new(&[&short, &long], &device);
        let ints = |tensor: Tensor<1, Int>| tensor.into_data().iter::<i64>().collect::<Vec<_>>();
        assert_eq!(batch.tokens.dims(), [2, 4]);
        assert_eq!(ints(batch.positions.clone()), vec![1, 4, 5, 6]);
        assert_eq!(ints(batch.targets.clone()), vec![7, 2, 3, 2]);
        let mask: Vec<bool> = batch.completion_mask.clone().into_data().iter().collect();
        assert_eq!(mask, vec![true, false, false, true, true, true]);
        let packed = Tensor::<1>::from_floats([10.0, 20.0, 30.0, 40.0], &device);
        let padded: Vec<f32> = batch.unpack(packed).into_data().iter().collect();
        assert_eq!(
            [padded[0], padded[3], padded[4], padded[5]],
            [10.0, 20.0, 30.0, 40.0]
        );
        assert_eq!(
            batch.split(&[1.0, 2.0, 3.0, 4.0]),
            vec![vec![1.0], vec![2.0, 3.0, 4.0]]
        );
    }

    #[test]
    fn microbatches_hold_every_row_once_and_respect_the_budget() {
        let rows: Vec<Row> = (1..20usize)
            .map(|n| row(&vec![1; n % 7 + 1], &[2, 3]))
            .collect();
        let rows: Vec<&Row> = rows.iter().collect();
        let batches = microbatches(&rows, 16);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..rows.len()).collect::<Vec<_>>());
        for batch in &batches {
            let widest = batch
                .iter()
                .map(|&row| rows[row].tokens.len())
                .max()
                .unwrap();
            assert!(batch.len() == 1 || batch.len() * widest <= 16);
        }
        assert_eq!(microbatches(&rows, 1).len(), rows.len());
    }
}
