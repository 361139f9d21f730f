//! What parses, what does not, and which keys the named flags mean.

use clap::CommandFactory;

use super::*;

fn parse(typed: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("trainer").chain(typed.split_whitespace());
    Cli::try_parse_from(words).map(Cli::into_command)
}

fn train(typed: &str) -> TrainArgs {
    match parse(typed).unwrap() {
        Command::Train(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn clap_accepts_the_definition() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_trains_with_the_same_flags() {
    assert_eq!(train(""), TrainArgs::default());
    let flags = "--recipe tiny --model m --data d --backend cuda --threads 2 --seed 3 --steps 4 \
                 --out o --set run.name=x --set a.b=c --dry-run --quiet";
    let args = train(flags);
    assert_eq!(args, train(&format!("train {flags}")));
    assert_eq!(args.config.backend, Some(BackendKind::Cuda));
    assert_eq!(args.config.sets, ["run.name=x", "a.b=c"]);
    assert!(args.dry_run && args.quiet);
}

#[test]
fn named_flags_are_keys_of_the_configuration() {
    let args = train("--model m --data d --backend cpu --threads 2 --seed 3 --steps 4 --out o");
    let text = |values: Vec<NamedValue>| {
        let line = |it: NamedValue| format!("{} = {} ({})", it.key, it.value, it.typed);
        values.into_iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        text(args.named_values("sft.steps")),
        [
            "model.path = \"m\" (--model m)",
            "data.train = \"d\" (--data d)",
            "backend.kind = \"cpu\" (--backend cpu)",
            "backend.threads = 2 (--threads 2)",
            "run.seed = 3 (--seed 3)",
            "run.out = \"o\" (--out o)",
            "sft.steps = 4 (--steps 4)",
        ]
    );
    let Command::Eval(args) = parse("eval --samples 8 --temperature 0.5 --problems 9").unwrap()
    else {
        panic!("not eval");
    };
    let keys: Vec<&str> = args.named_values().iter().map(|it| it.key).collect();
    assert_eq!(keys, ["eval.samples", "eval.problems", "eval.temperature"]);
}

#[test]
fn a_named_flag_wins_over_set_and_set_over_the_recipe() {
    let recipe = RecipeText::inline(
        "demo.toml",
        "[run]\nsteps = 1\nseed = 1\n[sft]\nsteps = 1\n",
    );
    let args = train("--steps 3 --set run.steps=2 --set run.seed=2 --set sft.steps=2");
    let config = resolve(&recipe, &args.config.sets, args.named_values("run.steps")).unwrap();
    assert_eq!(
        (config.run.steps, config.run.seed, config.sft.steps),
        (3, 2, 2)
    );
    let args = train("--threads 0");
    let error = resolve(&recipe, &args.config.sets, args.named_values("run.steps"));
    assert_eq!(error.unwrap_err().to_string(), "use --threads 0");
}

#[test]
fn resume_takes_a_folder_or_none() {
    assert_eq!(train("").resume, None);
    assert_eq!(train("--resume").resume, Some(None));
    assert_eq!(train("--resume --quiet").resume, Some(None));
    assert_eq!(
        train("--resume runs/a-1").resume,
        Some(Some("runs/a-1".into()))
    );
}

#[test]
fn grade_wants_a_file_or_one_case() {
    assert!(parse("grade --input f.jsonl").is_ok());
    assert!(parse("grade --gold 1 --answer -1").is_ok());
    for wrong in [
        "grade",
        "grade --gold 1",
        "grade --answer 1",
        "grade --input f --gold 1 --answer 2",
    ] {
        assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
}

#[test]
fn every_command_parses_and_nonsense_is_a_usage_error() {
    for typed in [
        "sft --steps 3",
        "eval --model m --data d --samples 4 --json",
        "generate --model m --input f --temperature 0.7 --max-new-tokens 9 --n 4 --chat",
        "score --model m --input f",
        "doctor",
        "doctor --metrics",
    ] {
        parse(typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
    }
    for typed in [
        "--backend gpu",
        "--steps 0",
        "--frobnicate",
        "fly",
        "score --model m",
    ] {
        assert_eq!(parse(typed).unwrap_err().exit_code(), 2, "{typed}");
    }
    let error = parse("--backend gpu").unwrap_err().to_string();
    assert!(error.contains("ndarray"), "{error}");
}
