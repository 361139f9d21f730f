//! Products of a few rows with several weights, for decoding.
//!
//! A decode step reads every weight for a handful of rows, so reading is its price. A weight
//! stored `[out, in]` is read once, front to back, without being packed first, and each of its
//! values is multiplied with [`LANES`] rows at a time.
//!
//! An output is one sum over the inner axis, front to back, in one accumulator. So a row's result
//! depends neither on the other rows nor on how a weight is stored.

use burn::tensor::Tensor;
use rayon::prelude::*;
use rlvr_core::Precision;

use super::host::{Strided, Values, tensor};
use super::lanes::{has_long_vectors, wide, work};
use super::product::Matrix;
use super::tile::tile;

/// Rows of the input that go through a weight together.
const LANES: usize = 16;

/// Rows of a weight that one task multiplies.
const TASK_ROWS: usize = 96;

/// Multiplications below which all is done on the calling thread.
const THREADED_TERMS: usize = 1 << 20;

/// A weight and its bias.
#[derive(Clone, Debug)]
pub struct Projection {
    /// `[out, in]`, best in this order in memory; a transposed view of the other costs a copy of
    /// each part at every use.
    pub weight: Tensor<2>,
    /// `[out]`.
    pub bias: Option<Tensor<1>>,
}

/// `x w^T + bias` for each projection, products computed in `precision`. A weight may be stored in
/// that precision already.
///
/// # Shapes
/// - `x`: `[R, in]`; outputs: `[R, out]`, f32, one for each projection
///
/// # Panics
/// If `in` differs.
pub fn project<const N: usize>(
    x: Tensor<2>,
    projections: [&Projection; N],
    precision: Precision,
) -> [Tensor<2>; N] {
    let [rows, width] = x.dims();
    for projection in projections {
        assert_eq!(
            projection.weight.dims()[1],
            width,
            "project: weights [out, in]"
        );
    }
    let input = match precision {
        Precision::F32 => Strided::of(&x),
        Precision::F32Split | Precision::Bf16 => None,
    };
    let Some(input) = input else {
        let x = precision.operand(x);
        return projections.map(|it| portable(&x, it, precision));
    };
    let weights = projections.map(|it| Strided::of(&it.weight));
    let biases = projections.map(|it| it.bias.as_ref().map(Values::of));
    let parts = weights.each_ref().into_iter().zip(&biases);
    let operands: Option<Vec<Operand<'_>>> = parts
        .map(|(weight, bias)| {
            let bias = match bias {
                None => &[],
                Some(bias) => bias.as_ref()?.slice(),
            };
            let weight = weight.as_ref()?.matrix();
            Some(Operand { weight, bias })
        })
        .collect();
    let Some(operands) = operands else {
        return projections.map(|it| portable(&x, it, precision));
    };
    let mut outputs = kernel(input.matrix(), &operands).into_iter();
    let device = x.device();
    projections.map(|it| match outputs.next() {
        Some(output) => tensor(output, [rows, it.weight.dims()[0]], &device),
        None => unreachable!("project: an output for each weight"),
    })
}

/// As [`project`], as the device leaves it: in the type of an operand, unless there is a bias.
///
/// # Panics
/// As [`project`].
pub fn project_raw(x: Tensor<2>, projection: &Projection, precision: Precision) -> Tensor<2> {
    match (precision, &projection.bias) {
        (Precision::Bf16, None) => precision.product(x, projection.weight.clone().transpose()),
        _ => {
            let [output] = project(x, [projection], precision);
            output
        }
    }
}

fn portable(x: &Tensor<2>, projection: &Projection, precision: Precision) -> Tensor<2> {
    let weight = precision.operand(projection.weight.clone());
    let product = precision.matmul(x.clone(), weight.transpose());
    match &projection.bias {
        Some(bias) => product + bias.clone().unsqueeze(),
        None => product,
    }
}

struct Operand<'a> {
    /// `[out, in]`.
    weight: Matrix<'a>,
    /// `[out]`, or empty.
    bias: &'a [f32],
}

/// Some rows of a weight.
struct Task<'a> {
    operand: &'a Operand<'a>,
    first: usize,
    count: usize,
}

