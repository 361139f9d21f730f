//! `trainer bench`: how fast this machine trains a shape, beside what it can do at most.

use std::io::Write;

use burn::tensor::Device;
use rlvr_backends::{BackendKind, DeviceFacts, Precision, total_memory};
use serde::Serialize;

use crate::bench::load::scoring;
use crate::bench::peaks::{self, Peaks};
use crate::bench::{Bench, Load, Measured, shapes};
use crate::cli::{BenchArgs, BenchStage, resolve};
use crate::config::{RecipeText, RunConfig};
use crate::failure::Failure;
use crate::gradient::ScoringSettings;
use crate::memory::{RunShape, choose_for_call};
use crate::optimizer::with_stable_ids;
use crate::policy::config::ModelConfig;
use crate::policy::decoder::Decoder;
use crate::rollout::memory::num_weights;
use crate::session::{open_model, training_device};
use crate::state::load_decoder;

/// What is measured, on what.
#[derive(Debug, Serialize)]
struct Header<'a> {
    model: &'a str,
    num_weights: u64,
    backend: BackendKind,
    /// Name of the device, where it says one.
    device: Option<String>,
    precision: &'static str,
    peaks: Option<Peaks>,
}

/// A measurement with what is made of it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    found: &'a Measured,
    median_secs: f64,
    units_per_sec: f64,
    roofline_share: Option<f64>,
}

/// Measures every stage that was asked for and prints each as soon as it is there.
///
/// # Errors
/// If a value is impossible, the model cannot be opened, or the device fails.
pub fn run(args: &BenchArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let is_wanted = |stage| args.stages.contains(&stage);
    let with_optimizer = is_wanted(BenchStage::Optimizer);
    let with_update = with_optimizer || is_wanted(BenchStage::Update);
    let counts = args.completions.iter();
    let counts = counts.filter(|_| is_wanted(BenchStage::Rollout));
    let rollouts: Result<Vec<Load>, Failure> = counts
        .map(|&count| load(args, "--completions", count))
        .collect();
    let update = with_update.then(|| load(args, "--update-completions", args.update_completions));
    let (rollouts, update) = (rollouts?, update.transpose()?);
    let largest = rollouts.iter().chain(&update);
    let largest = largest.max_by_key(|load| load.num_prompts).copied();
    let (bench, header) = open(args, largest)?;
    write_header(&header, args.json, out)?;
    for load in rollouts {
        let (rollouts, warning) = bench.rollouts(load)?;
        for found in rollouts {
            write_line(&found, args.json, out)?;
        }
        if let Some(warning) = warning {
            eprintln!("warning: {warning}");
        }
    }
    if let Some(load) = update {
        for found in bench.update(load, with_optimizer)? {
            write_line(&found, args.json, out)?;
        }
    }
    Ok(())
}

/// So many completions in whole groups.
fn load(args: &BenchArgs, flag: &str, completions: u32) -> Result<Load, Failure> {
    if !completions.is_multiple_of(args.group) {
        return Err(Failure::usage(format!(
            "share {completions} completions out to whole groups of {}; change {flag} or --group",
            args.group
        )));
    }
    Ok(Load {
        num_prompts: (completions / args.group) as usize,
        group: args.group as usize,
        prompt_tokens: args.prompt_tokens as usize,
        new_tokens: args.new_tokens as usize,
    })
}

fn open(args: &BenchArgs, largest: Option<Load>) -> Result<(Bench, Header<'_>), Failure> {
    if let Some(threads) = args.threads {
        rlvr_backends::set_threads(threads as usize)?;
    }
    let mut config = resolve(&defaults(), &args.sets, Vec::new())?;
    config.backend.kind = args.backend;
    let device = rlvr_backends::device(args.backend)?;
    let precision = config.backend.precision.resolve(args.backend, &device)?;
    let training_device = training_device(&device, &config);
    let policy = match &args.model {
        Some(spec) => {
            let model = open_model(spec)?;
            load_decoder(&model.folder, &training_device).map_err(Failure::usage)?
        }
        None => {
            let shape = shapes::named(&args.shape).ok_or_else(|| unknown_shape(&args.shape))?;
            with_stable_ids(Decoder::init(&shape, config.run.seed, &training_device))
        }
    };
    if let Some(load) = largest {
        choose_sizes(&mut config, policy.config(), load, (&device, precision));
    }
    let peaks = match args.no_peaks {
        true => None,
        false => Some(peaks::measure(args.backend, &device, precision)?),
    };
    let header = Header {
        model: args.model.as_deref().unwrap_or(&args.shape),
        num_weights: num_weights(policy.config()),
        backend: args.backend,
        device: DeviceFacts::of(args.backend, &device)
            .identity
            .map(|(name, _)| name),
        precision: precision.name(),
        peaks,
    };
    let bench = Bench {
        policy,
        kind: args.backend,
        rollout: config.rollout,
        scoring: ScoringSettings {
            max_logits_bytes: config.update.max_logits_bytes,
            ..scoring(precision)
        },
        repeats: args.repeats as usize,
        peaks,
    };
    Ok((bench, header))
}

