//! The CubeCL kernel: a cube per row and key head rotates, writes and attends.
//!
//! It goes through the columns in tiles of one column per unit. A unit multiplies its column's key
//! with the queries of all heads of the group, so a key is read once; then the units share out the
//! head width and go through the values of the tile together, so a value is read once too. The
//! softmax runs along (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018,
//! arXiv:1805.02867). Scores, softmax and sums are f32; queries and keys are rounded as the portable
//! path rounds them, probabilities are not.
//!
//! Keys and values of the row's last column come from the projections, not from the panels, so that
//! no unit reads what another has just written.

use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{Device, Int as Ids, Tensor as Rows};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::prefix_attention::Heads;
use super::{DecodeRows, KvPanels, Projected};
use crate::kernels::cube::{FusedOps, element, in_rows, is_cube, sole};

/// Units of a cube, and columns of a tile.
const UNITS: usize = 128;

/// Maxima that the units find together before each takes the largest of them.
const PARTIAL: usize = 16;

/// Below every score; its exponential beside any of them is zero.
const LEAST: f32 = -1e30;

/// Numbers that a cube keeps, of the 16 KiB that every device has.
const MOST_SHARED: usize = 4096;

pub(super) fn has_kernel(device: &Device, heads: Heads) -> bool {
    let Heads { group, width, .. } = heads;
    let shared = group * (width + UNITS + PARTIAL) + 2 * width + UNITS / width + 1;
    width <= UNITS && width % 2 == 0 && shared <= MOST_SHARED && is_cube(device)
}

/// As [`super::decode_attention`], with the spans on the device.
///
/// # Shapes
/// - `spans`: `[R, 3 or more]`; slot of the prompt, its columns, the row's own columns
pub(super) fn step(
    projected: Projected,
    prompts: &KvPanels,
    own: &mut KvPanels,
    spans: &Rows<2, Ids>,
    rows: &DecodeRows,
) -> Rows<2> {
    // Any tensor does in the place of one that is edited.
    let keys = std::mem::replace(&mut own.keys, prompts.keys.clone());
    let values = std::mem::replace(&mut own.values, prompts.values.clone());
    let (attended, keys, values) = Dispatch::decode_attention(
        projected.together().into_dispatch(),
        rows.rotation.cos.clone().into_dispatch(),
        rows.rotation.sin.clone().into_dispatch(),
        prompts.keys.clone().into_dispatch(),
        prompts.values.clone().into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        spans.clone().into_dispatch(),
        rows.heads,
    );
    own.keys = Rows::from_dispatch(keys);
    own.values = Rows::from_dispatch(values);
    Rows::from_dispatch(attended)
}

/// Tensors of [`launch`], in the order of the kernel's arguments.
pub(in crate::kernels) struct Operands {
    /// Queries, keys and values side by side, `[R, (g + 2) Hkv K]`.
    pub(in crate::kernels) projected: CubeTensor,
    /// Cosines and sines of all positions, `[positions, K]`.
    pub(in crate::kernels) rotation: [CubeTensor; 2],
    /// Keys and values of the prompts.
    pub(in crate::kernels) prompts: [CubeTensor; 2],
    /// Keys and values of the rows.
    pub(in crate::kernels) own: [CubeTensor; 2],
    /// `[R, 3 or more]`.
    pub(in crate::kernels) spans: CubeTensor,
}

/// As [`super::decode_attention`]: what is attended, and the edited keys and values.
pub(in crate::kernels) fn launch(
    operands: Operands,
    heads: Heads,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let Operands {
        projected,
        rotation,
        prompts,
        own,
        spans,
    } = operands;
    let projected = in_rows(projected);
    let [cos, sin] = rotation.map(in_rows);
    let [prompt_keys, prompt_values] = prompts.map(in_rows);
    let [own_keys, own_values] = own.map(sole);
    let spans = in_rows(spans);
    let Heads {
        num_kv_heads,
        group,
        width,
    } = heads;
    let rows = projected.shape()[0];
    let shape = [rows, num_kv_heads * group * width];
    let (client, device) = (projected.client.clone(), projected.device.clone());
    let output = empty_device_dtype(client.clone(), device, shape.into(), own_keys.dtype);
    let types = [
        element(projected.dtype),
        element(own_keys.dtype),
        element(spans.dtype),
    ];
    attend_kernel::launch(
        &client,
        CubeCount::Static(rows as u32, num_kv_heads as u32, 1),
        CubeDim::new_1d(UNITS as u32),
        projected.into_tensor_arg(),
        cos.into_tensor_arg(),
        sin.into_tensor_arg(),
        prompt_keys.into_tensor_arg(),
        prompt_values.into_tensor_arg(),
        own_keys.clone().into_tensor_arg(),
        own_values.clone().into_tensor_arg(),
        spans.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        1.0 / (width as f32).sqrt(),
        num_kv_heads,
        group,
        width,
        types,
    );
    (output, own_keys, own_values)
}

