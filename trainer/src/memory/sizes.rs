//! Sizes that follow the memory of a device.
//!
//! The built-in ones are those of a laptop. On a card they leave it idle: a micro-batch costs the host
//! the same launches whatever its size, and a decode step reads the same weights for 64 rows as for
//! 1,024.

use std::ops::RangeInclusive;

use super::budget::{fit_cache, microbatch_tokens, room};
use super::update::update_bytes;
use super::{RunShape, demands, run_memory};
use crate::config::{AutoSizes, RunConfig, SizeKey};
use crate::rollout::RolloutError;
use crate::rollout::memory::{Demand, largest, total_bytes};

/// Most packed rows of a micro-batch: beyond them launches are no part of its time that counts.
const MOST_TOKENS: usize = 128 << 10;

/// Most completions decoded at once: beyond them a decode step is no longer one read of the weights.
const MOST_SLOTS: usize = 1024;

/// Bytes of logits, of which two chunks and more stand beside what an update keeps.
const LOGITS_BYTES: RangeInclusive<u64> = (64 << 20)..=(1 << 30);

/// Tokens of a prefill batch, and the bytes of the device for each of them.
const PREFILL_TOKENS: RangeInclusive<u64> = 2048..=16_384;
const BYTES_PER_PREFILL_TOKEN: u64 = 4 << 20;

/// Decides the sizes of `config` that are automatic, after which none is: for a device of
/// `device_bytes` as large as its memory allows, and the built-in ones where it tells none. They grow
/// up to `memory.budget`, else up to four fifths of the device: the rest is for the driver, its kernels,
/// the pages of the allocator and what tuning takes. All memory of the device counts and not what is
/// free, so that the same machine gives the same run.
///
/// None becomes smaller than the built-in one while that fits. What fits in no form is left as it is
/// built in: nothing is refused here, and only [`super::fit`] turns to other keys.
pub fn choose(shape: &RunShape<'_>, config: &mut RunConfig, device_bytes: Option<u64>) {
    if let Some(total) = device_bytes {
        let budget = config.memory.budget_bytes().unwrap_or(total / 5 * 4);
        choose_update(shape, config, budget);
        choose_rollout(shape, config, budget);
    }
    config.automatic = AutoSizes::none();
}

/// [`choose`] for one call outside a run, whose `config` becomes that of so many prompts with so many
/// completions each.
pub fn choose_for_call(
    shape: &RunShape<'_>,
    config: &mut RunConfig,
    [num_prompts, group]: [usize; 2],
    device_bytes: Option<u64>,
) {
    config.selection.prompts_per_step = num_prompts;
    config.rollout.group_size = group;
    config.report.prompts = 0;
    let eval = &mut config.eval;
    (eval.at_start, eval.at_end, eval.every) = (false, false, None);
    choose(shape, config, device_bytes);
}

/// The larger chunks of logits if they leave room for micro-batches as large as the built-in ones.
fn choose_update(shape: &RunShape<'_>, config: &mut RunConfig, budget: u64) {
    let room = room(shape, budget);
    let built_in = &config.update;
    let larger = (budget / 64).clamp(*LOGITS_BYTES.start(), *LOGITS_BYTES.end()) as usize;
    for (max_logits_bytes, least) in [
        (larger, built_in.max_tokens_per_microbatch),
        (built_in.max_logits_bytes, 1),
    ] {
        let mut found = config.clone();
        if config.automatic.has(SizeKey::LogitsBytes) {
            found.update.max_logits_bytes = max_logits_bytes;
        }
        if config.automatic.has(SizeKey::MicrobatchTokens) {
            let most = shape.step_rows(config).min(MOST_TOKENS);
            found.update.max_tokens_per_microbatch = most.max(built_in.max_tokens_per_microbatch);
            if update_bytes(shape, &found) > room {
                found.update.max_tokens_per_microbatch = microbatch_tokens(shape, &found, room);
            }
        }
        let is_as_large = found.update.max_tokens_per_microbatch >= least;
        if is_as_large && update_bytes(shape, &found) <= room {
            config.update = found.update;
            return;
        }
    }
}

/// The larger prefill batches if they leave room for a cache as large as the built-in one.
fn choose_rollout(shape: &RunShape<'_>, config: &mut RunConfig, budget: u64) {
    let built_in = &config.rollout;
    let larger = budget / BYTES_PER_PREFILL_TOKEN;
    let larger = larger.clamp(*PREFILL_TOKENS.start(), *PREFILL_TOKENS.end()) as usize;
    for (prefill_tokens, least) in [
        (larger, built_in.kv_budget_bytes),
        (built_in.prefill_tokens, 1),
    ] {
        let mut found = config.clone();
        if config.automatic.has(SizeKey::PrefillTokens) {
            found.rollout.prefill_tokens = prefill_tokens;
        }
        let is_fitting = choose_cache(shape, &mut found, budget).unwrap_or(false);
        if is_fitting && found.rollout.kv_budget_bytes >= least {
            config.rollout = found.rollout;
            return;
        }
    }
}

