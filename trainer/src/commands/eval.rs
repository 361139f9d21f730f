//! `trainer eval`: accuracy on held-out problems.

use burn::module::Module;

use crate::cli::{EvalArgs, resolve};
use crate::config::{DEFAULT_RECIPE, RecipeText};
use crate::eval::{EvalReport, Evaluation};
use crate::failure::Failure;
use crate::session::Session;
use crate::state::load_decoder;

/// Evaluates the configured model and prints the result on standard output.
///
/// # Errors
/// If the configuration, an input or the engine fails.
pub fn run(args: &EvalArgs) -> Result<(), Failure> {
    let recipe = RecipeText::find(args.config.recipe.as_deref().unwrap_or(DEFAULT_RECIPE))?;
    let config = resolve(&recipe, &args.config.sets, args.named_values())?;
    let session = Session::open(config)?;
    if session.data.held_out.is_empty() {
        let (data, key) = (&session.config.data, "data.held_out or data.held_out_size");
        let message = format!("find a held-out problem in {:?}; set {key}", data.train);
        return Err(Failure::usage(message));
    }
    let policy = load_decoder(&session.model.folder, &session.device).map_err(Failure::usage)?;
    let evaluation = Evaluation {
        folder: &session.model.folder,
        engine: &session.engine,
        sampling: &session.sampling(),
        reward: &session.config.reward,
        verifier: &session.verifier,
        section: &session.config.eval,
        seed: session.config.run.seed,
    };
    let found = evaluation.run(&policy.valid(), &session.data.held_out);
    let (report, _) = found.map_err(Failure::run)?;
    if args.json {
        println!("{}", serde_json::to_string(&report).map_err(Failure::run)?);
    } else {
        print_table(&session.config.model.path, &report);
    }
    Ok(())
}

fn print_table(model: &str, report: &EvalReport) {
    let accuracy = report.accuracy;
    println!("model                 {model}");
    println!(
        "problems x samples    {} x {}",
        report.num_prompts, report.samples
    );
    println!("temperature           {}", report.temperature);
    println!(
        "accuracy              {:.4}  (95 % interval {:.4} to {:.4}, clustered by problem)",
        accuracy.value, accuracy.low, accuracy.high
    );
    for (k, value) in &report.pass_at_k {
        println!("pass@{k:<16} {value:.4}");
    }
    println!("completion tokens     {:.1}", report.completion_tokens_mean);
    println!("truncated             {:.4}", report.truncated_frac);
    println!("in requested format   {:.4}", report.strict_format_frac);
}
