//! How answers are found and compared: the verifier's switches by their own names.

use rlvr_verifier::{
    Assignment, BareList, Base, DecimalMatch, Degrees, Domain, Extraction, IntervalRelation,
    Percent, Policy, SeveralBoxes, TextCase, Units,
};
use serde::{Deserialize, Serialize};

use super::error::InvalidValue;
use super::range::at_least;

/// Which rules find an answer in a completion, and what counts as the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifierSection {
    /// Which extraction rules may find an answer.
    #[serde(with = "ExtractionKey")]
    pub extraction: Extraction,
    /// What several boxes with nothing between them mean.
    #[serde(with = "SeveralBoxesKey")]
    pub several_boxes: SeveralBoxes,
    /// Only this many characters at the end of a completion are searched; unset means all.
    pub tail_chars: Option<usize>,
    /// What a percent sign means.
    #[serde(with = "PercentKey")]
    pub percent: Percent,
    /// What a degree sign on a whole answer means.
    #[serde(with = "DegreesKey")]
    pub degrees: Degrees,
    /// What a unit on one side only means.
    #[serde(with = "UnitsKey")]
    pub units: Units,
    /// When a written decimal stands for an exact number.
    pub decimal_match: DecimalRule,
    /// Significant digits that a rounded decimal has to show, 1 or more.
    pub min_digits: u32,
    /// Whether the order of a list without brackets counts.
    #[serde(with = "BareListKey")]
    pub bare_list: BareList,
    /// Whether an inequality and its interval are the same answer.
    #[serde(with = "IntervalRelationKey")]
    pub interval_relation: IntervalRelation,
    /// What `x = 5` means against `5`.
    #[serde(with = "AssignmentKey")]
    pub assignment: Assignment,
    /// What digits with a base mean.
    #[serde(with = "BaseKey")]
    pub base: Base,
    /// The numbers that variables stand for.
    #[serde(with = "DomainKey")]
    pub domain: Domain,
    /// Whether the case of a text counts.
    #[serde(with = "TextCaseKey")]
    pub text_case: TextCase,
}

/// When a written decimal stands for an exact number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalRule {
    /// If the number rounds to it and it shows `min_digits` digits.
    #[default]
    Rounded,
    /// Never.
    Exact,
    /// To the digits that the reference answer writes.
    GoldDigits,
}

/// The names of a switch's values in a recipe.
macro_rules! keys {
    ($($key:ident for $switch:literal { $($value:ident),* })*) => {
        $(
            #[derive(Serialize, Deserialize)]
            #[serde(remote = $switch, rename_all = "snake_case")]
            enum $key { $($value),* }
        )*
    };
}

keys! {
    ExtractionKey for "Extraction" { Any, Marked, Boxed }
    SeveralBoxesKey for "SeveralBoxes" { Joined, Last }
    PercentKey for "Percent" { Either, Exact, Ignore }
    DegreesKey for "Degrees" { Drop, Convert }
    UnitsKey for "Units" { Lenient, Strict }
    BareListKey for "BareList" { Unordered, Ordered }
    IntervalRelationKey for "IntervalRelation" { Equal, Distinct, GoldRelation }
    AssignmentKey for "Assignment" { Value, Keep }
    BaseKey for "Base" { Digits, Value }
    DomainKey for "Domain" { Real, Positive }
    TextCaseKey for "TextCase" { Fold, Exact }
}

impl Default for VerifierSection {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            extraction: policy.extraction,
            several_boxes: policy.several_boxes,
            tail_chars: policy.tail_chars,
            percent: policy.percent,
            degrees: policy.degrees,
            units: policy.units,
            decimal_match: DecimalRule::Rounded,
            min_digits: 6,
            bare_list: policy.bare_list,
            interval_relation: policy.interval_relation,
            assignment: policy.assignment,
            base: policy.base,
            domain: policy.domain,
            text_case: policy.text_case,
        }
    }
}

impl VerifierSection {
    /// Checks every value.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("verifier.min_digits", self.min_digits, 1)
    }

    /// The verifier's policy.
    pub fn policy(&self) -> Policy {
        Policy {
            extraction: self.extraction,
            several_boxes: self.several_boxes,
            tail_chars: self.tail_chars,
            percent: self.percent,
            degrees: self.degrees,
            units: self.units,
            decimal_match: match self.decimal_match {
                DecimalRule::Rounded => DecimalMatch::Rounded {
                    min_digits: self.min_digits,
                },
                DecimalRule::Exact => DecimalMatch::Exact,
                DecimalRule::GoldDigits => DecimalMatch::GoldDigits,
            },
            bare_list: self.bare_list,
            interval_relation: self.interval_relation,
            assignment: self.assignment,
            base: self.base,
            domain: self.domain,
            text_case: self.text_case,
            ..Policy::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use rlvr_verifier::equal;

    use super::*;

    #[test]
    fn the_default_is_the_verifiers() {
        assert_eq!(VerifierSection::default().policy(), Policy::default());
    }

    // Each value of each switch, and a pair whose verdict it turns.
    #[test]
    fn every_key_reaches_the_verifier() {
        for (text, gold, answer, correct) in [
            ("percent = 'exact'", "50%", "50", false),
            ("percent = 'ignore'", "50%", "0.5", false),
            ("degrees = 'convert'", r"180^\circ", r"\pi", true),
            ("units = 'strict'", "5 cm", "5", false),
            ("decimal_match = 'exact'", "0.333333", "1/3", false),
            ("decimal_match = 'gold_digits'", "0.33", "1/3", true),
            ("min_digits = 2", "0.33", "1/3", true),
            ("bare_list = 'ordered'", "1, 2", "2, 1", false),
            (
                "interval_relation = 'distinct'",
                "x > 2",
                r"(2, \infty)",
                false,
            ),
            (
                "interval_relation = 'gold_relation'",
                r"(2, \infty)",
                "x > 2",
                false,
            ),
            ("assignment = 'keep'", "x = 5", "5", false),
            ("base = 'value'", "11_2", "3", true),
            ("domain = 'positive'", r"\sqrt{x^2}", "x", true),
            ("text_case = 'exact'", "Monday", "monday", false),
        ] {
            let section: VerifierSection = toml::from_str(text).unwrap();
            section.validate().unwrap();
            let verdict = |policy: &Policy| equal(gold, answer, policy).correct;
            assert_eq!(verdict(&section.policy()), Some(correct), "{text}");
            assert_eq!(verdict(&Policy::default()), Some(!correct), "{text}");
        }
    }

    #[test]
    fn extraction_keys_reach_the_verifier() {
        let section: VerifierSection =
            toml::from_str("extraction = 'boxed'\nseveral_boxes = 'last'\ntail_chars = 30")
                .unwrap();
        let policy = section.policy();
        let grade = |completion: &str| rlvr_verifier::grade("2", completion, &policy);
        assert_eq!(grade(r"\boxed{1}, \boxed{2}").correct, Some(true));
        assert_eq!(grade("2").correct, Some(false));
        assert_eq!(
            grade(r"\boxed{2}, which is far from the end").correct,
            Some(false)
        );
        assert!(toml::from_str::<VerifierSection>("percents = 'exact'").is_err());
        let none: VerifierSection = toml::from_str("min_digits = 0").unwrap();
        assert_eq!(none.validate().unwrap_err().key, "verifier.min_digits");
    }
}
