//! The recipe section `[prompt]`: what stands around a problem.

use serde::{Deserialize, Serialize};

use crate::config::InvalidValue;
use crate::record::ChatMessage;

/// How a problem becomes what the policy sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// True: chat turns for the model's template. False: plain text.
    pub chat: bool,
    /// The system turn; in plain text it stands in front.
    pub system: Option<String>,
    /// Follows every problem, such as a request for the answer's format.
    pub instruction: String,
    /// Worked examples before the problem.
    pub few_shot: Vec<Shot>,
    /// Plain text only: stands between a problem and its solution.
    pub separator: String,
    /// Plain text only: ends the system text and each worked example.
    pub shot_end: String,
    /// Longest prompt; problems whose prompt is longer are left out and counted.
    pub max_prompt_tokens: usize,
}

/// A worked example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shot {
    /// The problem.
    pub problem: String,
    /// What the policy is meant to write.
    pub solution: String,
}

/// A rendered problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendered {
    /// Turns for a chat template.
    Chat(Vec<ChatMessage>),
    /// Plain text, complete.
    Text(String),
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self {
            chat: true,
            system: None,
            instruction: String::new(),
            few_shot: Vec::new(),
            separator: String::from("\n"),
            shot_end: String::from("\n\n"),
            max_prompt_tokens: 512,
        }
    }
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage {
        role: role.to_string(),
        content: content.to_string(),
    }
}

impl PromptConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if self.max_prompt_tokens == 0 {
            return Err(InvalidValue::new(
                "prompt.max_prompt_tokens",
                0,
                "at least 1",
            ));
        }
        for shot in &self.few_shot {
            if shot.problem.trim().is_empty() || shot.solution.trim().is_empty() {
                return Err(InvalidValue::new(
                    "prompt.few_shot",
                    format!("{:?} -> {:?}", shot.problem, shot.solution),
                    "a problem and a solution, neither blank",
                ));
            }
        }
        Ok(())
    }

    /// The problem with everything that stands around it.
    pub fn render(&self, problem: &str) -> Rendered {
        if self.chat {
            Rendered::Chat(self.turns(problem))
        } else {
            Rendered::Text(self.text(problem))
        }
    }

    fn turns(&self, problem: &str) -> Vec<ChatMessage> {
        let mut turns = Vec::with_capacity(2 * self.few_shot.len() + 2);
        turns.extend(self.system.iter().map(|text| message("system", text)));
        for shot in &self.few_shot {
            turns.push(message("user", &self.with_instruction(&shot.problem)));
            turns.push(message("assistant", &shot.solution));
        }
        turns.push(message("user", &self.with_instruction(problem)));
        turns
    }

    fn text(&self, problem: &str) -> String {
        let mut text = String::new();
        if let Some(system) = &self.system {
            text.push_str(system);
            text.push_str(&self.shot_end);
        }
        for shot in &self.few_shot {
            text.push_str(&self.with_instruction(&shot.problem));
            text.push_str(&self.separator);
            text.push_str(&shot.solution);
            text.push_str(&self.shot_end);
        }
        text.push_str(&self.with_instruction(problem));
        text.push_str(&self.separator);
        text
    }

    /// The instruction brings its own blank or line end.
    fn with_instruction(&self, problem: &str) -> String {
        format!("{problem}{}", self.instruction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PromptConfig {
        toml::from_str(
            r#"
            system = "Be brief."
            instruction = " Answer alone."
            few_shot = [{ problem = "1+1?", solution = "2" }]
            separator = " ->"
            shot_end = ";"
            "#,
        )
        .unwrap()
    }

    #[test]
    fn chat_turns_alternate_and_end_with_the_problem() {
        let Rendered::Chat(turns) = config().render("2+2?") else {
            panic!("chat is the default");
        };
        let turns: Vec<(&str, &str)> = turns
            .iter()
            .map(|turn| (turn.role.as_str(), turn.content.as_str()))
            .collect();
        assert_eq!(
            turns,
            [
                ("system", "Be brief."),
                ("user", "1+1? Answer alone."),
                ("assistant", "2"),
                ("user", "2+2? Answer alone."),
            ]
        );
    }

    #[test]
    fn plain_text_ends_with_the_separator() {
        let config = PromptConfig {
            chat: false,
            ..config()
        };
        assert_eq!(
            config.render("2+2?"),
            Rendered::Text("Be brief.;1+1? Answer alone. ->2;2+2? Answer alone. ->".into())
        );
    }

    #[test]
    fn impossible_values_name_their_key() {
        assert_eq!(config().validate(), Ok(()));
        for (text, key) in [
            ("max_prompt_tokens = 0", "prompt.max_prompt_tokens"),
            (
                "few_shot = [{ problem = '', solution = '2' }]",
                "prompt.few_shot",
            ),
        ] {
            let config: PromptConfig = toml::from_str(text).unwrap();
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