/// As many slots, and a cache for them, as take at most half of what everything else leaves; else the
/// built-in slots in a cache of all that is left. False if not even that fits.
fn choose_cache(
    shape: &RunShape<'_>,
    config: &mut RunConfig,
    budget: u64,
) -> Result<bool, RolloutError> {
    let room = room(shape, budget);
    let is_automatic = |key| config.automatic.has(key);
    let (grows_slots, grows_cache) = (
        is_automatic(SizeKey::Slots),
        is_automatic(SizeKey::CacheBytes),
    );
    let with_slots = |max_slots| {
        let mut larger = config.clone();
        larger.rollout.max_slots = max_slots;
        if grows_cache {
            larger.rollout.kv_budget_bytes = u64::MAX;
        }
        larger
    };
    // What is not asked of the cache takes the place of the half that it leaves.
    let fits = |max_slots| {
        let larger = with_slots(max_slots);
        let half = if grows_cache {
            cache_bytes(shape, &larger)
        } else {
            0
        };
        run_memory(shape, &larger).is_ok_and(|it| it.rollout_bytes + half <= room)
    };
    let built_in = config.rollout.max_slots;
    let (least, most) = match grows_slots {
        true => (built_in, MOST_SLOTS),
        false => (1, built_in),
    };
    if (grows_slots || grows_cache) && fits(least) {
        let larger = with_slots(largest(least, most, fits));
        let needed = cache_bytes(shape, &larger);
        if grows_slots {
            config.rollout.max_slots = larger.rollout.max_slots;
        }
        if grows_cache {
            config.rollout.kv_budget_bytes = needed.max(config.rollout.kv_budget_bytes);
        }
    }
    match grows_cache {
        true => fit_cache(shape, config, budget),
        false => Ok(run_memory(shape, config)?.rollout_bytes <= room),
    }
}

