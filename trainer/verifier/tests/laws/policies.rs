//! A switch means what it says, and nothing else.

use proptest::prelude::*;
use rlvr_verifier::{
    Assignment, BareList, Base, DecimalMatch, Degrees, Domain, Extraction, IntervalRelation,
    Limits, Percent, Policy, Reason, SeveralBoxes, Source, TextCase, Units, equal, grade,
};

use crate::formula::formula;

fn default() -> Policy {
    Policy::default()
}

/// Every switch away from its default.
fn switched() -> Vec<Policy> {
    vec![
        Policy {
            percent: Percent::Exact,
            ..default()
        },
        Policy {
            percent: Percent::Ignore,
            ..default()
        },
        Policy {
            degrees: Degrees::Convert,
            ..default()
        },
        Policy {
            units: Units::Strict,
            ..default()
        },
        Policy {
            decimal_match: DecimalMatch::Exact,
            ..default()
        },
        Policy {
            bare_list: BareList::Ordered,
            ..default()
        },
        Policy {
            interval_relation: IntervalRelation::Distinct,
            ..default()
        },
        Policy {
            assignment: Assignment::Keep,
            ..default()
        },
        Policy {
            base: Base::Value,
            ..default()
        },
        Policy {
            text_case: TextCase::Exact,
            ..default()
        },
        Policy {
            several_boxes: SeveralBoxes::Last,
            ..default()
        },
        Policy {
            tail_chars: Some(10_000),
            ..default()
        },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn a_switch_leaves_alone_what_it_does_not_name(a in formula(), b in formula(), style in any::<u64>()) {
        // No percent sign, unit, decimal, list, relation, name with a value, base or text.
        let (a, b) = (a.print(style), b.print(!style));
        let plain = equal(&a, &b, &default());
        for policy in switched() {
            prop_assert_eq!(&equal(&a, &b, &policy), &plain, "{:?}", policy);
        }
    }
}

#[track_caller]
fn both(policy: Policy, a: &str, b: &str, by_default: bool, switched: bool) {
    assert_eq!(
        equal(a, b, &default()).correct,
        Some(by_default),
        "default: {a} / {b}"
    );
    assert_eq!(
        equal(a, b, &policy).correct,
        Some(switched),
        "{policy:?}: {a} / {b}"
    );
}

#[test]
fn percent() {
    let exact = Policy {
        percent: Percent::Exact,
        ..default()
    };
    let ignore = Policy {
        percent: Percent::Ignore,
        ..default()
    };
    both(exact, "50%", "50", true, false);
    both(exact, "50%", "0.5", true, true);
    both(ignore, "50%", "0.5", true, false);
    both(ignore, "50%", "50", true, true);
    for policy in [default(), exact, ignore] {
        assert_eq!(equal("0.5", "50", &policy).correct, Some(false));
    }
}

#[test]
fn degrees() {
    let convert = Policy {
        degrees: Degrees::Convert,
        ..default()
    };
    both(convert, r"60^\circ", r"\frac{\pi}{3}", false, true);
    both(convert, r"60^\circ", "60", true, true);
}

#[test]
fn units() {
    let strict = Policy {
        units: Units::Strict,
        ..default()
    };
    both(strict, "5 cm", "5", true, false);
    both(strict, "5 cm", "5 cm", true, true);
}

#[test]
fn decimals() {
    let exact = Policy {
        decimal_match: DecimalMatch::Exact,
        ..default()
    };
    both(exact, "0.333333", "1/3", true, false);
    both(exact, "0.5", "1/2", true, true);
    let digits = Policy {
        decimal_match: DecimalMatch::GoldDigits,
        ..default()
    };
    both(digits, "0.33", "1/3", false, true);
    both(digits, "1/3", "0.33", false, false);
    let few = Policy {
        decimal_match: DecimalMatch::Rounded { min_digits: 2 },
        ..default()
    };
    both(few, "0.33", "1/3", false, true);
}

#[test]
fn lists() {
    let ordered = Policy {
        bare_list: BareList::Ordered,
        ..default()
    };
    both(ordered, "1, 2", "2, 1", true, false);
    both(ordered, "1, 2", "1; 2", true, true);
}

#[test]
fn inequalities_and_intervals() {
    let distinct = Policy {
        interval_relation: IntervalRelation::Distinct,
        ..default()
    };
    both(distinct, "x > 2", r"(2, \infty)", true, false);
    let gold = Policy {
        interval_relation: IntervalRelation::GoldRelation,
        ..default()
    };
    both(gold, "x > 2", r"(2, \infty)", true, true);
    both(gold, r"(2, \infty)", "x > 2", true, false);
}

#[test]
fn assignments() {
    let keep = Policy {
        assignment: Assignment::Keep,
        ..default()
    };
    both(keep, "x = 5", "5", true, false);
    both(keep, "x = 5", "x = 5", true, true);
}

#[test]
fn bases() {
    let value = Policy {
        base: Base::Value,
        ..default()
    };
    both(value, "52_8", "42", false, true);
    both(value, "52_8", "52", true, false);
    both(value, "11_2", "3_4", false, true);
}

#[test]
fn domains() {
    let positive = Policy {
        domain: Domain::Positive,
        ..default()
    };
    both(positive, r"\sqrt{x^2}", "x", false, true);
}

#[test]
fn text_cases() {
    let exact = Policy {
        text_case: TextCase::Exact,
        ..default()
    };
    both(exact, "Monday", "monday", true, false);
}

#[test]
fn extraction_rules() {
    let marked = Policy {
        extraction: Extraction::Marked,
        ..default()
    };
    let boxed = Policy {
        extraction: Extraction::Boxed,
        ..default()
    };
    for (completion, any, with_mark, in_box) in [
        (r"\boxed{5}", Source::Box, Source::Box, Source::Box),
        ("#### 5", Source::Marker, Source::Marker, Source::Nothing),
        (
            "the answer is 5",
            Source::Phrase,
            Source::Phrase,
            Source::Nothing,
        ),
        ("so $5$", Source::Math, Source::Nothing, Source::Nothing),
        ("5", Source::Whole, Source::Nothing, Source::Nothing),
        (
            "it is 5 then",
            Source::LastValue,
            Source::Nothing,
            Source::Nothing,
        ),
    ] {
        for (policy, source) in [(default(), any), (marked, with_mark), (boxed, in_box)] {
            let verdict = grade("5", completion, &policy);
            assert_eq!(verdict.source, source, "{completion}");
            let is_found = source != Source::Nothing;
            assert_eq!(verdict.correct, Some(is_found), "{completion}");
            assert_eq!(
                verdict.reason == Reason::NoAnswer,
                !is_found,
                "{completion}"
            );
        }
    }
}

#[test]
fn only_the_first_readings_count() {
    let limits = Limits {
        readings: 1,
        ..Limits::default()
    };
    let plain = Policy {
        limits,
        ..default()
    };
    both(plain, "1,5", "1.5", true, false);
    both(plain, "1,5", "5, 1", true, true);
}

#[test]
fn the_end_of_a_long_completion_is_searched() {
    let words = "and so on and on ".repeat(20_000);
    let at_end = format!("{words}\\boxed{{5}}");
    let limit = Limits::default().completion_bytes;
    assert!(at_end.len() > limit);
    assert_eq!(grade("5", &at_end, &default()).correct, Some(true));
    let at_start = format!("\\boxed{{5}}{words}");
    assert_eq!(grade("5", &at_start, &default()).reason, Reason::NoAnswer);
    // What cannot be searched with the steps at hand is refused, not searched in part.
    let limits = Limits {
        steps: 100_000,
        ..Limits::default()
    };
    let few = Policy {
        limits,
        ..default()
    };
    let verdict = grade("5", &at_end, &few);
    assert_eq!(verdict.reason, Reason::AnswerTooLarge);
    assert!(verdict.steps <= limits.steps);
    assert_eq!(grade("5", "\\boxed{5}", &few).correct, Some(true));
}

#[test]
fn several_boxes_and_the_tail() {
    let last = Policy {
        several_boxes: SeveralBoxes::Last,
        ..default()
    };
    let text = r"\boxed{1}, \boxed{2}";
    assert_eq!(grade("1, 2", text, &default()).correct, Some(true));
    assert_eq!(grade("1, 2", text, &last).correct, Some(false));
    assert_eq!(grade("2", text, &last).correct, Some(true));
    let tail = Policy {
        tail_chars: Some(12),
        ..default()
    };
    assert_eq!(
        grade("5", r"\boxed{5} and a lot of words", &default()).correct,
        Some(true)
    );
    assert_eq!(
        grade("5", r"\boxed{5} and a lot of words", &tail).correct,
        Some(false)
    );
}
