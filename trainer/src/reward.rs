//! Completion and reference answer to a reward, through the verifier.
//!
//! The reward is a weighted sum of named components. Every verdict has a reason code.

use std::path::Path;

use rlvr_verifier::{Gold, Policy, Reason, Source, Verdict};
use serde::{Deserialize, Serialize};

use crate::config::InvalidValue;
use crate::config::range::not_blank;
use crate::dataset::AnswerFormat;
use crate::record::{Reward, StopReason};

/// Name of the component that a reward model pays.
pub(crate) const LEARNED: &str = "model";

/// The reason code of a truncated completion that is not graded.
const TRUNCATED: &str = "truncated";

/// The recipe section `[reward]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// The form in which completions are asked to give their answer.
    pub format: AnswerFormat,
    /// What a truncated completion can earn.
    pub truncated: Truncated,
    /// What is paid for; the reward is the sum.
    pub components: Vec<Component>,
}

/// What a truncated completion can earn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// The same as any other completion.
    #[default]
    Grade,
    /// Nothing.
    Zero,
}

/// One thing that is paid for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Component {
    /// The answer is right.
    Correct {
        /// What a right answer earns.
        weight: f64,
        /// Pays only if the answer has the requested form.
        #[serde(default)]
        strict: bool,
    },
    /// The answer has the requested form, right or wrong.
    Format {
        /// What the form earns.
        weight: f64,
    },
    /// A learned reward, from 0 to 1.
    Model {
        /// By what it is multiplied.
        weight: f64,
        /// Folder that `trainer reward-model` wrote.
        path: String,
    },
}

impl Component {
    fn name(&self) -> &'static str {
        match self {
            Self::Correct { .. } => "correct",
            Self::Format { .. } => "format",
            Self::Model { .. } => LEARNED,
        }
    }

    fn weight(&self) -> f64 {
        match self {
            Self::Correct { weight, .. } | Self::Format { weight } | Self::Model { weight, .. } => {
                *weight
            }
        }
    }
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            format: AnswerFormat::default(),
            truncated: Truncated::default(),
            components: vec![Component::Correct {
                weight: 1.0,
                strict: false,
            }],
        }
    }
}

impl RewardConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if self.components.is_empty() {
            return Err(InvalidValue::new(
                "reward.components",
                "[]",
                "at least one, such as { kind = \"correct\", weight = 1.0 }",
            ));
        }
        for (index, component) in self.components.iter().enumerate() {
            let weight = component.weight();
            if !weight.is_finite() || weight == 0.0 {
                return Err(InvalidValue::new(
                    &format!("reward.components.{index}.weight"),
                    weight,
                    "a finite number other than 0; leave the component out to pay nothing",
                ));
            }
            if let Component::Model { path, .. } = component {
                not_blank(&format!("reward.components.{index}.path"), path)?;
            }
        }
        let is_model = |it: &&Component| matches!(it, Component::Model { .. });
        match self.components.iter().filter(is_model).count() {
            0 | 1 => Ok(()),
            count => {
                let allowed = "at most one component of kind \"model\"";
                Err(InvalidValue::new("reward.components", count, allowed))
            }
        }
    }

    /// Folder and weight of the learned reward, if there is one.
    pub fn learned(&self) -> Option<(&Path, f64)> {
        self.components.iter().find_map(|it| match it {
            Component::Model { weight, path } => Some((Path::new(path), *weight)),
            _ => None,
        })
    }
}

/// Grades the completions of one prompt; the reference answer is read once.
#[derive(Clone, Debug)]
pub struct Grader<'c> {
    config: &'c RewardConfig,
    gold: Result<Gold, Reason>,
}

impl<'c> Grader<'c> {
    /// Reads the reference answer. One that cannot be read, which loading a dataset rules out,
    /// makes every completion wrong with that reason.
    pub fn new(config: &'c RewardConfig, policy: &Policy, reference_answer: &str) -> Self {
        Self {
            config,
            gold: Gold::parse(reference_answer, policy),
        }
    }

    /// The reward of one completion.
    pub fn grade(&self, completion_text: &str, stop: StopReason) -> Reward {
        if stop.is_truncated() && self.config.truncated == Truncated::Zero {
            return self.pay(false, false, TRUNCATED, None);
        }
        match &self.gold {
            Ok(gold) => {
                let verdict = gold.grade(completion_text);
                let is_correct = verdict.correct == Some(true);
                let is_strict = is_strict_format(self.config.format, &verdict, completion_text);
                let code = verdict.reason.code();
                self.pay(is_correct, is_strict, code, verdict.extracted)
            }
            Err(reason) => self.pay(false, false, reason.code(), None),
        }
    }

    fn pay(
        &self,
        is_correct: bool,
        is_strict_format: bool,
        reason: &str,
        extracted: Option<String>,
    ) -> Reward {
        let value = |component: &Component| {
            let is_earned = match component {
                Component::Correct { strict, .. } => is_correct && (is_strict_format || !strict),
                Component::Format { .. } => is_strict_format,
                // Paid by the reward model, for all rollouts of a step at once.
                Component::Model { .. } => false,
            };
            if is_earned { component.weight() } else { 0.0 }
        };
        let components: Vec<(String, f64)> = self
            .config
            .components
            .iter()
            .map(|component| (component.name().to_string(), value(component)))
            .collect();
        Reward {
            total: components.iter().map(|(_, value)| value).sum(),
            components,
            is_correct,
            is_strict_format,
            reason: reason.to_string(),
            extracted,
            learned: None,
        }
    }
}

