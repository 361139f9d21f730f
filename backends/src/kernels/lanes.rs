//! Loops over f32 that the compiler turns into the widest vectors of the machine.
//!
//! Every sum runs in a fixed number of lanes and every product that is added is fused, so a result
//! has the same bits on every machine and however many threads share the rows.

use pulp::Arch;

/// Lanes of a sum.
const LANES: usize = 16;

/// Runs `work`, compiled for the vector units found at run time. What it calls has to be inlined.
#[inline(always)]
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// `sum_i term(i)` over `0..length`, in lanes that are added up at the end.
#[inline(always)]
fn sum_of(length: usize, term: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = length / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum = term(start + lane, *sum);
        }
    }
    for place in whole..length {
        lanes[place - whole] = term(place, lanes[place - whole]);
    }
    lanes.iter().sum()
}

/// `sum_i a_i b_i`.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    sum_of(length, |place, sum| a[place].mul_add(b[place], sum))
}

/// `sum_i a_i`.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    sum_of(a.len(), |place, sum| sum + a[place])
}

/// Largest of `a`; NaN and negative infinity count as smaller than everything.
#[inline(always)]
pub(super) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = a.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (most, value) in lanes.iter_mut().zip(chunk) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |most, value| most.max(*value))
}

/// `sum_i e_i` and `sum_i e_i (z_i - most)` with `e_i = exp(z_i - most)`.
#[inline(always)]
pub(super) fn softmax_sums(z: &[f32], most: f32) -> (f32, f32) {
    let (mut sums, mut weighted) = ([0f32; LANES], [0f32; LANES]);
    let mut add = |lane: usize, value: f32| {
        let shifted = value - most;
        let weight = exp(shifted);
        sums[lane] += weight;
        weighted[lane] = weight.mul_add(shifted, weighted[lane]);
    };
    let chunks = z.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in chunk.iter().enumerate() {
            add(lane, *value);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        add(lane, *value);
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
        5.000_000_1e-1,
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

    #[test]
    fn sums_cover_every_length() {
        for length in 0..70usize {
            let values: Vec<f32> = (0..length).map(|value| value as f32 - 3.0).collect();
            let expected: f32 = values.iter().sum();
            assert_eq!(wide(|| sum(&values)), expected);
            let squares: f32 = values.iter().map(|value| value * value).sum();
            assert_eq!(wide(|| dot(&values, &values)), squares);
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&values), largest);
        }
    }
}
