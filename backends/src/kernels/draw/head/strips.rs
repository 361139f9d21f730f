//! The product of hidden states with the vocabulary, of which only sums over strips of tokens are kept.
//!
//! A cube multiplies up to 128 rows with two strips. While its planes multiply what is in shared memory,
//! the next terms are on their way into registers.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::MatrixIdent;
use cubecl::prelude::*;

use super::super::choice::term;
use super::super::{PART, STRIP};
use super::{beside, rounded};
use crate::kernels::cube::tensor_cores::{
    BLOCK, BLOCK_ROWS, HALVES, LANES, PAIR, PIECE, Piece, Sums, column_of, lane_row, load_matrices,
    multiply, new_tile, of_row, pieces, pitch, zeros,
};

/// What is kept of a row and a strip: largest logit, sum of weights, sum of weights times exponents,
/// and 1 if a logit is not finite.
pub(super) type Part = Vector<f32, Const<PART>>;

/// The bits of a piece: as numbers of 16 bits they would go through the registers one by one.
type Words = Vector<u32, Const<4>>;

/// Strips of a cube: one for each plane side by side.
const STRIPS: usize = 2;

/// Tokens of a cube.
const TOKENS: usize = STRIPS * STRIP;

/// Rows of a plane, in blocks.
const ROW_BLOCKS: usize = 2;
const PLANE_ROWS: usize = ROW_BLOCKS * BLOCK_ROWS;

/// Most planes one below the other.
const MOST_PLANES: usize = 4;

/// Blocks of a strip.
const BLOCKS: usize = STRIP / BLOCK;

/// Terms that are in shared memory at a time, if all together are a multiple of them; else half of it. With
/// more, ptxas gives 128 rows so many registers that a multiprocessor holds one cube, which waits alone.
const MOST_TERMS: usize = 32;

/// How a cube goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    /// Planes one below the other.
    row_planes: usize,
    /// Terms that are in shared memory at a time.
    depth: usize,
}

impl Plan {
    fn new(rows: usize, width: usize) -> Self {
        let planes = rows.div_ceil(PLANE_ROWS).next_power_of_two();
        Self {
            row_planes: planes.min(MOST_PLANES),
            depth: match width.is_multiple_of(MOST_TERMS) {
                true => MOST_TERMS,
                false => BLOCK_ROWS,
            },
        }
    }

    fn rows(self) -> usize {
        self.row_planes * PLANE_ROWS
    }

    fn planes(self) -> usize {
        self.row_planes * STRIPS
    }

    /// Pieces of `rows` rows that each unit moves.
    fn share(self, rows: usize) -> usize {
        rows * pieces(self.depth) / (self.planes() * LANES as usize)
    }

    /// Pieces from unit to unit.
    fn units(self) -> usize {
        self.planes() * LANES as usize
    }
}

/// Of every row and strip, `[R, S PART]`.
pub(super) fn launch(
    hidden: CubeTensor,
    weight: CubeTensor,
    inverse_temperature: f32,
) -> CubeTensor {
    let (rows, vocab) = (hidden.shape()[0], weight.shape()[0]);
    let num_strips = vocab.div_ceil(STRIP);
    let output = beside(&hidden, [rows, num_strips * PART]);
    let plan = Plan::new(rows, hidden.shape()[1]);
    // Neighbours have the same tokens, which are read from memory once.
    let cubes = [rows.div_ceil(plan.rows()), num_strips.div_ceil(STRIPS)];
    strips_kernel::launch(
        &hidden.client.clone(),
        CubeCount::Static(cubes[0] as u32, cubes[1] as u32, 1),
        CubeDim::new_2d(LANES, plan.planes() as u32),
        hidden.into_tensor_arg(),
        weight.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        inverse_temperature,
        plan,
    );
    output
}

#[cube(launch)]
fn strips_kernel(
    hidden: &Tensor<Words>,    // [R, D]
    weight: &Tensor<Words>,    // [V, D]
    output: &mut Tensor<Part>, // [R, S PART]
    inverse_temperature: f32,
    #[comptime] plan: Plan,
) {
    let first = CUBE_POS_X as usize * comptime!(plan.rows());
    let first_token = CUBE_POS_Y as usize * TOKENS;
    let (row_plane, strip) = (UNIT_POS_Y as usize / STRIPS, UNIT_POS_Y as usize % STRIPS);
    let (own_row, own_token) = (row_plane * PLANE_ROWS, strip * STRIP);

    let mut rows = new_tile(comptime!(plan.rows()), comptime!(plan.depth));
    let mut tokens = new_tile(TOKENS, comptime!(plan.depth));
    let mut next_rows = Array::<Words>::new(comptime!(plan.share(plan.rows())));
    let mut next_tokens = Array::<Words>::new(comptime!(plan.share(TOKENS)));
    fetch(
        hidden,
        &mut next_rows,
        first,
        0,
        comptime!(plan.rows()),
        plan,
    );
    fetch(weight, &mut next_tokens, first_token, 0, TOKENS, plan);
    let mut sums = zeros(comptime!(ROW_BLOCKS * STRIP));
    for step in 1..hidden.shape(1) / comptime!(plan.depth) {
        sync_cube();
        store(&next_rows, &mut rows, comptime!(plan.rows()), plan);
        store(&next_tokens, &mut tokens, TOKENS, plan);
        sync_cube();
        let from = step * comptime!(pieces(plan.depth));
        fetch(
            hidden,
            &mut next_rows,
            first,
            from,
            comptime!(plan.rows()),
            plan,
        );
        fetch(weight, &mut next_tokens, first_token, from, TOKENS, plan);
        multiply_tiles(&mut sums, &rows, &tokens, own_row, own_token, plan);
    }
    sync_cube();
    store(&next_rows, &mut rows, comptime!(plan.rows()), plan);
    store(&next_tokens, &mut tokens, TOKENS, plan);
    sync_cube();
    multiply_tiles(&mut sums, &rows, &tokens, own_row, own_token, plan);

    let first_token = first_token + own_token;
    let place = first_token / STRIP;
    let stride = output.stride(0) / PART;
    #[unroll]
    for row_block in 0..ROW_BLOCKS {
        #[unroll]
        for half in 0..HALVES {
            let part = part_of(
                &sums,
                first_token,
                weight.shape(0),
                inverse_temperature,
                row_block,
                half,
            );
            let row = first + own_row + row_block * BLOCK_ROWS + lane_row(half);
            let is_writer = UNIT_POS_X.is_multiple_of(4) && first_token < weight.shape(0);
            if is_writer && row < hidden.shape(0) {
                output[row * stride + place] = part;
            }
        }
    }
}

