//! Any text as a completion: a verdict within the budget, and every extracted part occurs in the
//! text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rlvr_verifier::{Extraction, Policy, Reason, SeveralBoxes, grade};

fn check(completion: &str, policy: &Policy) {
    let verdict = grade("5", completion, policy);
    assert_eq!(verdict.correct, verdict.reason.correct());
    assert_ne!(verdict.reason, Reason::InternalDefect);
    assert!(verdict.steps <= policy.limits.steps, "{}", verdict.steps);
    let hides = matches!(
        verdict.reason,
        Reason::NoAnswer | Reason::UnterminatedBox | Reason::AnswerTooLarge
    );
    assert_eq!(verdict.extracted.is_none(), hides);
    if let Some(extracted) = verdict.extracted {
        let is_part = completion.contains(&extracted)
            || extracted.split(", ").all(|part| completion.contains(part));
        assert!(is_part, "{extracted:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(completion) = std::str::from_utf8(data) else {
        return;
    };
    let any = Policy::default();
    check(completion, &any);
    check(
        completion,
        &Policy {
            extraction: Extraction::Marked,
            ..any
        },
    );
    check(
        completion,
        &Policy {
            several_boxes: SeveralBoxes::Last,
            tail_chars: Some(20),
            ..any
        },
    );
});
