//! What a kernel of the draw may choose from: what [`super::Filters`] keep, by narrowing an interval of
//! exponents to a few units in the last place, eight parts at a time.

use cubecl::prelude::*;

use super::choice::Term;
use super::cube::{LogitRow, Scratch, UNITS, invert, term_of};
use super::{Drawing, LEAST_EXPONENT};
use crate::kernels::cube::sums::{largest, total};

/// Thresholds that are tried at once: those between as many parts and one more.
const TRIED: usize = 7;

/// How often the interval is cut: 129 / 8^11 is half of [`super::RESOLUTION`].
const ROUNDS: usize = 11;

/// Sums that are added up together.
const PARTS: usize = 32;

/// Above every exponent.
const NONE: f32 = 1.0;

/// Values of the filters.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Limits {
    top_k: f32,
    top_p: f32,
    min_p: f32,
}

/// Filters that drop anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Which {
    pub(super) is_greedy: bool,
    top_k: bool,
    top_p: bool,
    min_p: bool,
}

impl Which {
    pub(super) fn of(drawing: &Drawing, vocab: usize) -> Self {
        let filters = drawing.filters;
        Self {
            is_greedy: drawing.is_greedy,
            top_k: filters.top_k.is_some_and(|k| k < vocab),
            top_p: filters.top_p.is_some_and(|p| p < 1.0),
            min_p: filters.min_p.is_some_and(|p| p > 0.0),
        }
    }
}

/// Tokens that have a stake in the draw.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Kept {
    /// Exponents from here on have one,
    high: f32,
    /// or not.
    has_high: bool,
    /// Those from here on and below `high` have one, of tokens up to `last`.
    low: f32,
    last: usize,
    /// Tokens with less weight have none.
    least: f32,
    /// Every stake is 1, else the weight.
    is_counted: bool,
}

/// All of them, by weight.
#[cube]
fn everything() -> Kept {
    Kept {
        high: LEAST_EXPONENT,
        has_high: true.runtime(),
        low: LEAST_EXPONENT,
        last: usize::new(0),
        least: 0.0f32.runtime(),
        is_counted: false.runtime(),
    }
}

/// The most likely one, or all that are.
#[cube]
pub(super) fn most_likely() -> Kept {
    Kept {
        high: 0.0f32.runtime(),
        has_high: true.runtime(),
        low: 0.0f32.runtime(),
        last: usize::new(0),
        least: 0.0f32.runtime(),
        is_counted: true.runtime(),
    }
}

/// The stake of a token.
#[cube]
pub(super) fn kept_weight(kept: &Kept, term: &Term, token: usize) -> f32 {
    let is_high = term.exponent >= kept.high;
    let is_between = !is_high && term.exponent >= kept.low && token <= kept.last;
    let is_kept = (is_high && kept.has_high) || is_between;
    let stake = select(kept.is_counted, 1.0, term.weight);
    select(is_kept && term.weight >= kept.least, stake, 0.0)
}

/// What the filters keep.
#[cube]
pub(super) fn kept<L: Float>(
    logits: &Tensor<L>,
    row: &LogitRow,
    limits: &Limits,
    scratch: &mut Scratch,
    #[comptime] which: Which,
    #[comptime] num_blocks: usize,
) -> Kept {
    let mut found = everything();
    if comptime!(which.top_k) {
        let ends = search(logits, row, LEAST_EXPONENT, limits.top_k, true);
        found.low = ends.low;
        found.high = ends.low;
    }
    if comptime!(which.top_p) {
        let lowest = found.low;
        let goal = around(logits, row, lowest, lowest, scratch).above * limits.top_p;
        let ends = search(logits, row, lowest, goal, false);
        // Of the tied ones as many as are missing, those first in token order.
        let around = around(logits, row, ends.low, ends.high, scratch);
        let number = ((goal - around.above) / around.tied_weight).ceil();
        let number = clamp(number, 1.0, max(around.num_tied, 1.0));
        let tied = Kept {
            high: ends.high,
            has_high: false.runtime(),
            low: ends.low,
            last: row.vocab,
            least: 0.0f32.runtime(),
            is_counted: true.runtime(),
        };
        let last = invert(logits, row, &tied, number - 0.5, scratch, false, num_blocks);
        found.low = ends.low;
        found.high = ends.high;
        found.last = last.token;
    }
    if comptime!(which.min_p) {
        found.least = limits.min_p;
    }
    found
}

