//! `trainer generate`: completions for prompts from a file.

use std::io::Write;

use burn::module::Module;
use burn::tensor::Device;
use rlvr_backends::{Precision, total_memory};
use serde::{Deserialize, Serialize};

use super::lines::read_lines;
use crate::cli::{GenerateArgs, resolve};
use crate::config::{DEFAULT_RECIPE, RecipeText, RunConfig};
use crate::failure::Failure;
use crate::memory::{RunShape, choose_for_call};
use crate::policy::config::ModelConfig;
use crate::policy::folder::ModelFolder;
use crate::record::{ChatMessage, PromptId, StopReason};
use crate::rollout::{Engine, Request};
use crate::seed::Stage;
use crate::session::open_model;
use crate::state::load_decoder;

const EXAMPLE: &str = r#"{"prompt": "1+1="}"#;

#[derive(Debug, Deserialize)]
struct Case {
    prompt: String,
}

#[derive(Debug, Serialize)]
struct Generated<'a> {
    prompt: &'a str,
    completions: Vec<String>,
    tokens: Vec<&'a [u32]>,
    logprobs: Vec<&'a [f32]>,
    stop: Vec<StopReason>,
}

/// Samples completions for every line of the input, in order.
///
/// # Errors
/// If the model, a line or the engine fails.
pub fn run(args: &GenerateArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(threads) = args.threads {
        rlvr_backends::set_threads(threads as usize)?;
    }
    let mut config = configuration(args)?;
    let device = rlvr_backends::device(args.backend)?;
    let precision = config.backend.precision.resolve(args.backend, &device)?;
    let cases: Vec<Case> = read_lines(&args.input, EXAMPLE).map_err(Failure::usage)?;
    let model = open_model(&args.model)?;
    let folder = &model.folder;
    let decoder = load_decoder(folder, &device)
        .map_err(Failure::usage)?
        .valid();
    let requests: Result<Vec<Request>, Failure> = cases
        .iter()
        .enumerate()
        .map(|(index, case)| {
            Ok(Request {
                prompt_id: PromptId(index as u64),
                prompt_tokens: tokens(case, folder, args.chat)?,
                num_completions: args.n,
            })
        })
        .collect();
    let requests = requests?;
    choose_sizes(&mut config, &folder.config, &requests, (&device, precision));
    let rollout = config.rollout;
    let engine = Engine::new(&folder.config, rollout.clone(), precision);
    let decode = |tokens: &[u32]| folder.tokenizer.decode(tokens, true);
    let sampling = rollout.sampling(folder.stop_ids.clone());
    let output = engine
        .roll_out(
            &decoder,
            &decode,
            &requests,
            &sampling,
            args.seed,
            Stage::Generate,
            0,
        )
        .map_err(Failure::run)?;
    if let Some(warning) = engine.warning() {
        eprintln!("warning: {warning}");
    }
    for (case, completions) in cases.iter().zip(&output.completions) {
        let line = Generated {
            prompt: &case.prompt,
            completions: completions.iter().map(|it| decode(&it.tokens)).collect(),
            tokens: completions.iter().map(|it| it.tokens.as_slice()).collect(),
            logprobs: completions
                .iter()
                .map(|it| it.sampler_logprobs.as_slice())
                .collect(),
            stop: completions.iter().map(|it| it.stop).collect(),
        };
        let line = serde_json::to_string(&line).map_err(Failure::run)?;
        writeln!(out, "{line}").map_err(Failure::run)?;
    }
    Ok(())
}

/// The built-in configuration under the command's own flags and `--set`.
fn configuration(args: &GenerateArgs) -> Result<RunConfig, Failure> {
    let recipe = RecipeText::find(DEFAULT_RECIPE)?;
    let mut config = resolve(&recipe, &args.sets, Vec::new())?;
    config.rollout.temperature = args.temperature;
    config.rollout.max_new_tokens = args.max_new_tokens as usize;
    config.backend.kind = args.backend;
    config.rollout.validate().map_err(Failure::usage)?;
    Ok(config)
}

/// Decides automatic sizes for these prompts.
fn choose_sizes(
    config: &mut RunConfig,
    model: &ModelConfig,
    requests: &[Request],
    (device, precision): (&Device, Precision),
) {
    let longest = requests.iter().map(|it| it.prompt_tokens.len()).max();
    let shape = RunShape::of_call(config.backend.kind, model, longest.unwrap_or(0), precision);
    let group = requests.iter().map(|it| it.num_completions).max();
    let completions = [requests.len(), group.unwrap_or(0) as usize];
    choose_for_call(&shape, config, completions, total_memory(device));
}

fn tokens(case: &Case, folder: &ModelFolder, is_chat: bool) -> Result<Vec<u32>, Failure> {
    if !is_chat {
        return folder
            .tokenizer
            .encode(&case.prompt, true)
            .map_err(Failure::run);
    }
    let Some(template) = &folder.template else {
        let message = format!(
            "render prompts for {}: it has no chat template; leave --chat out",
            folder.path.display()
        );
        return Err(Failure::usage(message));
    };
    let turn = ChatMessage {
        role: "user".into(),
        content: case.prompt.clone(),
    };
    let text = template.render(&[turn], true).map_err(Failure::run)?;
    folder.tokenizer.encode(&text, false).map_err(Failure::run)
}
