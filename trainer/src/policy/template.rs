//! Chat templates: a conversation into the text that the model was trained on.
//!
//! Templates are Jinja programs that come with a model. They are rendered as Hugging Face
//! `transformers` renders them (`render_jinja_template`): the environment is in
//! [`super::template_env`], the variables are `messages`, `tools`, `documents` (both none),
//! `add_generation_prompt` and the special tokens.
//!
//! One thing is deliberately different: `strftime_now` does not read the clock, because the same
//! prompt must be the same tokens tomorrow. It formats [`TemplateOptions::date`].

use std::path::{Path, PathBuf};

use minijinja::Environment;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::generation::token_text;
use super::json_file::{JsonFileError, read_optional_object};
use super::template_env::{Date, environment};
use crate::record::ChatMessage;

/// A chat template that cannot be used.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// A JSON file is damaged.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// The template's file cannot be read.
    #[error("`{}` cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `chat_template` is neither a text nor a list with a template named `default`.
    #[error(
        "`{}` has a `chat_template` that is neither a text nor a list of named templates with one \
         named `default`", .path.display()
    )]
    NoDefault {
        /// The file.
        path: PathBuf,
    },
    /// The template is not a program.
    #[error("the chat template in `{}` has an error: {reason}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        reason: String,
    },
    /// The template stopped, often because it refuses the order of roles.
    #[error("the chat template in `{}` refused the conversation: {reason}", .path.display())]
    Render {
        /// The file.
        path: PathBuf,
        /// Line and reason; the template's own words where it raised an exception.
        reason: String,
    },
}

/// What a template sees besides the conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateOptions {
    /// What `strftime_now` formats.
    pub date: Date,
    /// Further variables, such as `enable_thinking`; they take precedence over the special tokens.
    pub variables: Map<String, Value>,
}

/// A model's chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    special_tokens: Map<String, Value>,
    options: TemplateOptions,
}

/// Name of the one template in an environment.
const NAME: &str = "chat_template";

