//! What the units of a cube find together.

use cubecl::prelude::*;

/// The sum over all units, in each of them. `shared` has a place for every unit, and there is a
/// power of two of them.
#[cube]
pub(in crate::kernels) fn total(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    of_all(value, shared, true)
}

/// The largest of all units, in each of them; as [`total`].
#[cube]
pub(in crate::kernels) fn largest(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    of_all(value, shared, false)
}

/// The sum, or the largest.
#[cube]
fn of_all(value: f32, shared: &mut Shared<[f32]>, #[comptime] is_sum: bool) -> f32 {
    let unit = UNIT_POS_X as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = CUBE_DIM_X as usize / 2;
    while half > 0 {
        if unit < half {
            if comptime!(is_sum) {
                shared[unit] += shared[unit + half];
            } else {
                shared[unit] = max(shared[unit], shared[unit + half]);
            }
        }
        sync_cube();
        half /= 2;
    }
    let found = shared[0];
    sync_cube();
    found
}
