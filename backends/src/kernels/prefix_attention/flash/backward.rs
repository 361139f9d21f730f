//! Gradients: of the queries by a cube for every tile of rows and query head, which also finds for each
//! row what the other kernel needs; of keys and values by a cube for every tile of rows and key head,
//! which goes over all rows that see them, so that nothing is added up between cubes.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape, bf16};
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

/// Keys, or queries, of an inner tile.
const INNER: usize = 32;

/// As [`super::super::prefix_attention_backward`], from operands in bf16; the gradient of the values is
/// one too.
pub(in crate::kernels) fn launch(
    inputs: [CubeTensor; 3],
    grad: CubeTensor,
    tables: [CubeTensor; 2],
    heads: Heads,
    scale: f32,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [queries, keys, values] = inputs.map(in_pieces);
    let (grad, [rows, tiles]) = (in_pieces(grad), tables.map(in_rows));
    let (client, device) = (queries.client.clone(), queries.device.clone());
    let empty =
        |shape: Shape, dtype| empty_device_dtype(client.clone(), device.clone(), shape, dtype);
    let num_heads = heads.num_kv_heads * heads.group;
    let d_queries = empty(queries.shape(), DType::F32);
    let d_keys = empty(keys.shape(), DType::F32);
    let d_values = empty(values.shape(), DType::BF16);
    let found = || empty([num_heads, queries.shape()[0]].into(), DType::F32);
    let (logs, along) = (found(), found());
    let index = element(rows.dtype);
    let cubes = |heads: usize| CubeCount::Static(tiles.shape()[0] as u32, heads as u32, 1);
    queries_kernel::launch(
        &client,
        cubes(num_heads),
        cube_dim(),
        queries.clone().into_tensor_arg(),
        keys.clone().into_tensor_arg(),
        values.clone().into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        rows.clone().into_tensor_arg(),
        tiles.clone().into_tensor_arg(),
        d_queries.clone().into_tensor_arg(),
        logs.clone().into_tensor_arg(),
        along.clone().into_tensor_arg(),
        heads.group as u32,
        scale,
        heads.width,
        index,
    );
    keys_kernel::launch(
        &client,
        cubes(heads.num_kv_heads),
        cube_dim(),
        queries.into_tensor_arg(),
        keys.into_tensor_arg(),
        values.into_tensor_arg(),
        grad.into_tensor_arg(),
        rows.into_tensor_arg(),
        tiles.into_tensor_arg(),
        logs.into_tensor_arg(),
        along.into_tensor_arg(),
        d_keys.clone().into_tensor_arg(),
        d_values.clone().into_tensor_arg(),
        heads.group as u32,
        scale,
        heads.width,
        index,
    );
    (d_queries, d_keys, d_values)
}

