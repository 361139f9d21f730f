//! Totality: mutated cases and random token sequences get a verdict, within the budget.

use rlvr_verifier::{Limits, Policy, Reason, Verdict, equal, grade};

use crate::formula::Choices;

/// Pieces of answers, whole and broken.
const PIECES: &[&str] = &[
    "\\frac",
    "{",
    "}",
    "{1}",
    "{2}",
    "\\sqrt",
    "[",
    "]",
    "(",
    ")",
    "\\left",
    "\\right",
    "1",
    "23",
    ".",
    ",",
    ";",
    " ",
    "-",
    "+",
    "*",
    "/",
    "^",
    "_",
    "=",
    "<",
    ">",
    "\\le",
    "\\pm",
    "\\pi",
    "x",
    "y",
    "e",
    "i",
    "\\infty",
    "\\cup",
    "\\{",
    "\\}",
    "|",
    "\\text{",
    "cm",
    "%",
    "\\%",
    "$",
    "\\boxed{",
    "####",
    "the answer is ",
    "\\sin",
    "\\log",
    "!",
    "°",
    "\\circ",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\overline",
    "...",
    "e9",
    "10^",
    "99999999",
    "√",
    "²",
    "½",
    "∞",
    "\u{202e}",
    "é",
    "𝑥",
    "\\binom",
    "\\sum_{k=1}^{",
    "\\mathbb{R}",
    "\\in",
    "or",
    " and ",
    "\n",
    "0.",
    "\\!",
    "{,}",
    ":",
    "A",
    "(A)",
    "**",
    "`",
    "\\",
    "</think>",
    "\\quad",
    "\\cdot",
    "\\forall",
    "if",
    "mod",
    "\\lfloor",
];

fn soup(choices: &mut Choices, length: u64) -> String {
    let count = choices.below(length) + 1;
    (0..count)
        .map(|_| PIECES[choices.below(PIECES.len() as u64) as usize])
        .collect()
}

/// Cuts, doubles, swaps or replaces a piece of a text.
fn mutated(text: &str, choices: &mut Choices) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = choices.below(chars.len() as u64 + 1) as usize;
    let length = choices.below(4) as usize;
    let end = (at + length).min(chars.len());
    let (before, piece, after): (String, String, String) = (
        chars[..at].iter().collect(),
        chars[at..end].iter().collect(),
        chars[end..].iter().collect(),
    );
    match choices.below(4) {
        0 => format!("{before}{after}"),
        1 => format!("{before}{piece}{piece}{after}"),
        2 => format!("{after}{piece}{before}"),
        _ => format!("{before}{}{after}", soup(choices, 3)),
    }
}

fn cases() -> Vec<String> {
    let folder = format!("{}/../../fixtures/verifier", env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the case files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "jsonl") || path.ends_with("oracle.jsonl") {
            continue;
        }
        for line in std::fs::read_to_string(&path).expect("a case file").lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect("a case");
            for key in ["gold", "answer"] {
                texts.extend(
                    value
                        .get(key)
                        .and_then(|text| text.as_str())
                        .map(String::from),
                );
            }
        }
    }
    texts
}

/// Every part of what was extracted occurs in the completion.
fn check(verdict: &Verdict, completion: &str) {
    assert_eq!(verdict.correct, verdict.reason.correct());
    assert_ne!(verdict.reason, Reason::InternalDefect, "{completion}");
    assert!(verdict.steps <= Limits::default().steps, "{completion}");
    let Some(extracted) = &verdict.extracted else {
        return;
    };
    let is_part = completion.contains(extracted.as_str())
        || extracted.split(", ").all(|part| completion.contains(part));
    assert!(is_part, "{extracted:?} is not in {completion:?}");
}

fn with_steps(steps: u64) -> Policy {
    let limits = Limits {
        steps,
        ..Limits::default()
    };
    Policy {
        limits,
        ..Policy::default()
    }
}

#[test]
fn mutated_cases_get_a_verdict() {
    let texts = cases();
    assert!(texts.len() > 1000);
    let policy = Policy::default();
    let mut choices = Choices(0x5eed_0001);
    let (mut num_true, mut num_undecided) = (0u32, 0u32);
    for _ in 0..50_000 {
        let pick =
            |choices: &mut Choices| texts[choices.below(texts.len() as u64) as usize].clone();
        let text = pick(&mut choices);
        let mut a = mutated(&text, &mut choices);
        if choices.below(2) == 0 {
            a = mutated(&a, &mut choices);
        }
        let b = if choices.below(2) == 0 {
            text
        } else {
            pick(&mut choices)
        };
        let completion = soup(&mut choices, 12);
        check(&grade(&b, &a, &policy), &a);
        check(&grade(&b, &completion, &policy), &completion);
        // Some budgets are so small that the comparison ends early.
        let policy = match choices.below(4) {
            0 => with_steps(choices.below(20_000)),
            _ => policy,
        };
        let (forward, backward) = (equal(&a, &b, &policy), equal(&b, &a, &policy));
        assert!(forward.steps.max(backward.steps) <= policy.limits.steps);
        num_undecided += u32::from(forward.reason == Reason::Undecided);
        if forward.correct.is_some() && backward.correct.is_some() {
            assert_eq!(
                (forward.correct, forward.reason, forward.steps),
                (backward.correct, backward.reason, backward.steps),
                "{a} / {b}"
            );
        }
        let itself = equal(&a, &a, &policy);
        assert_ne!(itself.correct, Some(false), "{a}: {}", itself.reason);
        num_true += u32::from(forward.correct == Some(true));
    }
    // The mutations are small enough that some keep the value, and large enough that most do not.
    assert!(num_true > 1000 && num_true < 40_000, "{num_true}");
    assert!(num_undecided > 100, "{num_undecided}");
}

#[test]
fn work_is_bounded_for_long_and_deep_texts() {
    let policy = Policy::default();
    for piece in PIECES {
        for count in [100, 5_000] {
            let text = piece.repeat(count);
            check(&grade(&text, &text, &policy), &text);
            check(
                &grade("5", &format!("\\boxed{{{text}}}"), &policy),
                &format!("\\boxed{{{text}}}"),
            );
        }
    }
    for (open, close) in [
        ("(", ")"),
        ("{", "}"),
        ("\\frac{1}{", "}"),
        ("\\sqrt{", "}"),
        ("|", "|"),
        ("2^{", "}"),
        ("-", ""),
    ] {
        for depth in [10, 63, 64, 65, 1000] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            check(&grade(&text, &text, &policy), &text);
        }
    }
    // Towers of powers, whose canonical texts would double at each level.
    for base in ["30^{", "(x+y)^{", "2310^{1+"] {
        for depth in [5, 20, 60] {
            let text = format!("{}x{}", base.repeat(depth), "}".repeat(depth));
            let other = format!("{}y{}", base.repeat(depth), "}".repeat(depth));
            assert_ne!(equal(&text, &other, &policy).correct, Some(true), "{text}");
            assert_ne!(equal(&text, &text, &policy).correct, Some(false), "{text}");
        }
    }
}
