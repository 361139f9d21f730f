//! What a parameter of the decoder is called in a Hugging Face checkpoint.
//!
//! Module fields carry the checkpoint's names, so a name is the module path with three differences:
//! everything but the head stands under `model.`, the scale of an RMS norm is `weight` there and
//! `gamma` here, and a bare head is `lm_head.weight` there. A projection is stored `[out, in]` there
//! and `[in, out]` here.

/// Name of the token embedding, which is also the head of a tied model.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// Name of the head of an untied model.
pub const HEAD: &str = "lm_head.weight";

/// A parameter's name in a checkpoint and how its values lie there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorName {
    /// Name in the checkpoint.
    pub name: String,
    /// True if the checkpoint holds the transpose of the parameter.
    pub is_transposed: bool,
}

/// The checkpoint's name for the parameter at `path`, the dotted path of module fields.
pub fn tensor_name(path: &str) -> TensorName {
    let name = match path {
        "lm_head" | "lm_head.weight" => HEAD.to_string(),
        _ => match path.strip_suffix(".gamma") {
            Some(norm) => format!("model.{norm}.weight"),
            None => format!("model.{path}"),
        },
    };
    TensorName {
        is_transposed: name.ends_with("_proj.weight"),
        name,
    }
}

/// The shape in the checkpoint of a parameter of shape `shape`, and the other way round.
pub fn stored_shape(shape: &[usize], is_transposed: bool) -> Vec<usize> {
    let mut stored = shape.to_vec();
    if is_transposed {
        stored.reverse();
    }
    stored
}

/// `[columns, rows]` from the row-major `[rows, columns]`, in blocks that stay in the cache.
///
/// # Panics
/// If `values` does not hold `rows * columns` values.
pub fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(
        values.len(),
        rows * columns,
        "transpose: {rows} x {columns}"
    );
    const BLOCK: usize = 32;
    let mut transposed = vec![0.0; values.len()];
    for row_block in (0..rows).step_by(BLOCK) {
        for column_block in (0..columns).step_by(BLOCK) {
            for row in row_block..(row_block + BLOCK).min(rows) {
                for column in column_block..(column_block + BLOCK).min(columns) {
                    transposed[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_checkpoint_names() {
        for (path, name, is_transposed) in [
            ("embed_tokens.weight", "model.embed_tokens.weight", false),
            (
                "layers.3.self_attn.q_proj.weight",
                "model.layers.3.self_attn.q_proj.weight",
                true,
            ),
            (
                "layers.3.self_attn.q_proj.bias",
                "model.layers.3.self_attn.q_proj.bias",
                false,
            ),
            (
                "layers.0.self_attn.k_norm.gamma",
                "model.layers.0.self_attn.k_norm.weight",
                false,
            ),
            (
                "layers.0.mlp.down_proj.weight",
                "model.layers.0.mlp.down_proj.weight",
                true,
            ),
            ("norm.gamma", "model.norm.weight", false),
            ("lm_head", "lm_head.weight", false),
        ] {
            let found = tensor_name(path);
            assert_eq!(
                (found.name.as_str(), found.is_transposed),
                (name, is_transposed)
            );
        }
    }

    #[test]
    fn transposing_moves_every_value_to_its_place() {
        let (rows, columns) = (37, 70);
        let values: Vec<f32> = (0..rows * columns).map(|index| index as f32).collect();
        let transposed = transpose(&values, rows, columns);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(
                    transposed[column * rows + row],
                    values[row * columns + column]
                );
            }
        }
        assert_eq!(transpose(&transposed, columns, rows), values);
    }
}
