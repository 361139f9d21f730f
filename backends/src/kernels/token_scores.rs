//! Log-probs and entropies of packed tokens, and their gradients, without a pass per operation.
//!
//! `rlvr_core` defines the functions and serves as the portable path: it goes over a chunk of
//! logits once per maximum, difference, exponential, sum and product. Here a row of logits is read
//! twice to be scored, and overwritten with its gradient in one more pass. Products are f32 here, so
//! the temperature divides hidden states, not logits: the same but for last bits, and a width to go
//! over where those have a vocabulary.

use std::ops::Range;

use burn::tensor::{Int, Tensor};
use rayon::prelude::*;
use rlvr_core::{HeadGradients, Precision, ScoringSettings, TokenScores, rows_per_chunk};

use super::host::{Values, edit, is_host};
use super::lanes::{exp, max, softmax_sums, wide, work};
use super::matmul::{matmul, matmul_add};

/// As [`rlvr_core::token_scores`].
///
/// # Shapes
/// - `hidden`: `[M, D]`; `head`: `[V, D]`; `targets`: `[M]`; result: `[M]` each
///
/// # Panics
/// If D or M differ, or a target is not below V.
pub fn token_scores(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    settings: &ScoringSettings,
) -> TokenScores {
    if !has_kernel(&hidden, &head, settings) {
        return rlvr_core::token_scores(hidden, head, targets, settings);
    }
    let hidden = settings.over_temperature(hidden);
    let targets = indices(targets, &hidden);
    let (logprobs, entropies): (Vec<f32>, Vec<f32>) =
        of_rows(&hidden, &head, settings, |row, logits| {
            let statistics = wide::<RowStatistics>(logits);
            let logprob = logits[targets[row]] - statistics.log_sum;
            (logprob, statistics.entropy)
        })
        .into_iter()
        .unzip();
    let upload = |values: Vec<f32>| Tensor::from_floats(values.as_slice(), &hidden.device());
    TokenScores {
        logprobs: upload(logprobs),
        entropies: upload(entropies),
    }
}

/// As [`rlvr_core::token_entropies`].
///
/// # Shapes
/// - `hidden`: `[M, D]`; `head`: `[V, D]`; result: `[M]`
///
/// # Panics
/// If D differs between the inputs.
pub fn token_entropies(
    hidden: Tensor<2>,
    head: Tensor<2>,
    settings: &ScoringSettings,
) -> Tensor<1> {
    if !has_kernel(&hidden, &head, settings) {
        return rlvr_core::token_entropies(hidden, head, settings);
    }
    let hidden = settings.over_temperature(hidden);
    let entropies = of_rows(&hidden, &head, settings, |_, logits| {
        wide::<RowStatistics>(logits).entropy
    });
    Tensor::from_floats(entropies.as_slice(), &hidden.device())
}

/// A value of every row of logits, from its place and the row.
fn of_rows<T: Send>(
    hidden: &Tensor<2>,
    head: &Tensor<2>,
    settings: &ScoringSettings,
    value: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let mut found = Vec::with_capacity(hidden.dims()[0]);
    for rows in chunks(hidden, head, settings) {
        let logits = logits(hidden, head, &rows);
        let Some(values) = Values::of(&logits) else {
            unreachable!("a product on the host stays there");
        };
        let logits = values.slice().par_chunks_exact(head.dims()[0]);
        found.par_extend(logits.zip(rows).map(|(logits, row)| value(row, logits)));
    }
    found
}

/// As [`rlvr_core::token_scores_backward`].
///
/// # Shapes
/// - `hidden`: `[M, D]`; `head`: `[V, D]`; `targets`, `grad_logprobs`, `grad_entropies`: `[M]`
/// - result: `hidden` `[M, D]`, `head` `[V, D]`
///
/// # Panics
/// If D or M differ, or a target is not below V.
pub fn token_scores_backward(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    grad_logprobs: Tensor<1>,
    grad_entropies: Option<Tensor<1>>,
    settings: &ScoringSettings,
) -> HeadGradients {
    let to_logprob = Values::of(&grad_logprobs);
    let to_entropy = grad_entropies.as_ref().map(Values::of);
    let (true, Some(to_logprob), None | Some(Some(_))) = (
        has_kernel(&hidden, &head, settings),
        to_logprob,
        &to_entropy,
    ) else {
        return rlvr_core::token_scores_backward(
            hidden,
            head,
            targets,
            grad_logprobs,
            grad_entropies,
            settings,
        );
    };
    let to_entropy = to_entropy.flatten();
    let slope = |row: usize| Slope {
        to_logprob: to_logprob.slice()[row],
        to_entropy: to_entropy.as_ref().map_or(0.0, |grad| grad.slice()[row]),
    };
    let hidden = settings.over_temperature(hidden);
    let targets = indices(targets, &hidden);
    let (mut parts, mut sum) = (Vec::new(), None);
    for rows in chunks(&hidden, &head, settings) {
        let grad = edit(logits(&hidden, &head, &rows), |logits| {
            let rows = logits
                .par_chunks_exact_mut(head.dims()[0])
                .zip(rows.clone());
            rows.for_each(|(logits, row)| wide::<Replace>((slope(row), logits, targets[row])));
        });
        let own = rows_of(&hidden, &rows);
        parts.push(matmul(grad.clone(), head.clone(), Precision::F32));
        sum = Some(match sum {
            None => matmul(grad.transpose(), own, Precision::F32),
            Some(sum) => matmul_add(sum, grad.transpose(), own),
        });
    }
    HeadGradients {
        hidden: settings.over_temperature(Tensor::cat(parts, 0)),
        head: sum.unwrap_or_else(|| head.zeros_like()),
    }
}

