//! `trainer calibrate`: does prompt entropy tell anything about prompts, before a gate relies on
//! it? A sample of prompts, scored and rolled out once; nothing is trained.

use std::fmt::Write as _;

use burn::module::Module;
use rlvr_core::{RewardLevels, classify, quartile};

use crate::cli::{CalibrateArgs, resolve};
use crate::config::{DEFAULT_RECIPE, RecipeText};
use crate::failure::Failure;
use crate::record::{Group, Prompt};
use crate::rollout::PromptEntropy;
use crate::seed::Stage;
use crate::selection::{
    Calibration, Correlations, GroupRecord, GroupSource, LiveSource, RolloutSource, group_record,
    uniform_step,
};
use crate::session::Session;
use crate::state::load_decoder;

/// Measures and prints the correlations.
///
/// # Errors
/// If the configuration, an input or the engine fails.
pub fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    let recipe = RecipeText::find(args.config.recipe.as_deref().unwrap_or(DEFAULT_RECIPE))?;
    let config = resolve(&recipe, &args.config.sets, args.config.named_values())?;
    let mut session = Session::open(config)?;
    session.open_reward_model()?;
    let records = sample(&session, args.prompts as usize)?;
    if let Some(path) = &args.output {
        let mut text = String::new();
        for record in &records {
            text += &serde_json::to_string(record).map_err(Failure::run)?;
            text.push('\n');
        }
        std::fs::write(path, text).map_err(Failure::run)?;
    }
    let Some(found) = Calibration::of(&records) else {
        return Err(Failure::usage(
            "calibrate without a prompt; raise --prompts or give more data",
        ));
    };
    match args.json {
        true => println!("{}", serde_json::to_string(&found).map_err(Failure::run)?),
        false => print!("{}", table(&found)),
    }
    Ok(())
}

/// The first prompts of the first epoch, scored and rolled out under the untrained policy.
fn sample(session: &Session, count: usize) -> Result<Vec<GroupRecord>, Failure> {
    let policy = load_decoder(&session.model.folder, &session.device).map_err(Failure::usage)?;
    let policy = policy.valid();
    let train = &session.data.train;
    let count = count.min(train.len());
    let places = uniform_step(session.config.run.seed, 0, count, train.len());
    let prompts: Vec<&Prompt> = places.iter().map(|&place| &train[place]).collect();
    let mut source = LiveSource::new(session, &policy, 0).with_template();
    let scored = source.score(&prompts).map_err(Failure::run)?;
    let prompts: Vec<Prompt> = prompts.into_iter().cloned().collect();
    let groups = source
        .roll_out(prompts, Stage::Rollout)
        .map_err(Failure::run)?;
    Ok(records(&groups, &scored))
}

fn records(groups: &[Group], scored: &[PromptEntropy]) -> Vec<GroupRecord> {
    let mut order: Vec<usize> = (0..scored.len()).collect();
    order.sort_by(|&a, &b| scored[b].entropy.total_cmp(&scored[a].entropy));
    let mut ranks = vec![0; scored.len()];
    for (rank, place) in order.into_iter().enumerate() {
        ranks[place] = rank;
    }
    let record = |(place, group): (usize, &Group)| {
        let rewards: Vec<f64> = group.rollouts.iter().map(|it| it.reward.total).collect();
        let right = group.rollouts.iter().filter(|it| it.reward.is_correct);
        let kind = classify(&rewards, right.count(), RewardLevels::Binary);
        let scored = (scored[place], quartile(ranks[place], scored.len()));
        group_record(0, GroupSource::Kept, group, kind, Some(scored))
    };
    groups.iter().enumerate().map(record).collect()
}

/// One of the correlations.
type Value = fn(&Correlations) -> Option<f64>;

fn table(found: &Calibration) -> String {
    let mut text = format!(
        "{} prompts, mean pass rate {:.3}, mixed groups {:.3}\n\n\
         rank correlation of            prompt entropy   question alone\n",
        found.num_prompts, found.pass_rate_mean, found.mixed_frac
    );
    let rows: [(&str, Value); 5] = [
        ("response entropy", |it| it.response_entropy),
        ("pass rate", |it| it.pass_rate),
        ("closeness to the edge", |it| it.edge_closeness),
        ("prompt length", |it| it.prompt_tokens),
        ("completion length", |it| it.completion_tokens),
    ];
    let shown = |value: Option<f64>| value.map_or("undefined".into(), |it| format!("{it:+.3}"));
    for (name, value) in rows {
        let (prompt, question) = (
            shown(value(&found.prompt_entropy)),
            shown(value(&found.question_entropy)),
        );
        let _ = writeln!(text, "  {name:<28} {prompt:>12}   {question:>12}");
    }
    let _ = writeln!(
        text,
        "\nresponse entropy with pass rate {}\nbetween means of 16 bins, prompt entropy with response entropy {}",
        shown(found.response_entropy_to_pass_rate),
        shown(found.binned_to_response_entropy)
    );
    let _ = writeln!(
        text,
        "\nquarter by prompt entropy   prompts  prompt entropy  response entropy  pass rate  mixed"
    );
    for (number, it) in found.quartiles.iter().enumerate() {
        let _ = writeln!(
            text,
            "  {:<24} {:>8}  {:>14.4}  {:>16.4}  {:>9.3}  {:>5.3}",
            if number == 0 { "highest" } else { "" },
            it.num_prompts,
            it.prompt_entropy,
            it.response_entropy,
            it.pass_rate,
            it.mixed_frac
        );
    }
    text
}
