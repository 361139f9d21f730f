//! The decoder and the rollout engine against transformers in float64
//! (`fixtures/reference/decoder_golden.py`).

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::path::PathBuf;

use burn::module::Param;
use burn::nn::{Linear, RmsNorm};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rlvr_backends::Precision;
use safetensors::SafeTensors;
use serde::Deserialize;
use trainer::policy::config::ModelConfig;
use trainer::policy::decoder::Decoder;
use trainer::record::PromptId;
use trainer::rollout::{Engine, Request, RolloutConfig};
use trainer::seed::Stage;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: ModelConfig,
}

/// A small loader of its own, so that this test depends on the forward pass alone.
struct Golden {
    bytes: Vec<u8>,
    device: Device,
}

fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/golden")
}

impl Golden {
    fn open(case: &Case) -> Self {
        let path = golden_folder().join(format!("decoder_{}.safetensors", case.name));
        Self {
            bytes: std::fs::read(path).unwrap(),
            device: Device::default(),
        }
    }

    fn floats<const D: usize>(&self, name: &str) -> Tensor<D> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let values = view.data().chunks_exact(4);
        let values: Vec<f32> = values
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        Tensor::from_data(TensorData::new(values, view.shape()), &self.device)
    }

    fn tokens(&self, name: &str) -> Vec<Vec<u32>> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let values = view.data().chunks_exact(8);
        let values: Vec<u32> = values
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32)
            .collect();
        values
            .chunks(view.shape()[1])
            .map(<[u32]>::to_vec)
            .collect()
    }

    fn linear(&self, linear: &mut Linear, name: &str) {
        let weight = self.floats::<2>(&format!("{name}.weight"));
        linear.weight = Param::from_tensor(weight.transpose());
        if let Some(bias) = &mut linear.bias {
            *bias = Param::from_tensor(self.floats(&format!("{name}.bias")));
        }
    }

    fn norm(&self, norm: &mut RmsNorm, name: &str) {
        norm.gamma = Param::from_tensor(self.floats(&format!("{name}.weight")));
    }

    fn decoder(&self, config: &ModelConfig) -> Decoder {
        let mut decoder = Decoder::init(config, 0, &self.device);
        decoder.embed_tokens.weight = Param::from_tensor(self.floats("model.embed_tokens.weight"));
        if let Some(head) = &mut decoder.lm_head {
            *head = Param::from_tensor(self.floats("lm_head.weight"));
        }
        self.norm(&mut decoder.norm, "model.norm");
        for (place, block) in decoder.layers.iter_mut().enumerate() {
            let name = format!("model.layers.{place}");
            let attention = &mut block.self_attn;
            self.linear(&mut attention.q_proj, &format!("{name}.self_attn.q_proj"));
            self.linear(&mut attention.k_proj, &format!("{name}.self_attn.k_proj"));
            self.linear(&mut attention.v_proj, &format!("{name}.self_attn.v_proj"));
            self.linear(&mut attention.o_proj, &format!("{name}.self_attn.o_proj"));
            for (norm, part) in [
                (&mut attention.q_norm, "q_norm"),
                (&mut attention.k_norm, "k_norm"),
            ] {
                if let Some(norm) = norm {
                    self.norm(norm, &format!("{name}.self_attn.{part}"));
                }
            }
            self.linear(&mut block.mlp.gate_proj, &format!("{name}.mlp.gate_proj"));
            self.linear(&mut block.mlp.up_proj, &format!("{name}.mlp.up_proj"));
            self.linear(&mut block.mlp.down_proj, &format!("{name}.mlp.down_proj"));
            self.norm(
                &mut block.input_layernorm,
                &format!("{name}.input_layernorm"),
            );
            self.norm(
                &mut block.post_attention_layernorm,
                &format!("{name}.post_attention_layernorm"),
            );
        }
        decoder
    }
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden_folder().join("decoder_cases.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().unwrap()
}

fn assert_close(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let worst = got
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst < tolerance, "{name}: off by {worst}");
}

#[test]
fn logits_and_logprobs_agree_with_transformers() {
    for case in cases() {
        let golden = Golden::open(&case);
        let decoder = golden.decoder(&case.config);
        let tokens = golden.tokens("golden.tokens");
        let (rows, columns) = (tokens.len(), tokens[0].len());
        let flat: Vec<i64> = tokens.iter().flatten().map(|t| i64::from(*t)).collect();
        let input =
            Tensor::<2, Int>::from_data(TensorData::new(flat, [rows, columns]), &golden.device);
        let hidden = decoder.hidden(input.clone());
        let head = decoder.head_weight().transpose().unsqueeze();
        let logits: Tensor<3> = hidden.matmul(head);
        let expected = golden.floats::<3>("golden.logits");
        assert_close(&case.name, &values(logits.clone()), &values(expected), 1e-4);
        let logprobs = log_softmax(logits.narrow(1, 0, columns - 1), 2)
            .gather(2, input.narrow(1, 1, columns - 1).unsqueeze_dim(2));
        let expected = golden.floats::<2>("golden.logprobs");
        assert_close(&case.name, &values(logprobs), &values(expected), 1e-4);
    }
}

#[test]
fn greedy_completions_agree_with_transformers() {
    for case in cases() {
        let golden = Golden::open(&case);
        let decoder = golden.decoder(&case.config);
        let expected = golden.tokens("golden.greedy");
        let requests: Vec<Request> = expected
            .iter()
            .enumerate()
            .map(|(row, tokens)| Request {
                prompt_id: PromptId(row as u64),
                prompt_tokens: tokens[..7].to_vec(),
                num_completions: 1,
            })
            .collect();
        let config = RolloutConfig {
            temperature: 0.0,
            max_new_tokens: 33,
            ..RolloutConfig::default()
        };
        let params = config.sampling(Vec::new());
        let output = Engine::new(&case.config, config, Precision::F32)
            .roll_out(
                &decoder,
                &|_| String::new(),
                &requests,
                &params,
                0,
                Stage::Eval,
                0,
            )
            .unwrap();
        for (group, expected) in output.completions.iter().zip(&expected) {
            assert_eq!(group[0].tokens, expected[7..], "{}", case.name);
        }
    }
}