fn has_kernel(hidden: &Tensor<2>, head: &Tensor<2>, settings: &ScoringSettings) -> bool {
    settings.precision == Precision::F32 && hidden.dims()[0] > 0 && is_host(hidden) && is_host(head)
}

/// Target tokens as indices.
fn indices(targets: Tensor<1, Int>, hidden: &Tensor<2>) -> Vec<usize> {
    let targets: Vec<usize> = targets
        .into_data()
        .iter::<i64>()
        .map(|target| target as usize)
        .collect();
    assert_eq!(targets.len(), hidden.dims()[0], "token_scores: targets [M]");
    targets
}

fn chunks(
    hidden: &Tensor<2>,
    head: &Tensor<2>,
    settings: &ScoringSettings,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let num_rows = hidden.dims()[0];
    let chunk = rows_per_chunk(head.dims()[0], settings.max_logits_bytes);
    (0..num_rows)
        .step_by(chunk)
        .map(move |start| start..(start + chunk).min(num_rows))
}

fn rows_of(x: &Tensor<2>, rows: &Range<usize>) -> Tensor<2> {
    x.clone().narrow(0, rows.start, rows.len())
}

fn logits(hidden: &Tensor<2>, head: &Tensor<2>, rows: &Range<usize>) -> Tensor<2> {
    matmul(
        rows_of(hidden, rows),
        head.clone().transpose(),
        Precision::F32,
    )
}

/// What one row of logits sums to.
struct Statistics {
    /// `log sum_j exp z_j`.
    log_sum: f32,
    /// Nats.
    entropy: f32,
}

impl Statistics {
    #[inline(always)]
    fn of(logits: &[f32]) -> Self {
        let most = max(logits);
        let (sum, weighted) = softmax_sums(logits, most);
        let log = sum.ln();
        Self {
            log_sum: most + log,
            entropy: log - weighted / sum,
        }
    }
}

/// Gradients of the loss with respect to the two scores of one row.
struct Slope {
    to_logprob: f32,
    to_entropy: f32,
}

work!(RowStatistics = Statistics::of, 'a, &'a [f32] => Statistics);
work!(Replace = replace, 'a, (Slope, &'a mut [f32], usize) => ());

/// Replaces a row of logits by the loss's gradient with respect to it.
#[inline(always)]
fn replace((slope, logits, target): (Slope, &mut [f32], usize)) {
    let statistics = Statistics::of(logits);
    let (g, h) = (slope.to_logprob, slope.to_entropy);
    // -p_j (g + h (log p_j + H)), and g once more at the target.
    let offset = h.mul_add(statistics.entropy, g);
    for logit in logits.iter_mut() {
        let logprob = *logit - statistics.log_sum;
        *logit = -exp(logprob) * h.mul_add(logprob, offset);
    }
    logits[target] += g;
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, noise, values};
    use burn::tensor::TensorData;

    #[test]
    fn kernel_and_portable_path_agree() {
        let (rows, vocab, width) = (11, 97, 5);
        let hidden = noise([rows, width], 1) * 4.0;
        let head = noise([vocab, width], 2) * 4.0;
        let targets: Vec<i64> = (0..rows).map(|row| (row * 31 % vocab) as i64).collect();
        let targets = TensorData::new(targets, [rows]);
        let targets = Tensor::<1, Int>::from_data(targets, &hidden.device());
        let slopes = noise([2, rows], 3);
        let slope = |row: usize| slopes.clone().narrow(0, row, 1).squeeze_dim::<1>(0);
        let inputs = || (hidden.clone(), head.clone(), targets.clone());
        for temperature in [1.0, 0.7] {
            let settings = ScoringSettings {
                temperature,
                // Four rows per chunk.
                max_logits_bytes: 4 * 4 * vocab + 3,
                precision: Precision::F32,
            };
            let (h, w, t) = inputs();
            let found = token_scores(h, w, t, &settings);
            let (h, w, t) = inputs();
            let expected = rlvr_core::token_scores(h, w, t, &settings);
            close(&values(found.logprobs), &values(expected.logprobs), 1e-6);
            let entropies = values(expected.entropies);
            close(&values(found.entropies), &entropies, 1e-6);
            let (h, w, _) = inputs();
            let found = token_entropies(h, w, &settings);
            close(&values(found), &entropies, 1e-6);
            for entropy in [None, Some(slope(1))] {
                let (h, w, t) = inputs();
                let found = token_scores_backward(h, w, t, slope(0), entropy.clone(), &settings);
                let (h, w, t) = inputs();
                let expected =
                    rlvr_core::token_scores_backward(h, w, t, slope(0), entropy, &settings);
                close(&values(found.hidden), &values(expected.hidden), 2e-6);
                close(&values(found.head), &values(expected.head), 2e-6);
            }
        }
    }

    #[test]
    fn a_nan_in_a_row_is_not_hidden() {
        let mut row = vec![0.5; 40];
        row[7] = f32::NAN;
        assert!(Statistics::of(&row).log_sum.is_nan());
    }
}
