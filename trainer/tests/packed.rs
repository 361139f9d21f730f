//! The packed, tape-free pass of the update against the plain one: whole sequences, one at a time,
//! through `Decoder::hidden` under autodiff with the full log-softmax.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rlvr_backends::Precision;
use trainer::batch::{MicroBatch, Row, microbatches};
use trainer::gradient::{ScoreGradients, ScoringSettings, accumulate, backward, forward, logprobs};
use trainer::policy::config::{Architecture, ModelConfig, RopeScaling};
use trainer::policy::decoder::Decoder;
use trainer::policy::packed::Keep;
use trainer::record::PromptId;

const VOCAB: usize = 29;
const SCORING: ScoringSettings = ScoringSettings {
    temperature: 0.8,
    max_logits_bytes: 4096,
    precision: Precision::F32,
};

fn configs() -> [ModelConfig; 3] {
    let llama = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: VOCAB,
        hidden_size: 24,
        intermediate_size: 40,
        num_layers: 3,
        num_heads: 6,
        num_kv_heads: 2,
        head_dim: 4,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        attention_bias: false,
        qk_norm: false,
    };
    let qwen2 = ModelConfig {
        architecture: Architecture::Qwen2,
        attention_bias: true,
        tie_word_embeddings: false,
        ..llama.clone()
    };
    let qwen3 = ModelConfig {
        architecture: Architecture::Qwen3,
        qk_norm: true,
        num_kv_heads: 6,
        ..llama.clone()
    };
    [llama, qwen2, qwen3]
}

/// Three prompts of different lengths with three, four and one completions, one of them a single
/// token, in mixed order.
fn rows() -> Vec<Row> {
    let shapes = [
        (0, 5, 4),
        (1, 2, 1),
        (0, 5, 7),
        (2, 9, 3),
        (1, 2, 6),
        (0, 5, 2),
        (1, 2, 5),
        (1, 2, 3),
    ];
    let row = |(index, &(prompt, prompt_tokens, completion_tokens))| {
        let token = |place: usize, salt: usize| ((place * 7 + salt * 11 + 3) % VOCAB) as u32;
        let prompt_part = (0..prompt_tokens).map(|place| token(place, prompt));
        let completion = (0..completion_tokens).map(|place| token(place, index + 5));
        Row {
            prompt_id: PromptId(prompt as u64),
            rollout_index: index as u32,
            tokens: prompt_part.chain(completion).collect(),
            num_prompt_tokens: prompt_tokens,
            advantage: 0.0,
            sampler_logprobs: vec![0.0; completion_tokens],
            old_logprobs: None,
        }
    };
    shapes.iter().enumerate().map(row).collect()
}

/// Weights of log-prob and entropy of completion token `token` of row `row` in the loss.
fn weights(row: usize, token: usize) -> (f32, f32) {
    let place = (row * 13 + token * 5) as f32;
    ((place * 0.7).sin(), 0.3 * (place * 1.3).cos())
}

fn seeded(config: &ModelConfig) -> Decoder {
    let decoder = Decoder::init(config, 7, &Device::default().autodiff());
    // Fresh norms are ones and biases zeros, which would hide mistakes in their gradients.
    struct Stir(f32);
    impl burn::module::ModuleMapper for Stir {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, mapper) = param.consume();
            let count = tensor.shape().num_elements();
            let noise: Vec<f32> = (0..count)
                .map(|place| (place as f32 * 0.37 + self.0).sin() * 0.2)
                .collect();
            self.0 += 1.0;
            let noise = Tensor::<1>::from_floats(noise.as_slice(), &tensor.device().inner());
            let noise = noise.reshape(tensor.shape());
            let stirred = Tensor::from_inner(tensor.inner() + noise).require_grad();
            Param::from_mapped_value(id, stirred, mapper)
        }
    }
    decoder.map(&mut Stir(0.0))
}

/// Gradient values of every parameter, in the module's order.
fn values(policy: &Decoder, gradients: &GradientsParams) -> Vec<Vec<f32>> {
    struct Collect<'a>(&'a GradientsParams, Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).expect("a gradient");
            assert_eq!(gradient.dims(), param.val().dims());
            self.1.push(gradient.into_data().iter::<f32>().collect());
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    policy.visit(&mut collect);
    collect.1
}

