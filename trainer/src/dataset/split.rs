//! Identity by content, and the split that follows from it.

use sha2::{Digest, Sha256};

use crate::record::PromptId;

/// The identity of a problem: the first eight bytes of the SHA-256 of its text, runs of white
/// space levelled to one blank.
pub fn prompt_id(problem: &str) -> PromptId {
    let mut hasher = Sha256::new();
    for (index, word) in problem.split_whitespace().enumerate() {
        if index > 0 {
            hasher.update(b" ");
        }
        hasher.update(word.as_bytes());
    }
    let digest = hasher.finalize();
    let mut first = [0u8; 8];
    first.copy_from_slice(&digest[..8]);
    PromptId(u64::from_be_bytes(first))
}

/// True if the problem belongs to the held-out range: a property of its text alone, so that no
/// order, seed or amount of data moves a problem across the split.
pub(crate) fn is_reserved(id: PromptId, held_out_frac: f64) -> bool {
    (id.0 as f64) < held_out_frac * 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_levels_white_space_and_nothing_else() {
        // The first bytes of SHA-256("abc"), FIPS 180-4.
        assert_eq!(prompt_id(" abc\n"), PromptId(0xba78_16bf_8f01_cfea));
        assert_eq!(prompt_id("a  b\n c"), prompt_id("a b c"));
        assert_ne!(prompt_id("ab c"), prompt_id("a bc"));
        assert_ne!(prompt_id("A b c"), prompt_id("a b c"));
    }

    #[test]
    fn the_reserved_range_has_its_share() {
        let ids: Vec<PromptId> = (0..20_000).map(|n| prompt_id(&n.to_string())).collect();
        let num_reserved = ids.iter().filter(|&&id| is_reserved(id, 0.1)).count();
        assert!((1850..2150).contains(&num_reserved), "{num_reserved}");
        assert!(ids.iter().all(|&id| !is_reserved(id, 0.0)));
    }
}
