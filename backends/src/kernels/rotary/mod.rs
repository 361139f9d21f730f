//! Rotary positions on packed rows, forwards and backwards.

#[cfg(feature = "cube")]
pub(super) mod cube;

use burn::tensor::Tensor;
use rayon::prelude::*;
use rlvr_core::Precision;

use super::host::{Values, tensor};
use super::lanes::{wide, work};

/// Rows of one task of the kernel.
const TASK_ROWS: usize = 64;

/// Cosines and signed sines of every packed row in the rotate-half layout.
///
/// # Shapes
/// - both: `[L, K]`; `sin` holds `-sin` in its first half
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[cos, cos]`.
    pub cos: Tensor<2>,
    /// `[-sin, sin]`.
    pub sin: Tensor<2>,
}

/// Turns every head of `x` by the angle of its row: `x * cos + swap(x) * sin`, where `swap`
/// exchanges the halves of a head.
///
/// Su et al., "RoFormer" (2021), arXiv:2104.09864.
///
/// # Shapes
/// - `x`, output: `[L, heads * K]`
///
/// # Panics
/// If L differs or the rows are not whole heads.
pub fn rotate(x: Tensor<2>, rotation: &Rotation) -> Tensor<2> {
    turn(x, rotation, 1.0, Precision::F32)
}

/// As [`rotate`], as an operand of products in `precision`.
///
/// # Shapes
/// - as [`rotate`]; `x` may be in the type of an operand
///
/// # Panics
/// As [`rotate`].
pub fn rotate_operand(x: Tensor<2>, rotation: &Rotation, precision: Precision) -> Tensor<2> {
    turn(x, rotation, 1.0, precision)
}

/// Turns every head back, which is the transpose of [`rotate`] and so its gradient, as an operand of
/// products in `precision`.
///
/// # Shapes
/// - as [`rotate`]
///
/// # Panics
/// As [`rotate`].
pub fn rotate_back(grad: Tensor<2>, rotation: &Rotation, precision: Precision) -> Tensor<2> {
    turn(grad, rotation, -1.0, precision)
}

fn turn(x: Tensor<2>, rotation: &Rotation, sign: f32, precision: Precision) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let [angles, width] = rotation.cos.dims();
    assert_eq!(angles, rows, "rotate: one angle per row [L]");
    assert_eq!(
        columns % width,
        0,
        "rotate: rows of whole heads [heads * K]"
    );
    #[cfg(feature = "cube")]
    if cube::has_kernel(&x) {
        return cube::turn(x, rotation, sign, precision.dtype());
    }
    let x = precision.result(x);
    let operands = (
        Values::of(&x),
        Values::of(&rotation.cos),
        Values::of(&rotation.sin),
    );
    let (Some(values), Some(cos), Some(sin)) = operands else {
        return precision.operand(portable(x, rotation, sign));
    };
    let turned = kernel(
        values.slice(),
        [cos.slice(), sin.slice()],
        columns,
        width,
        sign,
    );
    precision.operand(tensor(turned, [rows, columns], &x.device()))
}

fn portable(x: Tensor<2>, rotation: &Rotation, sign: f32) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let [_, width] = rotation.cos.dims();
    let heads = x.reshape([rows, columns / width, width]);
    let half = width / 2;
    let first = heads.clone().narrow(2, 0, half);
    let swapped = Tensor::cat(vec![heads.clone().narrow(2, half, half), first], 2);
    let cos = rotation.cos.clone().unsqueeze_dim(1);
    let sin = rotation.sin.clone().unsqueeze_dim(1) * sign;
    (heads * cos + swapped * sin).reshape([rows, columns])
}

fn kernel(x: &[f32], [cos, sin]: [&[f32]; 2], columns: usize, width: usize, sign: f32) -> Vec<f32> {
    let mut output = vec![0f32; x.len()];
    let tasks = output.par_chunks_mut(TASK_ROWS * columns);
    let tasks = tasks.zip(x.par_chunks(TASK_ROWS * columns));
    let angles = cos.par_chunks(TASK_ROWS * width);
    let angles = angles.zip(sin.par_chunks(TASK_ROWS * width));
    tasks.zip(angles).for_each(|((output, x), (cos, sin))| {
        let rows = Rows {
            cos,
            sin,
            columns,
            width,
            sign,
        };
        wide::<TurnRows>((rows, output, x));
    });
    output
}

/// The angles of some rows.
struct Rows<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    columns: usize,
    width: usize,
    sign: f32,
}

work!(TurnRows = turn_rows, 'a, (Rows<'a>, &'a mut [f32], &'a [f32]) => ());

#[inline(always)]
fn turn_rows((rows, output, x): (Rows<'_>, &mut [f32], &[f32])) {
    let Rows { columns, width, .. } = rows;
    let angles = rows
        .cos
        .chunks_exact(width)
        .zip(rows.sin.chunks_exact(width));
    let values = output
        .chunks_exact_mut(columns)
        .zip(x.chunks_exact(columns));
    for ((output, x), (cos, sin)) in values.zip(angles) {
        let heads = output.chunks_exact_mut(width);
        for (output, x) in heads.zip(x.chunks_exact(width)) {
            turn_head(output, x, cos, sin, rows.sign);
        }
    }
}

#[inline(always)]
fn turn_head(output: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], sign: f32) {
    let half = output.len() / 2;
    let (low, high) = output.split_at_mut(half);
    let (x_low, x_high) = x.split_at(half);
    for place in 0..half {
        let sine = sign * sin[half + place];
        low[place] = x_low[place] * cos[place] - x_high[place] * sine;
        high[place] = x_high[place] * cos[place] + x_low[place] * sine;
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, noise, values};

    fn rotation(rows: usize, width: usize) -> Rotation {
        let angles = noise([rows, width / 2], 5) * 3.0;
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        Rotation {
            cos: Tensor::cat(vec![cos.clone(), cos], 1),
            sin: Tensor::cat(vec![sin.clone().neg(), sin], 1),
        }
    }

    #[test]
    fn kernel_and_portable_path_agree_and_back_undoes_forward() {
        let (rows, width) = (70, 6);
        let (x, rotation) = (noise([rows, 4 * width], 1), rotation(rows, width));
        let turned = values(rotate(x.clone(), &rotation));
        close(&turned, &values(portable(x.clone(), &rotation, 1.0)), 1e-6);
        let turned_x = rotate(x.clone(), &rotation);
        let back = rotate_back(turned_x, &rotation, Precision::F32);
        close(&values(back), &values(x.clone()), 1e-6);
        let back = portable(portable(x.clone(), &rotation, 1.0), &rotation, -1.0);
        close(&values(back), &values(x.clone()), 1e-6);
        // The first pair of the first row, by its definition.
        let (x, cos, sin) = (values(x), values(rotation.cos), values(rotation.sin));
        let expected = x[0] * cos[0] - x[width / 2] * sin[width / 2];
        assert!((turned[0] - expected).abs() < 1e-6);
    }
}
