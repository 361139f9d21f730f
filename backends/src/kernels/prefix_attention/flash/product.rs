//! Products of tensor cores, m16n8k16 of PTX: 16 rows of a plane by blocks of 8 columns.
//!
//! Of a block a lane holds, in rows `lane / 4` and 8 below, the columns `2 (lane mod 4)` and the next.
//! Two blocks side by side are laid out as the left operand of another product is, so weights never
//! leave the registers.

use burn::tensor::bf16;
use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::*;

use super::tile::{PLANE_ROWS, Piece, pieces, pitch};

/// Columns of a block.
pub(super) const BLOCK: usize = 8;

/// Rows of a block that a lane has a part of.
pub(super) const HALVES: usize = 2;

/// Neighbouring columns that a lane has.
pub(super) const PAIR: usize = 2;

/// As many numbers.
pub(super) type Pair<E> = Vector<E, Const<PAIR>>;

/// Blocks side by side.
pub(super) type Sums = Sequence<Array<Pair<f32>>>;

/// Row of the lane's upper or lower half within the cube's tile.
#[cube]
pub(super) fn row_of(#[comptime] half: usize) -> usize {
    UNIT_POS_Y as usize * PLANE_ROWS + half * BLOCK + UNIT_POS_X as usize / 4
}

/// The first of the lane's two columns of a block.
#[cube]
pub(super) fn column_of(#[comptime] block: usize) -> usize {
    block * BLOCK + UNIT_POS_X as usize % 4 * PAIR
}

/// The largest, or the sum, over the four lanes that share a row, in each of them.
#[cube]
pub(super) fn of_row(value: f32, #[comptime] is_sum: bool) -> f32 {
    let mut found = value;
    #[unroll]
    for step in 0..2u32 {
        let other = plane_shuffle_xor(found, comptime!(1u32 << step));
        if comptime!(is_sum) {
            found += other;
        } else {
            found = max(found, other);
        }
    }
    found
}

/// Zeros.
#[cube]
pub(super) fn zeros(#[comptime] columns: usize) -> Sums {
    let mut sums = Sums::new();
    #[unroll]
    for _ in 0..comptime!(columns / BLOCK) {
        let mut block = Array::<Pair<f32>>::new(HALVES);
        #[unroll]
        for half in 0..HALVES {
            block[half] = Pair::<f32>::new(0.0);
        }
        sums.push(block);
    }
    sums
}

#[cube]
fn definition() -> MmaDefinition<bf16, bf16, f32> {
    MmaDefinition::<bf16, bf16, f32>::new(16usize, 8usize, 16usize)
}

/// Four 8 x 8 matrices whose rows begin where the lane says, one after the other.
#[cube]
fn load_matrices(
    tile: &Shared<[Piece]>,
    place: usize,
    #[comptime] ident: MatrixIdent,
    #[comptime] is_transposed: bool,
) -> Array<Pair<bf16>> {
    let row = &tile[place..place + 1];
    definition().load_matrix::<Piece, Const<PAIR>>(row, ident, 4usize, is_transposed)
}

/// Adds the product of `left` with two blocks whose operands are `right`.
#[cube]
fn multiply(
    sums: &mut Sums,
    left: &Array<Pair<bf16>>,
    right: &Array<Pair<bf16>>,
    #[comptime] block: usize,
) {
    #[unroll]
    for side in 0..2usize {
        let mut own = Array::<Pair<bf16>>::new(2usize);
        own[0] = right[side * 2];
        own[1] = right[side * 2 + 1];
        definition().execute_inplace(left, &own, &mut sums[block + side]);
    }
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
