//! What the units of a cube find together.

use cubecl::prelude::*;

/// The sum over all units, in each of them. `shared` has a place for every unit, and there is a
/// power of two of them.
#[cube]
pub(in crate::kernels) fn total(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS_X as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = CUBE_DIM_X as usize / 2;
    while half > 0 {
        if unit < half {
            shared[unit] += shared[unit + half];
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[0];
    sync_cube();
    sum
}

/// The largest of all units, in each of them; as [`total`].
#[cube]
pub(in crate::kernels) fn largest(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS_X as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = CUBE_DIM_X as usize / 2;
    while half > 0 {
        if unit < half {
            shared[unit] = max(shared[unit], shared[unit + half]);
        }
        sync_cube();
        half /= 2;
    }
    let most = shared[0];
    sync_cube();
    most
}
