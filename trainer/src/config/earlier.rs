//! Runs of earlier versions: their configurations lack the keys that came later.
//!
//! Such a key counts as its built-in value, or as what is listed here where versions without the key
//! did something else.

use super::error::ConfigError;
use super::identity::{ConfigIdentity, KeyDifference, differences};
use super::layers::Layers;
use super::recipe::RecipeText;
use super::sections::RunConfig;

/// What versions without a key did, as TOML, where the built-in value of today does something else,
/// if only on a GPU.
const BEFORE: [(&str, &str); 4] = [
    ("backend.precision", "\"f32\""),
    ("rollout.record_steps", "false"),
    ("rollout.sampling", "\"host\""),
    ("rollout.steps_per_read", "1"),
];

/// Settings, as typed after `--set`, that a run of an earlier version goes on with; none if it has
/// every key.
///
/// # Errors
/// If the run's configuration cannot be parsed.
pub fn settings_of_earlier(run: &RecipeText) -> Result<Vec<String>, ConfigError> {
    let layers = Layers::new(run)?;
    let missing = BEFORE.iter().filter(|(key, _)| !layers.has(key));
    Ok(missing
        .map(|(key, value)| format!("{key}={value}"))
        .collect())
}

impl ConfigIdentity {
    /// [`Self::differences`], where this identity may be one of an earlier version: a key that only
    /// `now` has is then compared with what that version did.
    ///
    /// # Errors
    /// If the built-in configuration cannot be written.
    pub fn differences_since(&self, now: &Self) -> Result<Vec<KeyDifference>, ConfigError> {
        let mut known = Self::of(&RunConfig::default())?.values;
        known.extend(BEFORE.map(|(key, value)| (key.into(), value.into())));
        known.retain(|key, _| now.values.contains_key(key));
        known.extend(self.values.clone());
        Ok(differences(&known, &now.values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(sets: &[&str]) -> ConfigIdentity {
        let mut layers = Layers::new(&RecipeText::inline("run", "")).unwrap();
        for set in sets {
            layers.set(set).unwrap();
        }
        ConfigIdentity::of(&layers.resolve().unwrap()).unwrap()
    }

    /// As a version wrote it that did not know these keys.
    fn without(mut identity: ConfigIdentity, keys: &[&str]) -> ConfigIdentity {
        for key in keys {
            assert!(identity.values.remove(*key).is_some(), "{key}");
        }
        identity
    }

    const LATER: [&str; 6] = [
        "backend.correct_sampler",
        "backend.precision",
        "memory",
        "rollout.record_steps",
        "rollout.sampling",
        "rollout.steps_per_read",
    ];

    fn shown(before: &ConfigIdentity, now: &ConfigIdentity) -> Vec<String> {
        let differences = before.differences_since(now).unwrap();
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_run_of_an_earlier_version_goes_on_as_that_version_would() {
        let of = |text: &str| settings_of_earlier(&RecipeText::inline("run", text)).unwrap();
        let every = [
            "backend.precision=\"f32\"",
            "rollout.record_steps=false",
            "rollout.sampling=\"host\"",
            "rollout.steps_per_read=1",
        ];
        assert_eq!(of("[rollout]\ngroup_size = 4\n"), every);
        let known = "[backend]\nprecision = \"bf16\"\n[rollout]\nsampling = \"auto\"\n";
        assert_eq!(of(known), [every[1], every[3]]);
        assert!(of(&RunConfig::default().to_toml().unwrap()).is_empty());
        let before = without(resolved(&[]), &LATER);
        assert_eq!(shown(&before, &resolved(&every)), Vec::<String>::new());
    }

    #[test]
    fn a_key_that_came_later_may_not_change_what_the_run_does() {
        let before = without(resolved(&[]), &LATER);
        let as_before = [
            "rollout.record_steps=false",
            "rollout.sampling=host",
            "rollout.steps_per_read=1",
        ];
        let now = resolved(&[&as_before[..], &["backend.precision=bf16"]].concat());
        assert_eq!(
            shown(&before, &now),
            ["backend.precision was \"f32\", is \"bf16\""]
        );
        let as_before = [&as_before[..], &["backend.precision=f32"]].concat();
        let now = resolved(&[&as_before[..], &["backend.correct_sampler=false"]].concat());
        assert_eq!(
            shown(&before, &now),
            ["backend.correct_sampler was true, is false"]
        );
        // A key that is gone, and one of a variant that the run did not have.
        let mut before = before;
        before.values.insert("rollout.gone".into(), "3".into());
        let now = resolved(&[&as_before[..], &["advantage.scale.kind=none"]].concat());
        let found = shown(&before, &now);
        assert!(
            found.contains(&"rollout.gone was 3, is unset".into()),
            "{found:?}"
        );
        let kind = "advantage.scale.kind was \"group_std\", is \"none\"";
        assert!(found.contains(&kind.into()), "{found:?}");
        // Parameters of the built-in variant belong to no other.
        let none = without(resolved(&["advantage.scale.kind=none"]), &LATER);
        assert_eq!(shown(&none, &now), Vec::<String>::new());
    }
}