#[cube(launch)]
fn queries_kernel<I: Int>(
    queries: &Tensor<Piece>,           // [L, Hkv g K]
    keys: &Tensor<Piece>,              // [L, Hkv K]
    values: &Tensor<Piece>,            // [L, Hkv K]
    grad: &Tensor<Piece>,              // [L, Hkv g K]
    rows: &Tensor<I>,                  // [L, 3]
    tiles: &Tensor<I>,                 // [ceil(L / TILE), 4]
    d_queries: &mut Tensor<Pair<f32>>, // [L, Hkv g K]
    logs: &mut Tensor<f32>,            // [Hkv g, L]
    along: &mut Tensor<f32>,           // [Hkv g, L]
    group: u32,
    scale: f32,
    #[comptime] width: usize,
    #[define(I)] _index: ElemType,
) {
    let head = CUBE_POS_Y as usize;
    let (own_column, column) = (head * width, head / group as usize * width);
    let first = CUBE_POS_X as usize * TILE;
    let mut query_tile = new_tile(TILE, width);
    let mut grad_tile = new_tile(TILE, width);
    let mut key_tile = new_tile(INNER, width);
    let mut value_tile = new_tile(INNER, width);
    load(queries, &mut query_tile, first, own_column, TILE, width);
    load(grad, &mut grad_tile, first, own_column, TILE, width);

    let mut seen_rows = Sequence::<Seen>::new();
    let mut most = Array::<f32>::new(HALVES);
    let mut total = Array::<f32>::new(HALVES);
    let mut mean = Array::<f32>::new(HALVES);
    #[unroll]
    for half in 0..HALVES {
        seen_rows.push(seen::<I>(rows, first + row_of(half)));
        most[half] = LEAST;
        total[half] = 0.0;
        mean[half] = 0.0;
    }
    let num_rows = rows.shape(0);
    let end = min(first + TILE, num_rows);
    let walk = walk::<I>(tiles, CUBE_POS_X as usize, end, INNER);
    for index in 0..walk.count {
        let from = at(&walk, index, INNER);
        sync_cube();
        load(keys, &mut key_tile, from, column, INNER, width);
        load(values, &mut value_tile, from, column, INNER, width);
        sync_cube();
        let scores = score(&query_tile, &key_tile, width, INNER);
        let d_weights = score(&grad_tile, &value_tile, width, INNER);
        #[unroll]
        for half in 0..HALVES {
            let query = first + row_of(half);
            #[unroll]
            for block in 0..comptime!(INNER / BLOCK) {
                #[unroll]
                for side in 0..PAIR {
                    if sees(&seen_rows[half], query, from + column_of(block) + side) {
                        let value = scores[block][half].extract(side) * scale;
                        let larger = max(most[half], value);
                        let before = (most[half] - larger).exp();
                        let weight = (value - larger).exp();
                        let d_weight = d_weights[block][half].extract(side);
                        total[half] = total[half] * before + weight;
                        mean[half] = mean[half] * before + weight * d_weight;
                        most[half] = larger;
                    }
                }
            }
        }
    }
    #[unroll]
    for half in 0..HALVES {
        let larger = of_row(most[half], false);
        let part = (most[half] - larger).exp();
        let sum = of_row(total[half] * part, true);
        most[half] = larger + sum.ln();
        mean[half] = of_row(mean[half] * part, true) / sum;
        let row = first + row_of(half);
        let lane = UNIT_POS_X % 4;
        if lane == 0 && row < num_rows {
            let (log, place) = (head * logs.stride(0) + row, head * along.stride(0) + row);
            logs[log] = most[half];
            along[place] = mean[half];
        }
    }

    let mut sums = zeros(width);
    for index in 0..walk.count {
        let from = at(&walk, index, INNER);
        sync_cube();
        load(keys, &mut key_tile, from, column, INNER, width);
        load(values, &mut value_tile, from, column, INNER, width);
        sync_cube();
        let mut scores = score(&query_tile, &key_tile, width, INNER);
        let d_weights = score(&grad_tile, &value_tile, width, INNER);
        #[unroll]
        for half in 0..HALVES {
            let query = first + row_of(half);
            #[unroll]
            for block in 0..comptime!(INNER / BLOCK) {
                let (score, d_weight) = (scores[block][half], d_weights[block][half]);
                let mut d_score = Pair::<f32>::empty();
                #[unroll]
                for side in 0..PAIR {
                    let is_seen = sees(&seen_rows[half], query, from + column_of(block) + side);
                    let weight = (score.extract(side) * scale - most[half]).exp();
                    let own = weight * (d_weight.extract(side) - mean[half]) * scale;
                    d_score.insert(side, select(is_seen, own, 0.0));
                }
                let block = &mut scores[block];
                block[half] = d_score;
            }
        }
        accumulate(&mut sums, &scores, &key_tile, width, INNER);
    }
    write::<f32>(&sums, d_queries, first, own_column, width);
}

/// What the queries of an inner tile see, and what the other kernel found for them.
#[cube]
fn load_queries<I: Int>(
    rows: &Tensor<I>,
    found: (&Tensor<f32>, &Tensor<f32>),
    seen_tile: &mut Shared<[u32]>,
    found_tile: &mut Shared<[f32]>,
    head: usize,
    from: usize,
) {
    let unit = UNIT_POS as usize;
    if unit < INNER {
        let query = from + unit;
        let seen = seen::<I>(rows, query);
        seen_tile[unit * 3] = seen.own as u32;
        seen_tile[unit * 3 + 1] = seen.prompt as u32;
        seen_tile[unit * 3 + 2] = seen.prompt_end as u32;
        let mut log = 0.0f32;
        let mut mean = 0.0f32;
        if query < rows.shape(0) {
            log = found.0[head * found.0.stride(0) + query];
            mean = found.1[head * found.1.stride(0) + query];
        }
        found_tile[unit * 2] = log;
        found_tile[unit * 2 + 1] = mean;
    }
}