/// Grades one completion. [`Grader`] does the same for a whole group with less work.
pub fn grade_completion(
    config: &RewardConfig,
    policy: &Policy,
    reference_answer: &str,
    completion_text: &str,
    stop: StopReason,
) -> Reward {
    Grader::new(config, policy, reference_answer).grade(completion_text, stop)
}

/// True if a readable answer came in the requested form.
fn is_strict_format(format: AnswerFormat, verdict: &Verdict, completion_text: &str) -> bool {
    let is_usable = !matches!(
        verdict.reason,
        Reason::NoAnswer
            | Reason::EmptyAnswer
            | Reason::UnterminatedBox
            | Reason::AnswerUnparsable
            | Reason::AnswerTooLarge
            | Reason::InconsistentAnswer
    );
    is_usable
        && match format {
            AnswerFormat::Box => verdict.source == Source::Box,
            AnswerFormat::Marker => verdict.source == Source::Marker,
            AnswerFormat::Bare => AnswerFormat::is_bare_number(completion_text.trim()),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> RewardConfig {
        let config: RewardConfig = toml::from_str(text).unwrap();
        config.validate().unwrap();
        config
    }

    fn grade(config: &RewardConfig, completion: &str, stop: StopReason) -> Reward {
        grade_completion(config, &Policy::default(), "7", completion, stop)
    }

    #[test]
    fn components_add_up() {
        let config = config(
            r#"
            format = "box"
            [[components]]
            kind = "correct"
            weight = 1.0
            [[components]]
            kind = "format"
            weight = 0.25
            "#,
        );
        for (completion, total, reason) in [
            (r"\boxed{7}", 1.25, "equal_text"),
            (r"\boxed{7.0}", 1.25, "equal_number"),
            (r"\boxed{8}", 0.25, "different_number"),
            ("it is 7", 1.0, "equal_text"),
            ("#### 7", 1.0, "equal_text"),
            ("it is 8", 0.0, "different_number"),
            (r"\boxed{7", 0.0, "unterminated_box"),
            (r"\boxed{}", 0.0, "empty_answer"),
            (r"\boxed{7+}", 0.0, "answer_unparsable"),
        ] {
            let reward = grade(&config, completion, StopReason::StopToken);
            assert_eq!(reward.total, total, "{completion}");
            assert_eq!(reward.reason, reason, "{completion}");
            assert_eq!(reward.components.len(), 2);
        }
    }

    #[test]
    fn a_strict_bare_number_is_the_whole_text() {
        let config = config(
            r#"
            format = "bare"
            components = [{ kind = "correct", weight = 1.0, strict = true }]
            "#,
        );
        for (completion, total) in [
            ("7", 1.0),
            (" 7\n", 1.0),
            ("8", 0.0),
            ("7.", 0.0),
            ("07", 0.0),
            ("7.0", 0.0),
            ("14/2", 0.0),
            ("$7$", 0.0),
            ("The answer is 7", 0.0),
            ("7 apples", 0.0),
            ("7\n7", 0.0),
            ("", 0.0),
        ] {
            let reward = grade(&config, completion, StopReason::StopToken);
            assert_eq!(reward.total, total, "{completion:?}");
        }
        assert!(grade(&config, "The answer is 7", StopReason::StopToken).is_correct);
    }

    #[test]
    fn truncated_completions_follow_the_option() {
        let lenient = config("");
        let hard = config("truncated = 'zero'");
        for stop in [StopReason::MaxNewTokens, StopReason::ContextFull] {
            assert_eq!(grade(&lenient, "#### 7", stop).total, 1.0);
            let reward = grade(&hard, "#### 7", stop);
            assert_eq!((reward.total, reward.is_correct), (0.0, false));
            assert_eq!(reward.reason, TRUNCATED);
        }
        assert_eq!(grade(&hard, "#### 7", StopReason::StopString).total, 1.0);
    }

    #[test]
    fn an_unreadable_reference_pays_nothing_and_says_so() {
        let config = RewardConfig::default();
        let reward = grade_completion(
            &config,
            &Policy::default(),
            "1/0",
            "1/0",
            StopReason::StopToken,
        );
        assert_eq!((reward.total, &*reward.reason), (0.0, "gold_unparsable"));
    }

    #[test]
    fn impossible_values_name_their_key() {
        for (text, key) in [
            ("components = []", "reward.components"),
            (
                "components = [{ kind = 'format', weight = 0.0 }]",
                "reward.components.0.weight",
            ),
            (
                "components = [{ kind = 'format', weight = nan }]",
                "reward.components.0.weight",
            ),
            (
                "components = [{ kind = 'model', weight = 1.0, path = ' ' }]",
                "reward.components.0.path",
            ),
            (
                "components = [{ kind = 'model', weight = 1.0, path = 'a' }, \
                 { kind = 'model', weight = 1.0, path = 'b' }]",
                "reward.components",
            ),
        ] {
            let config: RewardConfig = toml::from_str(text).unwrap();
            assert_eq!(config.validate().unwrap_err().key, key);
        }
        for text in [
            "components = [{ kind = 'length', weight = 1.0 }]",
            "components = [{ kind = 'format', weight = 1.0, strict = true }]",
            "formats = 'box'",
        ] {
            assert!(toml::from_str::<RewardConfig>(text).is_err(), "{text}");
        }
    }
}
