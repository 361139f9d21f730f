//! Verdicts that other graders get wrong, and the extraction rules, one test per row.

use rlvr_verifier::{Extraction, Percent, Policy, Reason, Source, equal, grade};

fn correct(reference: &str, completion: &str) -> Option<bool> {
    grade(reference, completion, &Policy::default()).correct
}

#[track_caller]
fn both_ways(a: &str, b: &str, expected: bool) {
    for (reference, completion) in [(a, b), (b, a)] {
        for dressed in [
            completion.to_owned(),
            format!("${completion}$"),
            format!("\\boxed{{{completion}}}"),
        ] {
            assert_eq!(
                correct(reference, &dressed),
                Some(expected),
                "reference {reference}, completion {dressed}"
            );
        }
    }
}

macro_rules! rows {
    ($($name:ident: $a:expr, $b:expr => $expected:expr;)*) => {
        $(#[test] fn $name() { both_ways($a, $b, $expected); })*
    };
}

rows! {
    tiny_factorial_quotients_differ: r"\frac{1}{2004!}", r"\frac{1}{2006!}" => false;
    tiny_powers_differ: r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}" => false;
    a_root_is_not_its_factor: r"4\sqrt(2)", "4" => false;
    a_quantifier_is_not_dropped: r"\forall x>0, f(x)=0", "f(x)=0" => false;
    an_equation_is_not_a_number: "3*x-1*y+13=0", "3x+4y+14=0" => false;
    a_bold_number: "73", "**73**" => true;
    a_number_in_a_text_command: "13", r"\text{13}" => true;
    tiny_decimals_differ: "0.00000012", "0.00000034" => false;
    a_repeating_decimal_is_exact: r"0.\overline{3}", "1/3" => true;
    a_repeating_decimal_is_not_zero: r"0.\overline{3}", "0" => false;
    a_mixed_number_is_a_sum: "1 2/3", "5/3" => true;
    a_mixed_number_is_not_its_numerator: "1 2/3", "2" => false;
    a_tail_is_not_dropped: r"1-\frac{1}{\mathrm{e}}", "1" => false;
    units_must_agree: "5 cm", "5 kg" => false;
    a_unit_on_one_side_is_ignored: "5 cm", "5" => true;
    a_braced_comma_is_decimal: "1{,}5", "1.5" => true;
    a_braced_comma_separates_thousands: "1{,}500", "1500" => true;
    percent_on_both_sides_is_like_with_like: r"50\%", r"5000\%" => false;
    percent_on_one_side_is_a_fraction: r"50\%", "0.5" => true;
    percent_on_one_side_is_a_number: r"50\%", "50" => true;
    no_hundredfold_without_a_sign: "0.5", "50" => false;
    a_pair_is_not_a_thousand: "(1,234)", "1234" => false;
    a_choice_with_and_without_parentheses: "(A)", r"\text{(A)}" => true;
    a_name_keeps_its_case: "x", "X" => false;
    a_text_is_levelled: r"\text{Even}", "even" => true;
    braces_left_out: r"\frac{3\sqrt{3}}{4}", r"\frac{3\sqrt3}4" => true;
    an_interval_keeps_its_ends: "(2,3]", "[2,3]" => false;
    currency_is_dressing: r"\$32,\!348", "32348" => true;
}

#[test]
fn a_chain_that_contradicts_itself_is_inconsistent() {
    let verdict = grade("4", "x = 3 = 4", &Policy::default());
    assert_eq!(
        (verdict.correct, verdict.reason),
        (Some(false), Reason::InconsistentAnswer)
    );
    let verdict = grade("x = 3 = 4", "4", &Policy::default());
    assert_eq!(
        (verdict.correct, verdict.reason),
        (None, Reason::GoldInconsistent)
    );
}

#[test]
fn a_cut_off_last_box_is_no_answer() {
    let verdict = grade("5", r"\boxed{5} … \boxed{7", &Policy::default());
    assert_eq!(verdict.reason, Reason::UnterminatedBox);
    assert_eq!((verdict.correct, verdict.extracted), (Some(false), None));
    assert_eq!(correct(r"\boxed{5} … \boxed{7", "5"), None);
}

#[test]
fn an_empty_answer_equals_nothing() {
    for completion in ["", "  \n", r"\boxed{}", r"\boxed{ }", "####", "#### "] {
        let verdict = grade("5", completion, &Policy::default());
        assert_eq!(verdict.reason, Reason::EmptyAnswer, "{completion:?}");
        assert_eq!(verdict.extracted.as_deref(), Some(""), "{completion:?}");
        assert_eq!(correct(completion, "5"), None, "{completion:?}");
        assert_eq!(correct(completion, completion), None, "{completion:?}");
    }
}

