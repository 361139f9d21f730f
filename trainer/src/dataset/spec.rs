//! The text that names a source of problems.

use std::path::PathBuf;

use super::error::DatasetError;
use super::task::Task;

/// A source of problems.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// A `.jsonl` or `.json` file.
    Json(PathBuf),
    /// A `.parquet` file.
    Parquet(PathBuf),
    /// A dataset of the hub.
    Hub(HubSpec),
    /// A procedural task.
    Task(Task),
}

/// A dataset of the hub: `hub:org/name[@revision][:split]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpec {
    /// `org/name`.
    pub name: String,
    /// Branch, tag or commit; `main` if none is given.
    pub revision: String,
    /// The part of the dataset, such as `train` or `main/train`.
    pub split: String,
}

impl core::fmt::Display for HubSpec {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "hub:{}@{}:{}", self.name, self.revision, self.split)
    }
}

impl Spec {
    /// Reads specs joined by commas.
    ///
    /// # Errors
    /// [`DatasetError::Spec`] with what is possible.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, DatasetError> {
        text.split(',')
            .map(|spec| Self::parse(spec.trim()))
            .collect()
    }

    /// Reads one spec.
    ///
    /// # Errors
    /// [`DatasetError::Spec`] with what is possible.
    pub fn parse(text: &str) -> Result<Self, DatasetError> {
        if text.is_empty() {
            return Err(DatasetError::spec(
                text,
                "blank; give a file, hub:org/name, or task:NAME",
            ));
        }
        if let Some(task) = text.strip_prefix("task:") {
            return Ok(Self::Task(Task::parse(task)?));
        }
        if let Some(hub) = text.strip_prefix("hub:") {
            return Ok(Self::Hub(parse_hub(text, hub)?));
        }
        let path = PathBuf::from(text.strip_prefix("gsm8k:").unwrap_or(text));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "json" | "ndjson") => Ok(Self::Json(path)),
            Some("parquet") => Ok(Self::Parquet(path)),
            _ => Err(DatasetError::spec(
                text,
                "not a .jsonl, .json or .parquet file, nor hub:org/name, nor task:NAME",
            )),
        }
    }
}

fn parse_hub(text: &str, hub: &str) -> Result<HubSpec, DatasetError> {
    let (id, split) = hub.split_once(':').unwrap_or((hub, "train"));
    let (name, revision) = id.split_once('@').unwrap_or((id, "main"));
    let is_name = name.split('/').count() == 2 && !name.split('/').any(str::is_empty);
    if !is_name || revision.is_empty() || split.is_empty() {
        return Err(DatasetError::spec(
            text,
            "write hub:org/name, hub:org/name@revision or hub:org/name:split",
        ));
    }
    Ok(HubSpec {
        name: name.to_string(),
        revision: revision.to_string(),
        split: split.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read() {
        assert_eq!(
            Spec::parse("gsm8k:data/train.jsonl").unwrap(),
            Spec::Json(PathBuf::from("data/train.jsonl"))
        );
        assert_eq!(
            Spec::parse("a.parquet").unwrap(),
            Spec::Parquet(PathBuf::from("a.parquet"))
        );
        for (text, name, revision, split) in [
            ("hub:o/n", "o/n", "main", "train"),
            ("hub:o/n@v1", "o/n", "v1", "train"),
            ("hub:o/n:test", "o/n", "main", "test"),
            ("hub:o/n@v1:main/test", "o/n", "v1", "main/test"),
        ] {
            let Spec::Hub(hub) = Spec::parse(text).unwrap() else {
                panic!("{text}");
            };
            assert_eq!(
                (&*hub.name, &*hub.revision, &*hub.split),
                (name, revision, split)
            );
        }
        assert_eq!(Spec::parse_list("a.json, task:addition").unwrap().len(), 2);
    }

    #[test]
    fn bad_specs_say_what_is_possible() {
        for text in [
            "",
            "data",
            "hub:n",
            "hub:/n",
            "hub:o/n@",
            "hub:o/n:",
            "task:",
            "task:nope",
            "a.csv",
        ] {
            let message = Spec::parse(text).unwrap_err().to_string();
            assert!(
                message.contains("task:") || message.contains("hub:"),
                "{message}"
            );
        }
    }
}
