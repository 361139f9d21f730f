//! Laws of equality and totality, over generated answers and arbitrary text.

use proptest::prelude::*;
use rlvr_verifier::{Gold, Policy, Reason, equal, grade};

fn policy() -> Policy {
    Policy::default()
}

fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// Notations of one integer.
fn notations(value: i64) -> Vec<String> {
    let sign = if value < 0 { "-" } else { "" };
    let size = value.unsigned_abs();
    vec![
        value.to_string(),
        thousands(value),
        thousands(value).replace(',', "{,}"),
        thousands(value).replace(',', "\\,"),
        thousands(value).replace(',', ",\\!"),
        format!("{value}."),
        format!("{value}.0"),
        format!("{sign}00{size}"),
        format!("${value}$"),
        format!("\\({value}\\)"),
        format!("**{value}**"),
        format!("({value})"),
        format!("\\text{{{value}}}"),
        format!("{sign}\\${size}"),
        format!("{sign}\\frac{{{size}}}{{1}}"),
        format!("{}/7", i128::from(value) * 7),
        format!("{value}e0"),
        format!("{value} dollars"),
        format!("x = {value}"),
        value.to_string().replace('-', "−"),
    ]
}

/// Text made of the pieces that the reader knows, in any order.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\\boxed{",
        "\\boxed",
        "\\fbox{",
        "}",
        "{",
        "####",
        "the answer is ",
        "Answer:",
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\frac",
        "\\frac{1}{2}",
        "\\text{",
        "1",
        "23",
        "456",
        ",",
        ".",
        "{,}",
        "\\,",
        "\\!",
        " ",
        "\n",
        "-",
        "+",
        "=",
        "x",
        "even",
        "%",
        "\\%",
        "^",
        "_",
        "(",
        ")",
        "[",
        "]",
        "/",
        "e",
        "10",
        "\\times",
        "**",
        "*",
        "°",
        "π",
        "−",
        "\\",
        "\\\\",
        "0",
        "\\overline{3}",
        "cm",
        "é",
        "</think>",
        "and",
        "\\{",
        "\\}",
        "\\sqrt",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn notation_changes_nothing(value in -2_000_000_000i64..2_000_000_000, a in 0usize..20, b in 0usize..20) {
        let all = notations(value);
        let verdict = equal(&all[a], &all[b], &policy());
        prop_assert_eq!(verdict.correct, Some(true), "{} / {}: {}", all[a], all[b], verdict.reason);
        prop_assert_eq!(grade(&all[a], &format!("so \\boxed{{{}}}", all[b]), &policy()).correct, Some(true));
    }

    #[test]
    fn another_value_is_never_equal(
        value in -100_000i64..100_000, other in -100_000i64..100_000, a in 0usize..20, b in 0usize..20
    ) {
        prop_assume!(value != other);
        let verdict = equal(&notations(value)[a], &notations(other)[b], &policy());
        prop_assert_eq!(verdict.correct, Some(false), "{} / {}", notations(value)[a], notations(other)[b]);
    }

    #[test]
    fn neighbours_are_never_equal(value in -100_000i64..100_000, a in 0usize..20, b in 0usize..20) {
        for other in [value + 1, value - 1, -value, value * 10, value * 100] {
            if other != value {
                let (left, right) = (&notations(value)[a], &notations(other)[b]);
                prop_assert_eq!(equal(left, right, &policy()).correct, Some(false), "{} / {}", left, right);
            }
        }
    }

    #[test]
    fn fractions_are_exact(p in -999i64..999, q in 1i64..99, factor in 1i64..50, r in -999i64..999, s in 1i64..99) {
        let plain = format!("{p}/{q}");
        let scaled = format!("\\frac{{{}}}{{{}}}", p * factor, q * factor);
        prop_assert_eq!(equal(&plain, &scaled, &policy()).correct, Some(true));
        let expected = p * s == r * q;
        prop_assert_eq!(equal(&plain, &format!("\\dfrac{{{r}}}{{{s}}}"), &policy()).correct, Some(expected));
        let mixed = p.abs() + i64::from(p == 0);
        let sum = format!("{}/{}", mixed * q + r.abs() + 1, q);
        let fraction = r.abs() + 1;
        prop_assert_eq!(equal(&format!("{mixed} {fraction}/{q}"), &sum, &policy()).correct, Some(true));
    }

    #[test]
    fn decimals_are_exact(digits in 0i64..10_000_000, places in 1u32..7) {
        let scale = 10i64.pow(places);
        let written = format!("{}.{:0width$}", digits / scale, digits % scale, width = places as usize);
        let quotient = format!("{digits}/{scale}");
        prop_assert_eq!(equal(&written, &quotient, &policy()).correct, Some(true), "{}", written);
        let more = format!("{written}1");
        let significant = format!("{}{}", digits / scale, &written[written.len() - places as usize..]);
        let shown = significant.trim_start_matches('0').len();
        prop_assert_eq!(equal(&written, &more, &policy()).correct, Some(shown >= 6), "{}", written);
        prop_assert_eq!(equal(&format!("{written}%"), &format!("{digits}/{}", scale * 100), &policy()).correct, Some(true));
    }

    #[test]
    fn symmetric_and_reflexive(a in soup(), b in soup()) {
        let (forward, backward) = (equal(&a, &b, &policy()), equal(&b, &a, &policy()));
        if forward.correct.is_some() && backward.correct.is_some() {
            prop_assert_eq!(forward.correct, backward.correct);
            prop_assert_eq!(forward.reason, backward.reason);
        }
        let itself = equal(&a, &a, &policy());
        prop_assert!(itself.correct != Some(false), "{:?} against itself: {}", a, itself.reason);
    }

    #[test]
    fn grading_is_total(reference in soup(), completion in soup(), noise in ".{0,60}") {
        for (reference, completion) in [(&reference, &completion), (&noise, &completion), (&reference, &noise)] {
            let verdict = grade(reference, completion, &policy());
            prop_assert_eq!(verdict.correct, verdict.reason.correct());
            let keeps_text = verdict.correct.is_some() && !matches!(
                verdict.reason,
                Reason::NoAnswer | Reason::UnterminatedBox | Reason::AnswerTooLarge
            );
            prop_assert_eq!(verdict.extracted.is_some(), keeps_text);
            let single = verdict.extracted.filter(|text| !text.contains(", "));
            prop_assert!(single.is_none_or(|text| completion.contains(&text)));
            if let Ok(gold) = Gold::parse(reference, &policy()) {
                prop_assert_eq!(gold.grade(completion).correct, verdict.correct);
            }
        }
    }

    #[test]
    fn a_prefix_inside_the_last_box_earns_nothing(value in 1i64..100_000, cut in 1usize..20) {
        let completion = format!("First \\boxed{{{value}}}, then \\boxed{{{value}}}");
        let last = completion.rfind("\\boxed").unwrap();
        let end = (last + "\\boxed".len() + cut).min(completion.len() - 1);
        let verdict = grade(&value.to_string(), &completion[..end], &policy());
        prop_assert_eq!(verdict.reason, Reason::UnterminatedBox);
    }
}

#[test]
fn work_is_linear_in_the_length() {
    let policy = policy();
    for piece in [
        "\\boxed{", "$1 ", "answer ", "answer: ", "\\frac{", "1 ", "1/", "1,", "{", "\\(", "**",
        "(", "-",
    ] {
        let completion = piece.repeat((1 << 20) / piece.len());
        let start = std::time::Instant::now();
        let _ = grade("5", &completion, &policy);
        let _ = Gold::parse(&completion, &policy);
        assert!(
            start.elapsed().as_secs() < 5,
            "{piece:?} took {:?}",
            start.elapsed()
        );
    }
}
