//! The recipe section `[data]`.

use serde::{Deserialize, Serialize};

use super::format::AnswerFormat;
use super::spec::Spec;
use crate::config::InvalidValue;

/// Where problems come from and how they are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Problems to train on: one spec, or several joined by commas. A spec is `gsm8k:PATH`, the
    /// path of a `.jsonl`, `.json` or `.parquet` file, `hub:org/name[@revision][:split]`, or
    /// `task:NAME?key=value&…`.
    pub train: String,
    /// Problems to evaluate on. Without it a part of `train` is held out by content hash.
    pub held_out: Option<String>,
    /// Most problems in the held-out set.
    pub held_out_size: usize,
    /// Fraction of all problems, by content hash, from which the held-out set is taken.
    pub held_out_frac: f64,
    /// Most problems to train on from files; none means all.
    pub max_problems: Option<usize>,
    /// Problems to draw from procedural tasks for training.
    pub num_problems: usize,
    /// How procedural tasks end their worked solutions.
    pub answer_format: AnswerFormat,
    /// Which keys of a record hold what; without it the usual names are looked for.
    pub fields: Option<Fields>,
    /// What to do with a reference answer that the verifier cannot read.
    pub unreadable: Unreadable,
}

/// Keys of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The problem text.
    pub problem: String,
    /// The reference answer: bare, or inside text, a box, or after `####`.
    pub answer: String,
    /// The worked solution, if there is one.
    #[serde(default)]
    pub solution: Option<String>,
}

/// What to do with a reference answer that the verifier cannot read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// Stop and name the line.
    #[default]
    Error,
    /// Leave the problem out, and count and list it.
    Drop,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: String::from("task:addition?digits=3"),
            held_out: None,
            held_out_size: 500,
            held_out_frac: 0.1,
            max_problems: None,
            num_problems: 10_000,
            answer_format: AnswerFormat::default(),
            fields: None,
            unreadable: Unreadable::default(),
        }
    }
}

impl DataConfig {
    /// Checks every value that can be checked without opening a file.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        check_spec("data.train", &self.train)?;
        if let Some(held_out) = &self.held_out {
            check_spec("data.held_out", held_out)?;
        }
        if !(0.0..1.0).contains(&self.held_out_frac) {
            return Err(InvalidValue::new(
                "data.held_out_frac",
                self.held_out_frac,
                "a fraction in [0, 1); the rest is trained on",
            ));
        }
        if self.held_out.is_none() && self.held_out_size > 0 && self.held_out_frac == 0.0 {
            return Err(InvalidValue::new(
                "data.held_out_frac",
                self.held_out_frac,
                "above 0 while data.held_out_size is; set data.held_out_size = 0 to hold nothing out",
            ));
        }
        if self.num_problems == 0 {
            return Err(InvalidValue::new("data.num_problems", 0, "at least 1"));
        }
        if self.max_problems == Some(0) {
            return Err(InvalidValue::new(
                "data.max_problems",
                0,
                "at least 1, or leave the key out for all problems",
            ));
        }
        Ok(())
    }
}

fn check_spec(key: &str, text: &str) -> Result<(), InvalidValue> {
    match Spec::parse_list(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(InvalidValue::new(key, text, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let config = DataConfig::default();
        assert_eq!(config.validate(), Ok(()));
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
    }

    #[test]
    fn impossible_values_name_their_key() {
        for (text, key) in [
            ("held_out_frac = 1.0", "data.held_out_frac"),
            ("held_out_frac = 0.0", "data.held_out_frac"),
            ("num_problems = 0", "data.num_problems"),
            ("max_problems = 0", "data.max_problems"),
            ("train = 'task:adition'", "data.train"),
            ("held_out = 'task:addition?digit=3'", "data.held_out"),
        ] {
            let config: DataConfig = toml::from_str(text).unwrap();
            assert_eq!(config.validate().unwrap_err().key, key, "{text}");
        }
        assert!(toml::from_str::<DataConfig>("trian = 'x'").is_err());
    }
}