/// Reads this unit's share of some terms of `rows` rows from `first` on; of the last row for those behind
/// it.
#[cube]
fn fetch(
    x: &Tensor<Words>,
    share: &mut Array<Words>,
    first: usize,
    from: usize,
    #[comptime] rows: usize,
    #[comptime] plan: Plan,
) {
    let width = comptime!(pieces(plan.depth));
    let stride = x.stride(0) / PIECE;
    #[unroll]
    for index in 0..comptime!(plan.share(rows)) {
        let place = UNIT_POS as usize + comptime!(index * plan.units());
        let row = min(first + place / width, x.shape(0) - 1);
        share[index] = x[row * stride + from + place % width];
    }
}

/// Puts it into the tile.
#[cube]
fn store(
    share: &Array<Words>,
    tile: &mut Shared<[Piece]>,
    #[comptime] rows: usize,
    #[comptime] plan: Plan,
) {
    let width = comptime!(pieces(plan.depth));
    #[unroll]
    for index in 0..comptime!(plan.share(rows)) {
        let place = UNIT_POS as usize + comptime!(index * plan.units());
        let row = place / width;
        tile[row * comptime!(pieces(pitch(plan.depth))) + place % width] =
            Piece::reinterpret(share[index]);
    }
}

/// Adds the products of the plane's rows with its strip, which begin at `own_row` and `own_token` of
/// their tiles.
#[cube]
fn multiply_tiles(
    sums: &mut Sums,
    rows: &Shared<[Piece]>,
    tokens: &Shared<[Piece]>,
    own_row: usize,
    own_token: usize,
    #[comptime] plan: Plan,
) {
    let stride = comptime!(pieces(pitch(plan.depth)));
    let lane = UNIT_POS_X as usize;
    let (matrix, row) = (lane / BLOCK, lane % BLOCK);
    let left = (own_row + matrix % 2 * BLOCK + row) * stride + matrix / 2;
    let right = (own_token + matrix / 2 * BLOCK + row) * stride + matrix % 2;
    #[unroll]
    for step in 0..comptime!(plan.depth / BLOCK_ROWS) {
        let along = comptime!(pieces(step * BLOCK_ROWS));
        let below = comptime!(along + BLOCK_ROWS * stride);
        let upper = load_matrices(rows, left + along, MatrixIdent::A, false);
        let lower = load_matrices(rows, left + below, MatrixIdent::A, false);
        #[unroll]
        for pair in 0..comptime!(BLOCKS / 2) {
            let place = right + comptime!(pair * 2 * BLOCK * stride + along);
            let right = load_matrices(tokens, place, MatrixIdent::B, false);
            multiply(sums, &upper, &right, comptime!(2 * pair));
            multiply(sums, &lower, &right, comptime!(BLOCKS + 2 * pair));
        }
    }
}

/// What is kept of one of the lane's rows, in each of the four lanes that share it.
#[cube]
fn part_of(
    sums: &Sums,
    first_token: usize,
    vocab: usize,
    inverse_temperature: f32,
    #[comptime] row_block: usize,
    #[comptime] half: usize,
) -> Part {
    let mut most = f32::min_value();
    let mut damage = 0.0f32;
    #[unroll]
    for block in 0..BLOCKS {
        let pair = sums[comptime!(row_block * BLOCKS + block)][half];
        #[unroll]
        for side in 0..PAIR {
            let logit = rounded(pair.extract(side));
            if first_token + column_of(block) + side < vocab {
                most = max(most, logit);
                if logit.is_nan() || logit.is_inf() {
                    damage = 1.0;
                }
            }
        }
    }
    let most = of_row(most, false);
    let mut weights = 0.0f32;
    let mut moments = 0.0f32;
    #[unroll]
    for block in 0..BLOCKS {
        let pair = sums[comptime!(row_block * BLOCKS + block)][half];
        #[unroll]
        for side in 0..PAIR {
            let term = term(rounded(pair.extract(side)), most, inverse_temperature);
            if first_token + column_of(block) + side < vocab {
                weights += term.weight;
                moments += term.weight * term.exponent;
            }
        }
    }
    let mut part = Part::empty();
    part.insert(0usize, most);
    part.insert(1usize, of_row(weights, true));
    part.insert(2usize, of_row(moments, true));
    part.insert(3usize, of_row(damage, false));
    part
}
