//! Preallocated key-value cache of one rollout worker, written in place.
//!
//! Token `i` of a sequence is column `i` of its slot. Keys are stored transposed, `[slots, Hkv, K,
//! S]`, and values as `[slots, Hkv, S, K]`: both products of attention then read the cache with a
//! unit stride along their output columns, so that the matrix kernels neither copy nor repack it
//! and sum in the same order at every length (see [`super::attention`]).
//!
//! In place means: the tensor is moved out, assigned and moved back while nothing else holds it.
//! A view that outlives a decode step would silently turn every write into a copy of the cache.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use rlvr_backends::kernels::{Heads, decode_attention};

use super::config::ModelConfig;

/// Columns attended to are rounded up to this many, so that shapes repeat.
pub const COLUMN_BUCKET: usize = 32;

/// Keys and values of one block.
#[derive(Debug)]
pub struct LayerCache {
    keys: Tensor<4>,
    values: Tensor<4>,
}

/// Keys and values of a batch of prompts, as one block computed them.
///
/// # Shapes
/// - `keys`: `[N, Hkv, K, T]`
/// - `values`: `[N, Hkv, T, K]`
#[derive(Clone, Debug)]
pub struct PromptKv {
    /// Transposed keys, rotated.
    pub keys: Tensor<4>,
    /// Values.
    pub values: Tensor<4>,
}

/// The cache of all blocks.
#[derive(Debug)]
pub struct KvCache {
    /// One entry per block.
    pub layers: Vec<LayerCache>,
    num_slots: usize,
    num_columns: usize,
}

/// Where one decode step writes, and what it may see.
#[derive(Debug)]
pub struct StepIndex {
    key_index: Tensor<1, Int>,
    value_index: Tensor<1, Int>,
    /// Zero where a row may look, very negative elsewhere, `[R, 1, 1, S']`.
    bias: Tensor<4>,
    positions: Vec<usize>,
}

/// Added to a score that must not count: its exponential is exactly zero in f32.
pub const MASKED: f32 = -1e9;

impl KvCache {
    /// An empty cache. Memory is committed by the system as columns are written.
    pub fn new(
        config: &ModelConfig,
        num_slots: usize,
        num_columns: usize,
        device: &Device,
    ) -> Self {
        let (heads, width) = (config.num_kv_heads, config.head_dim);
        let layers = (0..config.num_layers)
            .map(|_| LayerCache {
                keys: Tensor::zeros([num_slots, heads, width, num_columns], device),
                values: Tensor::zeros([num_slots, heads, num_columns, width], device),
            })
            .collect();
        Self {
            layers,
            num_slots,
            num_columns,
        }
    }

    /// Bytes of one slot with `num_columns` columns, f32.
    pub fn slot_bytes(config: &ModelConfig, num_columns: usize) -> u64 {
        let per_column = 2 * config.num_layers * config.num_kv_heads * config.head_dim;
        (per_column * num_columns * size_of::<f32>()) as u64
    }

    /// Number of slots.
    pub fn num_slots(&self) -> usize {
        self.num_slots
    }

    /// Copies the first `num_tokens` columns of one prompt into a slot.
    pub fn write_prompt(
        &mut self,
        slot: usize,
        prompt: &[PromptKv],
        row: usize,
        num_tokens: usize,
    ) {
        for (layer, kv) in self.layers.iter_mut().zip(prompt) {
            let keys = kv.keys.clone().narrow(0, row, 1).narrow(3, 0, num_tokens);
            let values = kv.values.clone().narrow(0, row, 1).narrow(2, 0, num_tokens);
            layer.keys.inplace(|all| {
                let [_, heads, width, _] = all.dims();
                all.slice_assign([slot..slot + 1, 0..heads, 0..width, 0..num_tokens], keys)
            });
            layer.values.inplace(|all| {
                let [_, heads, _, width] = all.dims();
                all.slice_assign([slot..slot + 1, 0..heads, 0..num_tokens, 0..width], values)
            });
        }
    }

    /// Copies slot `from` over slot `to`.
    pub fn move_slot(&mut self, from: usize, to: usize) {
        for layer in &mut self.layers {
            for cache in [&mut layer.keys, &mut layer.values] {
                // `select` copies, so no view of the cache is alive when it is assigned.
                let index = Tensor::from_data([from as i64], &cache.device());
                let slot = cache.clone().select(0, index);
                cache.inplace(|all| {
                    let [_, a, b, c] = all.dims();
                    all.slice_assign([to..to + 1, 0..a, 0..b, 0..c], slot)
                });
            }
        }
    }

    /// Index of a step in which the token of row `r` (slot `r`) stands at `positions[r]`.
    pub fn step_index(&self, positions: &[usize]) -> StepIndex {
        let [_, heads, width, capacity] = self.layers[0].keys.dims();
        let device = self.layers[0].keys.device();
        let longest = positions.iter().max().map_or(0, |last| last + 1);
        let num_columns = longest
            .next_multiple_of(COLUMN_BUCKET)
            .min(self.num_columns);
        let panels = heads * width;
        let mut key_index = Vec::with_capacity(positions.len() * panels);
        let mut value_index = Vec::with_capacity(positions.len() * heads);
        let mut bias = vec![MASKED; positions.len() * num_columns];
        for panel in 0..panels {
            let rows = positions.iter().enumerate();
            key_index.extend(
                rows.map(|(row, position)| ((row * panels + panel) * capacity + position) as i64),
            );
        }
        for (row, &position) in positions.iter().enumerate() {
            value_index
                .extend((0..heads).map(|head| ((row * heads + head) * capacity + position) as i64));
            bias[row * num_columns..][..=position].fill(0.0);
        }
        let num_rows = positions.len();
        let upload = |values: Vec<i64>| {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), &device)
        };
        StepIndex {
            key_index: upload(key_index),
            value_index: upload(value_index),
            bias: Tensor::from_data(
                TensorData::new(bias, [num_rows, 1, 1, num_columns]),
                &device,
            ),
            positions: positions.to_vec(),
        }
    }
}

impl LayerCache {
    /// Writes one token per row.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[Hkv, K, R]`
    pub fn write(&mut self, step: &StepIndex, keys: Tensor<3>, values: Tensor<3>) {
        let [heads, width, rows] = keys.dims();
        self.keys.inplace(|all| {
            let shape = all.dims();
            all.reshape([shape.iter().product::<usize>()])
                .select_assign(
                    0,
                    step.key_index.clone(),
                    keys.reshape([rows * heads * width]),
                    IndexingUpdateOp::Assign,
                )
                .reshape(shape)
        });
        self.values.inplace(|all| {
            let shape = all.dims();
            all.reshape([shape[0] * shape[1] * shape[2], shape[3]])
                .select_assign(
                    0,
                    step.value_index.clone(),
                    values.permute([2, 0, 1]).reshape([rows * heads, width]),
                    IndexingUpdateOp::Assign,
                )
                .reshape(shape)
        });
    }

    /// Attends from one query per row, `[H * K, R]`, to what stands in its slot up to its position.
    ///
    /// # Shapes
    /// - `queries`, output: `[H * K, R]`
    pub fn attend(&self, step: &StepIndex, queries: Tensor<2>, heads: Heads) -> Tensor<2> {
        let (positions, bias) = (&step.positions, &step.bias);
        decode_attention(queries, &self.keys, &self.values, positions, bias, heads)
    }
}
