//! Two answers, parted by the first line feed: total, symmetric, reflexive, within the budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvr_verifier::{Limits, Policy, Reason, equal};

/// Budgets: enough for nearly everything, and so few that the comparison often ends early.
const STEPS: [Option<u64>; 3] = [None, Some(20_000), Some(4_000)];

fn check(a: &str, b: &str, policy: &Policy) {
    let (forward, backward) = (equal(a, b, policy), equal(b, a, policy));
    for verdict in [&forward, &backward] {
        assert_ne!(verdict.reason, Reason::InternalDefect);
        assert!(verdict.steps <= policy.limits.steps, "{}", verdict.steps);
    }
    if forward.correct.is_some() && backward.correct.is_some() {
        assert_eq!(
            (forward.correct, forward.reason, forward.steps),
            (backward.correct, backward.reason, backward.steps)
        );
    }
    let itself = equal(a, a, policy);
    assert_ne!(itself.correct, Some(false), "{}", itself.reason);
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (a, b) = text.split_once('\n').unwrap_or((text, "5"));
    for steps in STEPS {
        let mut limits = Limits::default();
        limits.steps = steps.unwrap_or(limits.steps);
        check(a, b, &Policy { limits, ..Policy::default() });
    }
});
