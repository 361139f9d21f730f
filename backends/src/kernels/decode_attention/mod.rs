//! Attention of one decode step: a query per row against the columns of a prompt, which rows may
//! share, and the row's own columns, which the step writes one of.
//!
//! A prompt is stored once for all its completions. On a device that makes the cache smaller and
//! lets rows that run at the same time read the prompt from its caches; on the CPU likewise.
//!
//! Keys are stored transposed, `[slots, Hkv, K, S]`, and values as `[slots, Hkv, S, K]`: both
//! products of attention then read the cache with a unit stride along their output columns.

#[cfg(feature = "cube")]
pub(super) mod cube;
mod host;
mod portable;
mod rows;

use burn::tensor::{Device, Tensor};
use rlvr_core::Precision;

pub use portable::COLUMN_BUCKET;
pub(super) use rows::has_spans_on_device;
pub use rows::{DecodeRows, RowSpan};

use super::prefix_attention::Heads;
use rows::Path;

/// Keys and values of one block, a slot per sequence, in the precision of the products.
#[derive(Debug)]
pub struct KvPanels {
    /// `[slots, Hkv, K, S]`, rotated.
    pub keys: Tensor<4>,
    /// `[slots, Hkv, S, K]`.
    pub values: Tensor<4>,
}

impl KvPanels {
    /// Zeros.
    pub fn new(slots: usize, columns: usize, heads: Heads, of: (&Device, Precision)) -> Self {
        let (device, precision) = of;
        let (count, width) = (heads.num_kv_heads, heads.width);
        // As one row: CUDA would start every row at an aligned address, and the gaps could take as much
        // as the columns.
        let panel = |shape: [usize; 4]| {
            let options = (device, precision.dtype());
            match shape.iter().product() {
                // To `reshape` a zero is not a size.
                0 => Tensor::zeros(shape, options),
                count => Tensor::<1>::zeros([count], options).reshape(shape),
            }
        };
        Self {
            keys: panel([slots, count, width, columns]),
            values: panel([slots, count, columns, width]),
        }
    }

    /// S.
    pub fn num_columns(&self) -> usize {
        self.keys.dims()[3]
    }

    /// Gives the tensors to `edit`, which owns them alone and so can edit them in place.
    pub fn inplace(&mut self, mut edit: impl FnMut(Tensor<4>) -> Tensor<4>) {
        self.keys.inplace(&mut edit);
        self.values.inplace(&mut edit);
    }
}

/// What a step's projections say of each row, before rotation, f32 or in the type of an operand.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart once per block"
)]
pub enum Projected {
    /// Three tensors.
    ///
    /// # Shapes
    /// - `queries`: `[R, Hkv * g * K]`; `keys`, `values`: `[R, Hkv * K]`
    Apart {
        /// Queries.
        queries: Tensor<2>,
        /// Keys.
        keys: Tensor<2>,
        /// Values.
        values: Tensor<2>,
    },
    /// The three side by side, in this order, `[R, (g + 2) Hkv K]`.
    Together(Tensor<2>),
}

impl Projected {
    fn num_rows(&self) -> usize {
        match self {
            Self::Apart { queries, .. } => queries.dims()[0],
            Self::Together(all) => all.dims()[0],
        }
    }

    /// Queries, keys and values in 32 bits.
    fn apart(self, heads: Heads, precision: Precision) -> [Tensor<2>; 3] {
        let parts = match self {
            Self::Apart {
                queries,
                keys,
                values,
            } => [queries, keys, values],
            Self::Together(all) => {
                let one = heads.num_kv_heads * heads.width;
                let rows = all.dims()[0];
                // Copies, not views: a kernel reads what is in one piece.
                let part = |first: usize, count: usize| {
                    let part = all.clone().narrow(1, first * one, count * one);
                    part.reshape([rows * count * one])
                        .reshape([rows, count * one])
                };
                let group = heads.group;
                [part(0, group), part(group, 1), part(group + 1, 1)]
            }
        };
        parts.map(|part| precision.result(part))
    }

    #[cfg(feature = "cube")]
    fn together(self) -> Tensor<2> {
        match self {
            Self::Apart {
                queries,
                keys,
                values,
            } => Tensor::cat(vec![queries, keys, values], 1),
            Self::Together(all) => all,
        }
    }
}

/// Rotates queries and keys, writes keys and values into the last column of each row, and gives
/// `softmax(q k^T / sqrt(K)) v` of every row over the columns of its prompt and its own. Products
/// are computed in the precision of `rows`, in which the panels are stored.
///
/// On the CPU a row's result depends on that row alone: each sum runs front to back, over columns
/// for the output and over the head width for the scores.
///
/// # Shapes
/// - row `r` writes and reads slot `r` of `own`, and reads the slot of `prompts` that `rows` names
/// - output: `[R, Hkv * g * K]`, an operand of products in that precision
///
/// # Panics
/// If shapes differ, or a row names columns that are not there.
pub fn decode_attention(
    projected: Projected,
    prompts: &KvPanels,
    own: &mut KvPanels,
    rows: &DecodeRows,
) -> Tensor<2> {
    assert_eq!(projected.num_rows(), rows.count, "decode_attention: [R]");
    match &rows.path {
        Path::Host(_) => host::step(projected, prompts, own, rows),
        #[cfg(feature = "cube")]
        Path::Cube(spans) => cube::step(projected, prompts, own, spans, rows),
        Path::Portable(index) => portable::step(projected, prompts, own, rows, index),
    }
}
