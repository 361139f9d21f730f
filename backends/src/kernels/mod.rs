//! Operations of a transformer block over packed rows, with their gradients, and of the optimizer,
//! one file each.
//!
//! A file or folder here holds public functions over `Tensor`s, their portable path in plain Burn
//! operations, the kernel, and the test that the two agree. The portable path is the definition;
//! the kernel is used only on devices that have it, and is added only when a bench or the number of
//! launches shows the gain. Callers never ask which path ran. On the CPU products in half precision
//! ([`rlvr_core::Precision`]) always take the portable path: what it has no instructions for needs no
//! kernel. Nothing here is recorded by autodiff: inputs are plain tensors, and a gradient is a
//! function of its own.
//!
//! | operation | devices with a kernel |
//! | --- | --- |
//! | `swiglu`, `prefix_attention`, their gradients, that of `rms_norm`, `token_scores`, `token_entropies`, `matmul`, `matmul_add`, `project`, `adamw`, `add`, `scale`, `sum_of_squares` | `cpu` |
//! | `rms_norm`, `rotate` and its gradient, `decode_attention` | `cpu`, CubeCL (CUDA and wgpu) |
//! | `prefix_attention` and its gradient, `project_and_draw`, in bf16 | CUDA with tensor cores |
//! | weights of `prefix_attention` and their gradient, between products of Burn's, `DecodeState` | CubeCL |
//! | `add_rms_norm`, `swiglu_operand`, `draw` | CubeCL |
//!
//! The kernels for the CPU are Rust, those for the others are CubeCL: one source that is compiled on
//! the device's machine when it is first used.

mod adamw;
#[cfg(feature = "cube")]
mod cube;
mod decode_attention;
mod decode_state;
mod draw;
mod gradients;
mod host;
mod index;
mod lanes;
mod matmul;
mod prefix_attention;
mod product;
mod project;
mod rms_norm;
mod rotary;
mod swiglu;
#[cfg(all(test, feature = "cpu"))]
mod test_tools;
mod tile;
mod token_scores;

pub use adamw::{AdamWStep, Moved, adamw};
pub use decode_attention::{
    COLUMN_BUCKET, DecodeRows, KvPanels, Projected, RowSpan, decode_attention,
};
pub use decode_state::{DecodeState, FirstRows};
pub use draw::{
    Drawing, Filters, NO_TOKEN, RESOLUTION, VOCAB_LIMIT, draw, project_and_draw,
    project_and_draw_bytes,
};
pub use gradients::{add, scale, sum_of_squares};
pub use index::MASKED;
pub use matmul::{matmul, matmul_add, matmul_raw};
pub use prefix_attention::{
    AttentionGradients, Heads, PrefixSpans, PromptSpan, attention_bytes, holds_scores,
    prefix_attention, prefix_attention_backward,
};
pub use project::{Projection, project, project_raw};
pub use rms_norm::{add_rms_norm, rms_norm, rms_norm_backward, rms_norm_operand};
pub use rotary::{Rotation, rotate, rotate_back, rotate_operand};
pub use swiglu::{SwigluGradients, swiglu, swiglu_backward, swiglu_operand};
pub use token_scores::{token_entropies, token_scores, token_scores_backward};
