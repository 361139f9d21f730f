//! Recipes: complete runs as TOML, from a file or embedded in the binary.

use std::path::{Path, PathBuf};

use super::error::ConfigError;

/// The recipe of a run that names none: the tiny model on the procedural task.
pub const DEFAULT_RECIPE: &str = "tiny";

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../recipes/", $name, ".toml")))),+]
    };
}

/// The recipes that the binary carries, by name.
const EMBEDDED: &[(&str, &str)] = embedded![
    "edge-dynamic-sampling",
    "edge-greso-code",
    "edge-greso",
    "edge-mopps",
    "edge-random-gate",
    "edge-sft",
    "edge-stage1-only",
    "edge-stage2-only",
    "edge-uniform",
    "edge",
    "gsm8k",
    "hive-paper",
    "qwen-mul",
    "smollm2-add1",
    "tiny-certify",
    "tiny-clip",
    "tiny-kl",
    "tiny-learned",
    "tiny-reinforce",
    "tiny-sft",
    "tiny",
];

/// A recipe that has been found but not parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeText {
    /// Short name, from which the run directory's default name is made.
    pub name: String,
    /// How messages call it: the path, or `recipe <name>` for an embedded one.
    pub title: String,
    /// TOML.
    pub text: String,
    /// Where a base that is a file is looked for first; `None` for an embedded recipe.
    pub folder: Option<PathBuf>,
}

/// Names of the embedded recipes.
pub fn recipe_names() -> Vec<&'static str> {
    EMBEDDED.iter().map(|(name, _)| *name).collect()
}

impl RecipeText {
    /// Finds a recipe: a file of that path, else the embedded recipe of that name.
    pub fn find(file_or_name: &str) -> Result<Self, ConfigError> {
        let path = Path::new(file_or_name);
        if path.is_file() {
            return Self::read(path);
        }
        let embedded = EMBEDDED.iter().find(|(name, _)| *name == file_or_name);
        let (name, text) = embedded.ok_or_else(|| ConfigError::NoRecipe {
            name: file_or_name.into(),
            known: recipe_names().into_iter().map(String::from).collect(),
        })?;
        Ok(Self {
            name: (*name).into(),
            title: format!("recipe {name}"),
            text: (*text).into(),
            folder: None,
        })
    }

    /// A recipe that is in no file and not embedded; messages call it by `title`.
    pub fn inline(title: &str, text: &str) -> Self {
        Self {
            name: title.trim_end_matches(".toml").into(),
            title: title.into(),
            text: text.into(),
            folder: None,
        }
    }

    /// Reads a recipe from a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::ReadRecipe {
            path: path.into(),
            source,
        })?;
        let stem = path.file_stem().unwrap_or_default();
        Ok(Self {
            name: stem.to_string_lossy().into_owned(),
            title: path.display().to_string(),
            text,
            folder: path.parent().map(Path::to_path_buf),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn every_file_in_recipes_is_embedded_and_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == "toml"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut names = recipe_names();
        names.sort_unstable();
        assert_eq!(files, names);
        for name in names {
            Layers::new(&RecipeText::find(name).unwrap())
                .and_then(Layers::resolve)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(recipe_names().contains(&DEFAULT_RECIPE));
    }

    #[test]
    fn a_recipe_that_does_not_exist_lists_those_that_do() {
        let error = RecipeText::find("tiney").unwrap_err().to_string();
        assert!(
            error.contains("`tiney`") && error.contains("tiny"),
            "{error}"
        );
    }
}
