//! The decoder over packed rows, forwards and backwards, without a tape.
//!
//! The update runs every prompt once for all its completions and packs their rows without padding
//! (see [`prefix_attention`]), so projections, norms and feed-forward see one `[L, D]` matrix. The
//! gradient is written out by hand, block by block: what is kept between the passes is a choice
//! made here ([`Keep`]) and not a by-product of recording, and every elementwise chain is one
//! operation of `rlvr_backends::kernels`. [`Decoder::hidden`] under autodiff is the reference that
//! the tests compare with.
//!
//! L counts packed rows; the other letters are those of [`super::decoder`].

mod backward;

use burn::nn::{Linear, RmsNorm};
use burn::tensor::{Int, Tensor};
use rlvr_backends::kernels::{
    Heads, PrefixSpans, PromptSpan, Rotation, matmul_raw, prefix_attention, rms_norm,
    rms_norm_operand, rotate_operand, swiglu,
};
use rlvr_backends::{Precision, RowLayout};

use super::cache::PromptKv;
use super::config::ModelConfig;
use super::decoder::{Block, Decoder};
use super::rope::RopeTable;

/// Tokens of several prompts and their completions, packed.
#[derive(Clone, Debug)]
pub struct PackedTokens {
    /// Row by row, span by span, `[L]`.
    pub tokens: Tensor<1, Int>,
    /// Which rows are whose; together they cover all L.
    pub spans: Vec<PromptSpan>,
}

/// What a forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there will be none.
    Nothing,
    /// The input of every block; the rest of a block is computed again when its turn comes.
    Inputs,
    /// Everything that a matrix product made.
    Products,
}

impl Keep {
    /// Bytes that a forward pass keeps per packed row, besides the rotation.
    pub fn bytes_per_row(
        self,
        config: &ModelConfig,
        precision: Precision,
        layout: RowLayout,
    ) -> u64 {
        let width = layout.row_bytes(config.hidden_size, size_of::<f32>());
        let per_block = match self {
            Self::Nothing => return 0,
            Self::Inputs => width,
            Self::Products => width + Products::bytes_per_row(config, precision, layout),
        };
        config.num_layers as u64 * per_block + width
    }
}

/// The kept activations of one forward pass.
#[derive(Debug)]
pub struct Trace {
    /// Of the forward pass, and so of the backward pass.
    precision: Precision,
    rotation: Rotation,
    blocks: Vec<BlockTrace>,
    /// Output of the last block, `[L, D]`.
    last: Tensor<2>,
}

#[derive(Debug)]
struct BlockTrace {
    /// `[L, D]`.
    input: Tensor<2>,
    products: Option<Products>,
}

/// What the matrix products of one block made. What is multiplied next, or a product has rounded
/// already, is stored in the precision of products: that loses nothing.
#[derive(Debug)]
struct Products {
    /// Before norm and rotation, kept only if the heads have a norm, f32, `[L, H * K]`, `[L, Hkv *
    /// K]`.
    raw: Option<(Tensor<2>, Tensor<2>)>,
    /// Rotated, `[L, H * K]`.
    queries: Tensor<2>,
    /// Rotated, `[L, Hkv * K]`.
    keys: Tensor<2>,
    /// `[L, Hkv * K]`.
    values: Tensor<2>,
    /// `[L, H * K]`.
    attended: Tensor<2>,
    /// Input of the feed-forward half, f32, `[L, D]`.
    middle: Tensor<2>,
    /// `[L, F]`.
    gate: Tensor<2>,
    /// `[L, F]`.
    up: Tensor<2>,
}

impl Products {
    /// Bytes of one block per packed row.
    fn bytes_per_row(config: &ModelConfig, precision: Precision, layout: RowLayout) -> u64 {
        let queries = config.num_heads * config.head_dim;
        let keys = config.num_kv_heads * config.head_dim;
        let plain = |width| layout.row_bytes(width, size_of::<f32>());
        let product = |width| layout.row_bytes(width, precision.value_bytes());
        let raw = match config.qk_norm {
            true => plain(queries) + plain(keys),
            false => 0,
        };
        let products = product(queries) + product(keys) + product(config.intermediate_size);
        raw + plain(config.hidden_size) + 2 * products
    }
}

