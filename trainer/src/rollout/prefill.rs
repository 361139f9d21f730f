//! Prompts of similar length in one batch.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Request;

/// Prompts of a prefill batch are padded to a multiple of this many tokens. Below 17 the product
/// of queries and keys takes the kernel for tiny matrices, which sums in another order.
const PROMPT_BUCKET: usize = 32;

/// A batch as the decoder takes it.
#[derive(Debug)]
pub(super) struct PromptBatch {
    /// `[N, T]`, right-padded.
    pub(super) tokens: Tensor<2, Int>,
    /// Tokens per row.
    pub(super) lengths: Vec<usize>,
    /// T.
    pub(super) columns: usize,
}

impl PromptBatch {
    pub(super) fn new(batch: &[(usize, &Request)], device: &Device) -> Self {
        let lengths: Vec<usize> = batch.iter().map(|(_, r)| r.prompt_tokens.len()).collect();
        let columns = padded(lengths.iter().copied().max().unwrap_or(1));
        let mut tokens = vec![0i64; batch.len() * columns];
        for (row, (_, request)) in batch.iter().enumerate() {
            for (column, token) in request.prompt_tokens.iter().enumerate() {
                tokens[row * columns + column] = i64::from(*token);
            }
        }
        let shape = [batch.len(), columns];
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, shape), device),
            lengths,
            columns,
        }
    }
}

fn padded(prompt_tokens: usize) -> usize {
    prompt_tokens.next_multiple_of(PROMPT_BUCKET)
}

/// Groups requests of similar length so that no batch exceeds `most_tokens` with its padding,
/// unless a single prompt does.
pub(super) fn batches(
    mut requests: Vec<(usize, &Request)>,
    most_tokens: usize,
) -> Vec<Vec<(usize, &Request)>> {
    requests.sort_by_key(|(place, request)| (padded(request.prompt_tokens.len()), *place));
    let mut batches: Vec<Vec<(usize, &Request)>> = Vec::new();
    for (place, request) in requests {
        let columns = padded(request.prompt_tokens.len());
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * columns <= most_tokens => {
                batch.push((place, request));
            }
            _ => batches.push(vec![(place, request)]),
        }
    }
    batches
}
