//! Two answers, parted by the first line feed: total, symmetric, reflexive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvr_verifier::{Policy, Reason, equal};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (a, b) = text.split_once('\n').unwrap_or((text, "5"));
    let policy = Policy::default();
    let (forward, backward) = (equal(a, b, &policy), equal(b, a, &policy));
    for reason in [forward.reason, backward.reason] {
        assert_ne!(reason, Reason::InternalDefect);
    }
    // Parts are compared in the order of the first answer, so a budget may end one direction before
    // it reaches the part that decides the other.
    let is_undecided = [forward.reason, backward.reason].contains(&Reason::Undecided);
    if forward.correct.is_some() && backward.correct.is_some() && !is_undecided {
        assert_eq!(
            (forward.correct, forward.reason),
            (backward.correct, backward.reason)
        );
    }
    let itself = equal(a, a, &policy);
    assert_ne!(itself.correct, Some(false), "{}", itself.reason);
});
