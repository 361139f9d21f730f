//! Model folders: what is saved loads again bit for bit, and every kind of damage is named.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod tiny;

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;
use trainer::policy::folder::ModelFolder;
use trainer::policy::load::load_module;
use trainer::policy::save::save_folder;
use trainer::record::ChatMessage;

const ARCHITECTURES: [&str; 3] = ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"];

/// A saved folder with random weights, `model` inside a temporary folder.
fn saved(architecture: &str, tied: bool) -> (TempDir, ModelFolder, tiny::Tree) {
    let home = tempfile::tempdir().unwrap();
    let source = home.path().join("source");
    std::fs::create_dir(&source).unwrap();
    tiny::write_source(&source, architecture, tied);
    let config = ModelFolder::open(&source).unwrap().config;
    let tree = tiny::Tree::random(&config, &Device::flex());
    let path = home.path().join("model");
    save_folder(&path, &config, &tree, &source).unwrap();
    let folder = ModelFolder::open(&path).unwrap();
    assert_eq!(folder.config, config);
    (home, folder, tree)
}

/// The weights of another seed, into which a folder's are loaded.
fn blank(folder: &ModelFolder) -> tiny::Tree {
    tiny::Tree::random(&folder.config, &Device::flex())
}

type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn read_tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .iter()
        .map(|(name, view)| {
            (
                name.into(),
                view.dtype(),
                view.shape().to_vec(),
                view.data().to_vec(),
            )
        })
        .collect();
    tensors.sort_by(|left, right| left.0.cmp(&right.0));
    tensors
}

fn write_tensors(path: &Path, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) {
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            (
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), data).unwrap(),
            )
        })
        .collect();
    let views: Vec<(&str, &TensorView)> = views.iter().map(|(name, view)| (*name, view)).collect();
    serialize_to_file(views, None, path).unwrap();
}

/// Splits the single file into two shards with an index.
fn shard(folder: &Path) {
    let single = folder.join("model.safetensors");
    let tensors = read_tensors(&single);
    std::fs::remove_file(&single).unwrap();
    let mut map = serde_json::Map::new();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    for (number, part) in [(1, first), (2, second)] {
        let name = format!("model-{number:05}-of-00002.safetensors");
        write_tensors(&folder.join(&name), part);
        map.extend(part.iter().map(|tensor| (tensor.0.clone(), json!(name))));
    }
    write_index(folder, &Value::Object(map));
}

