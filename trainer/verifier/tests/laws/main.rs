//! Laws of the verdict, over random formulas in random notation.

mod formula;
mod mutation;
mod numbers;
mod policies;

use formula::{Formula, formula, rewritten};
use proptest::prelude::*;
use rlvr_verifier::{Limits, Policy, Reason, Verdict, equal, grade};

fn policy() -> Policy {
    Policy::default()
}

fn verdict(a: &str, b: &str) -> Verdict {
    equal(a, b, &policy())
}

#[track_caller]
fn must_be_equal(a: &str, b: &str) {
    let verdict = verdict(a, b);
    assert_eq!(
        verdict.correct,
        Some(true),
        "{}: {a}  against  {b}",
        verdict.reason
    );
}

#[track_caller]
fn must_differ(a: &str, b: &str) {
    let verdict = verdict(a, b);
    assert_eq!(
        verdict.correct,
        Some(false),
        "{}: {a}  against  {b}",
        verdict.reason
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn reflexive_and_symmetric(a in formula(), b in formula(), style in any::<u64>()) {
        let (a, b) = (a.print(style), b.print(style.rotate_left(7)));
        must_be_equal(&a, &a);
        let (forward, backward) = (verdict(&a, &b), verdict(&b, &a));
        prop_assert_eq!(forward.correct, backward.correct, "{} / {}", &a, &b);
        prop_assert_eq!(forward.reason, backward.reason, "{} / {}", &a, &b);
    }

    /// The budget ends the comparison early here, in lists and in formulas: in both directions at
    /// the same place.
    #[test]
    fn symmetric_whatever_the_budget(a in prop::collection::vec(formula(), 1..5), b in prop::collection::vec(formula(), 1..5), style in any::<u64>(), steps in 1_500u64..60_000, joint in 0usize..3) {
        let print = |members: &[Formula], style: u64| {
            let members: Vec<String> = members.iter().map(|member| member.print(style)).collect();
            match joint {
                0 => members.join(", "),
                1 => format!("\\{{{}\\}}", members.join(", ")),
                _ => format!("({})", members.join(", ")),
            }
        };
        let limits = Limits { steps, ..Limits::default() };
        let policy = Policy { limits, ..policy() };
        for (a, b) in [(print(&a, style), print(&b, !style)), (print(&a, style), print(&a, !style))] {
            let (forward, backward) = (equal(&a, &b, &policy), equal(&b, &a, &policy));
            prop_assert!(forward.steps <= steps && backward.steps <= steps);
            if forward.correct.is_some() && backward.correct.is_some() {
                prop_assert_eq!(forward.correct, backward.correct, "{} / {}", &a, &b);
                prop_assert_eq!(forward.reason, backward.reason, "{} / {}", &a, &b);
                prop_assert_eq!(forward.steps, backward.steps, "{} / {}", &a, &b);
            }
        }
    }

    #[test]
    fn notation_changes_nothing(a in formula(), one in any::<u64>(), two in any::<u64>()) {
        must_be_equal(&a.print(one), &a.print(two));
        let dressed = format!("So it is \\boxed{{{}}}.", a.print(two));
        prop_assert_eq!(grade(&a.print(one), &dressed, &policy()).correct, Some(true));
        let dressed = format!("$${}$$", a.print(two));
        prop_assert_eq!(grade(&a.print(one), &dressed, &policy()).correct, Some(true));
    }

    #[test]
    fn rewriting_keeps_the_value(a in formula(), style in any::<u64>(), choices in any::<u64>()) {
        let b = rewritten(&a, choices);
        must_be_equal(&a.print(style), &b.print(style.rotate_left(11)));
    }

    #[test]
    fn an_edit_changes_the_value(a in formula(), style in any::<u64>(), by in 1i64..9) {
        let more = Formula::Sum(Box::new(a.clone()), Box::new(Formula::Integer(by)));
        must_differ(&a.print(style), &more.print(style));
        let other = Formula::Sum(Box::new(a.clone()), Box::new(Formula::Name('w')));
        must_differ(&a.print(style), &other.print(style));
        let power = Formula::Product(
            Box::new(Formula::Name('w')),
            Box::new(Formula::Sum(Box::new(Formula::Power(Box::new(a.clone()), 2)), Box::new(Formula::Integer(1)))),
        );
        let next = Formula::Product(
            Box::new(Formula::Name('w')),
            Box::new(Formula::Sum(Box::new(Formula::Power(Box::new(a), 2)), Box::new(Formula::Integer(2)))),
        );
        must_differ(&power.print(style), &next.print(style));
    }

    #[test]
    fn members_are_compared_as_a_whole(members in prop::collection::vec(formula(), 2..5), style in any::<u64>(), seed in any::<usize>()) {
        let printed: Vec<String> = members.iter().map(|member| member.print(style)).collect();
        let again: Vec<String> = members.iter().map(|member| member.print(!style)).collect();
        must_be_equal(&format!("({})", printed.join(", ")), &format!("\\left({}\\right)", again.join(",")));
        let mut turned = again.clone();
        turned.rotate_left(seed % again.len());
        must_be_equal(&format!("\\{{{}\\}}", printed.join(", ")), &format!("\\{{{}\\}}", turned.join(",")));
        must_be_equal(&printed.join(", "), &turned.join("; "));
        let less = &printed[1..];
        must_differ(&format!("({})", printed.join(", ")), &format!("({}, 1)", printed.join(", ")));
        if less.len() > 1 {
            must_differ(&printed.join(", "), &less.join(", "));
        }
    }

    #[test]
    fn equations_are_scaled_and_inequalities_flipped(a in formula(), factor in 2i64..9, style in any::<u64>()) {
        let side = Formula::Sum(Box::new(a), Box::new(Formula::Name('w')));
        let scaled = Formula::Product(Box::new(Formula::Integer(factor)), Box::new(side.clone()));
        let minus = Formula::Product(Box::new(Formula::Integer(-factor)), Box::new(side.clone()));
        let (plain, scaled, minus) = (side.print(style), scaled.print(!style), minus.print(style));
        must_be_equal(&format!("{plain} = 0"), &format!("{scaled} = 0"));
        must_be_equal(&format!("{plain} = 0"), &format!("0 = {minus}"));
        must_be_equal(&format!("{plain} < 0"), &format!("{minus} > 0"));
        must_be_equal(&format!("{plain} \\le 0"), &format!("0 \\ge {scaled}"));
        must_differ(&format!("{plain} < 0"), &format!("{plain} \\le 0"));
        must_differ(&format!("{plain} < 0"), &format!("{plain} > 0"));
        must_differ(&format!("{plain} = 0"), &format!("{plain} = 1"));
    }

    #[test]
    fn a_cut_box_is_never_paid(a in formula(), style in any::<u64>(), cut in 1usize..60) {
        let text = a.print(style);
        let whole = format!("so \\boxed{{{text}}}");
        let at = whole.len().saturating_sub(cut).max("so \\boxed".len());
        let Some(prefix) = whole.get(..at) else { return Ok(()) };
        let verdict = grade(&text, prefix, &policy());
        prop_assert_eq!(verdict.correct, Some(false), "{}", prefix);
        prop_assert_eq!(verdict.reason, Reason::UnterminatedBox);
    }

    #[test]
    fn a_larger_budget_only_decides(a in formula(), b in formula(), style in any::<u64>(), steps in 1u64..30_000) {
        let (a, b) = (a.print(style), b.print(!style));
        let small = Policy { limits: Limits { steps, ..Limits::default() }, ..policy() };
        let (short, long) = (equal(&a, &b, &small), verdict(&a, &b));
        let gave_up = matches!(short.reason, Reason::Undecided | Reason::AnswerTooLarge | Reason::GoldTooLarge | Reason::EqualPoints);
        prop_assert!(gave_up || short.correct == long.correct, "{}: {} against {}: {} / {}", steps, short.reason, long.reason, a, b);
    }

    #[test]
    fn threads_agree(a in formula(), b in formula(), style in any::<u64>()) {
        let (a, b) = (a.print(style), b.print(!style));
        let here = verdict(&a, &b);
        let there: Vec<Verdict> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3).map(|_| scope.spawn(|| verdict(&a, &b))).collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
        });
        prop_assert!(there.iter().all(|verdict| *verdict == here));
    }
}