#[test]
fn every_rule_finds_its_answer() {
    for (completion, extracted, source) in [
        (r"First \boxed{4}, then \boxed{5}.", "5", Source::Box),
        (
            r"\boxed{1}, \boxed{2} and \boxed{3}",
            "1, 2, 3",
            Source::Box,
        ),
        (r"so \boxed 7 it is", "7", Source::Box),
        (r"#### 3 but \fbox{5}", "5", Source::Box),
        ("steps\n#### 1,250\nmore 3", "1,250", Source::Marker),
        ("#### $18 a day", "$18", Source::Marker),
        ("#### 18 eggs", "18 eggs", Source::Marker),
        ("The answer is 5. I used 3 steps.", "5", Source::Phrase),
        ("the ANSWER is: **3.5**", "**3.5**", Source::Phrase),
        ("**Answer:** 42", "42", Source::Phrase),
        ("**The answer is 42**", "42", Source::Phrase),
        ("My final answer is $x=2$, since 3", "x=2", Source::Phrase),
        ("The answer is\n\n12", "12", Source::Phrase),
        ("so 3 + 4 = $7$ as I said", "7", Source::Math),
        ("7", "7", Source::Whole),
        ("$18", "$18", Source::Whole),
        ("3 + 4 = 7", "3 + 4 = 7", Source::Whole),
        (r"so 3 \times 4 = 12", r"3 \times 4 = 12", Source::LastValue),
        ("He pays $3 and then $4.", "$4", Source::LastValue),
        (
            "<think>1 \\boxed{2}</think>It is 3.",
            "3",
            Source::LastValue,
        ),
    ] {
        let verdict = grade("0", completion, &Policy::default());
        assert_eq!(
            verdict.extracted.as_deref(),
            Some(extracted),
            "{completion}"
        );
        assert_eq!(verdict.source, source, "{completion}");
    }
    let verdict = grade("0", "I am not able to say that.", &Policy::default());
    assert_eq!(verdict.reason, Reason::NoAnswer);
    assert_eq!((verdict.extracted, verdict.source), (None, Source::Nothing));
}

#[test]
fn extraction_can_be_limited() {
    let policy = |extraction| Policy {
        extraction,
        ..Policy::default()
    };
    for (completion, any, marked, boxed) in [
        (r"\boxed{5}", true, true, true),
        ("#### 5", true, true, false),
        ("the answer is 5", true, true, false),
        ("5", true, false, false),
    ] {
        for (extraction, expected) in [
            (Extraction::Any, any),
            (Extraction::Marked, marked),
            (Extraction::Boxed, boxed),
        ] {
            let verdict = grade("5", completion, &policy(extraction));
            assert_eq!(
                verdict.correct,
                Some(expected),
                "{completion} {extraction:?}"
            );
        }
    }
}

#[test]
fn percent_policies_mean_what_they_say() {
    for (percent, fraction, points) in [
        (Percent::Either, true, true),
        (Percent::Exact, true, false),
        (Percent::Ignore, false, true),
    ] {
        let policy = Policy {
            percent,
            ..Policy::default()
        };
        assert_eq!(equal("50%", "0.5", &policy).correct, Some(fraction));
        assert_eq!(equal("50%", "50", &policy).correct, Some(points));
    }
}

#[test]
fn reasons_name_what_differs() {
    for (reference, completion, reason) in [
        ("5", "6", Reason::DifferentNumber),
        ("5", "even", Reason::DifferentKind),
        ("odd", "even", Reason::DifferentText),
        ("5 cm", "5 kg", Reason::DifferentUnit),
        ("x=5", "y=5", Reason::DifferentPart),
        ("0.5", "1/2", Reason::EqualNumber),
        ("1/2", "1/2", Reason::EqualText),
        ("5", r"\boxed{3+}", Reason::AnswerUnparsable),
        ("3+", "5", Reason::GoldUnparsable),
        ("1/0", "5", Reason::GoldUnparsable),
    ] {
        let verdict = grade(reference, completion, &Policy::default());
        assert_eq!(verdict.reason, reason, "{reference} / {completion}");
    }
    let long = format!("\\boxed{{{}}}", "1".repeat(5000));
    let verdict = grade("5", &long, &Policy::default());
    assert_eq!(
        (verdict.reason, verdict.extracted),
        (Reason::AnswerTooLarge, None)
    );
    assert_eq!(
        grade(&long, "5", &Policy::default()).reason,
        Reason::GoldTooLarge
    );
}
