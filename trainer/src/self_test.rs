//! A backend held against the CPU: scores, gradients, greedy tokens, draws, and a run of three steps
//! with the embedded model, stopped and resumed before the last, each within a stated tolerance.
//!
//! One body for every backend: `trainer doctor --self-test` runs it on a user's machine, the tests
//! run it on every backend that is compiled in.

mod draws;

use std::fmt;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use rlvr_backends::BackendKind;
use rlvr_core::GrpoLossConfig;
use serde_json::Value;

use self::draws::Draws;
use crate::batch::Row;
use crate::cli::{ConfigArgs, TrainArgs, resolve};
use crate::commands::train;
use crate::config::{RecipeText, RunConfig};
use crate::failure::Failure;
use crate::groups::requests;
use crate::optimizer::Optimizer;
use crate::policy::decoder::Decoder;
use crate::record::Prompt;
use crate::rollout::SamplingParams;
use crate::room::MicroBatchLimit;
use crate::seed::Stage;
use crate::session::Session;
use crate::state::load_decoder;
use crate::supervised::supervised_row;
use crate::update::{UpdateSettings, score_rows, update};

/// Keys of the short run, over the recipe `tiny`.
const SETS: [&str; 9] = [
    "data.num_problems=200",
    "selection.prompts_per_step=4",
    "rollout.group_size=4",
    "rollout.max_slots=16",
    "rollout.num_workers=1",
    "eval.at_start=false",
    "eval.problems=20",
    "log.completions_per_step=none",
    "backend.precision=f32",
];
/// Steps of the short run, and those after which it is stopped and resumed.
const STEPS: u64 = 3;
const STEPS_BEFORE_RESUME: u64 = 2;
const NUM_PROMPTS: usize = 8;
const GREEDY_TOKENS: usize = 40;

/// One comparison with the CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// What was compared.
    pub name: &'static str,
    /// How far the backend is from the CPU.
    pub found: f64,
    /// How far it may be.
    pub tolerance: f64,
}

impl Check {
    /// True if the difference is a number within its tolerance.
    pub fn is_passed(&self) -> bool {
        self.found <= self.tolerance
    }
}

/// What a self-test found on one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfTest {
    /// The backend.
    pub kind: BackendKind,
    /// Comparisons, in the order of a step.
    pub checks: Vec<Check>,
    /// Matrix product of two 1024 x 1024 matrices, GFLOP/s.
    pub matmul_gflops: f64,
    /// Device to host, GB/s.
    pub read_gb_per_sec: f64,
    /// Seconds of the three-step run, compilation of kernels included.
    pub run_secs: f64,
}

impl SelfTest {
    /// True if every check passed.
    pub fn is_passed(&self) -> bool {
        self.checks.iter().all(Check::is_passed)
    }
}

impl fmt::Display for SelfTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} against cpu", self.kind)?;
        for check in &self.checks {
            let verdict = if check.is_passed() { "ok" } else { "FAILED" };
            let Check {
                name,
                found,
                tolerance,
            } = check;
            writeln!(
                f,
                "  {name:<44} {found:>9.2e}  (at most {tolerance:.0e})  {verdict}"
            )?;
        }
        writeln!(
            f,
            "  matmul 1024 x 1024 x 1024: {:.1} GFLOP/s; read to host: {:.2} GB/s; \
             three steps: {:.1} s",
            self.matmul_gflops, self.read_gb_per_sec, self.run_secs
        )
    }
}

/// Runs everything on `kind` and on the CPU.
///
/// # Errors
/// If a device cannot be opened or a stage fails.
pub fn self_test(kind: BackendKind) -> Result<SelfTest, Failure> {
    let (expected, found) = (Observed::on(BackendKind::Cpu)?, Observed::on(kind)?);
    let (expected_run, _) = three_steps(BackendKind::Cpu)?;
    let (found_run, run_secs) = three_steps(kind)?;
    let device = rlvr_backends::device(kind)?;
    let mut checks = found.against(&expected);
    checks.extend(found_run.against(&expected_run));
    Ok(SelfTest {
        kind,
        checks,
        matmul_gflops: matmul_gflops(&device)?,
        read_gb_per_sec: read_gb_per_sec(&device)?,
        run_secs,
    })
}