/// Log-probs of every row and the gradient, sequence by sequence on the tape.
fn plain(policy: &Decoder, rows: &[Row]) -> (Vec<Vec<f32>>, GradientsParams) {
    let device = policy.head_weight().device();
    let mut loss = Tensor::<1>::zeros([1], &device);
    let mut scores = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let length = row.tokens.len();
        let tokens: Vec<i64> = row.tokens.iter().map(|&token| i64::from(token)).collect();
        let input = TensorData::new(tokens.clone(), [1, length]);
        let input = Tensor::<2, Int>::from_data(input, &device);
        let hidden = policy.hidden(input).squeeze_dim::<2>(0) / SCORING.temperature;
        let logprobs = log_softmax(hidden.matmul(policy.head_weight().transpose()), 1);
        let count = row.num_completion_tokens();
        let logprobs = logprobs.narrow(0, row.num_prompt_tokens - 1, count);
        let targets = TensorData::new(tokens[row.num_prompt_tokens..].to_vec(), [count, 1]);
        let targets = Tensor::<2, Int>::from_data(targets, &device);
        let chosen = logprobs.clone().gather(1, targets).squeeze_dim::<1>(1);
        let entropy = (logprobs.clone().exp() * logprobs).sum_dim(1).neg();
        let (w, e): (Vec<f32>, Vec<f32>) = (0..count).map(|token| weights(index, token)).unzip();
        let constant = |values: Vec<f32>| Tensor::<1>::from_floats(values.as_slice(), &device);
        loss = loss
            + (chosen.clone() * constant(w)).sum()
            + (entropy.squeeze_dim::<1>(1) * constant(e)).sum();
        scores.push(chosen.inner().into_data().iter::<f32>().collect());
    }
    let gradients = GradientsParams::from_grads(loss.backward(), policy);
    (scores, gradients)
}

/// The same through micro-batches of at most `max_tokens` packed rows.
fn packed(
    policy: &Decoder,
    rows: &[Row],
    max_tokens: usize,
) -> (Vec<Vec<f32>>, GradientsParams, usize) {
    let device = policy.head_weight().device().inner();
    let views: Vec<&Row> = rows.iter().collect();
    let mut scores = vec![Vec::new(); rows.len()];
    let mut sum = None;
    let batches = microbatches(&views, max_tokens);
    let num_batches = batches.len();
    for members in batches {
        let batch_rows: Vec<&Row> = members.iter().map(|&row| views[row]).collect();
        let batch = MicroBatch::new(&batch_rows, &device);
        let (mut w, mut e) = (Vec::new(), Vec::new());
        for &row in &members {
            for token in 0..rows[row].num_completion_tokens() {
                let (to_logprob, to_entropy) = weights(row, token);
                w.push(to_logprob);
                e.push(to_entropy);
            }
        }
        let pass = forward(policy, &batch, &SCORING);
        let found: Vec<f32> = pass.scores.logprobs.clone().into_data().iter().collect();
        for (&row, values) in members.iter().zip(batch.split(&found)) {
            scores[row] = values;
        }
        let constant = |values: Vec<f32>| Tensor::<1>::from_floats(values.as_slice(), &device);
        let gradients = ScoreGradients {
            logprobs: constant(w),
            entropies: Some(constant(e)),
            exact_kl: None,
        };
        let part = backward(policy, pass, &batch, gradients);
        sum = Some(accumulate(policy, sum, part));
    }
    (scores, sum.unwrap(), num_batches)
}

/// Every value within `tolerance` of the largest of its tensor.
fn assert_close(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let largest = expected
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        assert!(largest > 0.0, "tensor {place} is all zero");
        for (a, b) in found.iter().zip(expected) {
            assert!(
                (a - b).abs() <= tolerance * largest,
                "tensor {place}: {a} and {b}"
            );
        }
    }
}

#[test]
fn log_probs_and_gradients_equal_those_of_the_plain_pass() {
    for config in configs() {
        let (policy, rows) = (seeded(&config), rows());
        let (expected_scores, expected) = plain(&policy, &rows);
        let expected = values(&policy, &expected);
        // All in one, groups cut apart, every completion alone.
        for (max_tokens, expected_batches) in [(1000, 1), (14, 4), (1, rows.len())] {
            let (scores, gradients, num_batches) = packed(&policy, &rows, max_tokens);
            assert_eq!(num_batches, expected_batches);
            assert_close(&scores, &expected_scores, 2e-6);
            assert_close(&values(&policy, &gradients), &expected, 1e-5);
        }
        let batch = MicroBatch::new(&rows.iter().collect::<Vec<_>>(), &Device::default());
        let frozen = logprobs(&policy.valid(), &batch, &SCORING);
        let frozen: Vec<f32> = frozen.into_data().iter().collect();
        assert_close(&batch.split(&frozen), &expected_scores, 2e-6);
    }
}

#[test]
fn recomputing_a_block_gives_the_same_bits() {
    for config in configs() {
        let (policy, rows) = (seeded(&config), rows());
        let batch = MicroBatch::new(&rows.iter().collect::<Vec<_>>(), &Device::default());
        let gradients = |keep, precision| {
            let (hidden, trace) = policy.packed_hidden(&batch.packed, keep, precision);
            let head = policy.head_weight().inner().zeros_like();
            let grad = hidden.clone().square();
            let gradients = policy.packed_backward(&batch.packed, trace.unwrap(), grad, head);
            values(&policy, &gradients)
        };
        for precision in [Precision::F32, Precision::Bf16] {
            let [again, kept] = [Keep::Inputs, Keep::Products].map(|it| gradients(it, precision));
            assert_eq!(again, kept);
        }
    }
}
