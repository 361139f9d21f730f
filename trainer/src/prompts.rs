//! Problems to prompts: the rendered text and tokens that one model sees.

use thiserror::Error;

use crate::dataset::{PromptConfig, Rendered};
use crate::policy::folder::ModelFolder;
use crate::policy::template::TemplateError;
use crate::policy::tokenizer::TokenizerError;
use crate::record::{Problem, Prompt, PromptId};

/// A problem that cannot be put before the model.
#[derive(Debug, Error)]
pub enum PromptError {
    /// Chat was asked for, but the model has no template.
    #[error(
        "render prompts for {folder}: it has no chat template; set prompt.chat = false or add \
         chat_template.jinja"
    )]
    NoTemplate {
        /// The model folder.
        folder: String,
    },
    /// The template refused a conversation.
    #[error("render prompt {id}")]
    Template {
        /// The prompt.
        id: PromptId,
        /// Why.
        source: TemplateError,
    },
    /// The tokenizer refused a text.
    #[error("tokenize prompt {id}")]
    Tokenizer {
        /// The prompt.
        id: PromptId,
        /// Why.
        source: TokenizerError,
    },
    /// Every prompt was longer than the limit.
    #[error(
        "find a prompt: all {num_too_long} are longer than {limit_tokens} tokens; raise \
         prompt.max_prompt_tokens or choose shorter problems"
    )]
    AllTooLong {
        /// How many were dropped.
        num_too_long: usize,
        /// The limit that applied.
        limit_tokens: usize,
    },
}

/// Prompts of one data set for one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompts {
    /// In the order of the problems.
    pub prompts: Vec<Prompt>,
    /// Left out because they are longer than the limit.
    pub num_too_long: usize,
}

/// Renders and tokenizes every problem. The limit is `max_prompt_tokens`, or the context less one
/// token if that is shorter.
///
/// # Errors
/// If the template or tokenizer refuses a problem, or nothing is left.
pub fn render_prompts(
    problems: Vec<Problem>,
    folder: &ModelFolder,
    config: &PromptConfig,
) -> Result<Prompts, PromptError> {
    let context_tokens = folder.config.max_position_embeddings;
    let limit_tokens = config
        .max_prompt_tokens
        .min(context_tokens.saturating_sub(1));
    let mut found = Prompts::default();
    for problem in problems {
        let prompt = render(problem, folder, config)?;
        if prompt.prompt_tokens.len() > limit_tokens {
            found.num_too_long += 1;
        } else {
            found.prompts.push(prompt);
        }
    }
    if found.prompts.is_empty() && found.num_too_long > 0 {
        return Err(PromptError::AllTooLong {
            num_too_long: found.num_too_long,
            limit_tokens,
        });
    }
    Ok(found)
}

fn render(
    problem: Problem,
    folder: &ModelFolder,
    config: &PromptConfig,
) -> Result<Prompt, PromptError> {
    let id = problem.id;
    // A chat template writes its own special tokens; plain text gets what the tokenizer adds.
    let (prompt_text, add_special) = match config.render(&problem.problem) {
        Rendered::Text(text) => (text, true),
        Rendered::Chat(turns) => {
            let template = folder
                .template
                .as_ref()
                .ok_or_else(|| PromptError::NoTemplate {
                    folder: folder.path.display().to_string(),
                })?;
            let text = template.render(&turns, true);
            (
                text.map_err(|source| PromptError::Template { id, source })?,
                false,
            )
        }
    };
    let tokens = folder.tokenizer.encode(&prompt_text, add_special);
    Ok(Prompt {
        id,
        prompt_tokens: tokens.map_err(|source| PromptError::Tokenizer { id, source })?,
        prompt_text,
        reference_answer: problem.reference_answer,
        solution: problem.solution,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Problem {
        Problem {
            id: PromptId(text.len() as u64),
            problem: text.into(),
            reference_answer: "2".into(),
            solution: None,
        }
    }

    fn tiny_folder() -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in rlvr_fixtures::tiny_model() {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let folder = ModelFolder::open(dir.path()).unwrap();
        (dir, folder)
    }

    #[test]
    fn long_prompts_are_left_out_and_counted() {
        let (_dir, folder) = tiny_folder();
        let config = PromptConfig {
            chat: false,
            max_prompt_tokens: 6,
            ..PromptConfig::default()
        };
        let found = render_prompts(vec![problem("1+1="), problem("12345+1=")], &folder, &config);
        let found = found.unwrap();
        assert_eq!((found.prompts.len(), found.num_too_long), (1, 1));
        assert_eq!(found.prompts[0].prompt_text, "1+1=\n");
        assert_eq!(found.prompts[0].prompt_tokens.len(), 5);
        let none = render_prompts(vec![problem("12345+1=")], &folder, &config);
        assert!(matches!(
            none,
            Err(PromptError::AllTooLong {
                num_too_long: 1,
                limit_tokens: 6
            })
        ));
    }

    #[test]
    fn chat_without_a_template_is_refused() {
        let (_dir, folder) = tiny_folder();
        let refused = render_prompts(vec![problem("1+1=")], &folder, &PromptConfig::default());
        assert!(matches!(refused, Err(PromptError::NoTemplate { .. })));
    }
}