fn write_index(folder: &Path, map: &Value) {
    let index = json!({ "metadata": {}, "weight_map": map }).to_string();
    std::fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

fn load_error(folder: &ModelFolder) -> String {
    load_module(folder, blank(folder)).unwrap_err().to_string()
}

fn open_error(path: &Path) -> String {
    ModelFolder::open(path).unwrap_err().to_string()
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[test]
fn saved_weights_load_bit_for_bit() {
    for architecture in ARCHITECTURES {
        for tied in [false, true] {
            let (home, folder, tree) = saved(architecture, tied);
            let other = blank(&folder);
            assert_ne!(other.probes(), tree.probes());
            let loaded = load_module(&folder, other).unwrap();
            assert_eq!(loaded.probes(), tree.probes());
            // Every parameter: what is saved from the loaded module is the same file.
            let again = home.path().join("again");
            save_folder(&again, &folder.config, &loaded, &folder.path).unwrap();
            for name in ["model.safetensors", "config.json", "tokenizer.json"] {
                let first = std::fs::read(folder.path.join(name)).unwrap();
                assert_eq!(first, std::fs::read(again.join(name)).unwrap(), "{name}");
            }
        }
    }
}

#[test]
fn the_file_holds_the_checkpoints_names_and_layout() {
    let (_home, folder, tree) = saved("Qwen2ForCausalLM", false);
    let tensors = read_tensors(&folder.path.join("model.safetensors"));
    let find = |name: &str| tensors.iter().find(|tensor| tensor.0 == name).unwrap();
    assert_eq!(tensors.len(), 3 + 2 * 12);
    assert_eq!(find("lm_head.weight").2, [12, 8]);
    assert_eq!(find("model.norm.weight").2, [8]);
    assert_eq!(find("model.layers.1.self_attn.v_proj.bias").2, [12]);
    let key = find("model.layers.0.self_attn.k_proj.weight");
    assert_eq!(key.2, [12, 8], "[out, in]");
    let [ours, _] = tree.probes();
    let stored: Vec<f32> = key
        .3
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    assert_eq!(stored[5 * 8 + 3], ours[3 * 12 + 5]);
}

#[test]
fn loading_keeps_gradients_where_the_module_has_them() {
    let (_home, folder, tree) = saved("LlamaForCausalLM", true);
    let device = Device::flex().autodiff();
    let tracked = tiny::Tree::random(&folder.config, &device);
    let loaded = load_module(&folder, tracked).unwrap();
    assert_eq!(loaded.probes(), tree.probes());
    assert!(loaded.is_tracked());
    assert!(!load_module(&folder, blank(&folder)).unwrap().is_tracked());
    assert!(loaded.devices().iter().all(|device| device.is_autodiff()));
}

#[test]
fn shards_are_one_model() {
    let (_home, folder, tree) = saved("LlamaForCausalLM", true);
    shard(&folder.path);
    let loaded = load_module(&folder, blank(&folder)).unwrap();
    assert_eq!(loaded.probes(), tree.probes());
}

#[test]
fn a_damaged_set_of_shards_names_shard_and_tensor() {
    let (_home, folder, _) = saved("LlamaForCausalLM", true);
    shard(&folder.path);
    let second = folder.path.join("model-00002-of-00002.safetensors");
    let kept = std::fs::read(&second).unwrap();
    std::fs::remove_file(&second).unwrap();
    assert_says(
        &load_error(&folder),
        &[
            "model-00002-of-00002.safetensors` is missing",
            "tensor `model.",
        ],
    );
    let mut tensors = read_tensors_from(&kept);
    let lost = tensors.pop().unwrap().0;
    write_tensors(&second, &tensors);
    assert_says(
        &load_error(&folder),
        &["model-00002", "lacks tensor", &lost],
    );
    std::fs::write(&second, kept).unwrap();
    let first = folder.path.join("model-00001-of-00002.safetensors");
    let mut doubled = read_tensors(&first);
    doubled.extend(read_tensors(&second));
    write_tensors(&first, &doubled);
    assert_says(&load_error(&folder), &["model-00002", "again"]);
}

fn read_tensors_from(bytes: &[u8]) -> Tensors {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    std::fs::write(&path, bytes).unwrap();
    read_tensors(&path)
}

#[test]
fn an_index_cannot_lead_out_of_the_folder() {
    let (_home, folder, _) = saved("LlamaForCausalLM", true);
    std::fs::remove_file(folder.path.join("model.safetensors")).unwrap();
    for file in [
        json!("../secret.safetensors"),
        json!("/etc/passwd"),
        json!(""),
        json!(1),
    ] {
        write_index(&folder.path, &json!({ "model.norm.weight": file }));
        assert_says(
            &load_error(&folder),
            &["index.json", "`model.norm.weight`", "file name"],
        );
    }
    let index = folder.path.join("model.safetensors.index.json");
    std::fs::write(&index, "{}").unwrap();
    assert_says(&load_error(&folder), &["index.json", "weight_map"]);
}

#[test]
fn tensors_that_do_not_fit_are_named_with_both_shapes() {
    let (_home, folder, _) = saved("LlamaForCausalLM", false);
    let path = folder.path.join("model.safetensors");
    let whole = read_tensors(&path);
    let without: Tensors = whole
        .iter()
        .filter(|tensor| tensor.0 != "lm_head.weight")
        .cloned()
        .collect();
    write_tensors(&path, &without);
    assert_says(
        &load_error(&folder),
        &[
            "model.safetensors",
            "lacks tensor `lm_head.weight` of shape [12, 8]",
            "tie_word",
        ],
    );
    let mut surplus = whole.clone();
    surplus.push(("model.extra.weight".into(), Dtype::F32, vec![1], vec![0; 4]));
    write_tensors(&path, &surplus);
    assert_says(
        &load_error(&folder),
        &["model.safetensors", "`model.extra.weight`", "no place"],
    );
    surplus.last_mut().unwrap().0 = "model.layers.0.self_attn.rotary_emb.inv_freq".into();
    write_tensors(&path, &surplus);
    assert!(
        load_module(&folder, blank(&folder)).is_ok(),
        "frequencies follow from the config"
    );
    let mut turned = whole;
    let tensor = turned
        .iter_mut()
        .find(|tensor| tensor.0 == "model.layers.1.mlp.up_proj.weight");
    tensor.unwrap().2 = vec![8, 20];
    write_tensors(&path, &turned);
    assert_says(
        &load_error(&folder),
        &[
            "`model.layers.1.mlp.up_proj.weight` with shape [8, 20]",
            "implies [20, 8]",
        ],
    );
}

#[test]
fn a_stored_head_of_a_tied_model_must_be_the_embedding() {
    let (_home, folder, tree) = saved("LlamaForCausalLM", true);
    let path = folder.path.join("model.safetensors");
    let mut tensors = read_tensors(&path);
    let mut head = tensors[0].clone();
    assert_eq!(head.0, "model.embed_tokens.weight");
    head.0 = "lm_head.weight".into();
    tensors.push(head);
    write_tensors(&path, &tensors);
    assert_eq!(
        load_module(&folder, blank(&folder)).unwrap().probes(),
        tree.probes()
    );
    tensors.last_mut().unwrap().3[7] ^= 1;
    write_tensors(&path, &tensors);
    assert_says(
        &load_error(&folder),
        &["`lm_head.weight` that differs", "tie_word_embeddings"],
    );
}

#[test]
fn a_truncated_file_and_a_folder_without_weights_are_named() {
    let (_home, folder, _) = saved("LlamaForCausalLM", true);
    let path = folder.path.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    assert_says(
        &load_error(&folder),
        &["model.safetensors` is truncated", "`model.norm.weight`"],
    );
    std::fs::remove_file(&path).unwrap();
    assert_says(
        &load_error(&folder),
        &["holds no weights", "model.safetensors.index.json"],
    );
}

#[test]
fn half_precision_weights_load() {
    let (_home, folder, tree) = saved("LlamaForCausalLM", true);
    let path = folder.path.join("model.safetensors");
    let mut tensors = read_tensors(&path);
    for tensor in &mut tensors {
        // bf16 is the upper half of f32.
        tensor.1 = Dtype::BF16;
        tensor.3 = tensor
            .3
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|b| [b[2], b[3]])
            .collect();
    }
    write_tensors(&path, &tensors);
    let loaded = load_module(&folder, blank(&folder)).unwrap();
    for (ours, full) in loaded
        .probes()
        .iter()
        .flatten()
        .zip(tree.probes().iter().flatten())
    {
        assert_eq!(ours.to_bits(), full.to_bits() & 0xffff_0000);
    }
}

#[test]
fn a_folder_opens_with_everything_in_it() {
    let (_home, folder, _) = saved("LlamaForCausalLM", true);
    assert_eq!(folder.stop_ids, [2, 11]);
    assert_eq!(folder.tokenizer.vocab_size(), 12);
    let message = ChatMessage {
        role: "user".into(),
        content: "hello".into(),
    };
    let text = folder.template.unwrap().render(&[message], false).unwrap();
    assert_eq!(text, "<s>user: hello\n");
}

#[test]
fn stop_tokens_come_from_the_first_file_that_names_them() {
    let (_home, folder, _) = saved("LlamaForCausalLM", true);
    let generation = folder.path.join("generation_config.json");
    let stops = || ModelFolder::open(&folder.path).unwrap().stop_ids;
    std::fs::write(&generation, "{\"eos_token_id\": 5}").unwrap();
    assert_eq!(stops(), [5]);
    std::fs::write(&generation, "{\"eos_token_id\": [5, 12]}").unwrap();
    assert_says(
        &open_error(&folder.path),
        &[
            "generation_config.json",
            "eos_token_id = 12",
            "below vocab_size = 12",
        ],
    );
    std::fs::remove_file(&generation).unwrap();
    assert_eq!(stops(), [2], "config.json");
    let mut config = tiny::config_json("LlamaForCausalLM", true);
    config["eos_token_id"] = Value::Null;
    std::fs::write(folder.path.join("config.json"), config.to_string()).unwrap();
    let tokenizer_config = folder.path.join("tokenizer_config.json");
    std::fs::write(&tokenizer_config, "{\"eos_token\": \"<pad>\"}").unwrap();
    assert_eq!(stops(), [11], "tokenizer_config.json");
    std::fs::remove_file(tokenizer_config).unwrap();
    assert_eq!(stops(), [0; 0]);
}

#[test]
fn incomplete_folders_are_named() {
    let (home, folder, _) = saved("LlamaForCausalLM", true);
    assert_says(
        &open_error(&home.path().join("nowhere")),
        &["no model folder", "nowhere"],
    );
    let file = folder.path.join("config.json");
    assert_says(&open_error(&file), &["config.json` is not a folder"]);
    let tokenizer = folder.path.join("tokenizer.json");
    std::fs::write(&tokenizer, tiny::tokenizer_json(13).to_string()).unwrap();
    assert_says(
        &open_error(&folder.path),
        &["tokenizer.json` has tokens up to id 12", "vocab_size = 12"],
    );
    std::fs::write(&tokenizer, tiny::tokenizer_json(9).to_string()).unwrap();
    assert!(
        ModelFolder::open(&folder.path).is_ok(),
        "a padded embedding is fine"
    );
    std::fs::remove_file(&tokenizer).unwrap();
    assert_says(&open_error(&folder.path), &["tokenizer.json` is missing"]);
    std::fs::remove_file(&file).unwrap();
    assert_says(&open_error(&folder.path), &["config.json` is missing"]);
}

#[test]
fn saving_replaces_a_model_folder_and_nothing_else() {
    let (home, folder, tree) = saved("LlamaForCausalLM", true);
    // Over its own source.
    save_folder(&folder.path, &folder.config, &tree, &folder.path).unwrap();
    assert!(ModelFolder::open(&folder.path).is_ok());
    let names = |path: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(home.path()),
        ["model", "source"],
        "no temporary folder stays"
    );
    let notes = folder.path.join("thesis.txt");
    std::fs::write(&notes, "do not lose").unwrap();
    let error = save_folder(&folder.path, &folder.config, &tree, &folder.path).unwrap_err();
    assert_says(&error.to_string(), &["holds `thesis.txt`", "not replaced"]);
    assert!(notes.exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_leaves_nothing() {
    let (home, folder, tree) = saved("LlamaForCausalLM", true);
    let blocked = home.path().join("source/config.json/model");
    let error = save_folder(&blocked, &folder.config, &tree, &folder.path).unwrap_err();
    assert_says(&error.to_string(), &["cannot be written", "config.json"]);
}
