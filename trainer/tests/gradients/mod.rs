//! Scores and gradients of a policy over rows, and how two of them differ.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use trainer::batch::{MicroBatch, Row};
use trainer::gradient::{ScoreGradients, ScoringSettings, backward, forward};
use trainer::policy::decoder::Decoder;
use trainer::policy::tensor_name::tensor_name;

/// What one pass over rows gave.
pub struct Pass {
    /// Of all completion tokens, nats.
    pub logprobs: Vec<f32>,
    /// Likewise.
    pub entropies: Vec<f32>,
    /// By parameter, with its name in a checkpoint.
    pub gradients: Vec<(String, Vec<f32>)>,
}

/// The gradient is that of the sum of the log-probs, weighted with the advantages, and of the
/// entropies, weighted with `entropy_weight`.
pub fn pass(
    policy: &Decoder,
    rows: &[Row],
    entropy_weight: f64,
    scoring: &ScoringSettings,
) -> Pass {
    let device = policy.head_weight().device().inner();
    let batch = MicroBatch::new(&rows.iter().collect::<Vec<_>>(), &device);
    let forward = forward(policy, &batch, scoring);
    let scores = forward.scores.clone();
    let weights: Vec<f32> = rows
        .iter()
        .flat_map(|row| vec![row.advantage as f32; row.num_completion_tokens()])
        .collect();
    let gradients = ScoreGradients {
        logprobs: Tensor::from_floats(weights.as_slice(), &device),
        entropies: Some(scores.entropies.full_like(entropy_weight)),
        exact_kl: None,
    };
    let mut collect = Collect {
        gradients: backward(policy, forward, &batch, gradients),
        path: Vec::new(),
        found: Vec::new(),
    };
    policy.visit(&mut collect);
    Pass {
        logprobs: scores.logprobs.into_data().iter().collect(),
        entropies: scores.entropies.into_data().iter().collect(),
        gradients: collect.found,
    }
}

struct Collect {
    gradients: GradientsParams,
    path: Vec<String>,
    found: Vec<(String, Vec<f32>)>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.gradients.get::<D>(param.id).expect("a gradient");
        let name = tensor_name(&self.path.join(".")).name;
        let values = gradient.into_data().iter::<f32>().collect();
        self.found.push((name, values));
    }
}

/// Of a gradient beside an exact one.
#[derive(Debug)]
pub struct Likeness {
    /// Its size over the exact one's.
    pub size: f64,
    /// Of the angle between the two.
    pub cosine: f64,
}

impl Likeness {
    /// Of `found` to `exact`.
    pub fn of(found: &[f32], exact: &[f32]) -> Self {
        let (own, other) = (norm(found), norm(exact));
        let products = found.iter().zip(exact);
        let products = products.map(|(a, b)| f64::from(*a) * f64::from(*b));
        Self {
            size: own / other,
            cosine: products.sum::<f64>() / (own * other),
        }
    }
}

/// Euclidean, in 64 bits.
pub fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Mean and largest difference.
pub fn gaps(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let gaps = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    let most = gaps.clone().fold(0.0, f64::max);
    (gaps.sum::<f64>() / a.len() as f64, most)
}
