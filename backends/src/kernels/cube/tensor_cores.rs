//! Products of NVIDIA's tensor cores, m16n8k16 of PTX in bf16, from tiles in shared memory.
//!
//! Of a block of 16 rows by 8 columns a lane holds, in rows `lane / 4` and 8 below, the columns
//! `2 (lane mod 4)` and the next. Two blocks side by side are laid out as the left operand of another
//! product is. A number is one sum over the inner axis, 16 terms at a time from the first on, so its
//! bits do not depend on the block it stands in.

use burn::tensor::{Device, bf16};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::*;

use super::in_rows;

/// Units of a plane.
pub(in crate::kernels) const LANES: u32 = 32;

/// Rows of a block of sums, and terms of a step along the inner axis.
pub(in crate::kernels) const BLOCK_ROWS: usize = 16;

/// Columns of a block.
pub(in crate::kernels) const BLOCK: usize = 8;

/// Rows of a block that a lane has a part of.
pub(in crate::kernels) const HALVES: usize = 2;

/// Neighbouring columns that a lane has.
pub(in crate::kernels) const PAIR: usize = 2;

/// As many numbers.
pub(in crate::kernels) type Pair<E> = Vector<E, Const<PAIR>>;

/// Blocks side by side.
pub(in crate::kernels) type Sums = Sequence<Array<Pair<f32>>>;

/// Operands of one access to memory: 16 bytes.
pub(in crate::kernels) const PIECE: usize = 8;

/// As many operands.
pub(in crate::kernels) type Piece = Vector<bf16, Const<PIECE>>;

/// Bytes at a multiple of which a piece begins.
const ALIGNMENT: usize = 16;

/// Pieces of so many columns.
pub(in crate::kernels) const fn pieces(columns: usize) -> usize {
    columns / PIECE
}

/// From row to row of a tile: a piece more, so that rows begin in other banks.
pub(in crate::kernels) const fn pitch(columns: usize) -> usize {
    columns + PIECE
}

/// True if the device has tensor cores that multiply bf16.
pub(in crate::kernels) fn has_tensor_cores(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    return crate::nvidia::has_tensor_cores(device);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        false
    }
}

/// The tensor with rows of whole pieces, as the kernels read it.
pub(in crate::kernels) fn in_pieces(tensor: CubeTensor) -> CubeTensor {
    let tensor = in_rows(tensor);
    match tensor.meta.strides()[0].is_multiple_of(PIECE) {
        true => tensor,
        false => into_contiguous(tensor),
    }
}

/// An empty tile in shared memory.
#[cube]
pub(in crate::kernels) fn new_tile(
    #[comptime] rows: usize,
    #[comptime] columns: usize,
) -> Shared<[Piece]> {
    Shared::<[Piece]>::new_aligned_slice(comptime!(pieces(rows * pitch(columns))), ALIGNMENT)
}

/// Row of the lane's upper or lower half within a block.
#[cube]
pub(in crate::kernels) fn lane_row(#[comptime] half: usize) -> usize {
    half * BLOCK + UNIT_POS_X as usize / 4
}

/// The first of the lane's two columns of a block, among blocks side by side.
#[cube]
pub(in crate::kernels) fn column_of(#[comptime] block: usize) -> usize {
    block * BLOCK + UNIT_POS_X as usize % 4 * PAIR
}

/// Zeros.
#[cube]
pub(in crate::kernels) fn zeros(#[comptime] columns: usize) -> Sums {
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

/// The largest, or the sum, over the four lanes that share a row, in each of them.
#[cube]
pub(in crate::kernels) fn of_row(value: f32, #[comptime] is_sum: bool) -> f32 {
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

#[cube]
fn definition() -> MmaDefinition<bf16, bf16, f32> {
    MmaDefinition::<bf16, bf16, f32>::new(BLOCK_ROWS, BLOCK, BLOCK_ROWS)
}

/// Four 8 x 8 matrices whose rows begin where the lane says, one after the other.
#[cube]
pub(in crate::kernels) fn load_matrices(
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
pub(in crate::kernels) fn multiply(
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
        multiply_block(&mut sums[block + side], left, &own);
    }
}

/// Adds the product of `left` with one block.
#[cube]
pub(in crate::kernels) fn multiply_block(
    sums: &mut Array<Pair<f32>>,
    left: &Array<Pair<bf16>>,
    right: &Array<Pair<bf16>>,
) {
    definition().execute_inplace(left, right, sums);
}
