//! A recipe under overrides, with the place of every key remembered for messages.

use std::collections::BTreeMap;

use toml::de::DeTable;
use toml::{Table, Value};

use super::auto_sizes::AutoSizes;
use super::error::{ConfigError, InvalidValue, Place};
use super::read;
use super::recipe::RecipeText;
use super::recipe_stack;
use super::sections::RunConfig;

/// A configuration that is still being put together.
#[derive(Clone, Debug)]
pub struct Layers {
    pub(super) root: Table,
    places: BTreeMap<String, Place>,
}

impl Layers {
    /// The lowest layers over the built-in values: a recipe, over its base if it names one.
    pub fn new(recipe: &RecipeText) -> Result<Self, ConfigError> {
        recipe_stack::stack(recipe)
    }

    /// One recipe alone.
    pub(super) fn of_text(recipe: &RecipeText) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            place: Place::Recipe {
                name: recipe.title.clone(),
                line: error
                    .span()
                    .map_or(1, |span| line_at(&recipe.text, span.start)),
            },
            message: error.message().trim().replace('\n', "; "),
        };
        let spans = DeTable::parse(&recipe.text).map_err(syntax)?;
        let mut places = BTreeMap::new();
        remember(recipe, spans.get_ref(), "", &mut places);
        let root: Table = recipe.text.parse().map_err(syntax)?;
        Ok(Self { root, places })
    }

    /// These layers below others.
    pub(super) fn under(mut self, over: Self) -> Self {
        recipe_stack::lay_over(&mut self.root, over.root);
        self.places.extend(over.places);
        self
    }

    /// Applies `section.key=value` as typed after `--set`. The value is TOML; what is not TOML is
    /// a text, so quotes may be left out.
    pub fn set(&mut self, typed: &str) -> Result<(), ConfigError> {
        let wrong = || ConfigError::NotAnOverride {
            typed: typed.into(),
        };
        let (key, text) = typed.split_once('=').ok_or_else(wrong)?;
        let key = key.trim();
        if !key.contains('.') || key.split('.').any(|part| part.trim().is_empty()) {
            return Err(wrong());
        }
        self.put(key, value_of(text.trim()), &format!("--set {typed}"));
        Ok(())
    }

    /// Sets a dotted key to a value that came from elsewhere, such as a named flag; `typed` is
    /// how messages call it.
    pub fn put(&mut self, key: &str, value: Value, typed: &str) {
        let mut table = &mut self.root;
        let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
        for part in parents.split('.').filter(|part| !part.is_empty()) {
            let entry = table.entry(part).or_insert_with(|| Table::new().into());
            // An option that was given by name gets its parameters; anything else is replaced.
            match entry {
                Value::Table(_) => {}
                Value::String(name) => {
                    *entry =
                        Table::from_iter([("kind".into(), std::mem::take(name).into())]).into();
                }
                _ => *entry = Table::new().into(),
            }
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        table.insert(last.into(), value);
        let below = format!("{key}.");
        self.places.retain(|known, _| !known.starts_with(&below));
        let place = Place::CommandLine(typed.into());
        self.places.insert(key.into(), place);
    }

    /// True if a layer has this dotted key.
    pub(super) fn has(&self, key: &str) -> bool {
        let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut parents = parents.split('.').filter(|part| !part.is_empty());
        let table = parents.try_fold(&self.root, |table, part| table.get(part)?.as_table());
        table.is_some_and(|table| table.contains_key(last))
    }

    /// The complete configuration, valid.
    pub fn resolve(self) -> Result<RunConfig, ConfigError> {
        let mut root = self.root.clone();
        let automatic = AutoSizes::take(&mut root);
        let mut config = read::run_config(&root).map_err(|error| {
            let place = self.place_of(&error.key());
            error.explain(place, &self.root)
        })?;
        config.automatic = automatic;
        config
            .validate()
            .map_err(|source| self.invalid(source))
            .map(|()| config)
    }

    /// Names the place at which an impossible value was written.
    pub fn invalid(&self, source: InvalidValue) -> ConfigError {
        let place = self.place_of(&source.key);
        ConfigError::Invalid { place, source }
    }

    /// The place of a key, else that of the nearest table around it.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return place.clone();
            }
            match key.rsplit_once('.') {
                Some((parent, _)) => key = parent,
                None => return Place::Default,
            }
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.matches('\n').count() + 1
}

fn remember(
    recipe: &RecipeText,
    table: &DeTable<'_>,
    prefix: &str,
    places: &mut BTreeMap<String, Place>,
) {
    for (key, value) in table.iter() {
        let dotted = format!("{prefix}{}", key.get_ref());
        if let Some(inner) = value.get_ref().as_table() {
            remember(recipe, inner, &format!("{dotted}."), places);
        }
        let line = line_at(&recipe.text, key.span().start);
        let name = recipe.title.clone();
        places.insert(dotted, Place::Recipe { name, line });
    }
}