/// What one backend computes from fixed inputs.
struct Observed {
    logprobs: Vec<f32>,
    loss: f64,
    entropy_sum: f64,
    grad_norm: f64,
    greedy: Vec<Vec<u32>>,
    draws: Draws,
}

impl Observed {
    fn on(kind: BackendKind) -> Result<Self, Failure> {
        let session = Session::open(config(kind)?)?;
        let device = session.training_device();
        let policy = load_decoder(&session.model.folder, &device).map_err(Failure::run)?;
        let prompts = &session.data.train[..NUM_PROMPTS];
        let mut rows = rows(&session, prompts)?;
        let settings = update_settings(&session);
        let views: Vec<&Row> = rows.iter().collect();
        let mut limit = MicroBatchLimit::new(settings.max_tokens_per_microbatch);
        let frozen = policy.valid();
        let scored = score_rows(
            &frozen,
            &views,
            &settings.scoring,
            &mut limit,
            &session.device,
        )
        .map_err(Failure::run)?;
        let greedy = greedy(&session, &policy, prompts)?;
        let loss = GrpoLossConfig {
            entropy_coef: 0.01,
            ..GrpoLossConfig::default()
        };
        let loss = loss.init().map_err(Failure::run)?;
        let mut optimizer = Optimizer::new(&session.optimizer_settings());
        let moved = update(policy, &mut optimizer, &mut rows, &loss, None, &settings);
        let (_, outcome) = moved.map_err(Failure::run)?;
        Ok(Self {
            logprobs: scored.concat(),
            loss: outcome.sums.loss(),
            entropy_sum: outcome.sums.entropy_sum,
            grad_norm: outcome.grad_norms.first().copied().unwrap_or(f64::NAN),
            greedy,
            draws: Draws::on(&session.device)?,
        })
    }

    fn against(&self, expected: &Self) -> Vec<Check> {
        let pairs = self.logprobs.iter().zip(&expected.logprobs);
        let gap = pairs.map(|(a, b)| f64::from((a - b).abs()));
        let same = self.greedy.iter().zip(&expected.greedy);
        let num_different = same.filter(|(a, b)| a != b).count();
        let mut checks = vec![
            check(
                "log-probs, largest difference (nats)",
                gap.fold(0.0, f64::max),
                1e-3,
            ),
            check(
                "entropy, relative",
                relative(self.entropy_sum, expected.entropy_sum),
                1e-3,
            ),
            check("loss, difference", (self.loss - expected.loss).abs(), 1e-4),
            check(
                "gradient norm, relative",
                relative(self.grad_norm, expected.grad_norm),
                1e-3,
            ),
            // A near-tie may fall the other way once.
            check(
                "greedy completions that differ, share",
                num_different as f64 / NUM_PROMPTS as f64,
                1.0 / NUM_PROMPTS as f64,
            ),
        ];
        checks.extend(self.draws.against(&expected.draws));
        checks
    }
}

fn check(name: &'static str, found: f64, tolerance: f64) -> Check {
    Check {
        name,
        found,
        tolerance,
    }
}

fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs().max(f64::MIN_POSITIVE)
}

fn config(kind: BackendKind) -> Result<RunConfig, Failure> {
    let args = train_args(kind, None);
    let recipe = RecipeText::find("tiny")?;
    Ok(resolve(
        &recipe,
        &args.config.sets,
        args.named_values("run.steps"),
    )?)
}

fn train_args(kind: BackendKind, out: Option<&Path>) -> TrainArgs {
    TrainArgs {
        config: ConfigArgs {
            recipe: Some("tiny".into()),
            backend: Some(kind),
            sets: SETS.map(String::from).to_vec(),
            ..ConfigArgs::default()
        },
        out: out.map(|path| path.display().to_string()),
        steps: Some(STEPS),
        quiet: true,
        ..TrainArgs::default()
    }
}

/// Worked solutions with advantages of both signs: the same rows on every backend.
fn rows(session: &Session, prompts: &[Prompt]) -> Result<Vec<Row>, Failure> {
    let folder = &session.model.folder;
    let stop_id = folder.stop_ids.first().copied().unwrap_or(0);
    let rows = prompts.iter().enumerate().map(|(index, prompt)| {
        let solution = prompt.solution.as_deref().unwrap_or("");
        let tokens = folder
            .tokenizer
            .encode(solution, false)
            .map_err(Failure::run)?;
        let row = supervised_row(prompt, tokens, stop_id).map_err(Failure::run)?;
        let advantage = if index % 2 == 0 { 1.0 } else { -0.5 };
        Ok(Row { advantage, ..row })
    });
    rows.collect()
}

