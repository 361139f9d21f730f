//! Uniform selection without replacement: every prompt once per epoch, in a keyed order.
//!
//! The order of an epoch is a keyed permutation of the prompt indices, evaluated one index at a
//! time: nothing is stored, so a run continues from its position alone, and step k's prompts do
//! not depend on how many were asked for before it.

use alloc::vec::Vec;

/// Rounds of the Feistel network. Four are enough for long words, but with the two or three bits
/// of a tiny data set four and six are measurably biased (the first place of eight prompts is off
/// by up to 15 %); from eight on nothing is left to measure.
const ROUNDS: u64 = 12;

/// Indices of the prompts at positions `first..first + count` of the endless sequence of epochs.
///
/// `epoch_key(e)` is the random key of epoch e; the same key gives the same order. A step that
/// crosses the end of an epoch takes the rest from the next one and may then hold a prompt twice
/// only if `count` exceeds what is left of the epoch.
///
/// Empty if `num_prompts` is 0.
pub fn uniform(
    first: u64,
    count: usize,
    num_prompts: u64,
    epoch_key: impl Fn(u64) -> u64,
) -> Vec<u64> {
    if num_prompts == 0 {
        return Vec::new();
    }
    (first..first.saturating_add(count as u64))
        .map(|position| {
            let key = epoch_key(position / num_prompts);
            permuted(position % num_prompts, num_prompts, key)
        })
        .collect()
}

/// Where the keyed permutation of `0..len` sends `index`; `index` must be below `len`.
///
/// ```text
/// (L, R) <- (R, L xor f(R, round, key)) for each round, until the result is below len
/// ```
///
/// A balanced Feistel network over the next even power of two, with cycle walking: Black and
/// Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, method 2. Not a cipher: the
/// round function only has to mix.
///
/// # Panics
///
/// If `index` is not below `len`.
pub fn permuted(index: u64, len: u64, key: u64) -> u64 {
    assert!(
        index < len,
        "`index` is {index}, but the permutation has {len} entries"
    );
    let bits = u64::BITS - (len - 1).leading_zeros();
    let half_bits = bits.div_ceil(2).max(1);
    let mut value = index;
    // The network permutes a domain at most four times as large, so the walk from an index below
    // len comes back below len after four rounds on average.
    loop {
        value = feistel(value, half_bits, key);
        if value < len {
            return value;
        }
    }
}

/// One pass of the network over `2 * half_bits` bits.
fn feistel(value: u64, half_bits: u32, key: u64) -> u64 {
    let half_mask = (1_u64 << half_bits) - 1;
    let (mut left, mut right) = (value >> half_bits, value & half_mask);
    for round in 0..ROUNDS {
        let mixed = mix(right ^ mix(key ^ round)) & half_mask;
        (left, right) = (right, left ^ mixed);
    }
    (left << half_bits) | right
}

/// SplitMix64's finaliser: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_permuted() {
        for len in [1, 2, 3, 4, 5, 16, 17, 100, 257, 1000] {
            let mut seen: Vec<u64> = (0..len).map(|i| permuted(i, len, 7)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..len), "length {len}");
        }
    }

    #[test]
    fn positions_do_not_depend_on_how_they_are_asked_for() {
        let key = |epoch: u64| epoch * 31 + 5;
        let whole = uniform(0, 30, 10, key);
        let parts: Vec<u64> = (0..10)
            .flat_map(|step| uniform(step * 3, 3, 10, key))
            .collect();
        assert_eq!(whole, parts);
        let mut epoch = whole[10..20].to_vec();
        epoch.sort_unstable();
        assert!(epoch.into_iter().eq(0..10));
        assert_ne!(whole[..10], whole[10..20], "epochs differ");
        assert!(uniform(3, 5, 0, key).is_empty());
    }

    #[test]
    fn every_prompt_comes_first_equally_often() {
        let (len, trials) = (8_u64, 8000_u64);
        let mut counts = [0_u64; 8];
        for key in 0..trials {
            counts[permuted(0, len, key) as usize] += 1;
        }
        // Binomial with mean 1000 and standard deviation 30: five of them either way.
        assert!(counts.iter().all(|&c| c.abs_diff(1000) < 150), "{counts:?}");
    }
}
