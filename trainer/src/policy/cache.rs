//! Preallocated key-value cache of one rollout worker, written in place.
//!
//! Token `i` of a sequence is column `i` of its slot. Keys are stored transposed, `[slots, Hkv, K,
//! S]`, and values as `[slots, Hkv, S, K]`: both products of attention then read the cache with a
//! unit stride along their output columns. They are stored in the precision of these products, which
//! would round them anyway.
//!
//! In place means: the tensor is moved out, assigned and moved back while nothing else holds it.
//! A view that outlives a decode step would silently turn every write into a copy of the cache.

use std::ops::Range;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use rlvr_backends::Precision;
use rlvr_backends::kernels::{Heads, decode_attention};

use super::config::ModelConfig;

/// Columns attended to are rounded up to this many, so that shapes repeat.
pub const COLUMN_BUCKET: usize = 32;

/// Keys and values of one block.
#[derive(Debug)]
pub struct LayerCache {
    keys: Tensor<4>,
    values: Tensor<4>,
    precision: Precision,
}

/// Keys and values of packed prompts, as one block computed them.
///
/// # Shapes
/// - both: `[L, Hkv * K]`
#[derive(Clone, Debug)]
pub struct PromptKv {
    /// Rotated keys.
    pub keys: Tensor<2>,
    /// Values.
    pub values: Tensor<2>,
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
    /// An empty cache for attention in `precision`. Memory is committed by the system as columns are
    /// written.
    pub fn new(
        config: &ModelConfig,
        num_slots: usize,
        num_columns: usize,
        precision: Precision,
        device: &Device,
    ) -> Self {
        let (heads, width) = (config.num_kv_heads, config.head_dim);
        let options = || (device, precision.dtype());
        let layers = (0..config.num_layers)
            .map(|_| LayerCache {
                keys: Tensor::zeros([num_slots, heads, width, num_columns], options()),
                values: Tensor::zeros([num_slots, heads, num_columns, width], options()),
                precision,
            })
            .collect();
        Self {
            layers,
            num_slots,
            num_columns,
        }
    }

    /// Bytes of one slot with `num_columns` columns.
    pub fn slot_bytes(config: &ModelConfig, num_columns: usize, precision: Precision) -> u64 {
        let per_column = 2 * config.num_layers * config.num_kv_heads * config.head_dim;
        (per_column * num_columns * precision.value_bytes()) as u64
    }

    /// Number of slots.
    pub fn num_slots(&self) -> usize {
        self.num_slots
    }

    /// Copies a prompt, which are some rows of what a prefill left, into a slot.
    pub fn write_prompt(&mut self, slot: usize, prompts: &[PromptKv], rows: &Range<usize>) {
        let length = rows.len();
        for (layer, kv) in self.layers.iter_mut().zip(prompts) {
            let [_, heads, width, _] = layer.keys.dims();
            let own = |x: &Tensor<2>| {
                let own = layer
                    .precision
                    .operand(x.clone().narrow(0, rows.start, length));
                own.reshape([1, length, heads, width])
            };
            let keys = own(&kv.keys).permute([0, 2, 3, 1]);
            let values = own(&kv.values).permute([0, 2, 1, 3]);
            layer.keys.inplace(|all| {
                all.slice_assign([slot..slot + 1, 0..heads, 0..width, 0..length], keys)
            });
            layer.values.inplace(|all| {
                all.slice_assign([slot..slot + 1, 0..heads, 0..length, 0..width], values)
            });
        }
    }

    /// Fills a slot with zeros.
    pub fn clear_slot(&mut self, slot: usize) {
        for layer in &mut self.layers {
            for cache in [&mut layer.keys, &mut layer.values] {
                let [_, a, b, c] = cache.dims();
                let zeros = Tensor::zeros([1, a, b, c], (&cache.device(), cache.dtype()));
                cache.inplace(|all| all.slice_assign([slot..slot + 1, 0..a, 0..b, 0..c], zeros));
            }
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
        for (row, &position) in positions.iter().enumerate() {
            key_index.extend(
                (0..panels).map(|panel| ((row * panels + panel) * capacity + position) as i64),
            );
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
    /// - `keys`, `values`: `[R, Hkv * K]`
    pub fn write(&mut self, step: &StepIndex, keys: Tensor<2>, values: Tensor<2>) {
        let [_, heads, width, _] = self.keys.dims();
        let rows = keys.dims()[0];
        let [keys, values] = [keys, values].map(|x| self.precision.operand(x));
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
                    values.reshape([rows * heads, width]),
                    IndexingUpdateOp::Assign,
                )
                .reshape(shape)
        });
    }

    /// Attends from one query per row to what stands in its slot up to its position.
    ///
    /// # Shapes
    /// - `queries`, output: `[R, H * K]`
    pub fn attend(&self, step: &StepIndex, queries: Tensor<2>, heads: Heads) -> Tensor<2> {
        let (positions, bias) = (&step.positions, &step.bias);
        decode_attention(
            queries,
            &self.keys,
            &self.values,
            positions,
            bias,
            heads,
            self.precision,
        )
    }
}