/// The special tokens that a template may name.
const SPECIAL_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json`; none where there is neither.
    pub fn open(folder: &Path) -> Result<Option<Self>, TemplateError> {
        let config_path = folder.join("tokenizer_config.json");
        let config = read_optional_object(&config_path)?.unwrap_or_default();
        let path = folder.join("chat_template.jinja");
        let (path, source) = if path.exists() {
            match std::fs::read_to_string(&path) {
                Ok(source) => (path, source),
                Err(source) => return Err(TemplateError::Unreadable { path, source }),
            }
        } else {
            match config.get("chat_template").filter(|value| !value.is_null()) {
                Some(value) => match default_template(value) {
                    Some(source) => (config_path, source),
                    None => return Err(TemplateError::NoDefault { path: config_path }),
                },
                None => return Ok(None),
            }
        };
        let map = read_optional_object(&folder.join("special_tokens_map.json"))?;
        let special_tokens = special_tokens(&config, &map.unwrap_or_default());
        Self::new(&path, &source, special_tokens).map(Some)
    }

    /// A template from its text; `path` is for the messages.
    pub fn new(
        path: &Path,
        source: &str,
        special_tokens: Map<String, Value>,
    ) -> Result<Self, TemplateError> {
        let mut template = Self {
            path: path.into(),
            environment: environment(Date::default()),
            special_tokens,
            options: TemplateOptions::default(),
        };
        template
            .environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| TemplateError::Syntax {
                path: path.into(),
                reason: error.to_string(),
            })?;
        Ok(template)
    }

    /// The same template with other options.
    pub fn with_options(mut self, options: TemplateOptions) -> Self {
        super::template_env::set_date(&mut self.environment, options.date);
        self.options = options;
        self
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the assistant's next
    /// turn begins.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let messages = messages
            .iter()
            .map(|message| json!({ "role": message.role, "content": message.content }));
        self.render_json(messages.collect(), Value::Null, add_generation_prompt)
    }

    /// As [`Self::render`], for messages with further fields, and for tools.
    pub fn render_json(
        &self,
        messages: Value,
        tools: Value,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let mut context = self.special_tokens.clone();
        context.extend(self.options.variables.clone());
        context.insert("messages".into(), messages);
        context.insert("tools".into(), tools);
        context.insert("documents".into(), Value::Null);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let refused = |reason: String| TemplateError::Render {
            path: self.path.clone(),
            reason,
        };
        let render = || {
            let template = self.environment.get_template(NAME)?;
            template.render(Value::Object(context))
        };
        // The engine panics on a few odd slices (a backwards one of an empty text), and a template
        // is input like any other.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(render)) {
            Ok(rendered) => rendered.map_err(|error| refused(error.to_string())),
            Err(_) => Err(refused("the template engine stopped".into())),
        }
    }
}

fn default_template(value: &Value) -> Option<String> {
    let named = |value: &Value| {
        let named = value
            .as_array()?
            .iter()
            .find(|named| named["name"] == "default")?;
        named["template"].as_str().map(String::from)
    };
    value.as_str().map(String::from).or_else(|| named(value))
}

/// The special tokens by name; those that a model does not have stay undefined, as in
/// `transformers`.
fn special_tokens(config: &Map<String, Value>, map: &Map<String, Value>) -> Map<String, Value> {
    let token = |name: &str| {
        let listed = [config, map]
            .into_iter()
            .find_map(|object| token_text(object.get(name)?));
        listed.map(|text| (name.to_string(), Value::from(text)))
    };
    SPECIAL_TOKENS.into_iter().filter_map(token).collect()
}

/// `{% generation %}` marks the assistant's tokens for trainers that ask for them and renders its
/// body as it is; here it becomes a condition that always holds, with its whitespace control kept.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let tag = &rest[start + 2..start + length];
        result.push_str(&rest[..start + 2]);
        result.push_str(
            &match tag.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace()) {
                "generation" => tag.replace("generation", "if true"),
                "endgeneration" => tag.replace("endgeneration", "endif"),
                _ => tag.to_string(),
            },
        );
        rest = &rest[start + length..];
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
    }

    /// Renderings by Jinja itself, made by `fixtures/reference/template_golden.py`.
    #[test]
    fn renderings_equal_those_of_jinja() {
        let golden = std::fs::read_to_string(fixtures().join("golden/templates.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&golden).unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let name = format!("{}.jinja", case["template"].as_str().unwrap());
            let path = fixtures().join("templates").join(&name);
            let source = std::fs::read_to_string(&path).unwrap();
            let tokens = json!({ "bos_token": "<s>", "eos_token": "</s>" });
            let template = ChatTemplate::new(&path, &source, tokens.as_object().unwrap().clone());
            let template = template.unwrap().with_options(TemplateOptions {
                variables: case["variables"].as_object().unwrap().clone(),
                ..TemplateOptions::default()
            });
            let rendered = template.render_json(
                case["messages"].clone(),
                case["tools"].clone(),
                case["add_generation_prompt"].as_bool().unwrap(),
            );
            match (rendered, case["text"].as_str(), case["error"].as_str()) {
                (Ok(text), Some(expected), None) => assert_eq!(text, expected, "{name}"),
                (Err(error), None, Some(expected)) => {
                    let message = error.to_string();
                    assert!(
                        message.contains(expected) && message.contains(&name),
                        "{message}"
                    );
                }
                (other, ..) => panic!("{name}: {other:?}, expected {case}"),
            }
        }
    }

    #[test]
    fn the_date_is_an_option() {
        let source = "{{ strftime_now('%a %d %b %Y') }}";
        let template = ChatTemplate::new(Path::new("t"), source, Map::new()).unwrap();
        assert_eq!(template.render(&[], false).unwrap(), "Fri 26 Jul 2024");
        let date = Date {
            year: 2025,
            month: 2,
            day: 9,
        };
        let template = template.with_options(TemplateOptions {
            date,
            ..TemplateOptions::default()
        });
        assert_eq!(template.render(&[], false).unwrap(), "Sun 09 Feb 2025");
    }

    #[test]
    fn a_failing_engine_is_an_error() {
        let source = "{{ messages[0].content[::-1] }}";
        let template = ChatTemplate::new(Path::new("some.jinja"), source, Map::new()).unwrap();
        let empty = ChatMessage {
            role: "user".into(),
            content: String::new(),
        };
        let error = template.render(&[empty], false).unwrap_err().to_string();
        assert!(error.contains("`some.jinja` refused"), "{error}");
    }

    #[test]
    fn templates_are_found_in_both_files_and_errors_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let open = || ChatTemplate::open(folder.path());
        let text = || open().unwrap().unwrap().render(&[], true).unwrap();
        assert!(open().unwrap().is_none());
        write("tokenizer_config.json", "{\"chat_template\": null}");
        assert!(open().unwrap().is_none());
        write(
            "special_tokens_map.json",
            "{\"eos_token\": {\"content\": \"</s>\"}}",
        );
        write(
            "tokenizer_config.json",
            "{\"chat_template\": \"one {{ eos_token }}\"}",
        );
        assert_eq!(text(), "one </s>");
        let named = json!({ "chat_template": [
            { "name": "tool_use", "template": "tools" }, { "name": "default", "template": "two" },
        ] });
        write("tokenizer_config.json", &named.to_string());
        assert_eq!(text(), "two");
        write(
            "tokenizer_config.json",
            "{\"chat_template\": [{\"name\": \"a\", \"template\": \"\"}]}",
        );
        let error = open().unwrap_err().to_string();
        assert!(
            error.contains("tokenizer_config.json") && error.contains("default"),
            "{error}"
        );
        write("chat_template.jinja", "three");
        assert_eq!(text(), "three");
        write("chat_template.jinja", "{% for %}");
        let error = open().unwrap_err().to_string();
        assert!(
            error.contains("chat_template.jinja` has an error"),
            "{error}"
        );
    }
}