fn kernel(x: Matrix<'_>, operands: &[Operand<'_>]) -> Vec<Vec<f32>> {
    let panels = Panels::new(x);
    let tasks: Vec<Task<'_>> = operands.iter().flat_map(tasks).collect();
    let out: usize = operands.iter().map(|it| it.weight.rows).sum();
    let is_threaded = out * x.columns * x.rows >= THREADED_TERMS;
    let run = |task: &Task<'_>| task.run(&panels);
    let parts: Vec<Vec<f32>> = match is_threaded {
        true => tasks.par_iter().map(run).collect(),
        false => tasks.iter().map(run).collect(),
    };
    let mut rest = &parts[..];
    let gather = |operand: &Operand<'_>| {
        let (own, others) = rest.split_at(tasks_of(operand));
        rest = others;
        gathered(own, operand, x.rows, is_threaded)
    };
    operands.iter().map(gather).collect()
}

fn tasks_of(operand: &Operand<'_>) -> usize {
    operand.weight.rows.div_ceil(TASK_ROWS)
}

fn tasks<'a>(operand: &'a Operand<'a>) -> impl Iterator<Item = Task<'a>> {
    let rows = operand.weight.rows;
    (0..rows).step_by(TASK_ROWS).map(move |first| Task {
        operand,
        first,
        count: TASK_ROWS.min(rows - first),
    })
}

/// The parts of the tasks, `[R, count]` each, side by side, and the bias: `[R, out]`.
fn gathered(parts: &[Vec<f32>], operand: &Operand<'_>, rows: usize, is_threaded: bool) -> Vec<f32> {
    let out = operand.weight.rows;
    let mut output = vec![0f32; rows * out];
    let fill = |(row, output): (usize, &mut [f32])| {
        for (part, place) in parts.iter().zip(output.chunks_mut(TASK_ROWS)) {
            place.copy_from_slice(&part[row * place.len()..][..place.len()]);
        }
        for (value, bias) in output.iter_mut().zip(operand.bias) {
            *value += bias;
        }
    };
    match is_threaded {
        true => output.par_chunks_mut(out).enumerate().for_each(fill),
        false => output.chunks_mut(out).enumerate().for_each(fill),
    }
    output
}

/// The input in groups of [`LANES`] rows, each `[in, LANES]`; missing rows are zero.
struct Panels {
    values: Vec<f32>,
    rows: usize,
    width: usize,
}

impl Panels {
    fn new(x: Matrix<'_>) -> Self {
        let mut values = vec![0f32; x.rows.next_multiple_of(LANES) * x.columns];
        for row in 0..x.rows {
            let panel = &mut values[row / LANES * LANES * x.columns..];
            let input = x.values[row * x.row_stride..]
                .iter()
                .step_by(x.column_stride);
            let places = panel.iter_mut().skip(row % LANES).step_by(LANES);
            for (place, value) in places.zip(input).take(x.columns) {
                *place = *value;
            }
        }
        Self {
            values,
            rows: x.rows,
            width: x.columns,
        }
    }
}

impl Task<'_> {
    /// `[R, count]`.
    fn run(&self, panels: &Panels) -> Vec<f32> {
        let weight = self.operand.weight;
        let start = &weight.values[self.first * weight.row_stride..];
        let copy;
        let weights = match weight.column_stride {
            1 => Weights {
                values: start,
                stride: weight.row_stride,
                count: self.count,
            },
            _ => {
                copy = copied(start, weight, self.count);
                Weights {
                    values: &copy,
                    stride: weight.columns,
                    count: self.count,
                }
            }
        };
        match has_long_vectors() {
            true => wide::<LongRows>((weights, panels)),
            false => wide::<ShortRows>((weights, panels)),
        }
    }
}

/// The first `count` rows from `start` on, one after the other.
fn copied(start: &[f32], weight: Matrix<'_>, count: usize) -> Vec<f32> {
    let mut copy = vec![0f32; count * weight.columns];
    for column in 0..weight.columns {
        let values = start[column * weight.column_stride..].iter();
        let values = values.step_by(weight.row_stride).take(count);
        let places = copy.iter_mut().skip(column).step_by(weight.columns);
        for (place, value) in places.zip(values) {
            *place = *value;
        }
    }
    copy
}

/// Rows of a weight, `stride` apart.
#[derive(Clone, Copy)]
struct Weights<'a> {
    values: &'a [f32],
    stride: usize,
    count: usize,
}

