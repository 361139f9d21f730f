//! Laws of prompt selection, and the entropies that its gate ranks by.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, proptest};
use rlvr_core::{
    AtTarget, Band, Candidate, Exploration, ExplorationConfig, Gate, GroupKind, RoundSize, Shares,
    Stage1Config, TrailingRun, entropy, keep_smallest, pool_target, spearman,
};

fn pool() -> impl Strategy<Value = Vec<Candidate>> {
    // Few distinct entropies, so that ties are common.
    prop::collection::vec(0_u32..20, 1..80).prop_map(|entropies| {
        let candidate = |(id, entropy): (usize, u32)| Candidate {
            id: id as u64,
            entropy: f64::from(entropy) / 4.0,
        };
        entropies.into_iter().enumerate().map(candidate).collect()
    })
}

fn band() -> impl Strategy<Value = Band> {
    (0.0..0.9_f64).prop_flat_map(|off| {
        (Just(off), 0.01..=(1.0 - off)).prop_map(|(off, keep)| Band {
            off,
            keep,
            round_kept_to: 1,
        })
    })
}

fn gate() -> impl Strategy<Value = Gate> {
    prop::option::of(band()).prop_map(|band| band.map_or(Gate::Median, Gate::Band))
}

fn kinds() -> impl Strategy<Value = Vec<GroupKind>> {
    let kind = prop::sample::select(vec![
        GroupKind::Mixed,
        GroupKind::Easy,
        GroupKind::Hard,
        GroupKind::Other,
    ]);
    prop::collection::vec(kind, 0..30)
}

