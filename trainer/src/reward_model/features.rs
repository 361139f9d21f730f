//! What a reward head sees of a completion: hidden states of the frozen base model.
//!
//! The base is the policy that the pairs were sampled from, and it never moves. Under the trained
//! weights the same head would score other features after every step: the reward would move with
//! the policy that it is meant to judge, its errors could not be compared between checkpoints, and
//! no bound that takes the reward as a fixed function would apply.
//!
//! A hidden state speaks of the text before a token and knows nothing of the token that was sampled
//! there, so each is multiplied, coordinate by coordinate, with that token's row of the output
//! head. The sum of a product is the token's logit; a head weighs its coordinates instead.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData, TensorReadError};

use rlvr_backends::Precision;

use crate::batch::{MicroBatch, Row, microbatches};
use crate::policy::decoder::Decoder;
use crate::policy::packed::Keep;

/// What is read of a completion, in words.
pub const LAYER: &str =
    "after the final norm; times the sampled token's row of the output head; mean over the tokens";

/// Mean over the completion's tokens of `h_t * E[y_t]`: h the base model's hidden state after the
/// final norm at the position that predicts token `y_t`, E its output head, `[N, D]` row by row.
///
/// Rows of the same tokens are run once and get the same bits: what differs by the rounding of a batch
/// alone must not become an advantage.
///
/// In f32 on every device, as the head was fitted: the reward is one function.
///
/// # Errors
/// If the device cannot be read.
///
/// # Panics
/// If a row has no completion.
pub fn features(
    base: &Decoder,
    rows: &[Row],
    max_tokens: usize,
    device: &Device,
) -> Result<Vec<Vec<f32>>, TensorReadError> {
    let mut places: BTreeMap<&[u32], usize> = BTreeMap::new();
    let mut views: Vec<&Row> = Vec::new();
    for row in rows {
        places.entry(&row.tokens).or_insert_with(|| {
            views.push(row);
            views.len() - 1
        });
    }
    let mut found = vec![Vec::new(); views.len()];
    for members in microbatches(&views, max_tokens) {
        let batch_rows: Vec<&Row> = members.iter().map(|&row| views[row]).collect();
        let batch = MicroBatch::new(&batch_rows, device);
        let (hidden, _) = base.packed_hidden(&batch.packed, Keep::Nothing, Precision::F32);
        let hidden = hidden.select(0, batch.positions.clone());
        let sampled = base.head_weight().select(0, batch.targets.clone());
        // One row per completion leaves the device, not one per token.
        let means = averages(&batch.lengths, device).matmul(hidden * sampled);
        let width = means.dims()[1];
        let values = means.try_into_vec_as::<f32>()?;
        for (row, features) in members.into_iter().zip(values.chunks_exact(width)) {
            found[row] = features.to_vec();
        }
    }
    let found_of = |row: &Row| found[places[row.tokens.as_slice()]].clone();
    Ok(rows.iter().map(found_of).collect())
}

/// The matrix `[B, T]` that takes the mean over each completion's stretch of the T tokens.
fn averages(lengths: &[usize], device: &Device) -> Tensor<2> {
    let num_tokens: usize = lengths.iter().sum();
    let mut values = vec![0.0f32; lengths.len() * num_tokens];
    let mut first = 0;
    for (row, &length) in lengths.iter().enumerate() {
        let start = row * num_tokens + first;
        values[start..start + length].fill(1.0 / length as f32);
        first += length;
    }
    Tensor::from_data(TensorData::new(values, [lengths.len(), num_tokens]), device)
}