/// Decides automatic sizes for the largest load of them all.
fn choose_sizes(
    config: &mut RunConfig,
    model: &ModelConfig,
    load: Load,
    (device, precision): (&Device, Precision),
) {
    let shape = RunShape::of_call(config.backend.kind, model, load.prompt_tokens, precision);
    config.rollout.max_new_tokens = load.new_tokens;
    let completions = [load.num_prompts, load.group];
    choose_for_call(&shape, config, completions, total_memory(device));
}

/// A recipe that sets nothing: that of the embedded model has settings for a tiny one.
fn defaults() -> RecipeText {
    RecipeText {
        name: "bench".into(),
        title: "the defaults".into(),
        text: String::new(),
        folder: None,
    }
}

fn unknown_shape(name: &str) -> Failure {
    let known = shapes::NAMES.join(", ");
    Failure::usage(format!(
        "find a shape called {name}; there are {known}, or give --model"
    ))
}

fn write_header(header: &Header<'_>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let text = match json {
        true => serde_json::to_string(header).map_err(Failure::run)?,
        false => header_text(header),
    };
    writeln!(out, "{text}").map_err(Failure::run)
}

fn header_text(header: &Header<'_>) -> String {
    let millions = header.num_weights as f64 / 1e6;
    let device = header.device.as_ref().map(|name| format!(", {name}"));
    let peaks = header.peaks.map(|peaks| {
        format!(
            "peaks    product of {size} x {size}: {:.3} TFLOP/s; sum of two vectors: {:.1} GB/s\n",
            peaks.flops_per_sec / 1e12,
            peaks.bytes_per_sec / 1e9,
            size = peaks.matmul_size,
        )
    });
    format!(
        "model    {}, {millions:.1} M weights\ndevice   {}{}, products in {}\n{}\n{:<44} {:>9} \
         {:>9} {:>12} {:>9} {:>9}",
        header.model,
        header.backend,
        device.unwrap_or_default(),
        header.precision,
        peaks.unwrap_or_default(),
        "stage",
        "first s",
        "s",
        "tokens/s",
        "floor s",
        "roofline",
    )
}

fn write_line(found: &Measured, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let line = Line {
        median_secs: found.median_secs(),
        units_per_sec: found.units_per_sec(),
        roofline_share: found.roofline_share(),
        found,
    };
    let text = match json {
        true => serde_json::to_string(&line).map_err(Failure::run)?,
        false => line_text(&line),
    };
    writeln!(out, "{text}").map_err(Failure::run)?;
    out.flush().map_err(Failure::run)
}

fn line_text(line: &Line<'_>) -> String {
    let found = line.found;
    let Load {
        num_prompts,
        group,
        prompt_tokens,
        new_tokens,
    } = found.load;
    let (what, rate) = match found.stage {
        "prefill" => (format!("{num_prompts} x {prompt_tokens} tokens"), true),
        "decode" => {
            let rows = num_prompts * group;
            (
                format!("{rows} x {new_tokens} tokens after {prompt_tokens}"),
                true,
            )
        }
        "update" => (
            format!("{num_prompts} x {group}, {prompt_tokens} and {new_tokens} tokens"),
            true,
        ),
        _ => ("norm, clipping, AdamW".into(), false),
    };
    let rate = match rate {
        true => format!("{:.0}", line.units_per_sec),
        false => "-".into(),
    };
    let known = |value: Option<f64>, unit: &str, scale: f64, digits: usize| {
        value.map_or_else(
            || "-".into(),
            |value| format!("{:.digits$}{unit}", scale * value),
        )
    };
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let memory = found.predicted_bytes.map(|predicted| {
        let reserved = found
            .reserved_bytes
            .map(|bytes| format!(", {} MiB taken by its allocator", mebibytes(bytes)));
        format!(
            "\n{:<44} {} MiB of the device predicted{}",
            "",
            mebibytes(predicted),
            reserved.unwrap_or_default()
        )
    });
    format!(
        "{:<44} {:>9.3} {:>9.3} {:>12} {:>9} {:>9}{}",
        format!("{}, {what}", found.stage),
        found.first_secs,
        line.median_secs,
        rate,
        known(found.floor_secs, "", 1.0, 3),
        known(line.roofline_share, " %", 100.0, 1),
        memory.unwrap_or_default(),
    )
}