/// Shape of the blocks and what depends on positions.
struct Frame<'a> {
    spans: PrefixSpans<'a>,
    rotation: &'a Rotation,
    heads: Heads,
    precision: Precision,
}

impl Decoder {
    /// Hidden states after the final norm, `[L, D]`, f32, and what `keep` says. Nothing is recorded
    /// by autodiff, whatever device the weights are on.
    pub fn packed_hidden(
        &self,
        packed: &PackedTokens,
        keep: Keep,
        precision: Precision,
    ) -> (Tensor<2>, Option<Trace>) {
        let rotation = self.rotation(packed);
        let frame = self.frame(&packed.spans, &rotation, precision);
        let mut blocks = Vec::new();
        let x = self.packed_trunk(packed, &frame, |input, products| {
            if keep != Keep::Nothing {
                let products = (keep == Keep::Products).then_some(products);
                blocks.push(BlockTrace { input, products });
            }
        });
        let hidden = norm(&self.norm, x.clone());
        let trace = (keep != Keep::Nothing).then_some(Trace {
            precision,
            rotation,
            blocks,
            last: x,
        });
        (hidden, trace)
    }

    /// Hidden states before the final norm, `[L, D]`, with the keys and values of every block.
    pub(super) fn packed_prompts(
        &self,
        packed: &PackedTokens,
        precision: Precision,
    ) -> (Tensor<2>, Vec<PromptKv>) {
        let rotation = self.rotation(packed);
        let frame = self.frame(&packed.spans, &rotation, precision);
        let mut layers = Vec::with_capacity(self.layers.len());
        let x = self.packed_trunk(packed, &frame, |_, products| {
            let Products { keys, values, .. } = products;
            layers.push(PromptKv { keys, values });
        });
        (x, layers)
    }

    /// Output of the last block, `[L, D]`; `see` gets the input and the products of each block.
    fn packed_trunk(
        &self,
        packed: &PackedTokens,
        frame: &Frame<'_>,
        mut see: impl FnMut(Tensor<2>, Products),
    ) -> Tensor<2> {
        let embedding = self.embed_tokens.weight.val().inner();
        let mut x = embedding.select(0, packed.tokens.clone());
        for block in &self.layers {
            let (output, products) = block.packed(x.clone(), frame);
            see(std::mem::replace(&mut x, output), products);
        }
        x
    }

    fn rotation(&self, packed: &PackedTokens) -> Rotation {
        let positions = packed.spans.iter().flat_map(PromptSpan::positions);
        let positions: Vec<usize> = positions.collect();
        let longest = positions.iter().max().map_or(0, |last| last + 1);
        let device = self.embed_tokens.weight.val().inner().device();
        RopeTable::new(self.config(), longest).rows(&positions, &device)
    }

    fn frame<'a>(
        &self,
        spans: &'a [PromptSpan],
        rotation: &'a Rotation,
        precision: Precision,
    ) -> Frame<'a> {
        let heads = self.config().heads();
        Frame {
            spans: PrefixSpans::new(spans, heads, &rotation.cos.device()),
            rotation,
            heads,
            precision,
        }
    }
}

impl Block {
    /// `[L, D]` to `[L, D]`.
    fn packed(&self, x: Tensor<2>, frame: &Frame<'_>) -> (Tensor<2>, Products) {
        let (attention, precision) = (&self.self_attn, frame.precision);
        let normed = norm_operand(&self.input_layernorm, x.clone(), precision);
        let mut raw_queries = linear_raw(&attention.q_proj, normed.clone(), precision);
        let mut raw_keys = linear_raw(&attention.k_proj, normed.clone(), precision);
        let values = precision.operand(linear_raw(&attention.v_proj, normed, precision));
        let has_norm = attention.q_norm.is_some() || attention.k_norm.is_some();
        if has_norm {
            [raw_queries, raw_keys] = [raw_queries, raw_keys].map(|x| precision.result(x));
        }
        let raw = has_norm.then(|| (raw_queries.clone(), raw_keys.clone()));
        let rotated = |norm, raw| {
            let normed = head_norm(norm, raw, frame.heads.width);
            rotate_operand(normed, frame.rotation, precision)
        };
        let queries = rotated(&attention.q_norm, raw_queries);
        let keys = rotated(&attention.k_norm, raw_keys);
        let attended = prefix_attention(
            queries.clone(),
            keys.clone(),
            values.clone(),
            &frame.spans,
            frame.heads,
            precision,
        );
        let attended = precision.operand(attended);
        let middle = linear(&attention.o_proj, attended.clone(), precision) + x;
        let normed = norm_operand(&self.post_attention_layernorm, middle.clone(), precision);
        let gate = linear_raw(&self.mlp.gate_proj, normed.clone(), precision);
        let up = linear_raw(&self.mlp.up_proj, normed, precision);
        let inner = swiglu(gate.clone(), up.clone(), precision);
        let output = linear(&self.mlp.down_proj, inner, precision) + middle.clone();
        let [gate, up] = [gate, up].map(|x| precision.operand(x));
        let products = Products {
            raw,
            queries,
            keys,
            values,
            attended,
            middle,
            gate,
            up,
        };
        (output, products)
    }
}

