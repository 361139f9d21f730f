//! Which configuration a checkpoint belongs to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::error::ConfigError;
use super::sections::RunConfig;

/// Keys that may change between a run and its resumption: they change no number of any step.
/// (With a decaying schedule a new `run.steps` also moves the learning rate of later steps.)
const FREE_KEYS: [&str; 3] = ["run.steps", "run.out", "backend.threads"];

/// A section of which every key may change.
const FREE_SECTION: &str = "log.";

/// True if a resumed run may have another value for this dotted key.
pub fn is_free_to_differ(key: &str) -> bool {
    FREE_KEYS.contains(&key) || key.starts_with(FREE_SECTION)
}

/// The values that must be the same when a run is resumed, and a digest of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigIdentity {
    /// SHA-256 of `values`, in hexadecimal.
    pub digest: String,
    /// Dotted key to TOML value, sorted.
    pub values: BTreeMap<String, String>,
}

/// A key whose values differ; `None` where the key does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDifference {
    /// Dotted key.
    pub key: String,
    /// TOML value on the one side.
    pub before: Option<String>,
    /// TOML value on the other side.
    pub now: Option<String>,
}

impl core::fmt::Display for KeyDifference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".into());
        let (before, now) = (text(&self.before), text(&self.now));
        write!(f, "{} was {before}, is {now}", self.key)
    }
}

impl ConfigIdentity {
    /// The identity of a configuration.
    pub fn of(config: &RunConfig) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        flatten(&config.to_table()?, "", &mut values);
        values.retain(|key, _| !is_free_to_differ(key));
        let mut hash = Sha256::new();
        for (key, value) in &values {
            hash.update(format!("{key} = {value}\n"));
        }
        let digest = hex(&hash.finalize());
        Ok(Self { digest, values })
    }

    /// The keys in which `now` differs from this one, sorted.
    pub fn differences(&self, now: &Self) -> Vec<KeyDifference> {
        differences(&self.values, &now.values)
    }
}

/// The keys whose values differ between two parts of configurations, sorted.
pub fn differences(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<KeyDifference> {
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort();
    keys.dedup();
    let differs = |key: &&String| before.get(*key) != now.get(*key);
    let difference = |key: &String| KeyDifference {
        key: key.clone(),
        before: before.get(key).cloned(),
        now: now.get(key).cloned(),
    };
    keys.into_iter().filter(differs).map(difference).collect()
}

fn flatten(table: &Table, prefix: &str, values: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let dotted = format!("{prefix}{key}");
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                flatten(inner, &format!("{dotted}."), values);
            }
            other => {
                values.insert(dotted, other.to_string());
            }
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_free_keys_may_differ() {
        let before = RunConfig::default();
        let identity = ConfigIdentity::of(&before).unwrap();
        let mut longer = before.clone();
        longer.run.steps = 7;
        longer.run.out = Some("elsewhere".into());
        longer.log.completions_per_step = None;
        longer.backend.threads = Some(3);
        assert_eq!(ConfigIdentity::of(&longer).unwrap(), identity);
        let mut other = before;
        other.run.seed += 1;
        other.rollout.top_k = Some(5);
        let other = ConfigIdentity::of(&other).unwrap();
        assert_ne!(other.digest, identity.digest);
        let shown: Vec<String> = identity
            .differences(&other)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            ["rollout.top_k was unset, is 5", "run.seed was 17, is 18"]
        );
    }
}
