//! Sizes that are written as a number or as "auto": what the memory of the device allows.
//!
//! Everybody who reads such a size sees a number. That of an automatic one is the built-in one, right
//! for a laptop, until [`crate::memory::choose`] has seen the device; from then on none is automatic.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::error::ConfigError;
use super::layers::Layers;
use super::recipe::RecipeText;

/// How an automatic size is written.
const AUTO: &str = "auto";

/// A key whose number may be left to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SizeKey {
    /// `update.max_tokens_per_microbatch`.
    MicrobatchTokens,
    /// `update.max_logits_bytes`.
    LogitsBytes,
    /// `rollout.max_slots`.
    Slots,
    /// `rollout.kv_budget_bytes`.
    CacheBytes,
    /// `rollout.prefill_tokens`.
    PrefillTokens,
}

impl SizeKey {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MicrobatchTokens,
        Self::LogitsBytes,
        Self::Slots,
        Self::CacheBytes,
        Self::PrefillTokens,
    ];

    /// Section and name.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::MicrobatchTokens => ("update", "max_tokens_per_microbatch"),
            Self::LogitsBytes => ("update", "max_logits_bytes"),
            Self::Slots => ("rollout", "max_slots"),
            Self::CacheBytes => ("rollout", "kv_budget_bytes"),
            Self::PrefillTokens => ("rollout", "prefill_tokens"),
        }
    }

    /// The dotted key.
    pub fn name(self) -> String {
        let (section, name) = self.parts();
        format!("{section}.{name}")
    }

    /// What is written there, `"auto"` included.
    fn value(self, root: &Table) -> Option<&Value> {
        let (section, name) = self.parts();
        root.get(section)?.get(name)
    }

    /// What is written there, if it is not `"auto"`.
    fn given(self, root: &Table) -> Option<&Value> {
        self.value(root).filter(|it| it.as_str() != Some(AUTO))
    }
}

/// The sizes that are still left to the device: at first all that nobody gave a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoSizes(BTreeSet<SizeKey>);

impl Default for AutoSizes {
    fn default() -> Self {
        Self(SizeKey::ALL.into())
    }
}

impl AutoSizes {
    /// None: every size is the number that it says.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// True if this size is left to the device.
    pub fn has(&self, key: SizeKey) -> bool {
        self.0.contains(&key)
    }

    /// True if this dotted key is a size that is left to the device.
    pub fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|key| key.name() == name)
    }

    /// Those of a configuration, which keeps only what it gives a value: sizes then read as numbers.
    pub(super) fn take(root: &mut Table) -> Self {
        let is_automatic = |key: &SizeKey| key.given(root).is_none();
        let found: BTreeSet<SizeKey> = SizeKey::ALL.into_iter().filter(is_automatic).collect();
        for key in &found {
            let (section, name) = key.parts();
            if let Some(Value::Table(section)) = root.get_mut(section) {
                section.remove(name);
            }
        }
        Self(found)
    }

    /// Writes "auto" in place of their numbers.
    pub(super) fn mark(&self, root: &mut Table) {
        for key in &self.0 {
            let (section, name) = key.parts();
            if let Some(Value::Table(section)) = root.get_mut(section) {
                section.insert(name.into(), AUTO.into());
            }
        }
    }
}

/// True if "auto" may be written at this dotted key.
pub(super) fn may_be_automatic(name: &str) -> bool {
    AutoSizes::default().has_name(name)
}

/// Settings, as typed after `--set`, that keep those sizes of a resumed run which it would be resumed
/// with as `open`: left to the device, which may be another one by now.
///
/// # Errors
/// If the run's configuration cannot be parsed.
pub fn sizes_of_run(run: &RecipeText, open: &AutoSizes) -> Result<Vec<String>, ConfigError> {
    let run = Layers::new(run)?.root;
    let kept = open.0.iter().filter_map(|key| {
        let number = key.given(&run)?;
        Some(format!("{}={number}", key.name()))
    });
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;

    fn read(text: &str) -> Result<RunConfig, String> {
        let layers = Layers::new(&RecipeText::inline("test.toml", text));
        layers
            .and_then(Layers::resolve)
            .map_err(|it| it.to_string())
    }

    const SIZES: &str = "[rollout]\nmax_slots = \"auto\"\nkv_budget_bytes = 5000\n\
                         [update]\nmax_logits_bytes = \"auto\"\n";

    #[test]
    fn what_has_no_number_is_automatic_and_is_written_so() {
        let config = read(SIZES).unwrap();
        let is_automatic = SizeKey::ALL.map(|key| config.automatic.has(key));
        assert_eq!(is_automatic, [true, true, true, false, true]);
        let sizes = (config.rollout.max_slots, config.rollout.kv_budget_bytes);
        assert_eq!(sizes, (64, 5000));
        let text = config.to_toml().unwrap();
        for line in [
            "max_slots = \"auto\"",
            "kv_budget_bytes = 5000",
            "prefill_tokens = \"auto\"",
            "max_tokens_per_microbatch = \"auto\"",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(read(&text).unwrap(), config);
        // Decided, it has numbers, and so it is read.
        let decided = RunConfig {
            automatic: AutoSizes::none(),
            ..config
        };
        let text = decided.to_toml().unwrap();
        assert!(text.contains("max_tokens_per_microbatch = 8192"), "{text}");
        assert_eq!(read(&text).unwrap(), decided);
    }

    #[test]
    fn any_other_word_is_refused_and_so_is_auto_elsewhere() {
        let error = read("[rollout]\nmax_slots = \"all\"").unwrap_err();
        assert!(
            error.contains("a whole number, 0 or more, or \"auto\""),
            "{error}"
        );
        let error = read("[rollout]\ngroup_size = \"auto\"").unwrap_err();
        assert!(
            error.contains("should be a whole number, 0 or more") && !error.contains("or \"auto\""),
            "{error}"
        );
        // A number is checked as ever.
        let error = read("[rollout]\nprefill_tokens = 0").unwrap_err();
        assert!(error.contains("use test.toml line 2"), "{error}");
    }

    #[test]
    fn a_resumed_run_keeps_its_sizes_where_it_is_resumed_with_open_ones() {
        let run = "[rollout]\nmax_slots = 700\nkv_budget_bytes = 6000\n[update]\n\
                   max_logits_bytes = 5000\n";
        let of = |open: &str| {
            let open = read(open).unwrap().automatic;
            sizes_of_run(&RecipeText::inline("config.toml", run), &open).unwrap()
        };
        let kept = ["update.max_logits_bytes=5000", "rollout.max_slots=700"];
        assert_eq!(of(SIZES), kept);
        assert!(of(run).is_empty());
    }
}