/// The largest cache that rollouts, evaluations and the report use.
fn cache_bytes(shape: &RunShape<'_>, config: &RunConfig) -> u64 {
    let bytes = |demand: &Demand| {
        let caches = demand.caches(shape.model, &config.rollout, shape.precision);
        let caches = caches.unwrap_or_default();
        total_bytes(&caches, shape.model, shape.precision)
    };
    let demands = demands(shape, config);
    demands.iter().map(bytes).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shapes::{qwen2_5, smollm2};
    use crate::config::{Layers, RecipeText};
    use crate::policy::config::ModelConfig;
    use rlvr_backends::{BackendKind, Precision, RowLayout};

    const GIB: u64 = 1 << 30;
    const DEVICES: [u64; 3] = [8 * GIB, 24 * GIB, 139 * GIB];

    /// 1,024 completions of up to 512 tokens behind prompts of up to 512, as on CUDA.
    fn config() -> RunConfig {
        let mut config = RunConfig::default();
        config.backend.kind = BackendKind::Cuda;
        config.selection.prompts_per_step = 128;
        config.rollout.max_new_tokens = 512;
        config
    }

    fn shape(model: &ModelConfig) -> RunShape<'_> {
        RunShape {
            model,
            longest_prompt: 512,
            precision: Precision::Bf16,
            layout: RowLayout::of(BackendKind::Cuda),
            keeps_start: false,
        }
    }

    fn chosen(model: &ModelConfig, config: &RunConfig, device: u64) -> RunConfig {
        let mut chosen = config.clone();
        choose(&shape(model), &mut chosen, Some(device));
        assert_eq!(chosen.automatic, AutoSizes::none());
        chosen
    }

    /// In the order of the keys.
    fn sizes(config: &RunConfig) -> [u64; 5] {
        let (update, rollout) = (&config.update, &config.rollout);
        [
            update.max_tokens_per_microbatch as u64,
            update.max_logits_bytes as u64,
            rollout.max_slots as u64,
            rollout.kv_budget_bytes,
            rollout.prefill_tokens as u64,
        ]
    }

    fn total(model: &ModelConfig, config: &RunConfig) -> u64 {
        let memory = run_memory(&shape(model), config);
        memory.expect("two completions fit").total_bytes()
    }

    #[test]
    fn a_device_that_tells_nothing_has_the_sizes_of_a_laptop() {
        let (model, mut found) = (smollm2(), config());
        found.memory.budget = Some("40GiB".into());
        let before = found.clone();
        choose(&shape(&model), &mut found, None);
        assert_eq!(sizes(&found), [8192, 64 << 20, 64, GIB, 2048]);
        let decided = RunConfig {
            automatic: AutoSizes::none(),
            ..before
        };
        assert_eq!(found, decided);
    }

    #[test]
    fn sizes_grow_with_the_device_and_stay_within_four_fifths_of_it() {
        for model in [smollm2(), qwen2_5()] {
            let mut smaller = sizes(&RunConfig::default());
            for device in DEVICES {
                let found = chosen(&model, &config(), device);
                let larger = sizes(&found);
                assert!(
                    larger.iter().zip(smaller).all(|(a, b)| *a >= b),
                    "{larger:?}"
                );
                smaller = larger;
                // Qwen2.5-0.5B does not train in 8 GiB, whatever the sizes: they stay built in.
                if device == 8 * GIB && model.num_layers == 24 {
                    assert_eq!(larger, sizes(&RunConfig::default()));
                    continue;
                }
                assert!(total(&model, &found) <= device / 5 * 4, "{larger:?}");
            }
            let [tokens, logits, slots, cache, prefill] = smaller;
            assert_eq!([logits, slots, prefill], [GIB, 1024, 16_384]);
            assert!(tokens > 64 << 10 && cache > GIB);
        }
    }

    #[test]
    fn micro_batches_and_slots_are_the_largest_that_fit() {
        let (model, device) = (qwen2_5(), 24 * GIB);
        let found = chosen(&model, &config(), device);
        let room = room(&shape(&model), device / 5 * 4);
        let mut more = found.clone();
        more.update.max_tokens_per_microbatch += 1;
        assert!(update_bytes(&shape(&model), &more) > room);
        // The cache is as large as its slots need, and takes half of what the rest leaves.
        let with_slots = |slots| {
            let mut config = found.clone();
            (config.rollout.max_slots, config.rollout.kv_budget_bytes) = (slots, u64::MAX);
            run_memory(&shape(&model), &config).expect("it fits")
        };
        let memory = with_slots(found.rollout.max_slots);
        assert_eq!(found.rollout.kv_budget_bytes, memory.rollout.kv_bytes);
        assert!(memory.rollout_bytes + memory.rollout.kv_bytes <= room);
        let memory = with_slots(found.rollout.max_slots + 1);
        assert!(memory.rollout_bytes + memory.rollout.kv_bytes > room);
    }

    #[test]
    fn a_step_has_no_larger_micro_batch_than_its_rows() {
        let (model, mut config) = (smollm2(), config());
        config.selection.prompts_per_step = 4;
        let found = chosen(&model, &config, 139 * GIB);
        let rows = shape(&model).step_rows(&config);
        assert!(rows > 8192 && rows < MOST_TOKENS);
        assert_eq!(found.update.max_tokens_per_microbatch, rows);
        config.selection.prompts_per_step = 1;
        let found = chosen(&model, &config, 139 * GIB);
        assert_eq!(found.update.max_tokens_per_microbatch, 8192);
    }

    #[test]
    fn what_was_given_stays_and_the_rest_follows_it() {
        let model = smollm2();
        let mut given = config();
        given.automatic = AutoSizes::none();
        (given.rollout.max_slots, given.rollout.kv_budget_bytes) = (9, 200 * GIB);
        given.update.max_tokens_per_microbatch = 1 << 20;
        // Far too large for any of them, and nobody's business here.
        for device in DEVICES {
            assert_eq!(chosen(&model, &given, device), given);
        }
        let read = |text: &str| {
            let layers = Layers::new(&RecipeText::inline("test.toml", text)).expect("TOML");
            let mut found = layers.resolve().expect("valid");
            let RunConfig { rollout, .. } = config();
            found.rollout.max_new_tokens = rollout.max_new_tokens;
            found.selection.prompts_per_step = 128;
            found.backend.kind = BackendKind::Cuda;
            chosen(&model, &found, 139 * GIB)
        };
        let slots = read("[rollout]\nmax_slots = 128\n");
        let all = read("");
        assert_eq!(slots.rollout.max_slots, 128);
        let less = GIB + 1..all.rollout.kv_budget_bytes / 2;
        assert!(less.contains(&slots.rollout.kv_budget_bytes));
        assert_eq!(slots.update, all.update);
        let cache = read("[rollout]\nkv_budget_bytes = 3000000000\nprefill_tokens = 1\n");
        assert_eq!(cache.rollout.kv_budget_bytes, 3_000_000_000);
        assert_eq!(cache.rollout.prefill_tokens, 1);
        assert_eq!(cache.rollout.max_slots, 1024);
        let tokens = read("[update]\nmax_tokens_per_microbatch = 100\n");
        assert_eq!(tokens.update.max_tokens_per_microbatch, 100);
        assert_eq!(tokens.update.max_logits_bytes, 1 << 30);
    }

    #[test]
    fn a_budget_takes_the_place_of_the_devices_memory() {
        let model = smollm2();
        let mut bounded = config();
        bounded.memory.budget = Some("24GiB".into());
        let (bounded, smaller) = (
            chosen(&model, &bounded, 139 * GIB),
            chosen(&model, &config(), 30 * GIB),
        );
        assert_eq!(sizes(&bounded), sizes(&smaller));
    }

    #[test]
    fn a_written_run_keeps_its_sizes_on_another_device() {
        let model = smollm2();
        let found = chosen(&model, &config(), 139 * GIB);
        let text = found.to_toml().expect("it can be written");
        let read = Layers::new(&RecipeText::inline("config.toml", &text)).and_then(Layers::resolve);
        let read = read.expect("it can be read");
        assert_eq!(chosen(&model, &read, 8 * GIB), found);
    }
}
