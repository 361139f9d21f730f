//! Preallocated key-value cache of one rollout worker, written in place.
//!
//! A prompt is stored once for all its completions, in a slot of its own; a completion has a slot for
//! what follows. Column `i` of a prompt's slot is its token `i`, column `i` of a completion's slot
//! the completion's token `i`. Stored in the precision of attention's products, which would round
//! keys and values anyway.
//!
//! In place means: the tensor is moved out, assigned and moved back while nothing else holds it.
//! A view that outlives a decode step would silently turn every write into a copy of the cache.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use rlvr_backends::Precision;
use rlvr_backends::graph::{GraphError, Storage};
use rlvr_backends::kernels::{
    DecodeRows, DecodeState, KvPanels, Projected, Rotation, RowSpan, decode_attention,
};

use super::config::ModelConfig;
use super::rope::RopeTable;

/// How many prompts and completions a cache holds, and of what length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Completions.
    pub slots: usize,
    /// Tokens of a completion.
    pub columns: usize,
    /// Prompts.
    pub prompt_slots: usize,
    /// Tokens of a prompt.
    pub prompt_columns: usize,
}

impl CacheShape {
    /// Bytes of the cache.
    pub fn bytes(&self, config: &ModelConfig, precision: Precision) -> u64 {
        let columns = self.slots * self.columns + self.prompt_slots * self.prompt_columns;
        kv_bytes(config, columns, precision)
    }

    /// Tokens of the longest sequence.
    pub fn sequence_tokens(&self) -> usize {
        self.prompt_columns + self.columns
    }
}

/// Bytes of the keys and values of so many tokens.
pub fn kv_bytes(config: &ModelConfig, num_tokens: usize, precision: Precision) -> u64 {
    let per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim;
    (per_token * num_tokens * precision.value_bytes()) as u64
}

/// Keys and values of one block.
#[derive(Debug)]
pub struct LayerCache {
    prompts: KvPanels,
    completions: KvPanels,
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
    shape: CacheShape,
    precision: Precision,
    config: ModelConfig,
    /// Of every position of the longest sequence.
    angles: Rotation,
    num_edits: u64,
}

impl KvCache {
    /// An empty cache for attention in `precision`. Memory is committed by the system as columns are
    /// written.
    pub fn new(
        config: &ModelConfig,
        shape: CacheShape,
        precision: Precision,
        device: &Device,
    ) -> Self {
        let panels =
            |slots, columns| KvPanels::new(slots, columns, config.heads(), (device, precision));
        let layers = (0..config.num_layers)
            .map(|_| LayerCache {
                prompts: panels(shape.prompt_slots, shape.prompt_columns),
                completions: panels(shape.slots, shape.columns),
            })
            .collect();
        Self {
            layers,
            shape,
            precision,
            config: config.clone(),
            angles: RopeTable::new(config, shape.sequence_tokens()).in_order(device),
            num_edits: 0,
        }
    }

    /// What it holds.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Copies a prompt, which are some rows of what a prefill left, into a slot for prompts.
    pub fn write_prompt(&mut self, slot: usize, prompts: &[PromptKv], rows: &Range<usize>) {
        self.num_edits += 1;
        let length = rows.len();
        let (heads, width) = (self.config.num_kv_heads, self.config.head_dim);
        for (layer, kv) in self.layers.iter_mut().zip(prompts) {
            let own = |x: &Tensor<2>| {
                let own = x.clone().narrow(0, rows.start, length);
                let own = self.precision.operand(own);
                own.reshape([1, length, heads, width])
            };
            let keys = own(&kv.keys).permute([0, 2, 3, 1]);
            let values = own(&kv.values).permute([0, 2, 1, 3]);
            layer.prompts.keys.inplace(|all| {
                all.slice_assign([slot..slot + 1, 0..heads, 0..width, 0..length], keys)
            });
            layer.prompts.values.inplace(|all| {
                all.slice_assign([slot..slot + 1, 0..heads, 0..length, 0..width], values)
            });
        }
    }

    /// Fills the slot of a completion with zeros.
    pub fn clear_slot(&mut self, slot: usize) {
        self.num_edits += 1;
        for layer in &mut self.layers {
            layer.completions.inplace(|all| {
                let [_, a, b, c] = all.dims();
                let zeros = Tensor::zeros([1, a, b, c], (&all.device(), all.dtype()));
                all.slice_assign([slot..slot + 1, 0..a, 0..b, 0..c], zeros)
            });
        }
    }

    /// Copies slot `from` of the completions over slot `to`.
    pub fn move_slot(&mut self, from: usize, to: usize) {
        self.num_edits += 1;
        for layer in &mut self.layers {
            for cache in [&mut layer.completions.keys, &mut layer.completions.values] {
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

    /// The rows of a decode step, for [`LayerCache::attend`]; row `r` stands in slot `r`.
    ///
    /// # Panics
    /// If a row names columns that are not there.
    pub fn rows(&self, spans: Vec<RowSpan>) -> DecodeRows {
        let heads = self.config.heads();
        DecodeRows::new(spans, &self.angles, self.panels(), heads, self.precision)
    }

    /// As [`KvCache::rows`], of the next step of a state.
    ///
    /// # Panics
    /// As [`DecodeRows::of_state`].
    pub fn rows_of(&self, state: &DecodeState) -> DecodeRows {
        let heads = self.config.heads();
        DecodeRows::of_state(state, &self.angles, self.panels(), heads, self.precision)
    }

    /// Of the first block, as those of all.
    fn panels(&self) -> [&KvPanels; 2] {
        let LayerCache {
            prompts,
            completions,
        } = &self.layers[0];
        [prompts, completions]
    }

    /// How often anything but decode steps has written it, which may have moved it.
    pub fn num_edits(&self) -> u64 {
        self.num_edits
    }

    /// Where keys and values stand.
    ///
    /// # Errors
    /// If any of it was to be written and never was.
    pub fn storage(&self) -> Result<Vec<Storage>, GraphError> {
        let panels = self
            .layers
            .iter()
            .flat_map(|it| [&it.prompts, &it.completions]);
        let tensors = panels.flat_map(|it| [&it.keys, &it.values]);
        tensors.map(Storage::of).collect()
    }
}

impl LayerCache {
    /// Writes one token per row, and attends from it to what stands before it.
    ///
    /// # Shapes
    /// - output: `[R, H * K]`
    pub fn attend(&mut self, rows: &DecodeRows, projected: Projected) -> Tensor<2> {
        decode_attention(projected, &self.prompts, &mut self.completions, rows)
    }
}