/// Two thresholds next to each other.
#[derive(CubeType, Clone, Copy)]
struct Ends {
    low: f32,
    high: f32,
}

/// The last threshold from `lowest` on above which there still is the goal, of tokens or of weight, and
/// one just above it.
#[cube]
fn search<L: Float>(
    logits: &Tensor<L>,
    row: &LogitRow,
    lowest: f32,
    goal: f32,
    #[comptime] is_counted: bool,
) -> Ends {
    let unit = UNIT_POS_X as usize;
    let mut sums = Shared::<[f32]>::new_slice(TRIED * UNITS);
    let mut parts = Shared::<[f32]>::new_slice(TRIED * PARTS);
    let mut low = lowest;
    let mut high = NONE.runtime();
    for _ in 0..ROUNDS {
        let width = (high - low) / comptime!((TRIED + 1) as f32);
        let mut thresholds = Array::<f32>::new(TRIED);
        let mut own = Array::<f32>::new(TRIED);
        #[unroll]
        for index in 0..TRIED {
            thresholds[index] = low + width * comptime!((index + 1) as f32);
            own[index] = 0.0;
        }
        let mut token = unit;
        while token < row.vocab {
            let term = term_of(logits, row, token);
            let mut share = 1.0f32;
            if comptime!(!is_counted) {
                share = term.weight;
            }
            #[unroll]
            for index in 0..TRIED {
                own[index] += select(term.exponent >= thresholds[index], share, 0.0);
            }
            token += UNITS;
        }
        #[unroll]
        for index in 0..TRIED {
            sums[comptime!(index * UNITS) + unit] = own[index];
        }
        sync_cube();
        if unit < comptime!(TRIED * PARTS) {
            let mut part = 0.0f32;
            for index in 0..comptime!(UNITS / PARTS) {
                part += sums[unit * comptime!(UNITS / PARTS) + index];
            }
            parts[unit] = part;
        }
        sync_cube();
        // The same in every unit. What a higher threshold leaves is no more.
        let mut next = high;
        #[unroll]
        for index in 0..TRIED {
            let mut sum = 0.0f32;
            for part in 0..PARTS {
                sum += parts[comptime!(index * PARTS) + part];
            }
            if sum >= goal {
                low = thresholds[index];
            } else {
                next = min(next, thresholds[index]);
            }
        }
        high = next;
    }
    Ends { low, high }
}

/// What lies at and between two thresholds.
#[derive(CubeType, Clone, Copy)]
struct Around {
    /// Weight from the higher one on.
    above: f32,
    /// Tokens between the two, and the weight of the heaviest.
    num_tied: f32,
    tied_weight: f32,
}

#[cube]
fn around<L: Float>(
    logits: &Tensor<L>,
    row: &LogitRow,
    low: f32,
    high: f32,
    scratch: &mut Scratch,
) -> Around {
    let mut above = 0.0f32;
    let mut num_tied = 0.0f32;
    let mut tied_weight = 0.0f32;
    let mut token = UNIT_POS_X as usize;
    while token < row.vocab {
        let term = term_of(logits, row, token);
        if term.exponent >= high {
            above += term.weight;
        } else if term.exponent >= low {
            num_tied += 1.0;
            tied_weight = max(tied_weight, term.weight);
        }
        token += UNITS;
    }
    Around {
        above: total(above, &mut scratch.units),
        num_tied: total(num_tied, &mut scratch.units),
        tied_weight: largest(tied_weight, &mut scratch.units),
    }
}
