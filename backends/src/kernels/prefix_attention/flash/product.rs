//! Products of tiles: the 16 rows of a plane by the rows of another tile, or by their columns. Weights
//! are left operands as they stand ([`tensor_cores`](crate::kernels::cube::tensor_cores)), so they never
//! leave the registers.

use burn::tensor::bf16;
use cubecl::cmma::MatrixIdent;
use cubecl::prelude::*;

use super::tile::PLANE_ROWS;
use crate::kernels::cube::tensor_cores::{
    BLOCK, HALVES, PAIR, Pair, Piece, Sums, column_of, lane_row, load_matrices, multiply, pieces,
    pitch, zeros,
};

/// Row of the lane's upper or lower half within the cube's tile.
#[cube]
pub(super) fn row_of(#[comptime] half: usize) -> usize {
    UNIT_POS_Y as usize * PLANE_ROWS + lane_row(half)
}

/// Products of the plane's 16 rows of `mine` with all `inner` rows of `other`.
#[cube]
pub(super) fn score(
    mine: &Shared<[Piece]>,
    other: &Shared<[Piece]>,
    #[comptime] width: usize,
    #[comptime] inner: usize,
) -> Sums {
    let stride = comptime!(pieces(pitch(width)));
    let lane = UNIT_POS_X as usize;
    let (matrix, row) = (lane / BLOCK, lane % BLOCK);
    let left = (UNIT_POS_Y as usize * PLANE_ROWS + matrix % 2 * BLOCK + row) * stride + matrix / 2;
    let right = (matrix / 2 * BLOCK + row) * stride + matrix % 2;
    let mut sums = zeros(inner);
    #[unroll]
    for step in 0..comptime!(width / 16) {
        let along = comptime!(pieces(step * 16));
        let left = load_matrices(mine, left + along, MatrixIdent::A, false);
        #[unroll]
        for pair in 0..comptime!(inner / 16) {
            let place = right + comptime!(pair * 16 * stride + along);
            let right = load_matrices(other, place, MatrixIdent::B, false);
            multiply(&mut sums, &left, &right, comptime!(2 * pair));
        }
    }
    sums
}

/// Adds the products of `weights`, `[16, inner]` and rounded, with the `inner` rows of `tile`.
#[cube]
pub(super) fn accumulate(
    sums: &mut Sums,
    weights: &Sums,
    tile: &Shared<[Piece]>,
    #[comptime] width: usize,
    #[comptime] inner: usize,
) {
    let stride = comptime!(pieces(pitch(width)));
    let lane = UNIT_POS_X as usize;
    let (matrix, row) = (lane / BLOCK, lane % BLOCK);
    let start = (matrix % 2 * BLOCK + row) * stride + matrix / 2;
    #[unroll]
    for step in 0..comptime!(inner / 16) {
        let mut left = Array::<Pair<bf16>>::new(4usize);
        #[unroll]
        for part in 0..4usize {
            let block = &weights[comptime!(2 * step + part / 2)];
            left[part] = Pair::<bf16>::cast_from(block[comptime!(part % 2)]);
        }
        #[unroll]
        for pair in 0..comptime!(width / 16) {
            let place = start + comptime!(step * 16 * stride + pieces(pair * 16));
            let right = load_matrices(tile, place, MatrixIdent::B, true);
            multiply(sums, &left, &right, comptime!(2 * pair));
        }
    }
}

/// Writes the plane's 16 rows, of a tile whose rows begin at `first`.
#[cube]
pub(super) fn write<O: Float>(
    sums: &Sums,
    output: &mut Tensor<Pair<O>>,
    first: usize,
    column: usize,
    #[comptime] width: usize,
) {
    #[unroll]
    for half in 0..HALVES {
        let row = first + row_of(half);
        if row < output.shape(0) {
            let start = row * output.stride(0) + column;
            #[unroll]
            for block in 0..comptime!(width / BLOCK) {
                let place = (start + column_of(block)) / PAIR;
                output[place] = Pair::<O>::cast_from(sums[block][half]);
            }
        }
    }
}