#[cube(launch)]
fn keys_kernel<I: Int>(
    queries: &Tensor<Piece>,           // [L, Hkv g K]
    keys: &Tensor<Piece>,              // [L, Hkv K]
    values: &Tensor<Piece>,            // [L, Hkv K]
    grad: &Tensor<Piece>,              // [L, Hkv g K]
    rows: &Tensor<I>,                  // [L, 3]
    tiles: &Tensor<I>,                 // [ceil(L / TILE), 4]
    logs: &Tensor<f32>,                // [Hkv g, L]
    along: &Tensor<f32>,               // [Hkv g, L]
    d_keys: &mut Tensor<Pair<f32>>,    // [L, Hkv K]
    d_values: &mut Tensor<Pair<bf16>>, // [L, Hkv K]
    group: u32,
    scale: f32,
    #[comptime] width: usize,
    #[define(I)] _index: ElemType,
) {
    let column = CUBE_POS_Y as usize * width;
    let first = CUBE_POS_X as usize * TILE;
    let mut key_tile = new_tile(TILE, width);
    let mut value_tile = new_tile(TILE, width);
    let mut query_tile = new_tile(INNER, width);
    let mut grad_tile = new_tile(INNER, width);
    let mut seen_tile = Shared::<[u32]>::new_slice(comptime!(3 * INNER));
    let mut found_tile = Shared::<[f32]>::new_slice(comptime!(2 * INNER));
    load(keys, &mut key_tile, first, column, TILE, width);
    load(values, &mut value_tile, first, column, TILE, width);
    let last = u32::cast_from(tiles[CUBE_POS_X as usize * tiles.stride(0) + 3]) as usize;
    let (begin, behind) = (first / INNER, last.div_ceil(INNER));

    let mut sums = zeros(width);
    let mut d_sums = zeros(width);
    for member in 0..group as usize {
        let head = CUBE_POS_Y as usize * group as usize + member;
        for tile in begin..behind {
            let from = tile * INNER;
            sync_cube();
            load(queries, &mut query_tile, from, head * width, INNER, width);
            load(grad, &mut grad_tile, from, head * width, INNER, width);
            load_queries::<I>(
                rows,
                (logs, along),
                &mut seen_tile,
                &mut found_tile,
                head,
                from,
            );
            sync_cube();
            // A row for each key, a column for each query.
            let mut weights = score(&key_tile, &query_tile, width, INNER);
            let mut d_scores = score(&value_tile, &grad_tile, width, INNER);
            #[unroll]
            for block in 0..comptime!(INNER / BLOCK) {
                #[unroll]
                for half in 0..HALVES {
                    let (scores, d_weights) = (weights[block][half], d_scores[block][half]);
                    let mut weight_pair = Pair::<f32>::empty();
                    let mut d_pair = Pair::<f32>::empty();
                    #[unroll]
                    for side in 0..PAIR {
                        let place = column_of(block) + side;
                        let seen = Seen {
                            own: seen_tile[place * 3] as usize,
                            prompt: seen_tile[place * 3 + 1] as usize,
                            prompt_end: seen_tile[place * 3 + 2] as usize,
                        };
                        let is_seen = sees(&seen, from + place, first + row_of(half));
                        let log = found_tile[place * 2];
                        let weight = (scores.extract(side) * scale - log).exp();
                        let weight = select(is_seen, weight, 0.0);
                        let mean = found_tile[place * 2 + 1];
                        weight_pair.insert(side, weight);
                        d_pair.insert(side, weight * (d_weights.extract(side) - mean) * scale);
                    }
                    let block_weights = &mut weights[block];
                    block_weights[half] = weight_pair;
                    let block_d_scores = &mut d_scores[block];
                    block_d_scores[half] = d_pair;
                }
            }
            accumulate(&mut sums, &weights, &grad_tile, width, INNER);
            accumulate(&mut d_sums, &d_scores, &query_tile, width, INNER);
        }
    }
    write::<bf16>(&sums, d_values, first, column, width);
    write::<f32>(&d_sums, d_keys, first, column, width);
}