/// The value of an override: TOML if it parses as one value, else the text itself.
fn value_of(text: &str) -> Value {
    let as_text = || Value::String(text.into());
    let Ok(mut table) = format!("value = {text}").parse::<Table>() else {
        return as_text();
    };
    match table.remove("value") {
        Some(Value::Datetime(_)) | None => as_text(),
        Some(_) if !table.is_empty() => as_text(),
        Some(value) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Schedule;

    fn layers(text: &str) -> Result<Layers, ConfigError> {
        Layers::new(&RecipeText::inline("demo.toml", text))
    }

    fn resolve(text: &str, sets: &[&str]) -> Result<RunConfig, String> {
        let mut layers = layers(text).map_err(|error| error.to_string())?;
        for typed in sets {
            layers.set(typed).map_err(|error| error.to_string())?;
        }
        layers.resolve().map_err(|error| match &error {
            ConfigError::Invalid { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        })
    }

    #[test]
    fn later_layers_win_and_bare_texts_are_texts() {
        let recipe = "[run]\nsteps = 5\nseed = 1\n[update]\nschedule = \"linear\"\n";
        let sets = [
            "run.steps=7",
            "update.schedule=cosine",
            "update.betas=[0.8, 0.99]",
            "run.name=2026-01-02",
            "model.path=some/folder",
            "update.learning_rate=1",
            "eval.every=none",
            "rollout.stop_strings=[\"\\n\"]",
        ];
        let config = resolve(recipe, &sets).unwrap();
        assert_eq!((config.run.steps, config.run.seed), (7, 1));
        assert_eq!(config.update.schedule, Schedule::Cosine);
        assert_eq!(config.update.betas, [0.8, 0.99]);
        assert_eq!(config.run.name.as_deref(), Some("2026-01-02"));
        assert_eq!(config.model.path, "some/folder");
        assert_eq!(config.update.learning_rate, 1.0);
        assert_eq!(config.eval.every, None);
        assert_eq!(config.rollout.stop_strings, ["\n"]);
        let mut layers = layers(recipe).unwrap();
        layers.set("run.steps=7").unwrap();
        layers.put("run.steps", Value::Integer(9), "--steps 9");
        assert_eq!(layers.resolve().unwrap().run.steps, 9);
    }

    #[test]
    fn an_unknown_key_names_its_place_and_the_nearest_one() {
        let recipe = "[run]\nsteps = 5\n\n[rollout]\ngroupsize = 4\n";
        assert_eq!(
            resolve(recipe, &[]).unwrap_err(),
            "read demo.toml line 5: no key is called `rollout.groupsize`; \
             the nearest is `rollout.group_size`"
        );
        let error = resolve("", &["rollout.learning_rate=1e-4"]).unwrap_err();
        assert!(
            error.contains("--set rollout.learning_rate=1e-4"),
            "{error}"
        );
        assert!(error.contains("`update.learning_rate`"), "{error}");
        let error = resolve("", &["rolout.temperature=1"]).unwrap_err();
        assert!(error.contains("no key is called `rolout`"), "{error}");
        assert!(error.contains("`rollout`"), "{error}");
        let error = resolve("", &["run.zzzzzz=1"]).unwrap_err();
        assert!(error.contains("seed, steps, out, name"), "{error}");
    }

    /// What is typed, and what the message says.
    const WRONG_TYPES: &[(&str, &str)] = &[
        (
            "run.steps=many",
            "`run.steps = \"many\"` should be a whole number, 0 or more",
        ),
        (
            "run.steps=-3",
            "`run.steps = -3` should be a whole number, 0 or more",
        ),
        (
            "run.steps=1.5",
            "`run.steps = 1.5` should be a whole number, 0 or more",
        ),
        (
            "eval.at_start=1",
            "`eval.at_start = 1` should be true or false",
        ),
        ("update.learning_rate=fast", "should be a number"),
        (
            "update.betas=[0.9]",
            "`update.betas = [0.9]` should be a list of 2",
        ),
        (
            "update.betas=[0.9, \"x\"]",
            "`update.betas.1 = \"x\"` should be a number",
        ),
        (
            "rollout.top_k=all",
            "`rollout.top_k = \"all\"` should be a whole number, 0 or more",
        ),
        (
            "update.schedule=cosin",
            "should be one of constant, linear, cosine; the nearest is cosine",
        ),
        ("model.path=3", "`model.path = 3` should be a text"),
        ("run={}", "expected section.key=value"),
    ];

    #[test]
    fn a_wrong_type_names_key_value_and_what_is_expected() {
        for (typed, expected) in WRONG_TYPES {
            let error = resolve("", &[typed]).unwrap_err();
            assert!(error.contains(expected), "{typed}: {error}");
            assert!(error.contains(typed), "{typed}: {error}");
        }
        let error = resolve("\n\n[run]\n\nsteps = \"x\"\n", &[]).unwrap_err();
        assert!(error.starts_with("read demo.toml line 5: "), "{error}");
        let error = resolve("run = 3", &[]).unwrap_err();
        assert!(error.contains("`run = 3` should be a table"), "{error}");
    }

    #[test]
    fn an_impossible_value_names_its_place_and_range() {
        let error = resolve("[rollout]\nmin_p = 1.5", &[]).unwrap_err();
        let expected = "use demo.toml line 2: `rollout.min_p = 1.5` is not possible: \
                        between 0 and 1";
        assert_eq!(error, expected);
        let error = resolve("[run]\nsteps = 3", &["run.steps=0"]).unwrap_err();
        assert!(error.starts_with("use --set run.steps=0: "), "{error}");
        let error = resolve("", &["eval.pass_at_k=[8]"]).unwrap_err();
        assert!(error.contains("eval.samples = 1"), "{error}");
        let error = resolve("", &["update.minibatches=4096"]).unwrap_err();
        assert!(error.contains("at most the 128 rollouts"), "{error}");
    }

    #[test]
    fn broken_toml_names_its_line_and_a_bad_override_is_shown() {
        let error = resolve("[run]\nsteps = = 3\n", &[]).unwrap_err();
        assert!(error.starts_with("read demo.toml line 2: "), "{error}");
        for typed in ["run.steps", "steps=3", ".steps=3", "run.=3"] {
            let error = resolve("", &[typed]).unwrap_err();
            assert!(error.contains(&format!("`{typed}`")), "{error}");
        }
    }
}
