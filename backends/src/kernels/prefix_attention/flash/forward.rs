//! What is attended: a cube for every tile of rows and query head.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, bf16};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::Heads;
use super::product::{accumulate, row_of, score, write};
use super::tile::{LEAST, Seen, TILE, at, cube_dim, load, seen, sees, walk};
use crate::kernels::cube::tensor_cores::{
    BLOCK, HALVES, PAIR, Pair, Piece, column_of, in_pieces, new_tile, of_row, zeros,
};
use crate::kernels::cube::{element, in_rows};

/// Keys of a tile.
const INNER: usize = 64;

/// As [`super::super::prefix_attention`], from operands in bf16 to one.
pub(in crate::kernels) fn launch(
    inputs: [CubeTensor; 3],
    [rows, tiles]: [CubeTensor; 2],
    heads: Heads,
    scale: f32,
) -> CubeTensor {
    let [queries, keys, values] = inputs.map(in_pieces);
    let (client, device) = (queries.client.clone(), queries.device.clone());
    let output = empty_device_dtype(client.clone(), device, queries.shape(), DType::BF16);
    let count = [tiles.shape()[0], heads.num_kv_heads * heads.group].map(|it| it as u32);
    let index = element(rows.dtype);
    forward_kernel::launch(
        &client,
        CubeCount::Static(count[0], count[1], 1),
        cube_dim(),
        queries.into_tensor_arg(),
        keys.into_tensor_arg(),
        values.into_tensor_arg(),
        in_rows(rows).into_tensor_arg(),
        in_rows(tiles).into_tensor_arg(),
        output.clone().into_tensor_arg(),
        heads.group as u32,
        scale,
        heads.width,
        index,
    );
    output
}

#[cube(launch)]
fn forward_kernel<I: Int>(
    queries: &Tensor<Piece>,         // [L, Hkv g K]
    keys: &Tensor<Piece>,            // [L, Hkv K]
    values: &Tensor<Piece>,          // [L, Hkv K]
    rows: &Tensor<I>,                // [L, 3]
    tiles: &Tensor<I>,               // [ceil(L / TILE), 4]
    output: &mut Tensor<Pair<bf16>>, // [L, Hkv g K]
    group: u32,
    scale: f32,
    #[comptime] width: usize,
    #[define(I)] _index: ElemType,
) {
    let head = CUBE_POS_Y as usize;
    let (own_column, column) = (head * width, head / group as usize * width);
    let first = CUBE_POS_X as usize * TILE;
    let mut query_tile = new_tile(TILE, width);
    let mut key_tile = new_tile(INNER, width);
    let mut value_tile = new_tile(INNER, width);
    load(queries, &mut query_tile, first, own_column, TILE, width);

    let mut seen_rows = Sequence::<Seen>::new();
    let mut most = Array::<f32>::new(HALVES);
    let mut total = Array::<f32>::new(HALVES);
    #[unroll]
    for half in 0..HALVES {
        seen_rows.push(seen::<I>(rows, first + row_of(half)));
        most[half] = LEAST;
        total[half] = 0.0;
    }
    let mut sums = zeros(width);
    let end = min(first + TILE, rows.shape(0));
    let walk = walk::<I>(tiles, CUBE_POS_X as usize, end, INNER);
    for index in 0..walk.count {
        let from = at(&walk, index, INNER);
        sync_cube();
        load(keys, &mut key_tile, from, column, INNER, width);
        load(values, &mut value_tile, from, column, INNER, width);
        sync_cube();
        let mut weights = score(&query_tile, &key_tile, width, INNER);
        #[unroll]
        for half in 0..HALVES {
            let query = first + row_of(half);
            let mut larger = most[half];
            #[unroll]
            for block in 0..comptime!(INNER / BLOCK) {
                let scores = weights[block][half];
                let mut seen_scores = Pair::<f32>::empty();
                #[unroll]
                for side in 0..PAIR {
                    let key = from + column_of(block) + side;
                    let is_seen = sees(&seen_rows[half], query, key);
                    let value = select(is_seen, scores.extract(side) * scale, LEAST);
                    larger = max(larger, value);
                    seen_scores.insert(side, value);
                }
                let block = &mut weights[block];
                block[half] = seen_scores;
            }
            let larger = of_row(larger, false);
            let before = (most[half] - larger).exp();
            most[half] = larger;
            let mut sum = total[half] * before;
            #[unroll]
            for block in 0..comptime!(INNER / BLOCK) {
                let scores = weights[block][half];
                let mut row = Pair::<f32>::empty();
                #[unroll]
                for side in 0..PAIR {
                    let value = scores.extract(side);
                    // Before the first key that is seen, nothing is.
                    let weight = select(value > LEAST, (value - larger).exp(), 0.0);
                    sum += weight;
                    row.insert(side, weight);
                }
                let block = &mut weights[block];
                block[half] = row;
            }
            total[half] = sum;
            #[unroll]
            for block in 0..comptime!(width / BLOCK) {
                let block = &mut sums[block];
                block[half] *= Pair::<f32>::new(before);
            }
        }
        accumulate(&mut sums, &weights, &value_tile, width, INNER);
    }
    #[unroll]
    for half in 0..HALVES {
        let share = 1.0 / of_row(total[half], true);
        #[unroll]
        for block in 0..comptime!(width / BLOCK) {
            let block = &mut sums[block];
            block[half] *= Pair::<f32>::new(share);
        }
    }
    write::<bf16>(&sums, output, first, own_column, width);
}
