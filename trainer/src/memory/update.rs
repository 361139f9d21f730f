//! What an update needs.

use rlvr_backends::Precision;
use rlvr_backends::kernels::{attention_bytes, holds_scores};

use super::{F32, RunShape};
use crate::config::RunConfig;
use crate::policy::packed::Keep;
use crate::rollout::memory::weights_bytes;

/// Gradients, activations and logits of the update.
///
/// The backward pass starts with all that [`Keep`] says for every packed row and the gradient of the
/// output head. Beside them stand, one after the other: that gradient once more while it is summed
/// over chunks, with two chunks of logits; then the first block's work, at its most when the gate
/// is taken back (four vectors of the feed-forward width and two of the model's), or the scores of
/// its attention where these are held. It ends with the gradients of all blocks, and the work of one
/// block. From the second micro-batch on, the sum of
/// the gradients is held as well.
pub(super) fn update_bytes(shape: &RunShape<'_>, config: &RunConfig) -> u64 {
    let model = shape.model;
    let step_rows = shape.step_rows(config);
    let most = config.update.max_tokens_per_microbatch;
    let rows = step_rows.min(most).max(shape.longest(config)) as u64;
    let keep = match config.update.gradient_checkpointing {
        true => Keep::Inputs,
        false => Keep::Products,
    };
    let (precision, layout) = (shape.precision, shape.layout);
    let kept = rows * keep.bytes_per_row(model, precision, layout);
    let again = match keep {
        Keep::Inputs => {
            let row = Keep::Products.bytes_per_row(model, precision, layout);
            row / model.num_layers as u64
        }
        Keep::Products | Keep::Nothing => 0,
    };
    let row = |values| layout.row_bytes(values, F32 as usize);
    let (width, inner) = (row(model.hidden_size), row(model.intermediate_size));
    let block = rows * (8 * width + 6 * inner + again);
    let gate = rows * (2 * width + 4 * inner + again);
    let head = model.vocab_size as u64 * width;
    let logits = rows * model.vocab_size as u64 * F32;
    let logits = logits.min(config.update.max_logits_bytes as u64);
    let weights = weights_bytes(model, layout);
    let sum = if step_rows > most { weights } else { 0 };
    let rounded = rounded_bytes(shape, rows, logits);
    let logits = shape.with_gaps(logits, model.vocab_size);
    let (scores, gate) = (head + 2 * logits + rounded.head, gate + rounded.block);
    let attention = match holds_scores(config.backend.kind, precision, model.heads()) {
        true => {
            let columns = shape.longest(config);
            let bytes = attention_bytes(rows as usize, columns, model.heads());
            shape.with_gaps(bytes, columns)
        }
        false => 0,
    };
    let start = kept + head + gate.max(scores).max(attention);
    let end = weights + head + block + rounded.block + attention;
    sum + start.max(end)
}

/// What the device holds in an update without an optimizer: weights, gradients, activations and logits.
pub fn bare_update_bytes(shape: &RunShape<'_>, config: &RunConfig) -> u64 {
    weights_bytes(shape.model, shape.layout) + update_bytes(shape, config)
}

/// What products that round or split their operands hold besides: those, and results before they are
/// f32 again or added up.
struct RoundedBytes {
    /// With the head: its weight, a chunk of its gradient, and two chunks of logits.
    head: u64,
    /// With a block: input, weight and gradient of its largest layer and of the result.
    block: u64,
}