/// Number `place` of a head, turned by the row's angle.
#[cube]
fn rotated<Q: Float>(
    numbers: &Tensor<Q>,
    start: usize,
    place: usize,
    angle: f32,
    signed: f32,
    #[comptime] width: usize,
) -> f32 {
    let half = comptime!(width / 2);
    let mut other = place + half;
    if place >= half {
        other = place - half;
    }
    f32::cast_from(numbers[start + place]) * angle + f32::cast_from(numbers[start + other]) * signed
}

#[cube(launch)]
fn attend_kernel<Q: Float, E: Float, I: Int>(
    projected: &Tensor<Q>,     // [R, (g + 2) Hkv K]
    cos: &Tensor<f32>,         // [positions, K]
    sin: &Tensor<f32>,         // [positions, K]
    prompt_keys: &Tensor<E>,   // [P, Hkv, K, S']
    prompt_values: &Tensor<E>, // [P, Hkv, S', K]
    keys: &mut Tensor<E>,      // [slots, Hkv, K, S]
    values: &mut Tensor<E>,    // [slots, Hkv, S, K]
    spans: &Tensor<I>,         // [R, 3 or more]
    output: &mut Tensor<E>,    // [R, Hkv * g * K]
    scale: f32,
    #[comptime] num_kv_heads: usize,
    #[comptime] group: usize,
    #[comptime] width: usize,
    #[define(Q, E, I)] _types: [ElemType; 3],
) {
    let row = CUBE_POS_X as usize;
    let head = CUBE_POS_Y as usize;
    let unit = UNIT_POS_X as usize;
    let units = comptime!(UNITS);
    let partial = comptime!(PARTIAL);

    let span = row * spans.stride(0);
    let slot = u32::cast_from(spans[span]) as usize;
    let prompt_columns = u32::cast_from(spans[span + 1]) as usize;
    let own_columns = u32::cast_from(spans[span + 2]) as usize;
    let last = prompt_columns + own_columns - 1;
    // From one number of a key to the next, and from one column of values to the next.
    let (prompt_key_stride, own_key_stride) = (prompt_keys.stride(2), keys.stride(2));
    let (prompt_value_stride, own_value_stride) = (prompt_values.stride(2), values.stride(2));
    let prompt_key_start = slot * prompt_keys.stride(0) + head * prompt_keys.stride(1);
    let prompt_value_start = slot * prompt_values.stride(0) + head * prompt_values.stride(1);
    let own_key_start = row * keys.stride(0) + head * keys.stride(1);
    let own_value_start = row * values.stride(0) + head * values.stride(1);
    let angle_start = last * cos.stride(0);
    let signed_start = last * sin.stride(0);

    let mut query = Shared::<[f32]>::new_slice(comptime!(group * width));
    let mut new_key = Shared::<[f32]>::new_slice(width);
    let mut new_value = Shared::<[f32]>::new_slice(width);
    let mut scores = Shared::<[f32]>::new_slice(comptime!(group * units));
    let mut maxima = Shared::<[f32]>::new_slice(comptime!(group * partial));
    let mut part_totals = Shared::<[f32]>::new_slice(comptime!(UNITS / width + 1));

    // Rotated and rounded as the panels are; the last column goes into them.
    let heads_width = comptime!(num_kv_heads * width);
    let projected_start = row * projected.stride(0);
    let query_start = projected_start + head * comptime!(group * width);
    let key_start = projected_start + comptime!(group * num_kv_heads * width) + head * width;
    let value_start = key_start + heads_width;
    let mut place = unit;
    while place < comptime!(group * width) {
        let inner = place % width;
        let (angle, signed) = (cos[angle_start + inner], sin[signed_start + inner]);
        let start = query_start + place - inner;
        let number = rotated::<Q>(projected, start, inner, angle, signed, width);
        query[place] = f32::cast_from(E::cast_from(number)) * scale;
        place += units;
    }
    if unit < width {
        let (angle, signed) = (cos[angle_start + unit], sin[signed_start + unit]);
        let key = E::cast_from(rotated::<Q>(
            projected, key_start, unit, angle, signed, width,
        ));
        let value = E::cast_from(projected[value_start + unit]);
        new_key[unit] = f32::cast_from(key);
        new_value[unit] = f32::cast_from(value);
        keys[own_key_start + unit * own_key_stride + own_columns - 1] = key;
        values[own_value_start + (own_columns - 1) * own_value_stride + unit] = value;
    }
    sync_cube();

    // Units share out the head width; those of one place take every `parts`th column.
    let parts = comptime!(units / width);
    let lane = unit % width;
    let part = unit / width;
    let mut sums = Array::<f32>::new(group);
    let mut totals = Array::<f32>::new(group);
    let mut most = Array::<f32>::new(group);
    let mut dots = Array::<f32>::new(group);
    #[unroll]
    for member in 0..group {
        sums[member] = 0.0;
        totals[member] = 0.0;
        most[member] = f32::new(LEAST);
    }

    let mut first = 0usize;
    while first <= last {
        let column = first + unit;
        #[unroll]
        for member in 0..group {
            dots[member] = 0.0;
        }
        if column < prompt_columns {
            for inner in 0..width {
                let place = prompt_key_start + inner * prompt_key_stride + column;
                let key = f32::cast_from(prompt_keys[place]);
                #[unroll]
                for member in 0..group {
                    dots[member] += query[member * width + inner] * key;
                }
            }
        } else if column < last {
            let column = column - prompt_columns;
            for inner in 0..width {
                let key = f32::cast_from(keys[own_key_start + inner * own_key_stride + column]);
                #[unroll]
                for member in 0..group {
                    dots[member] += query[member * width + inner] * key;
                }
            }
        } else if column == last {
            for inner in 0..width {
                #[unroll]
                for member in 0..group {
                    dots[member] += query[member * width + inner] * new_key[inner];
                }
            }
        } else {
            #[unroll]
            for member in 0..group {
                dots[member] = f32::new(LEAST);
            }
        }
        #[unroll]
        for member in 0..group {
            scores[member * units + unit] = dots[member];
        }
        sync_cube();

        let mut place = unit;
        while place < comptime!(group * partial) {
            let start = (place / partial) * units + (place % partial) * comptime!(units / partial);
            let mut largest = f32::new(LEAST);
            for next in 0..comptime!(units / partial) {
                largest = max(largest, scores[start + next]);
            }
            maxima[place] = largest;
            place += units;
        }
        sync_cube();
        #[unroll]
        for member in 0..group {
            let mut largest = f32::new(LEAST);
            #[unroll]
            for next in 0..partial {
                largest = max(largest, maxima[member * partial + next]);
            }
            largest = max(largest, most[member]);
            let shrink = (most[member] - largest).exp();
            most[member] = largest;
            sums[member] *= shrink;
            totals[member] *= shrink;
            // Behind the last column the exponential is zero.
            scores[member * units + unit] = (dots[member] - largest).exp();
        }
        sync_cube();

        if part < parts {
            let end = min(units, last + 1 - first);
            let mut next = part;
            while next < end {
                let column = first + next;
                let value = if column < prompt_columns {
                    let place = prompt_value_start + column * prompt_value_stride + lane;
                    f32::cast_from(prompt_values[place])
                } else if column < last {
                    let column = column - prompt_columns;
                    f32::cast_from(values[own_value_start + column * own_value_stride + lane])
                } else {
                    new_value[lane]
                };
                #[unroll]
                for member in 0..group {
                    let weight = scores[member * units + next];
                    sums[member] += weight * value;
                    totals[member] += weight;
                }
                next += parts;
            }
        }
        sync_cube();
        first += units;
    }

    let output_start = row * output.stride(0) + head * comptime!(group * width);
    // The parts of a lane together; `scores` is free by now.
    #[unroll]
    for member in 0..group {
        scores[unit] = sums[member];
        if lane == 0 {
            part_totals[part] = totals[member];
        }
        sync_cube();
        if unit < width {
            let mut sum = 0.0f32;
            let mut total = 0.0f32;
            #[unroll]
            for part in 0..parts {
                sum += scores[part * width + unit];
                total += part_totals[part];
            }
            output[output_start + member * width + unit] = E::cast_from(sum / total);
        }
        sync_cube();
    }
}