fn ids(pool: &[Candidate], places: &[usize]) -> Vec<u64> {
    let mut ids: Vec<u64> = places.iter().map(|&place| pool[place].id).collect();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn a_gate_counts_every_candidate_once_and_keeps_arrival_order(pool in pool(), gate in gate()) {
        let gated = gate.cut(&pool);
        let counted = gated.kept.len() + gated.num_trimmed_high + gated.num_rejected_low;
        prop_assert_eq!(counted, pool.len());
        prop_assert!(gated.kept.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(!gated.kept.is_empty());
    }

    #[test]
    fn permuting_a_pool_changes_nothing_but_arrival_order(
        (pool, permuted) in pool().prop_flat_map(|pool| {
            let shuffled = Just(pool.clone()).prop_shuffle();
            (Just(pool), shuffled)
        }),
        gate in gate(),
    ) {
        let (left, right) = (gate.cut(&pool), gate.cut(&permuted));
        prop_assert_eq!(ids(&pool, &left.kept), ids(&permuted, &right.kept));
        prop_assert_eq!(left.low_edge, right.low_edge);
        prop_assert_eq!(left.num_trimmed_high, right.num_trimmed_high);
    }

    #[test]
    fn an_untrimmed_half_is_the_median_for_even_pools_without_ties(
        entropies in prop::collection::btree_set(0_u32..10_000, 1..40),
    ) {
        let even = entropies.len() / 2 * 2;
        let mut pool: Vec<Candidate> = entropies
            .iter()
            .take(even)
            .map(|&entropy| Candidate { id: u64::from(entropy) * 7 % 1009, entropy: f64::from(entropy) })
            .collect();
        pool.reverse();
        let half = Band { off: 0.0, keep: 0.5, round_kept_to: 1 };
        prop_assert_eq!(Gate::Band(half).cut(&pool).kept, Gate::Median.cut(&pool).kept);
    }

    #[test]
    fn the_random_gate_keeps_as_many_as_the_band(
        pool in pool(),
        band in band(),
        seed in 0_u64..1000,
    ) {
        let draws: Vec<(u64, f64)> = pool
            .iter()
            .map(|candidate| (candidate.id, ((candidate.id * 37 + seed) % 101) as f64 / 101.0))
            .collect();
        let (_, count) = band.counts(pool.len());
        let random = keep_smallest(&draws, count);
        prop_assert_eq!(random.len(), Gate::Band(band).cut(&pool).kept.len());
        prop_assert!(random.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn probabilities_stay_in_their_range(
        shares in prop::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64), 0..300),
        lowers in prop::bool::ANY,
    ) {
        let config = ExplorationConfig::default();
        let at_target = if lowers { AtTarget::Lower } else { AtTarget::Keep };
        let mut exploration = config.start();
        for (easy, hard) in shares {
            exploration = exploration.after(Shares { easy, hard }, &config, at_target);
            prop_assert!((0.05..=0.95).contains(&exploration.p_easy));
            prop_assert!((0.05..=0.95).contains(&exploration.p_hard));
        }
    }

    #[test]
    fn stage_1_never_rejects_the_unseen_and_never_excludes_the_seen(
        history in kinds(),
        p_easy in 0.05..=0.95_f64,
        p_hard in 0.05..=0.95_f64,
    ) {
        let config = Stage1Config::default();
        let exploration = Exploration { p_easy, p_hard };
        let chance = |run| config.acceptance(run, None, exploration, None);
        prop_assert_eq!(chance(TrailingRun::default()), 1.0);
        let found = chance(TrailingRun::of(&history));
        prop_assert!((0.01..=1.0).contains(&found));
        let since_mixed = history.iter().rev().take_while(|kind| **kind != GroupKind::Mixed);
        prop_assert_eq!(TrailingRun::of(&history).length as usize, since_mixed.count());
    }

    #[test]
    fn a_top_up_lies_between_its_bounds(missing in 1_usize..300, mixed in 0_usize..300, more in 0_usize..300) {
        let size = RoundSize { candidates: 384, at_least: 64, factor: 1.25 };
        let found = size.top_up(missing, mixed, mixed + more);
        prop_assert!((64..=384).contains(&found));
    }

    #[test]
    fn a_pool_of_the_target_size_keeps_enough(target in 1_usize..1000, band in band()) {
        let (_, kept) = band.counts(pool_target(target, band.keep));
        prop_assert!(kept >= target, "{kept} of {target}");
    }

    #[test]
    fn spearman_is_symmetric_and_knows_only_order(
        pairs in prop::collection::vec((0_i32..50, 0_i32..50), 3..60),
    ) {
        let x: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0)).collect();
        let y: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1)).collect();
        let exponential: Vec<f64> = x.iter().map(|x| (x / 10.0).exp()).collect();
        let negated: Vec<f64> = y.iter().map(|y| -y).collect();
        let found = spearman(&x, &y);
        prop_assert_eq!(spearman(&exponential, &y), found);
        match (found, spearman(&y, &x), spearman(&x, &negated)) {
            (Some(found), Some(swapped), Some(negated)) => {
                prop_assert!((found - swapped).abs() < 1e-12);
                prop_assert!((found + negated).abs() < 1e-12);
            }
            undefined => prop_assert_eq!(undefined, (None, None, None)),
        }
    }
}

#[test]
fn entropies_of_known_distributions() {
    let cases: [(&[f32], f32); 4] = [
        (&[0.0, 0.0, 0.0], 1.098_612_3),
        (&[core::f32::consts::LN_2, 0.0, 0.0], 1.039_720_8),
        (&[1000.0, 0.0, 0.0], 0.0),
        (&[1e4, 1e4], core::f32::consts::LN_2),
    ];
    let found = |logits: &[f32]| {
        let data = TensorData::new(logits.to_vec(), [1, logits.len()]);
        let logits = Tensor::<2>::from_data(data, &Device::default());
        entropy(logits).into_data().try_to_vec::<f32>().unwrap()[0]
    };
    for (logits, expected) in cases {
        assert!((found(logits) - expected).abs() < 2e-7, "{logits:?}");
    }
    // A prompt of three tokens has two terms.
    let mean = (found(cases[0].0) + found(cases[1].0)) / 2.0;
    assert!((mean - 1.069_166_5).abs() < 2e-7);
}
