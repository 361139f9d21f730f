//! `trainer score`: log-probs and entropies of given completions under a model.

use std::io::Write;

use burn::module::Module;
use burn::tensor::Tensor;
use rlvr_backends::Precision;
use serde::{Deserialize, Serialize};

use super::lines::read_lines;
use crate::batch::{MicroBatch, Row, microbatches};
use crate::cli::ScoreArgs;
use crate::failure::Failure;
use crate::gradient::{ScoringSettings, forward};
use crate::policy::decoder::Decoder;
use crate::policy::folder::ModelFolder;
use crate::record::PromptId;
use crate::session::open_model;
use crate::state::load_decoder;

const EXAMPLE: &str = r#"{"prompt": "1+1=", "completion": "2"}"#;

/// Packed rows of one forward pass.
const MAX_TOKENS: usize = 4096;

/// Largest logits tensor.
const MAX_LOGITS_BYTES: usize = 64 << 20;

#[derive(Debug, Deserialize)]
struct Case {
    prompt: String,
    completion: String,
}

#[derive(Debug, Serialize)]
struct Scored {
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    entropies: Vec<f32>,
}

/// Scores every line of the input, in order. Prompt and completion are raw text, tokenized apart,
/// without a chat template and without special tokens of the tokenizer's own. In f32 on every device.
///
/// # Errors
/// If the model or a line cannot be used.
pub fn run(args: &ScoreArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(threads) = args.threads {
        rlvr_backends::set_threads(threads as usize)?;
    }
    let device = rlvr_backends::device(args.backend)?;
    let cases: Vec<Case> = read_lines(&args.input, EXAMPLE).map_err(Failure::usage)?;
    let model = open_model(&args.model)?;
    let decoder = load_decoder(&model.folder, &device)
        .map_err(Failure::usage)?
        .valid();
    let rows: Result<Vec<Row>, Failure> = cases
        .iter()
        .enumerate()
        .map(|(index, case)| row(index, case, &model.folder))
        .collect();
    for scored in score(&decoder, &rows?)? {
        let line = serde_json::to_string(&scored).map_err(Failure::run)?;
        writeln!(out, "{line}").map_err(Failure::run)?;
    }
    Ok(())
}

fn row(index: usize, case: &Case, folder: &ModelFolder) -> Result<Row, Failure> {
    let encode = |text: &str| folder.tokenizer.encode(text, false).map_err(Failure::run);
    let (prompt, completion) = (encode(&case.prompt)?, encode(&case.completion)?);
    let number = index + 1;
    if prompt.is_empty() || completion.is_empty() {
        let message = format!("score record {number}: prompt and completion need a token each");
        return Err(Failure::usage(message));
    }
    let limit = folder.config.max_position_embeddings;
    if prompt.len() + completion.len() > limit {
        return Err(Failure::usage(format!(
            "score record {number}: {} tokens do not fit the context of {limit}",
            prompt.len() + completion.len()
        )));
    }
    Ok(Row {
        prompt_id: PromptId(index as u64),
        rollout_index: 0,
        num_prompt_tokens: prompt.len(),
        sampler_logprobs: vec![0.0; completion.len()],
        tokens: [prompt, completion].concat(),
        advantage: 0.0,
        old_logprobs: None,
    })
}

fn score(decoder: &Decoder, rows: &[Row]) -> Result<Vec<Scored>, Failure> {
    let settings = ScoringSettings {
        temperature: 1.0,
        max_logits_bytes: MAX_LOGITS_BYTES,
        precision: Precision::F32,
    };
    let device = decoder.head_weight().device();
    let views: Vec<&Row> = rows.iter().collect();
    let mut scored: Vec<Option<Scored>> = rows.iter().map(|_| None).collect();
    for members in microbatches(&views, MAX_TOKENS) {
        let batch_rows: Vec<&Row> = members.iter().map(|&row| views[row]).collect();
        let batch = MicroBatch::new(&batch_rows, &device);
        let scores = forward(decoder, &batch, &settings).scores;
        let logprobs = batch.split(&read(scores.logprobs)?);
        let entropies = batch.split(&read(scores.entropies)?);
        for ((row, logprobs), entropies) in members.into_iter().zip(logprobs).zip(entropies) {
            let tokens = rows[row].completion_tokens().to_vec();
            scored[row] = Some(Scored {
                tokens,
                logprobs,
                entropies,
            });
        }
    }
    Ok(scored.into_iter().flatten().collect())
}

fn read(values: Tensor<1>) -> Result<Vec<f32>, Failure> {
    values
        .try_into_vec_as::<f32>()
        .map_err(|err| Failure::run(format!("read log-probs from the device: {err:?}")))
}
