//! The definition, in Burn's operations: segments in padded batches, so that the number of
//! launches does not grow with the number of completions.

use burn::tensor::Tensor;
use rlvr_core::Precision;

use super::batches::{Batch, Batches, MOST_SCORES, Shared};
use super::weights::{self, Scores, Weights, scale};
use super::{AttentionGradients, Heads};

/// Most tensors of the size of the scores that are alive at the same time, backwards.
const COPIES: usize = 5;

/// Bytes that attention needs for the moment where no kernel computes it, for packed rows that see
/// up to `columns` columns each.
pub fn attention_bytes(rows: usize, columns: usize, heads: Heads) -> u64 {
    let count = heads.num_kv_heads * heads.group;
    let longest = columns * columns * count;
    let scores = (rows * columns * count).min(MOST_SCORES.max(longest));
    (COPIES * scores * size_of::<f32>()) as u64
}

pub(super) fn forward(
    inputs: [Tensor<2>; 3],
    batches: &Batches,
    heads: Heads,
    precision: Precision,
) -> Tensor<2> {
    let parts = batches.batches.iter().map(|batch| {
        let operands = Operands::new(&inputs, batch, heads, precision);
        let probs = operands.scores().probs(operands.is_fused);
        unfold(precision.matmul(probs, operands.values), heads)
    });
    Tensor::cat(parts.collect(), 0).select(0, batches.rows.clone())
}

pub(super) fn backward(
    inputs: [Tensor<2>; 3],
    grad: Tensor<2>,
    batches: &Batches,
    heads: Heads,
    precision: Precision,
) -> AttentionGradients {
    let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut to_prompts = Vec::new();
    for batch in &batches.batches {
        let operands = Operands::new(&inputs, batch, heads, precision);
        let grad = grad.clone().select(0, batch.rows.clone()) * batch.is_row.clone();
        let part = operands.backward(fold(grad, batch.count, heads));
        if let Some(shared) = &batch.shared {
            let sums = [&part.keys, &part.values].map(|it| sums(it, batch, shared));
            to_prompts.push(sums);
        }
        queries.push(part.queries);
        keys.push(part.keys);
        values.push(part.values);
    }
    let packed = |parts, index: &Tensor<1, _>| Tensor::cat(parts, 0).select(0, index.clone());
    let mut found = AttentionGradients {
        queries: packed(queries, &batches.rows),
        keys: packed(keys, &batches.columns),
        values: packed(values, &batches.columns),
    };
    for [keys, values] in to_prompts {
        found.keys = found.keys + keys;
        found.values = found.values + values;
    }
    found
}

/// Gradients that the completions of a batch have for the rows of their prompts, zero for all other
/// rows, `[L, W]`, from those of padded columns, `[n * (P + T), W]`.
fn sums(gradient: &Tensor<2>, batch: &Batch, shared: &Shared) -> Tensor<2> {
    let [columns, width] = gradient.dims();
    let (count, length) = (batch.count, batch.prompt_columns * width);
    let all = gradient.clone().reshape([count, columns / count * width]);
    let prompts = all.narrow(1, 0, length);
    let none = |shape: [usize; 2]| Tensor::zeros(shape, &gradient.device());
    let members = Tensor::cat(vec![prompts, none([1, length])], 0);
    let members: Tensor<3> =
        members
            .select(0, shared.members.clone())
            .reshape([shared.count as i32, -1, length as i32]);
    let sums = members.sum_dim(1);
    let sums = sums.reshape([shared.count * batch.prompt_columns, width]);
    Tensor::cat(vec![sums, none([1, width])], 0).select(0, shared.rows.clone())
}

/// What one batch multiplies, rounded to the precision of the products.
struct Operands<'a> {
    /// `[n, Hkv, g * T, K]`; already divided by the root of K, unless kernels do it.
    queries: Tensor<4>,
    /// `[n, Hkv, S, K]`.
    keys: Tensor<4>,
    /// `[n, Hkv, S, K]`.
    values: Tensor<4>,
    batch: &'a Batch,
    heads: Heads,
    precision: Precision,
    is_fused: bool,
}

impl<'a> Operands<'a> {
    fn new(
        [queries, keys, values]: &[Tensor<2>; 3],
        batch: &'a Batch,
        heads: Heads,
        precision: Precision,
    ) -> Self {
        let context = |x: &Tensor<2>| {
            let all = precision.operand(x.clone().select(0, batch.columns.clone()));
            let [rows, _] = all.dims();
            all.reshape([
                batch.count,
                rows / batch.count,
                heads.num_kv_heads,
                heads.width,
            ])
            .swap_dims(1, 2)
        };
        let is_fused = weights::has_kernel(&queries.device());
        let queries = precision.operand(queries.clone().select(0, batch.rows.clone()));
        let queries = match is_fused {
            true => fold(queries, batch.count, heads),
            false => {
                // Rounded before they are scaled, as those are that come in half precision.
                let queries = fold(precision.result(queries), batch.count, heads);
                precision.operand(queries * scale(heads))
            }
        };
        Self {
            queries,
            keys: context(keys),
            values: context(values),
            batch,
            heads,
            precision,
            is_fused,
        }
    }

    fn scores(&self) -> Scores<'a> {
        let keys = self.keys.clone().swap_dims(2, 3);
        Scores {
            raw: self.precision.product(self.queries.clone(), keys),
            batch: self.batch,
            heads: self.heads,
            precision: self.precision,
        }
    }

    fn backward(self, grad: Tensor<4>) -> AttentionGradients {
        let (heads, precision, is_fused) = (self.heads, self.precision, self.is_fused);
        let grad = precision.operand(grad);
        let scores = self.scores();
        let d_probs = precision.product(grad.clone(), self.values.swap_dims(2, 3));
        let Weights { probs, d_scores } = scores.backward(d_probs, is_fused);
        let d_values = precision.matmul(probs.swap_dims(2, 3), grad);
        let d_keys = precision.matmul(d_scores.clone().swap_dims(2, 3), self.queries);
        let d_queries = precision.matmul(d_scores, self.keys);
        let d_queries = match is_fused {
            true => d_queries,
            false => d_queries * scale(heads),
        };
        let flat = |x: Tensor<4>| {
            let [count, kv_heads, columns, width] = x.dims();
            x.swap_dims(1, 2)
                .reshape([count * columns, kv_heads * width])
        };
        AttentionGradients {
            queries: unfold(d_queries, heads),
            keys: flat(d_keys),
            values: flat(d_values),
        }
    }
}

/// `[n * T, Hkv * g * K]` to `[n, Hkv, g * T, K]`.
fn fold(x: Tensor<2>, count: usize, heads: Heads) -> Tensor<4> {
    let rows = x.dims()[0] / count;
    let Heads {
        num_kv_heads,
        group,
        width,
    } = heads;
    x.reshape([count, rows, num_kv_heads, group, width])
        .permute([0, 2, 3, 1, 4])
        .reshape([count, num_kv_heads, group * rows, width])
}

/// The inverse of [`fold`].
fn unfold(x: Tensor<4>, heads: Heads) -> Tensor<2> {
    let [count, kv_heads, folded, width] = x.dims();
    let rows = folded / heads.group;
    x.reshape([count, kv_heads, heads.group, rows, width])
        .permute([0, 3, 1, 2, 4])
        .reshape([count * rows, kv_heads * heads.group * width])
}
