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

use burn::tensor::{Device, TensorReadError};

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
        let (hidden, _) = base.packed_hidden(&batch.packed, Keep::Nothing);
        let hidden = hidden.select(0, batch.positions.clone());
        let sampled = base.head_weight().select(0, batch.targets.clone());
        let products = hidden * sampled;
        let width = products.dims()[1];
        let values = products.try_into_vec_as::<f32>()?;
        let mut tokens = values.chunks_exact(width);
        for (row, &length) in members.into_iter().zip(&batch.lengths) {
            found[row] = mean(tokens.by_ref().take(length), width);
        }
    }
    let found_of = |row: &Row| found[places[row.tokens.as_slice()]].clone();
    Ok(rows.iter().map(found_of).collect())
}

/// Mean of rows, summed in 64 bits.
fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let (mut sums, mut count) = (vec![0.0; width], 0.0_f64);
    for row in rows {
        count += 1.0;
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}
