//! Grouped-query attention that never repeats keys or values.
//!
//! Ainslie et al., "GQA" (2023), arXiv:2305.13245. The `g = H / Hkv` query heads that share a key
//! head are folded into the row axis, `[N, Hkv, g * T, K] x [N, Hkv, K, S]`, so the products read
//! keys and values where they lie. Repeating them costs six times a decode step.
//!
//! Runs whole sequences in plain tensor operations, under autodiff or not: the reference of
//! [`super::packed`] and [`super::decode`].

use burn::module::Module;
use burn::nn::{Linear, RmsNorm};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use rlvr_backends::kernels::MASKED;

use super::rope::RopeRows;

/// Attention of one block. Field names are those of the checkpoint.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[D, H * K]`.
    pub q_proj: Linear,
    /// `[D, Hkv * K]`.
    pub k_proj: Linear,
    /// `[D, Hkv * K]`.
    pub v_proj: Linear,
    /// `[H * K, D]`.
    pub o_proj: Linear,
    /// Norm of every query head (Qwen3).
    pub q_norm: Option<RmsNorm>,
    /// Norm of every key head (Qwen3).
    pub k_norm: Option<RmsNorm>,
    /// Hkv.
    pub num_kv_heads: usize,
    /// K.
    pub head_dim: usize,
}

/// Rotated queries, scaled by `1 / sqrt(K)`, rotated keys and values.
struct Projected {
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl Attention {
    /// Causal attention over whole sequences.
    ///
    /// # Shapes
    /// - `x`: `[N * T, D]`, `rope`: T positions, `bias`: `[T, T]` from [`causal_bias`]
    /// - output: `[N * T, D]`
    pub fn forward(&self, x: Tensor<2>, rope: &RopeRows, bias: &Tensor<2>) -> Tensor<2> {
        let projected = self.project(x, rope, bias.dims()[0]);
        let (queries, keys, values) = fold(projected, self.num_kv_heads);
        let probs = causal_probs(queries, keys, bias);
        self.unfold(probs.matmul(values), bias.dims()[0])
    }

    fn project(&self, x: Tensor<2>, rope: &RopeRows, num_columns: usize) -> Projected {
        let rows = x.dims()[0] / num_columns;
        let split = |flat: Tensor<2>| {
            let heads = flat.dims()[1] / self.head_dim;
            flat.reshape([rows, num_columns, heads, self.head_dim])
        };
        let mut queries = split(self.q_proj.forward(x.clone()));
        let mut keys = split(self.k_proj.forward(x.clone()));
        let values = split(self.v_proj.forward(x));
        if let Some(norm) = &self.q_norm {
            queries = norm.forward(queries);
        }
        if let Some(norm) = &self.k_norm {
            keys = norm.forward(keys);
        }
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        Projected {
            queries: rope.rotate(queries) * scale,
            keys: rope.rotate(keys),
            values,
        }
    }

    /// `[N, Hkv, g * T, K]` back to `[N * T, H * K]`, then the output projection.
    fn unfold(&self, attended: Tensor<4>, num_columns: usize) -> Tensor<2> {
        let [rows, kv_heads, folded, width] = attended.dims();
        let group = folded / num_columns;
        let flat = attended
            .reshape([rows, kv_heads, group, num_columns, width])
            .permute([0, 3, 1, 2, 4])
            .reshape([rows * num_columns, kv_heads * group * width]);
        self.o_proj.forward(flat)
    }
}

/// Queries `[N, Hkv, g * T, K]`, keys `[N, Hkv, K, T]`, values `[N, Hkv, T, K]`.
fn fold(projected: Projected, kv_heads: usize) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
    let [rows, columns, heads, width] = projected.queries.dims();
    let group = heads / kv_heads;
    let queries = projected
        .queries
        .reshape([rows, columns, kv_heads, group, width])
        .permute([0, 2, 3, 1, 4])
        .reshape([rows, kv_heads, group * columns, width]);
    (
        queries,
        projected.keys.permute([0, 2, 3, 1]),
        projected.values.permute([0, 2, 1, 3]),
    )
}

/// Attention weights, `[N, Hkv, g * T, T]`.
fn causal_probs(queries: Tensor<4>, keys: Tensor<4>, bias: &Tensor<2>) -> Tensor<4> {
    let columns = bias.dims()[0];
    let scores = queries.matmul(keys);
    let [rows, kv_heads, folded, _] = scores.dims();
    let scores: Tensor<5> = scores.reshape([rows, kv_heads, folded / columns, columns, columns]);
    let bias = bias.clone().reshape([1, 1, 1, columns, columns]);
    softmax(scores + bias, 4).reshape([rows, kv_heads, folded, columns])
}

/// Zero at and below the diagonal, [`MASKED`] above.
///
/// # Shapes
/// - output: `[T, T]`
pub fn causal_bias(num_columns: usize, device: &Device) -> Tensor<2> {
    let mut bias = vec![0f32; num_columns * num_columns];
    for row in 0..num_columns {
        bias[row * num_columns + row + 1..(row + 1) * num_columns].fill(MASKED);
    }
    Tensor::from_data(TensorData::new(bias, [num_columns, num_columns]), device)
}
