//! Rank and axis checks by name: the only place that words a shape error.
//!
//! Ranks are part of Burn's tensor types, so what is left to check at run time is the length of
//! an axis. A wrong length is misuse by the calling code, never a user's input: these checks
//! panic and name the tensors, the axis, what was expected and what was given.

/// Panics unless axis `axis` of the tensor `name` is `given == expected`, the length that the
/// tensor `like` sets.
///
/// # Panics
///
/// If the lengths differ.
#[track_caller]
pub(crate) fn expect_axis(name: &str, axis: &str, given: usize, like: &str, expected: usize) {
    assert!(
        given == expected,
        "shape of `{name}`: axis {axis} is {given}, but `{like}` has {axis} = {expected}"
    );
}

/// Panics unless the tensor `name` has exactly the shape of the tensor `like`.
///
/// # Panics
///
/// If any axis differs.
#[track_caller]
pub(crate) fn expect_same<const D: usize>(
    name: &str,
    given: [usize; D],
    like: &str,
    expected: [usize; D],
) {
    assert!(
        given == expected,
        "shape of `{name}`: {given:?}, but `{like}` has {expected:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "shape of `head`: axis D is 3, but `hidden` has D = 4")]
    fn a_wrong_axis_is_named() {
        expect_axis("head", "D", 3, "hidden", 4);
    }

    #[test]
    #[should_panic(expected = "shape of `old_logprobs`: [2, 3], but `policy_logprobs` has [2, 4]")]
    fn a_wrong_shape_is_named() {
        expect_same("old_logprobs", [2, 3], "policy_logprobs", [2, 4]);
    }

    #[test]
    fn equal_shapes_pass() {
        expect_axis("head", "D", 4, "hidden", 4);
        expect_same("a", [2, 3], "b", [2, 3]);
    }
}
