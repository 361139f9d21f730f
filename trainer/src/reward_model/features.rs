//! What a reward head sees of a completion: a hidden state of the frozen base model.
//!
//! The base is the policy that the pairs were sampled from, and it never moves. Under the trained
//! weights the same head would score other features after every step: the reward would move with
//! the policy that it is meant to judge, its errors could not be compared between checkpoints, and
//! no bound that takes the reward as a fixed function would apply.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData, TensorReadError};

use crate::batch::{MicroBatch, Row, microbatches};
use crate::policy::decoder::Decoder;
use crate::policy::packed::Keep;

/// Where a completion is read, in words.
pub const POSITION: &str =
    "final norm, at the token before the completion's last (the stop token, if it ended)";

/// Hidden states of the base model after the final norm, at the position that predicts the last
/// token of each completion: everything but that token has been read, `[N, D]` row by row.
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
        let mut end = 0;
        let ends: Vec<i32> = batch
            .lengths
            .iter()
            .map(|length| {
                end += length;
                end as i32 - 1
            })
            .collect();
        let count = ends.len();
        let ends: Tensor<1, Int> = Tensor::from_data(TensorData::new(ends, [count]), device);
        let (hidden, _) = base.packed_hidden(&batch.packed, Keep::Nothing);
        let last = hidden.select(0, batch.positions.clone().select(0, ends));
        let width = last.dims()[1];
        let values = last.try_into_vec_as::<f32>()?;
        for (row, values) in members.into_iter().zip(values.chunks_exact(width)) {
            found[row] = values.to_vec();
        }
    }
    let found_of = |row: &Row| found[places[row.tokens.as_slice()]].clone();
    Ok(rows.iter().map(found_of).collect())
}
