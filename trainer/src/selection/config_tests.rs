use super::*;
use crate::config::{Layers, RecipeText, RunConfig};

fn resolve(text: &str, sets: &[&str]) -> Result<RunConfig, String> {
    let recipe = RecipeText::inline("demo.toml", text);
    let mut layers = Layers::new(&recipe).map_err(|error| error.to_string())?;
    for typed in sets {
        layers.set(typed).map_err(|error| error.to_string())?;
    }
    let failure = |error| crate::failure::Failure::from(error).chain();
    layers.resolve().map_err(failure)
}

fn method(text: &str, sets: &[&str]) -> SelectionMethod {
    resolve(text, sets).unwrap().selection.method
}

#[test]
fn an_arm_is_a_name_or_a_table() {
    for name in SelectionMethod::NAMES {
        let config = resolve("", &[&format!("selection.method={name}")]).unwrap();
        let written = config.to_toml().unwrap();
        assert!(written.contains(&format!("kind = \"{name}\"")), "{written}");
        assert_eq!(resolve(&written, &[]).unwrap(), config);
    }
    let named = method("[selection]\nmethod = \"hive\"", &[]);
    let table = method("[selection.method]\nkind = \"hive\"", &[]);
    assert_eq!(named, table);
    assert_eq!(named, SelectionMethod::Hive(Hive::default()));
}

#[test]
fn parameters_can_be_set_under_a_name() {
    let recipe = "[selection]\nmethod = \"hive\"";
    let sets = [
        "selection.method.preset=paper-main-text",
        "selection.method.pool=per_raw_batch",
        "selection.method.stage1.lambda=0.5",
    ];
    let SelectionMethod::Hive(hive) = method(recipe, &sets) else {
        panic!("another arm");
    };
    assert_eq!(hive.preset.gate(), Gate::Median);
    assert_eq!(hive.pool, PoolRule::PerRawBatch);
    assert_eq!(hive.stage1.lambda, 0.5);
    let literal = [
        "selection.method.preset.kind=v2-deployed",
        "selection.method.preset.round_kept_to=8",
    ];
    let SelectionMethod::Hive(hive) = method(recipe, &literal) else {
        panic!("another arm");
    };
    let band = Band {
        round_kept_to: 8,
        ..Band::default()
    };
    assert_eq!(hive.preset.gate(), Gate::Band(band));
    assert_eq!(Preset::default().gate(), Gate::Band(Band::default()));
}

#[test]
fn what_an_arm_does_not_know_is_refused() {
    let refused = |sets: &[&str], words: &[&str]| {
        let error = resolve("", sets).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{sets:?}: {error}");
        }
    };
    refused(&["selection.method=hyve"], &["hyve", "hive"]);
    refused(
        &["selection.method=uniform", "selection.method.lambda=1"],
        &["lambda"],
    );
    refused(
        &["selection.method=greso", "selection.method.preset=median"],
        &["preset"],
    );
    refused(
        &[
            "selection.method=hive",
            "selection.method.stage1.lambda=1.5",
        ],
        &["selection.method.stage1.lambda = 1.5", "from 0 to 1"],
    );
    let band = "selection.method.preset={kind=\"v2-deployed\", off=0.6, keep=0.5}";
    refused(
        &["selection.method=hive", band],
        &["selection.method.preset.keep", "off + keep at most 1"],
    );
    refused(
        &["selection.method=hive", "rollout.group_size=1"],
        &["rollout.group_size = 1", "at least 2"],
    );
    refused(
        &["selection.method=greso_code", "rollout.group_size=10"],
        &["rollout.group_size = 10", "at most 9"],
    );
    refused(
        &["selection.rounds.top_up_min=100"],
        &["selection.rounds.top_up_min = 100", "at most the 24"],
    );
    refused(
        &["selection.method=mopps", "selection.method.pool_factor=1"],
        &["pool_factor"],
    );
    refused(
        &[
            "selection.method=mopps",
            "selection.method.within=[0.7, 0.3]",
        ],
        &[
            "selection.method.within = [0.7, 0.3]",
            "the lower one first",
        ],
    );
    refused(&["selection.audit.every=0"], &["selection.audit.every"]);
}

#[test]
fn a_step_needs_as_many_prompts_as_it_trains_on() {
    let config = SelectionConfig::default();
    assert!(config.validate_num_prompts(16).is_ok());
    let error = config.validate_num_prompts(15).unwrap_err();
    assert_eq!(error.key, "selection.prompts_per_step");
    assert!(error.allowed.contains("the 15 training prompts"));
}

#[test]
fn sizes_follow_the_step() {
    let sized = |prompts_per_step| {
        let config = SelectionConfig {
            prompts_per_step,
            ..SelectionConfig::default()
        };
        (config.candidate_target(), config.top_up_min())
    };
    assert_eq!(sized(256), (384, 64));
    assert_eq!(sized(15), (23, 8));
    assert_eq!(sized(1), (2, 1));
}