/// Norm of every row, `[N, D]`, not recorded.
pub(super) fn norm(norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
    rms_norm(x, gamma(norm), norm.epsilon)
}

/// As [`norm`], as an operand.
pub(super) fn norm_operand(norm: &RmsNorm, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    rms_norm_operand(x, gamma(norm), norm.epsilon, precision)
}

/// Norm of every head of `width` columns; passes through if there is none.
pub(super) fn head_norm(norm: &Option<RmsNorm>, x: Tensor<2>, width: usize) -> Tensor<2> {
    let Some(norm) = norm else { return x };
    let shape = x.dims();
    self::norm(norm, x.reshape([-1, width as i32])).reshape(shape)
}

fn linear(linear: &Linear, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    precision.result(linear_raw(linear, x, precision))
}

/// As [`linear`], as the product left it if there is no bias: for what reads f32 and operands.
fn linear_raw(linear: &Linear, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    let product = matmul_raw(x, weight(linear, precision), precision);
    match &linear.bias {
        Some(bias) => precision.result(product) + bias.val().inner().unsqueeze(),
        None => product,
    }
}

/// As an operand, `[in, out]`.
fn weight(linear: &Linear, precision: Precision) -> Tensor<2> {
    precision.operand(linear.weight.val().inner())
}

fn gamma(norm: &RmsNorm) -> Tensor<1> {
    norm.gamma.val().inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decoder::tests::tiny_config;
    use burn::tensor::Device;

    #[test]
    fn what_is_kept_is_counted() {
        let plain = tiny_config();
        let mut normed = tiny_config();
        normed.qk_norm = true;
        let device = Device::default();
        for config in [plain, normed] {
            let decoder = Decoder::init(&config, 0, &device);
            let packed = PackedTokens {
                tokens: Tensor::from_ints([1, 2, 3, 4, 5], &device),
                spans: vec![PromptSpan {
                    num_prompt_rows: 2,
                    completion_rows: vec![2, 1],
                }],
            };
            for precision in [Precision::F32, Precision::F32Split, Precision::Bf16] {
                let trace = |keep| decoder.packed_hidden(&packed, keep, precision).1;
                for keep in [Keep::Inputs, Keep::Products] {
                    let kept = count(&trace(keep).expect("a trace"));
                    let row = keep.bytes_per_row(&config, precision, RowLayout::DENSE);
                    assert_eq!(kept, 5 * row);
                }
                assert!(trace(Keep::Nothing).is_none());
            }
        }
    }

    /// Bytes.
    fn count(trace: &Trace) -> u64 {
        let mut tensors = vec![&trace.last];
        for block in &trace.blocks {
            tensors.push(&block.input);
            if let Some(kept) = &block.products {
                let Products {
                    raw,
                    queries,
                    keys,
                    values,
                    attended,
                    middle,
                    gate,
                    up,
                } = kept;
                tensors.extend([queries, keys, values, attended, middle, gate, up]);
                tensors.extend(raw.iter().flat_map(|(queries, keys)| [queries, keys]));
            }
        }
        let bytes = |x: &&Tensor<2>| x.shape().num_elements() * x.dtype().size();
        tensors.iter().map(bytes).sum::<usize>() as u64
    }
}
