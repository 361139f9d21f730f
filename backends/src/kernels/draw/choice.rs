//! What kernels of the draw share: what a logit counts for, and the choice by cumulative weights.

use cubecl::prelude::*;

use super::LEAST_EXPONENT;

/// What a logit comes to: its exponent below the largest, and the exponential.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Term {
    pub(super) exponent: f32,
    pub(super) weight: f32,
}

#[cube]
pub(super) fn term(logit: f32, most: f32, inverse_temperature: f32) -> Term {
    let exponent = clamp_min((logit - most) * inverse_temperature, LEAST_EXPONENT);
    Term {
        exponent,
        weight: exponent.exp(),
    }
}

/// A part that was chosen, and the weight before it.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Choice {
    pub(super) part: usize,
    pub(super) before: f32,
}

/// The first of `count` parts from `first` on whose cumulative weight exceeds the target, or the last with
/// a weight.
#[cube]
pub(super) fn choose(parts: &Shared<[f32]>, first: usize, count: usize, target: f32) -> Choice {
    let mut sum = 0.0f32;
    let mut part = first;
    let mut before = 0.0f32;
    for index in first..first + count {
        let weight = parts[index];
        // Once the target is exceeded, `sum` stays above it.
        if weight > 0.0 && sum <= target {
            part = index;
            before = sum;
        }
        sum += weight;
    }
    Choice { part, before }
}