/// Of `rows` packed rows, and chunks of `logits` bytes without gaps.
fn rounded_bytes(shape: &RunShape<'_>, rows: u64, logits: u64) -> RoundedBytes {
    let RunShape {
        model,
        precision,
        layout,
        ..
    } = *shape;
    let row = |values| layout.row_bytes(values, precision.value_bytes());
    let (width, inner) = (row(model.hidden_size), row(model.intermediate_size));
    let rising = model.hidden_size as u64 * inner;
    let falling = model.intermediate_size as u64 * width;
    let block = rows * 2 * (width + inner) + 2 * rising.max(falling);
    // Two of them, in either precision.
    let head = 2 * model.vocab_size as u64 * row(model.hidden_size);
    match precision {
        Precision::F32 => RoundedBytes { head: 0, block: 0 },
        // Two parts of both operands, and three results, where there is one of each.
        Precision::F32Split => RoundedBytes {
            head: head + 3 * shape.with_gaps(logits, model.vocab_size),
            block: 2 * block,
        },
        // Halves of two each.
        Precision::Bf16 => RoundedBytes {
            head: head + layout.with_gaps(logits, model.vocab_size, precision.value_bytes()),
            block,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shape;
    use super::*;
    use crate::bench::shapes::smollm2;
    use crate::policy::config::ModelConfig;
    use crate::policy::decoder::tests::tiny_config;
    use crate::rollout::memory::num_weights;
    use rlvr_backends::{BackendKind, RowLayout};

    #[test]
    fn a_second_micro_batch_holds_the_sum_and_recompute_keeps_less() {
        let (mut model, mut config) = (tiny_config(), RunConfig::default());
        model.num_layers = 12;
        // The gate needs more than attention.
        model.intermediate_size = 1024;
        let shape = shape(&model);
        config.rollout.max_new_tokens = 30;
        let rows = shape.step_rows(&config);
        assert_eq!(rows, config.selection.prompts_per_step * (20 + 8 * 29));
        config.update.max_tokens_per_microbatch = rows;
        let whole = update_bytes(&shape, &config);
        config.update.gradient_checkpointing = true;
        let again = update_bytes(&shape, &config);
        config.update.gradient_checkpointing = false;
        config.update.max_tokens_per_microbatch = rows - 1;
        let cut = update_bytes(&shape, &config);
        assert!(again < whole, "{again} and {whole}");
        let row = Keep::Products.bytes_per_row(&model, Precision::F32, RowLayout::DENSE);
        let gate_row = (2 * model.hidden_size + 4 * model.intermediate_size) as u64 * F32;
        let weights = num_weights(&model) * F32;
        assert_eq!(cut, whole + weights - row - gate_row);
        // What is kept of products halves; the operands of a layer come on top, two bytes each.
        let kept = |precision| Keep::Products.bytes_per_row(&model, precision, RowLayout::DENSE);
        let half = RunShape {
            precision: Precision::Bf16,
            ..shape
        };
        let rows = rows as u64 - 1;
        let less = rows * (kept(Precision::F32) - kept(Precision::Bf16));
        let (width, inner) = (model.hidden_size as u64, model.intermediate_size as u64);
        let operands = 2 * (2 * rows * (width + inner) + 2 * width * inner);
        assert_eq!(update_bytes(&half, &config), cut - less + operands);
    }

    #[test]
    fn scores_count_where_no_kernel_computes_attention() {
        let (model, mut config) = (tiny_config(), RunConfig::default());
        let shape = shape(&model);
        config.rollout.max_new_tokens = 30;
        config.update.max_tokens_per_microbatch = 1000;
        let with_kernel = update_bytes(&shape, &config);
        config.backend.kind = BackendKind::Wgpu;
        let gate = (2 * model.hidden_size + 4 * model.intermediate_size) as u64 * F32;
        let scores = 5 * 50 * model.num_heads as u64 * F32;
        let expected = with_kernel + 1000 * scores - 1000 * gate;
        assert_eq!(update_bytes(&shape, &config), expected);
    }

    /// A product of matrices `[n, k]` and `[k, m]` holds two parts of each operand, and three results
    /// before they are one.
    #[test]
    fn split_products_hold_parts_of_operands_and_results() {
        let (mut model, mut config) = (tiny_config(), RunConfig::default());
        config.backend.kind = BackendKind::Wgpu;
        config.rollout.max_new_tokens = 30;
        config.update.max_tokens_per_microbatch = 1000;
        let more = |model: &ModelConfig, config: &RunConfig| {
            let plain = shape(model);
            let split = RunShape {
                precision: Precision::F32Split,
                ..plain
            };
            update_bytes(&split, config) - update_bytes(&plain, config)
        };
        // At the largest layer there and back, where it needs more than attention.
        model.num_layers = 12;
        model.intermediate_size = 1024;
        let (rows, width, inner) = (1000, model.hidden_size, 1024);
        let product = |n, k, m| 2 * (n * k + k * m) + (3 - 1) * n * m;
        let values = product(rows, width, inner) + product(rows, inner, width);
        assert_eq!(more(&model, &config), 4 * values as u64);
        // At the head of a vocabulary that outweighs all else: parts of its weight, and results of a
        // chunk of 10 rows.
        model.intermediate_size = 64;
        model.vocab_size = 1_000_000;
        config.update.max_logits_bytes = 4 * 10 * model.vocab_size;
        let scores = 5 * 1000 * 50 * model.num_heads;
        let head = 2 * model.vocab_size * width + 3 * 10 * model.vocab_size;
        let counted = model.vocab_size * width + 2 * 10 * model.vocab_size;
        assert!(counted > scores);
        assert_eq!(more(&model, &config), 4 * head as u64);
    }

    /// Of SmolLM2 in bf16: rows of 576 values have gaps, of 256 bytes in f32 and 384 in bf16, and so
    /// have those of its 192 keys; those of 1536 and of its logits have none.
    #[test]
    fn gaps_count_with_every_row() {
        let (model, mut config) = (smollm2(), RunConfig::default());
        config.backend.kind = BackendKind::Cuda;
        config.selection.prompts_per_step = 100;
        config.update.max_logits_bytes = 1 << 20;
        config.rollout.max_new_tokens = 30;
        let dense = RunShape {
            precision: Precision::Bf16,
            ..shape(&model)
        };
        let apart = RunShape {
            layout: RowLayout::of(BackendKind::Cuda),
            ..dense
        };
        let mut gaps = |rows| {
            config.update.max_tokens_per_microbatch = rows;
            update_bytes(&apart, &config) - update_bytes(&dense, &config)
        };
        // Four matrices of 576 rows, one of 1536, in 30 blocks; the sum of gradients is such a set.
        let head: u64 = 49_152 * 256;
        let weights = 30 * (4 * 576 + 1536) * 256 + head;
        // The largest layer: its input and its result, twice, and 1536 rows of a weight, twice.
        let products = |rows: u64| 2 * rows * 384 + 2 * 1536 * 384;
        // Of many rows what is kept is most: input and middle, queries, what they attend to, keys
        // and values. Two vectors of the gate.
        let rows = 20_000;
        let kept = 30 * (2 * 256 + 2 * 384 + 2 * 128) + 256;
        let start = rows * kept + head + rows * 2 * 256 + products(rows);
        assert_eq!(gaps(rows as usize), weights + start);
        // Of few the gradients, with the work of a block.
        let end = weights + head + 300 * 8 * 256 + products(300);
        assert_eq!(gaps(300), weights + end);
    }
}