// Rows of a weight at a time: as many as leave their sums in registers.
work!(LongRows = multiply::<8>, 'a, (Weights<'a>, &'a Panels) => Vec<f32>);
work!(ShortRows = multiply::<4>, 'a, (Weights<'a>, &'a Panels) => Vec<f32>);

#[inline(always)]
fn multiply<const TILE: usize>((weights, panels): (Weights<'_>, &Panels)) -> Vec<f32> {
    let mut output = vec![0f32; weights.count * panels.rows];
    let whole = weights.count / TILE * TILE;
    for first in (0..whole).step_by(TILE) {
        multiply_tile::<TILE>(weights, first, panels, &mut output);
    }
    for first in whole..weights.count {
        multiply_tile::<1>(weights, first, panels, &mut output);
    }
    output
}

#[inline(always)]
fn multiply_tile<const TILE: usize>(
    weights: Weights<'_>,
    first: usize,
    panels: &Panels,
    output: &mut [f32],
) {
    let width = panels.width;
    let mut rows = [&weights.values[..0]; TILE];
    for (row, values) in rows.iter_mut().enumerate() {
        *values = &weights.values[(first + row) * weights.stride..][..width];
    }
    for (place, panel) in panels.values.chunks_exact(width * LANES).enumerate() {
        let sums = tile([[0.0; LANES]; TILE], rows, panel, LANES);
        for lane in 0..LANES.min(panels.rows - place * LANES) {
            let start = (place * LANES + lane) * weights.count + first;
            for (row, sums) in sums.iter().enumerate() {
                output[start + row] = sums[lane];
            }
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, noise, values};

    fn projection(out: usize, width: usize, salt: usize) -> Projection {
        Projection {
            weight: noise([out, width], salt),
            bias: Some(noise([1, out], salt + 1).squeeze_dim(0)),
        }
    }

    #[test]
    fn kernel_and_portable_path_agree() {
        for (rows, width) in [(1, 7), (16, 64), (37, 600)] {
            let x = noise([rows, width], 1);
            let first = projection(250, width, 2);
            let second = Projection {
                bias: None,
                ..projection(5, width, 4)
            };
            let expected = [&first, &second]
                .map(|it| portable(&x, it, Precision::F32))
                .map(values);
            let found = project(x, [&first, &second], Precision::F32).map(values);
            for (found, expected) in found.iter().zip(&expected) {
                close(found, expected, 1e-5);
            }
        }
    }

    #[test]
    fn a_row_depends_neither_on_its_neighbours_nor_on_how_weights_are_stored() {
        let x = noise([37, 600], 1);
        let plain = projection(250, 600, 2);
        let all = values(project(x.clone(), [&plain], Precision::F32)[0].clone());
        let alone =
            values(project(x.clone().narrow(0, 20, 1), [&plain], Precision::F32)[0].clone());
        assert_eq!(all[20 * 250..21 * 250], alone);
        let columns = plain.weight.clone().transpose();
        let columns = columns.reshape([600 * 250]).reshape([600, 250]);
        let view = Projection {
            weight: columns.transpose(),
            bias: plain.bias.clone(),
        };
        assert_eq!(values(project(x, [&view], Precision::F32)[0].clone()), all);
    }

    #[test]
    fn a_weight_stored_in_half_precision_changes_nothing_but_its_size() {
        let (x, plain) = (noise([5, 64], 1), projection(40, 64, 2));
        let stored = Projection {
            weight: Precision::Bf16.operand(plain.weight.clone()),
            bias: plain.bias.clone(),
        };
        let found = |it: &Projection| values(project(x.clone(), [it], Precision::Bf16)[0].clone());
        assert_eq!(found(&stored), found(&plain));
        let exact = values(project(x.clone(), [&plain], Precision::F32)[0].clone());
        close(&found(&plain), &exact, 1e-2);
        assert_ne!(found(&plain), exact);
    }

    #[test]
    fn tiles_of_both_sizes_have_the_same_bits() {
        let x = noise([5, 33], 1);
        let weight = noise([50, 33], 2);
        let (x, weight) = (values(x), values(weight));
        let panels = Panels::new(Matrix::rows(&x, 5, 33, 33));
        let weights = Weights {
            values: &weight,
            stride: 33,
            count: 50,
        };
        let long = wide::<LongRows>((weights, &panels));
        assert_eq!(wide::<ShortRows>((weights, &panels)), long);
    }
}
