//! The definition, in Burn's operations. It copies the prompt of every row, so it is slow.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use rlvr_core::Precision;

use super::super::index::{MASKED, index};
use super::super::prefix_attention::Heads;
use super::super::rotary::rotate;
use super::{DecodeRows, KvPanels, Projected, RowSpan};

/// Columns attended to are rounded up to this many, so that shapes repeat.
pub const COLUMN_BUCKET: usize = 32;

/// Where a step writes and reads.
#[derive(Debug)]
pub(super) struct Index {
    /// Where each key goes among all numbers of the keys, `[R * Hkv * K]`.
    keys: Tensor<1, Int>,
    /// Where each value goes among the rows of K numbers of the values, `[R * Hkv]`.
    values: Tensor<1, Int>,
    /// The prompt of each row, `[R]`.
    prompts: Tensor<1, Int>,
    /// Columns read: of prompts, of the rows' own.
    columns: [usize; 2],
    /// Zero where a row may look, very negative elsewhere, `[R, 1, 1, columns]`.
    bias: Tensor<4>,
}

impl Index {
    pub(super) fn new(
        spans: &[RowSpan],
        [prompts, own]: [&KvPanels; 2],
        heads: Heads,
        device: &Device,
    ) -> Self {
        let capacity = own.num_columns();
        let most = |columns: fn(&RowSpan) -> usize, panels: &KvPanels| {
            let most = spans.iter().map(columns).max().unwrap_or(0);
            most.next_multiple_of(COLUMN_BUCKET)
                .min(panels.num_columns())
        };
        let prompt_columns = most(|span| span.prompt_columns, prompts);
        let own_columns = most(|span| span.own_columns, own);
        let places = |panels: usize| {
            let rows = spans.iter().enumerate().flat_map(|(row, span)| {
                let panels = row * panels..(row + 1) * panels;
                panels.map(|panel| panel * capacity + span.own_columns - 1)
            });
            index(rows.collect(), device)
        };
        let visible = |count: usize, of: usize| (0..of).map(move |column| column < count);
        let bias = spans.iter().flat_map(|span| {
            visible(span.prompt_columns, prompt_columns)
                .chain(visible(span.own_columns, own_columns))
                .map(|is_visible| if is_visible { 0.0 } else { MASKED })
        });
        let bias: Vec<f32> = bias.collect();
        let prompts = spans.iter().map(|span| span.prompt_slot);
        let shape = [spans.len(), 1, 1, prompt_columns + own_columns];
        Self {
            keys: places(heads.num_kv_heads * heads.width),
            values: places(heads.num_kv_heads),
            prompts: index(prompts.collect(), device),
            columns: [prompt_columns, own_columns],
            bias: Tensor::from_data(TensorData::new(bias, shape), device),
        }
    }
}

pub(super) fn step(
    projected: Projected,
    prompts: &KvPanels,
    own: &mut KvPanels,
    rows: &DecodeRows,
    index: &Index,
) -> Tensor<2> {
    let [queries, keys, values] = projected.apart(rows.heads, rows.precision);
    let keys = rotate(keys, &rows.rotation);
    write(own, index, [keys, values], rows.precision);
    let queries = rotate(queries, &rows.rotation);
    rows.precision
        .operand(attend(queries, prompts, own, rows, index))
}

fn write(own: &mut KvPanels, index: &Index, columns: [Tensor<2>; 2], precision: Precision) {
    let [keys, values] = columns.map(|x| precision.operand(x));
    let [_, _, _, width] = own.values.dims();
    let [rows, numbers] = keys.dims();
    own.keys.inplace(|all| {
        let shape = all.dims();
        let all = all.reshape([shape.iter().product::<usize>()]);
        let (place, keys) = (index.keys.clone(), keys.reshape([rows * numbers]));
        let all = all.select_assign(0, place, keys, IndexingUpdateOp::Assign);
        all.reshape(shape)
    });
    own.values.inplace(|all| {
        let shape = all.dims();
        let all = all.reshape([shape[0] * shape[1] * shape[2], width]);
        let (place, values) = (
            index.values.clone(),
            values.reshape([rows * numbers / width, width]),
        );
        let all = all.select_assign(0, place, values, IndexingUpdateOp::Assign);
        all.reshape(shape)
    });
}

fn attend(
    queries: Tensor<2>,
    prompts: &KvPanels,
    own: &KvPanels,
    rows: &DecodeRows,
    index: &Index,
) -> Tensor<2> {
    let (heads, precision) = (rows.heads, rows.precision);
    let [count, width] = queries.dims();
    // Rounded before they are scaled, as in `prefix_attention`.
    let queries = precision.result(precision.operand(queries));
    let queries = queries * (1.0 / (heads.width as f64).sqrt());
    let queries = queries.reshape([count, heads.num_kv_heads, heads.group, heads.width]);
    let [prompt_columns, own_columns] = index.columns;
    let both = |prompts: &Tensor<4>, own: &Tensor<4>, axis: usize| {
        let own = own.clone().narrow(0, 0, count).narrow(axis, 0, own_columns);
        if prompt_columns == 0 {
            return own;
        }
        let shared = prompts.clone().narrow(axis, 0, prompt_columns);
        let shared = shared.select(0, index.prompts.clone());
        Tensor::cat(vec![shared, own], axis)
    };
    let scores = precision.matmul(queries, both(&prompts.keys, &own.keys, 3));
    let probs = softmax(scores + index.bias.clone(), 3);
    let attended = precision.matmul(probs, both(&prompts.values, &own.values, 2));
    attended.reshape([count, width])
}
