//! Recipes that say only how they differ from another: `base = "edge"` above the first section.

use toml::{Table, Value};

use super::error::{ConfigError, Place};
use super::layers::Layers;
use super::recipe::RecipeText;

/// The key of a recipe that names the recipe below it.
pub(super) const BASE_KEY: &str = "base";

/// A recipe over its base, over that one's base, and so on.
pub(super) fn stack(recipe: &RecipeText) -> Result<Layers, ConfigError> {
    let mut layers = Layers::of_text(recipe)?;
    let mut titles = vec![recipe.title.clone()];
    let mut top = recipe.clone();
    while let Some(base) = layers.root.remove(BASE_KEY) {
        let place = layers.place_of(BASE_KEY);
        let below = find(&top, &base, place.clone())?;
        if titles.contains(&below.title) {
            return Err(ConfigError::BaseCycle {
                place,
                title: below.title,
            });
        }
        titles.push(below.title.clone());
        layers = Layers::of_text(&below)?.under(layers);
        top = below;
    }
    Ok(layers)
}

/// A file is looked for beside the recipe that names it.
fn find(recipe: &RecipeText, base: &Value, place: Place) -> Result<RecipeText, ConfigError> {
    let Value::String(name) = base else {
        return Err(ConfigError::WrongType {
            place,
            key: BASE_KEY.into(),
            value: base.to_string(),
            expected: "the name or the file of a recipe".into(),
        });
    };
    let beside = recipe.folder.as_ref().map(|folder| folder.join(name));
    match beside.filter(|path| path.is_file()) {
        Some(path) => RecipeText::read(&path),
        None => RecipeText::find(name),
    }
}

/// Lays a table over another. Sections are merged key by key; an option that names its kind is
/// replaced whole, for its parameters belong to that kind.
pub(super) fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) if !table.contains_key("kind") => {
                lay_over(inner, table);
            }
            // An option that was given by its name alone gets parameters.
            (Some(Value::String(name)), Value::Table(mut table)) if !table.contains_key("kind") => {
                table.insert("kind".into(), std::mem::take(name).into());
                under.insert(key, table.into());
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn written(folder: &Path, name: &str, text: &str) -> RecipeText {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        RecipeText::read(&path).unwrap()
    }

    #[test]
    fn a_recipe_wins_over_its_base_and_an_option_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        written(
            folder.path(),
            "low.toml",
            "[run]\nsteps = 5\nseed = 3\n[selection.method]\nkind = \"hive\"\npreset = \"v2-deployed\"\n",
        );
        written(
            folder.path(),
            "middle.toml",
            "base = \"low.toml\"\n[run]\nsteps = 6\n[rollout]\ngroup_size = 4\n",
        );
        let top = "base = \"middle.toml\"\n[selection.method]\nkind = \"greso\"\n[run]\nseed = 4\n";
        let top = written(folder.path(), "top.toml", top);
        let config = Layers::new(&top).and_then(Layers::resolve).unwrap();
        assert_eq!((config.run.steps, config.run.seed), (6, 4));
        assert_eq!(config.rollout.group_size, 4);
        let plain = "[selection.method]\nkind = \"greso\"\n";
        let plain = written(folder.path(), "plain.toml", plain);
        let plain = Layers::new(&plain).and_then(Layers::resolve).unwrap();
        assert_eq!(config.selection.method, plain.selection.method);
    }

    #[test]
    fn an_option_that_a_base_names_gets_its_parameters() {
        let folder = tempfile::tempdir().unwrap();
        let low = "[selection]\nmethod = \"hive\"\n";
        written(folder.path(), "low.toml", low);
        let top = "base = \"low.toml\"\n[selection.method]\npreset = \"paper-main-text\"\n";
        let top = written(folder.path(), "top.toml", top);
        let config = Layers::new(&top).and_then(Layers::resolve).unwrap();
        let mut plain = Layers::new(&written(folder.path(), "plain.toml", low)).unwrap();
        plain
            .set("selection.method.preset=paper-main-text")
            .unwrap();
        assert_eq!(config, plain.resolve().unwrap());
    }

    #[test]
    fn a_message_names_the_recipe_in_which_a_key_stands() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), "low.toml", "\n[run]\nstepz = 5\n");
        let top = written(
            folder.path(),
            "top.toml",
            "base = \"low.toml\"\n[run]\nseed = 4\n",
        );
        let refused = |recipe: &RecipeText| {
            let error = Layers::new(recipe).and_then(Layers::resolve).unwrap_err();
            error.to_string()
        };
        let error = refused(&top);
        assert!(error.contains("low.toml line 3: "), "{error}");
        // A key that both have stands where it wins.
        written(folder.path(), "low.toml", "[run]\nsteps = 5\n");
        let text = "base = \"low.toml\"\n\n[run]\nsteps = 0\n";
        let error = refused(&written(folder.path(), "top.toml", text));
        assert!(error.contains("top.toml line 4"), "{error}");
    }

    #[test]
    fn a_missing_base_a_cycle_and_a_number_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |text: &str, expected: &str| {
            let recipe = written(folder.path(), "self.toml", text);
            let error = Layers::new(&recipe).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused("base = \"self.toml\"\n", "self.toml line 1: ");
        refused("base = \"nowhere\"\n", "find recipe `nowhere`");
        refused(
            "base = 3\n",
            "`base = 3` should be the name or the file of a recipe",
        );
    }
}
