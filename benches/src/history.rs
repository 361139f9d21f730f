//! Prompt selection at a size: its configuration and the prompts of its history.

use rlvr_core::GroupKind;
use trainer::config::{Layers, RecipeText, RunConfig};
use trainer::record::{Prompt, PromptId};
use trainer::selection::Visit;

/// A step of 256 prompts by `hive`.
///
/// # Panics
/// If the recipe is not valid.
pub fn config() -> RunConfig {
    let text = "[selection]\nmethod = \"hive\"\nprompts_per_step = 256\n";
    Layers::new(&RecipeText::inline("bench.toml", text))
        .and_then(Layers::resolve)
        .expect("the recipe is valid")
}

/// `count` prompts of eight tokens.
pub fn prompts(count: u64) -> Vec<Prompt> {
    let prompt = |number: u64| Prompt {
        id: PromptId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        prompt_text: String::new(),
        prompt_tokens: vec![1; 8],
        reference_answer: String::new(),
        solution: None,
    };
    (0..count).map(prompt).collect()
}

/// A group of eight completions, all wrong.
pub fn visit() -> Visit {
    Visit {
        step: 1,
        epoch: 0,
        rewards: vec![0.0; 8],
        kind: GroupKind::Hard,
        entropy: 0.5,
    }
}
