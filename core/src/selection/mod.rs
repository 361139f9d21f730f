//! Which prompts a step rolls out: pure functions over what the caller knows about them.

pub mod uniform;
