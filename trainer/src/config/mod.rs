//! The run's configuration: one section per stage, validated into ready values.
//!
//! A run is a recipe (over its base, if it names one), then `--set section.key=value`, then the named flags, each layer over the
//! one before. What comes out is complete and valid, or an error that names the key, where it was
//! written, and what would be allowed.

mod auto_sizes;
mod earlier;
mod error;
mod explain;
mod identity;
mod layers;
mod memory_section;
pub mod range;
mod read;
mod recipe;
mod recipe_stack;
mod sections;
pub mod tagged;
mod update_section;
mod verifier_section;
mod write;

pub use auto_sizes::{AutoSizes, SizeKey, sizes_of_run};
pub use earlier::settings_of_earlier;
pub use error::{ConfigError, InvalidValue, Place};
pub(crate) use identity::hex;
pub use identity::{ConfigIdentity, KeyDifference, differences, is_free_to_differ};
pub use layers::Layers;
pub use memory_section::MemorySection;
pub use recipe::{DEFAULT_RECIPE, RecipeText, recipe_names};
pub use sections::{
    BackendSection, CheckpointSection, EvalSection, LogSection, ModelSection, RunConfig,
    RunSection, SftSection,
};
pub use update_section::UpdateSection;
pub use verifier_section::{DecimalRule, VerifierSection};
