//! A backend held against the CPU: scores, gradients, greedy tokens, draws, and a run of three steps
//! with the embedded model, stopped and resumed before the last, each within a stated tolerance.
//!
//! One body for every backend: `trainer doctor --self-test` runs it on a user's machine, the tests
//! run it on every backend that is compiled in.

mod draws;
mod replays;
mod sampled;
mod scored;

use std::fmt;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rlvr_backends::{BackendKind, Precision};
use serde_json::Value;

use self::draws::Draws;
use self::replays::replays;
use self::scored::{Scored, half_precision};
use crate::bench::peaks::matmul_flops_per_sec;
use crate::cli::{ConfigArgs, TrainArgs, resolve};
use crate::commands::train;
use crate::config::{RecipeText, RunConfig};
use crate::failure::Failure;
use crate::groups::requests;
use crate::policy::decoder::Decoder;
use crate::record::Prompt;
use crate::rollout::SamplingParams;
use crate::seed::Stage;
use crate::session::Session;
use crate::state::load_decoder;

/// Keys of the short run, over the recipe `tiny`.
const SETS: [&str; 9] = [
    "data.num_problems=200",
    "selection.prompts_per_step=4",
    "rollout.group_size=4",
    "rollout.max_slots=16",
    "rollout.num_workers=1",
    "eval.at_start=false",
    "eval.problems=20",
    "report.prompts=8",
    "log.completions_per_step=none",
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
    /// Rows of two square matrices whose product was timed.
    pub matmul_size: usize,
    /// Its rate, GFLOP/s.
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
            "  matmul {size} x {size} x {size}: {:.1} GFLOP/s; read to host: {:.2} GB/s; \
             three steps: {:.1} s",
            self.matmul_gflops,
            self.read_gb_per_sec,
            self.run_secs,
            size = self.matmul_size
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
    checks.extend(half_precision(kind, &device)?);
    let (matmul_size, matmul_gflops) = matmul_rate(&device)?;
    Ok(SelfTest {
        kind,
        checks,
        matmul_size,
        matmul_gflops,
        read_gb_per_sec: read_gb_per_sec(&device)?,
        run_secs,
    })
}

/// What one backend computes from fixed inputs.
struct Observed {
    scored: Scored,
    greedy: Vec<Vec<u32>>,
    draws: Draws,
    replays: Vec<Check>,
}

impl Observed {
    fn on(kind: BackendKind) -> Result<Self, Failure> {
        let session = Session::open(config(kind, Precision::F32)?)?;
        let policy = load_decoder(&session.model.folder, &session.device).map_err(Failure::run)?;
        let prompts = &session.data.train[..NUM_PROMPTS];
        Ok(Self {
            scored: Scored::on(&session)?,
            greedy: greedy(&session, &policy, prompts)?,
            draws: Draws::on(&session.device)?,
            replays: replays(&session, &policy)?,
        })
    }

    fn against(&self, expected: &Self) -> Vec<Check> {
        let same = self.greedy.iter().zip(&expected.greedy);
        let num_different = same.filter(|(a, b)| a != b).count();
        let mut checks = self.scored.against(&expected.scored);
        // A near-tie may fall the other way once.
        checks.push(check(
            "greedy completions that differ, share",
            num_different as f64 / NUM_PROMPTS as f64,
            1.0 / NUM_PROMPTS as f64,
        ));
        checks.extend(self.draws.against(&expected.draws));
        checks.extend(&self.replays);
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

fn config(kind: BackendKind, precision: Precision) -> Result<RunConfig, Failure> {
    let args = train_args(kind, precision, None);
    let recipe = RecipeText::find("tiny")?;
    Ok(resolve(
        &recipe,
        &args.config.sets,
        args.named_values("run.steps"),
    )?)
}

fn train_args(kind: BackendKind, precision: Precision, out: Option<&Path>) -> TrainArgs {
    let precision = format!("backend.precision={precision}");
    let sets = SETS.iter().map(ToString::to_string);
    TrainArgs {
        config: ConfigArgs {
            recipe: Some("tiny".into()),
            backend: Some(kind),
            sets: sets.chain([precision]).collect(),
            ..ConfigArgs::default()
        },
        out: out.map(|path| path.display().to_string()),
        steps: Some(STEPS),
        quiet: true,
        ..TrainArgs::default()
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
        ..train_args(kind, Precision::F32, Some(&out))
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

/// Size and rate, GFLOP/s, of a large product, or of a small one where a large one takes seconds: on
/// a device in software.
fn matmul_rate(device: &Device) -> Result<(usize, f64), Failure> {
    const SIZES: [usize; 2] = [128, 1024];
    const LEAST_GFLOPS: f64 = 2.0;
    let rate = |size| Ok::<_, Failure>(matmul_flops_per_sec(device, size, Precision::F32)? / 1e9);
    let small = rate(SIZES[0])?;
    if small < LEAST_GFLOPS {
        return Ok((SIZES[0], small));
    }
    Ok((SIZES[1], rate(SIZES[1])?))
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
