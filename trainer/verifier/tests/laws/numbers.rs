//! Laws of written numbers: notations of one value, rounding, neighbours.

use proptest::prelude::*;
use rlvr_verifier::{Policy, equal, grade};

use crate::{must_be_equal, must_differ};

/// Digits with a separator between groups of three.
pub fn grouped(value: u64, separator: &str) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push_str(separator);
        }
        text.push(digit);
    }
    text
}

/// A natural number in many notations.
fn notations(value: u64) -> Vec<String> {
    let mut all = vec![
        value.to_string(),
        format!("+{value}"),
        format!("{value}.0"),
        format!("{value}."),
        format!("{}/2", value * 2),
        format!("\\frac{{{}}}{{3}}", value * 3),
        format!("\\text{{{value}}}"),
        format!("{{{value}}}"),
        format!("\\left({value}\\right)"),
        format!("\\mathbf{{{value}}}"),
        format!("{value} \\text{{ units}}"),
        format!("x = {value}"),
        format!("\\${value}"),
        format!("{} + 1 - 1", value),
    ];
    for separator in [",", "{,}", "\\,", "\\!,", " "] {
        all.push(grouped(value, separator));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn notations_of_one_value_form_a_class(value in 0u64..100_000_000) {
        let all = notations(value);
        let next = notations(value + 1);
        for (index, a) in all.iter().enumerate() {
            for (other, b) in all.iter().enumerate() {
                must_be_equal(a, b);
                // What is written one higher is another value, in any pair of notations.
                if (index + other) % 5 == 0 {
                    must_differ(a, &next[other]);
                }
            }
        }
    }

    #[test]
    fn quotients_are_exact(p in -10_000i64..10_000, q in 1i64..1000, r in -10_000i64..10_000, s in 1i64..1000) {
        let (a, b) = (format!("\\frac{{{p}}}{{{q}}}"), format!("{r}/{s}"));
        let expected = p * s == r * q;
        prop_assert_eq!(equal(&a, &b, &Policy::default()).correct, Some(expected));
        must_be_equal(&a, &format!("{}/{}", -p, -q));
    }

    #[test]
    fn a_decimal_stands_for_what_rounds_to_it(p in 1i64..1_000_000, q in 2i64..1000, places in 1u32..12) {
        let scale = 10i128.pow(places);
        let (p, q) = (i128::from(p), i128::from(q));
        let rounded = (2 * p * scale + q) / (2 * q);
        let whole = rounded / scale;
        let text = format!("{whole}.{:0width$}", rounded % scale, width = places as usize);
        let digits = text.replace('.', "");
        let significant = digits.trim_start_matches('0').len();
        let is_exact = rounded * q == p * scale;
        let expected = is_exact || significant >= 6;
        let exact = format!("{p}/{q}");
        prop_assert_eq!(equal(&exact, &text, &Policy::default()).correct, Some(expected), "{} {}", &exact, &text);
        // A tie may round either way: one unit more is then no error.
        let step = if (2 * p * scale) % (2 * q) == q { 2 } else { 1 };
        let near = rounded + step;
        let next = format!("{}.{:0width$}", near / scale, near % scale, width = places as usize);
        must_differ(&exact, &next);
    }

    #[test]
    fn a_repeating_decimal_is_its_quotient(cycle in 1u32..999, before in 0u32..99) {
        let nines = 10u64.pow(cycle.to_string().len() as u32) - 1;
        let text = format!("{before}.\\overline{{{cycle}}}");
        let top = u64::from(before) * nines + u64::from(cycle);
        must_be_equal(&text, &format!("{top}/{nines}"));
        must_differ(&text, &format!("{}/{nines}", top + 1));
    }

    #[test]
    fn mixed_numbers_are_sums(whole in 1u64..500, top in 1u64..50, bottom in 1u64..50) {
        let sum = format!("{}/{bottom}", whole * bottom + top);
        for text in [
            format!("{whole} {top}/{bottom}"),
            format!("{whole}\\frac{{{top}}}{{{bottom}}}"),
            format!("{whole} \\dfrac{{{top}}}{{{bottom}}}"),
        ] {
            must_be_equal(&text, &sum);
            must_be_equal(&format!("-{text}"), &format!("-{sum}"));
            must_differ(&text, &format!("{whole}"));
        }
    }

    #[test]
    fn neighbours_of_an_integer_are_wrong(value in 1u64..10_000_000, place in 0usize..7) {
        let text = value.to_string();
        let mut edits = vec![format!("-{text}"), (value + 1).to_string(), (value - 1).to_string(), format!("{text}1")];
        let mut digits: Vec<u8> = text.bytes().collect();
        let at = place % digits.len();
        digits[at] = if digits[at] == b'9' { b'1' } else { digits[at] + 1 };
        edits.push(String::from_utf8(digits).expect("digits"));
        for edit in edits {
            let verdict = grade(&text, &format!("\\boxed{{{edit}}}"), &Policy::default());
            prop_assert_eq!(verdict.correct, Some(false), "{} / {}", &text, &edit);
        }
    }
}
