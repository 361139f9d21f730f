//! The resolved configuration as TOML.

use toml::{Table, Value};

use super::error::ConfigError;
use super::sections::RunConfig;

/// How TOML, which has no null, says that an optional value is absent.
pub(super) const UNSET: &str = "none";

impl RunConfig {
    /// TOML that reads back as an equal configuration, sections in their order.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let table = self.to_table()?;
        let mut text = String::new();
        for name in section_names()? {
            let section = table
                .get(&name)
                .cloned()
                .unwrap_or_else(|| Table::new().into());
            let section = Table::from_iter([(name, section)]);
            text += &toml::to_string(&section).map_err(unwritable)?;
            text.push('\n');
        }
        Ok(text)
    }

    /// The same as a table, values that are absent but have a default marked as unset, and
    /// sizes that are left to the device as such.
    pub(super) fn to_table(&self) -> Result<Table, ConfigError> {
        let defaults = Table::try_from(Self::default()).map_err(unwritable)?;
        let mut table = Table::try_from(self).map_err(unwritable)?;
        mark_unset(&mut table, &defaults);
        self.automatic.mark(&mut table);
        Ok(table)
    }
}

fn unwritable(error: toml::ser::Error) -> ConfigError {
    ConfigError::Write {
        message: error.to_string(),
    }
}

/// Names of the sections in the order of the struct: a `Table` would sort them.
fn section_names() -> Result<Vec<String>, ConfigError> {
    let text = toml::to_string(&RunConfig::default()).map_err(unwritable)?;
    let headers = text.lines().filter(|line| line.starts_with('['));
    let name = |header: &str| {
        header
            .trim_start_matches('[')
            .split(['.', ']'])
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let mut names: Vec<String> = headers.map(name).collect();
    names.dedup();
    Ok(names)
}

/// Marks keys that the defaults have and this table lacks: their value is `None`.
fn mark_unset(table: &mut Table, defaults: &Table) {
    for (key, default) in defaults {
        match (table.get_mut(key), default) {
            (None, _) => {
                table.insert(key.clone(), Value::String(UNSET.into()));
            }
            // Another variant of an option has other parameters, none of them absent.
            (Some(Value::Table(given)), Value::Table(default)) => {
                let is_variant = given.get("kind").is_some_and(Value::is_str);
                if !is_variant || given.get("kind") == default.get("kind") {
                    mark_unset(given, default);
                }
            }
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{BackendSection, Layers, RecipeText, RunConfig};
    use rlvr_backends::{BackendKind, PrecisionChoice};

    fn read(text: String) -> RunConfig {
        let recipe = RecipeText::inline("test.toml", &text);
        Layers::new(&recipe).and_then(Layers::resolve).unwrap()
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let default = RunConfig::default();
        assert_eq!(read(default.to_toml().unwrap()), default);
        let mut changed = default;
        changed.run.out = Some("a \"quoted\" folder".into());
        changed.eval.every = None;
        changed.update.max_grad_norm = None;
        changed.update.learning_rate = 0.1 + 0.2;
        changed.rollout.top_k = Some(20);
        changed.rollout.stop_strings = vec!["\n\n".into(), "Ω".into()];
        changed.backend = BackendSection {
            kind: BackendKind::Cuda,
            precision: PrecisionChoice::Bf16,
            correct_sampler: false,
            threads: Some(2),
        };
        let text = changed.to_toml().unwrap();
        assert!(text.contains("every = \"none\""), "{text}");
        assert!(text.starts_with("[run]\n"), "{text}");
        assert_eq!(read(text), changed);
    }
}