fn update_settings(session: &Session) -> UpdateSettings {
    UpdateSettings {
        inner_epochs: 1,
        minibatches: 1,
        max_tokens_per_microbatch: session.config.update.max_tokens_per_microbatch,
        scoring: session.scoring(),
        kl_in_reward: None,
        seed: session.config.run.seed,
        step: 0,
        learning_rate: 1e-4,
    }
}

fn greedy(
    session: &Session,
    policy: &Decoder,
    prompts: &[Prompt],
) -> Result<Vec<Vec<u32>>, Failure> {
    let sampling = SamplingParams {
        temperature: 0.0,
        max_new_tokens: GREEDY_TOKENS,
        ..session.sampling()
    };
    let tokenizer = &session.model.folder.tokenizer;
    let decode = |tokens: &[u32]| tokenizer.decode(tokens, true);
    let output = session.engine.roll_out(
        &policy.valid(),
        &decode,
        &requests(prompts, 1),
        &sampling,
        session.config.run.seed,
        Stage::Eval,
        0,
    );
    let completions = output.map_err(Failure::run)?.completions.concat();
    Ok(completions.into_iter().map(|found| found.tokens).collect())
}

/// The last step's figures of a short run.
struct ShortRun {
    reward_mean: f64,
    grad_norm: f64,
    accuracy: f64,
}

impl ShortRun {
    fn against(&self, expected: &Self) -> Vec<Check> {
        // The numbers drawn with are the same on every backend; a near-tie may change one completion
        // of 48, and the step's gradient with it.
        vec![
            check(
                "three steps: mean reward, difference",
                (self.reward_mean - expected.reward_mean).abs(),
                0.1,
            ),
            check(
                "three steps: gradient norm, relative",
                relative(self.grad_norm, expected.grad_norm),
                0.1,
            ),
            check(
                "three steps: held-out accuracy, difference",
                (self.accuracy - expected.accuracy).abs(),
                0.1,
            ),
        ]
    }
}

/// A run of the whole loop in a folder of its own, resumed from its checkpoint for the last step,
/// and its seconds.
fn three_steps(kind: BackendKind) -> Result<(ShortRun, f64), Failure> {
    let folder = tempfile::tempdir().map_err(Failure::run)?;
    let out = folder.path().join("run");
    let started = Instant::now();
    let first = TrainArgs {
        steps: Some(STEPS_BEFORE_RESUME),
        ..train_args(kind, Some(&out))
    };
    train::run(&first, train::Kind::Reinforce)?;
    let rest = TrainArgs {
        resume: Some(Some(out.clone())),
        steps: Some(STEPS),
        quiet: true,
        ..TrainArgs::default()
    };
    train::run(&rest, train::Kind::Reinforce)?;
    let secs = started.elapsed().as_secs_f64();
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).map_err(Failure::run)?;
    let last = metrics.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).map_err(Failure::run)?;
    let number = |key: &str| last[key].as_f64().unwrap_or(f64::NAN);
    let run = ShortRun {
        reward_mean: number("reward_mean"),
        grad_norm: number("grad_norm"),
        accuracy: number("eval_accuracy"),
    };
    Ok((run, secs))
}

/// Best of three products after a first one that compiles.
fn matmul_gflops(device: &Device) -> Result<f64, Failure> {
    const SIZE: usize = 1024;
    let random = || Tensor::<2>::random([SIZE, SIZE], Distribution::Default, device);
    let (left, right) = (random(), random());
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let started = Instant::now();
        let product = left.clone().matmul(right.clone());
        // A number on the host waits for the product; data alone may be a promise.
        black_box(
            product
                .sum()
                .try_into_vec_as::<f32>()
                .map_err(Failure::run)?,
        );
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIZE as f64).powi(3) / best / 1e9)
}

fn read_gb_per_sec(device: &Device) -> Result<f64, Failure> {
    const NUM_BYTES: usize = 1 << 26;
    let tensor = Tensor::<1>::ones([NUM_BYTES / 4], device);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let started = Instant::now();
        let read = tensor.clone().try_into_vec_as::<f32>();
        black_box(read.map_err(Failure::run)?.last().copied());
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(NUM_BYTES as f64 / best / 1e9)
}
