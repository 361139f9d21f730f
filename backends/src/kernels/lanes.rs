//! Loops over f32 that the compiler turns into the widest vectors of the machine.
//!
//! Every sum runs in a fixed number of lanes and every product that is added is fused, so a result
//! has the same bits on every machine and however many threads share the rows.

use macerator::{AutoArch, Simd, WithSimd};

/// Lanes of a sum.
const LANES: usize = 16;

/// A loop to be compiled for the vector units found at run time. Made by [`work`].
pub(super) trait Work<'a> {
    type Arguments;
    type Output;

    fn run(arguments: Self::Arguments) -> Self::Output;
}

/// Names a function marked `#[inline(always)]` as [`Work`]. A closure or a function passed by value
/// would do if the compiler promised to inline it: where it does not, the loop runs without
/// vectors, and every fused product is a library call.
macro_rules! work {
    ($name:ident = $function:expr, $lifetime:lifetime, $arguments:ty => $output:ty) => {
        struct $name;

        impl<$lifetime> $crate::kernels::lanes::Work<$lifetime> for $name {
            type Arguments = $arguments;
            type Output = $output;

            #[inline(always)]
            fn run(arguments: $arguments) -> $output {
                $function(arguments)
            }
        }
    };
}

pub(super) use work;

/// Runs `W`, compiled for the vector units found at run time. What it calls in its loops has to be
/// marked `#[inline(always)]` too.
#[inline(always)]
pub(super) fn wide<'a, W: Work<'a>>(arguments: W::Arguments) -> W::Output {
    AutoArch::new().dispatch(Call::<W>(arguments))
}

struct Call<'a, W: Work<'a>>(W::Arguments);

impl<'a, W: Work<'a>> WithSimd for Call<'a, W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> W::Output {
        W::run(self.0)
    }
}

/// Whether the machine has vectors of 16 values, and so twice the room of those of 8.
pub(super) fn has_long_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// `sum_i a_i b_i` over the shorter of the two.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] = a.mul_add(*b, lanes[lane]);
    }
    lanes.iter().sum()
}

/// `sum_i a_i`.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] += value;
    }
    lanes.iter().sum()
}

/// Largest of `a`; NaN and negative infinity count as smaller than everything.
#[inline(always)]
pub(super) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let is_more = chunk[lane] > lanes[lane];
            lanes[lane] = if is_more { chunk[lane] } else { lanes[lane] };
        }
    }
    let mut most = f32::NEG_INFINITY;
    for value in lanes.iter().chain(rest) {
        most = most.max(*value);
    }
    most
}

/// Turns scores into weights that add up to one.
#[inline(always)]
pub(super) fn softmax_of(scores: &mut [f32]) {
    let most = max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - most);
    }
    let inverse = 1.0 / sum(scores);
    for score in scores.iter_mut() {
        *score *= inverse;
    }
}

/// `sum_i e_i` and `sum_i e_i (z_i - most)` with `e_i = exp(z_i - most)`.
#[inline(always)]
pub(super) fn softmax_sums(z: &[f32], most: f32) -> (f32, f32) {
    let (mut sums, mut weighted) = ([0f32; LANES], [0f32; LANES]);
    let (chunks, rest) = z.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let shifted = chunk[lane] - most;
            let weight = exp(shifted);
            sums[lane] += weight;
            weighted[lane] = weight.mul_add(shifted, weighted[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        let shifted = value - most;
        let weight = exp(shifted);
        sums[lane] += weight;
        weighted[lane] = weight.mul_add(shifted, weighted[lane]);
    }
    (sums.iter().sum(), weighted.iter().sum())
}

/// `e^x` to two units in the last place, without a branch. Below -87.3 it stays at 1e-38, above
/// 88 at 2e38; NaN stays NaN.
///
/// `e^x = 2^n e^r` with `|r| <= ln 2 / 2`; the polynomial is the one of `expf` in S. Moshier's
/// Cephes library (1989).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.0);
    let shifted = x.mul_add(core::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut tail = 1.987_569_1e-4f32;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        tail = tail.mul_add(r, coefficient);
    }
    let mantissa = tail.mul_add(r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    mantissa * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library_to_three_units() {
        for step in -87_000..=88_000 {
            let x = step as f32 / 1000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            let error = (found - expected).abs() / expected;
            assert!(error < 3.0 * f64::from(f32::EPSILON), "exp({x}): {found}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38 && exp(f32::INFINITY) > 1e38);
    }

    #[inline(always)]
    fn squares_of(values: &[f32]) -> f32 {
        dot(values, values)
    }

    work!(Sum = sum, 'a, &'a [f32] => f32);
    work!(Squares = squares_of, 'a, &'a [f32] => f32);

    #[test]
    fn sums_cover_every_length() {
        for length in 0..70usize {
            let values: Vec<f32> = (0..length).map(|value| value as f32 - 3.0).collect();
            let expected: f32 = values.iter().sum();
            assert_eq!(wide::<Sum>(&values), expected);
            let squares: f32 = values.iter().map(|value| value * value).sum();
            assert_eq!(wide::<Squares>(&values), squares);
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&values), largest);
        }
    }
}
