//! `trainer certify`: an adapter of a few bits, trained on prompts and certified on the same ones.

use std::io::Write;

use rlvr_bounds::ClassForm;
use serde::Serialize;

use crate::adapter::{NormAdapter, adapted, climb};
use crate::cli::{CertifyArgs, resolve};
use crate::config::RecipeText;
use crate::failure::Failure;
use crate::groups::{grade_groups, requests};
use crate::policy::decoder::Decoder;
use crate::record::Prompt;
use crate::report::predict::report;
use crate::report::row::Report;
use crate::report::statistics::{Complexity, Rollouts, Statistics, Table};
use crate::report::table::table;
use crate::seed::Stage;
use crate::session::Session;
use crate::state::load_decoder;

/// The recipe of a certificate that names none.
const RECIPE: &str = "tiny-certify";

/// What was trained and what can be said of it.
#[derive(Serialize)]
struct Certificate {
    adapter: NormAdapter,
    num_bits: u64,
    num_settings_tried: usize,
    train_reward_before: f64,
    train_reward_after: f64,
    held_out_reward_before: f64,
    /// Under the true mean reward with probability 1 - delta, from the training prompts alone.
    certified_floor: Option<f64>,
    #[serde(flatten)]
    report: Report,
}

/// Trains the adapter, measures it on other prompts, and prints the table or JSON.
///
/// All prompts come from the held-out range of the data, which the model of the run was not
/// trained on: the first ones train the adapter, the rest measure the truth.
///
/// # Errors
/// If the configuration or an input fails, or there are too few held-out problems.
pub fn run(args: &CertifyArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let recipe = RecipeText::find(args.config.recipe.as_deref().unwrap_or(RECIPE))?;
    let config = resolve(&recipe, &args.config.sets, args.config.named_values())?;
    let session = Session::open(config)?;
    let count = args.prompts as usize;
    let held_out = &session.data.held_out;
    if held_out.len() < count + 2 {
        return Err(Failure::usage(format!(
            "certify with {} held-out problems: {count} to train on and at least 2 to measure are \
             needed; set data.held_out_size",
            held_out.len()
        )));
    }
    let (train, rest) = held_out.split_at(count);
    let decoder = load_decoder(&session.model.folder, &session.device).map_err(Failure::usage)?;
    let certificate = certify(&session, &decoder, train, rest, args)?;
    if args.json {
        let json = serde_json::to_string_pretty(&certificate).map_err(Failure::run)?;
        return writeln!(out, "{json}").map_err(Failure::run);
    }
    print(&certificate, out).map_err(Failure::run)
}

fn certify(
    session: &Session,
    decoder: &Decoder,
    train: &[Prompt],
    rest: &[Prompt],
    args: &CertifyArgs,
) -> Result<Certificate, Failure> {
    let start = NormAdapter::identity(decoder, args.bits);
    let mut num_settings_tried = 0;
    let mut before = None;
    let mut reward = |setting: &NormAdapter| {
        num_settings_tried += 1;
        let verdicts = verdicts(session, &adapted(decoder, setting), train)?;
        let mean = mean(&verdicts);
        before.get_or_insert(mean);
        Ok::<f64, Failure>(mean)
    };
    let (adapter, train_reward_after) = climb(start.clone(), &mut reward)?;
    let base = verdicts(session, &adapted(decoder, &start), rest)?;
    let policy = adapted(decoder, &adapter);
    let complexity = Complexity::Bits {
        params: adapter.levels.len(),
        bits_each: adapter.bits_each as usize,
    };
    let statistics = Statistics {
        delta: args.delta,
        kl_coef: 0.0,
        tau: None,
        held_out: Some(rollouts(verdicts(session, &policy, rest)?)?),
        train: Some(rollouts(verdicts(session, &policy, train)?)?),
        candidates: None,
        complexity: Some(complexity),
        reward_errors: Vec::new(),
        cost: None,
    };
    let report = report(&statistics).map_err(Failure::run)?;
    let floor = report
        .rows
        .iter()
        .find(|row| row.id == ClassForm::KlOneSided.id());
    Ok(Certificate {
        certified_floor: floor.and_then(|row| Some(row.predicted_interval?[0])),
        num_bits: u64::from(adapter.bits_each) * adapter.levels.len() as u64,
        num_settings_tried,
        train_reward_before: before.unwrap_or_default(),
        train_reward_after,
        held_out_reward_before: mean(&base),
        report,
        adapter,
    })
}

/// One completion per prompt, 1 where it is right. The random numbers are the prompt's own, the
/// same for every setting.
fn verdicts(
    session: &Session,
    policy: &Decoder,
    prompts: &[Prompt],
) -> Result<Vec<Vec<f64>>, Failure> {
    let tokenizer = &session.model.folder.tokenizer;
    let decode = |tokens: &[u32]| tokenizer.decode(tokens, true);
    let seed = session.config.run.seed;
    let asked = requests(prompts, 1);
    let sampling = session.sampling();
    let output = session
        .engine
        .roll_out(policy, &decode, &asked, &sampling, seed, Stage::Report, 0)
        .map_err(Failure::run)?;
    let (reward, verifier) = (&session.config.reward, &session.verifier);
    let groups = grade_groups(
        prompts.to_vec(),
        output.completions,
        tokenizer,
        reward,
        verifier,
    );
    let verdict = |is_correct: bool| f64::from(u8::from(is_correct));
    let rows = groups.iter().map(|group| {
        let rollouts = group.rollouts.iter();
        rollouts.map(|it| verdict(it.reward.is_correct)).collect()
    });
    Ok(rows.collect())
}

fn mean(rows: &[Vec<f64>]) -> f64 {
    rows.iter().flatten().sum::<f64>() / rows.len().max(1) as f64
}

fn rollouts(rows: Vec<Vec<f64>>) -> Result<Rollouts, Failure> {
    let rewards = Table::new("verdicts", &rows).map_err(Failure::run)?;
    Ok(Rollouts {
        truth: rewards.clone(),
        is_verified: true,
        log_ratio_ref: None,
        log_ratio_old: None,
        rewards,
    })
}

fn print(found: &Certificate, out: &mut dyn Write) -> std::io::Result<()> {
    let adapter = &found.adapter;
    writeln!(
        out,
        "adapter: {} multipliers of {} bits, {} bits in all; {} settings tried; levels {:?}",
        adapter.levels.len(),
        adapter.bits_each,
        found.num_bits,
        found.num_settings_tried,
        adapter.levels
    )?;
    writeln!(
        out,
        "reward on its training prompts {:.4} -> {:.4}; held-out before {:.4}",
        found.train_reward_before, found.train_reward_after, found.held_out_reward_before
    )?;
    if let (Some(floor), Some(truth)) = (found.certified_floor, found.report.held_out) {
        writeln!(
            out,
            "certified from its training prompts: the true mean reward is at least {floor:.4}, with \
             probability {}; measured on {} other prompts: {:.4} ({:.4} to {:.4})",
            1.0 - found.report.delta,
            truth.n,
            truth.reward.value,
            truth.reward.low,
            truth.reward.high
        )?;
    }
    write!(out, "{}", table(&found.report))
}
