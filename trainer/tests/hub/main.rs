//! Hub ids against a small local server: the cache, what is fetched, and every failure.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod server;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use server::{COMMIT, REPO, Server};
use tempfile::TempDir;
use trainer::policy::hub::{Hub, HubError};
use trainer::policy::snapshot::{RepoKind, Snapshot};

fn files(weights: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "pytorch_model.bin",
    ];
    names.extend(weights);
    let content = |name: &str| format!("the content of {name}").into_bytes();
    names
        .into_iter()
        .map(|name| (name.to_string(), content(name)))
        .collect()
}

fn hub(server: &Server) -> (TempDir, Hub) {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub {
        endpoint: server.endpoint.clone(),
        cache_dir: home.path().join("hub"),
        token: Some("hf_secret".into()),
        is_offline: false,
        is_progress_shown: false,
    };
    (home, hub)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The message of a failure, which never holds the token.
fn message(result: Result<std::path::PathBuf, HubError>) -> String {
    let error = result.unwrap_err();
    let message = format!("{error} {error:?}");
    assert!(!message.contains("hf_secret"), "{message}");
    message
}

#[test]
fn a_repository_is_fetched_once_and_only_what_is_needed() {
    let server = Server::start(files(&["model.safetensors"]));
    let (_home, hub) = hub(&server);
    let folder = hub.resolve(REPO).unwrap();
    assert!(folder.ends_with(format!("models--org--tiny/snapshots/{COMMIT}")));
    let wanted = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&folder), wanted);
    for name in wanted {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(text, format!("the content of {name}"));
    }
    assert!(
        server
            .state
            .lock()
            .unwrap()
            .tokens
            .iter()
            .all(|token| token == "Bearer hf_secret")
    );
    assert!(server.take_requests("/resolve/") > 0);
    assert_eq!(hub.resolve(REPO).unwrap(), folder);
    assert_eq!(
        server.take_requests("/resolve/"),
        0,
        "all of it was in the cache"
    );
    assert_eq!(hub.resolve(&format!("{REPO}@v1")).unwrap(), folder);
    assert_eq!(hub.resolve(&format!("{REPO}@{COMMIT}")).unwrap(), folder);
    assert_eq!(
        server.take_requests("/resolve/"),
        0,
        "other names of one commit share its files"
    );
}

#[test]
fn shards_come_with_their_index() {
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let index = "model.safetensors.index.json";
    let mut served = files(&[shards[0], shards[1], index, "consolidated.safetensors"]);
    let map = json!({ "weight_map": { "a": shards[0], "b": shards[1], "c": shards[0] } });
    served.insert(index.into(), map.to_string().into_bytes());
    let server = Server::start(served);
    let (_home, hub) = hub(&server);
    let folder = hub.resolve(REPO).unwrap();
    let fetched = names(&folder);
    assert!(
        shards
            .iter()
            .all(|shard| fetched.contains(&shard.to_string()))
    );
    assert!(!fetched.contains(&"consolidated.safetensors".to_string()));
    // A shard that the index names and the repository lacks.
    server.state.lock().unwrap().files.remove(shards[1]);
    std::fs::remove_file(folder.join(shards[1])).unwrap();
    let missing = message(hub.resolve(REPO));
    assert!(
        missing.contains(REPO) && missing.contains(shards[1]),
        "{missing}"
    );
}

#[test]
fn offline_the_cache_serves() {
    let server = Server::start(files(&["model.safetensors"]));
    let (_home, hub) = hub(&server);
    let offline = Hub {
        is_offline: true,
        ..hub.clone()
    };
    let never = message(offline.resolve(REPO));
    assert!(
        never.contains("not in the cache") && never.contains("HF_HUB_OFFLINE"),
        "{never}"
    );
    let folder = hub.resolve(REPO).unwrap();
    server.take_requests("");
    assert_eq!(offline.resolve(REPO).unwrap(), folder);
    assert_eq!(
        offline.resolve(&format!("{REPO}@{COMMIT}")).unwrap(),
        folder
    );
    assert_eq!(server.take_requests(""), 0);
    assert!(matches!(
        offline.resolve("org/tiny@v1"),
        Err(HubError::NotCached { .. })
    ));
    // Without a network the cache serves too.
    let unreachable = Hub {
        endpoint: "http://127.0.0.1:1".into(),
        ..hub.clone()
    };
    assert_eq!(unreachable.resolve(REPO).unwrap(), folder);
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let partial = message(unreachable.resolve(REPO));
    assert!(
        partial.contains("`tokenizer.json` in the cache"),
        "{partial}"
    );
}

#[test]
fn what_the_hub_lacks_is_named() {
    let server = Server::start(files(&[]));
    let (_home, hub) = hub(&server);
    let no_repo = message(hub.resolve("org/other"));
    assert!(
        no_repo.contains("`org/other`") && no_repo.contains("HF_TOKEN"),
        "{no_repo}"
    );
    let no_revision = message(hub.resolve("org/tiny@v2"));
    assert!(
        no_revision.contains("`v2`") && no_revision.contains("404"),
        "{no_revision}"
    );
    let no_weights = message(hub.resolve(REPO));
    assert!(
        no_weights.contains("no file `model.safetensors`"),
        "{no_weights}"
    );
    server
        .state
        .lock()
        .unwrap()
        .files
        .insert("model.safetensors".into(), vec![1]);
    server
        .state
        .lock()
        .unwrap()
        .lost
        .push("model.safetensors".into());
    let lost = message(hub.resolve(REPO));
    assert!(lost.contains("no file `model.safetensors`"), "{lost}");
    server.state.lock().unwrap().files.remove("tokenizer.json");
    let (_fresh, hub) = self::hub(&server);
    let no_tokenizer = message(hub.resolve(REPO));
    assert!(
        no_tokenizer.contains("no file `tokenizer.json`"),
        "{no_tokenizer}"
    );
}

#[test]
fn without_a_network_the_message_says_what_to_do() {
    let server = Server::start(BTreeMap::new());
    let (_home, hub) = hub(&server);
    let unreachable = Hub {
        endpoint: "http://user:password@127.0.0.1:1".into(),
        ..hub
    };
    let network = message(unreachable.resolve(REPO));
    assert!(
        network.contains("http://127.0.0.1:1 cannot be reached"),
        "{network}"
    );
    assert!(
        network.contains("local folder") && !network.contains("password"),
        "{network}"
    );
}

#[test]
fn a_snapshot_lists_every_file() {
    let server = Server::start(files(&["data/train.parquet", "../outside", "/etc/outside"]));
    let (_home, hub) = hub(&server);
    let snapshot = Snapshot::open(&hub, RepoKind::Model, REPO, "main").unwrap();
    assert!(!snapshot.names().iter().any(|name| name.contains("outside")));
    assert!(!format!("{snapshot:?}").contains("hf_secret"));
    assert!(snapshot.has("data/train.parquet") && !snapshot.has("data/test.parquet"));
    let path = snapshot.fetch("data/train.parquet").unwrap();
    assert_eq!(
        std::fs::read(path).unwrap(),
        b"the content of data/train.parquet"
    );
    snapshot.finish().unwrap();
    let offline = Hub {
        is_offline: true,
        ..hub
    };
    let cached = Snapshot::open(&offline, RepoKind::Model, REPO, "main").unwrap();
    assert_eq!(cached.names(), ["data/train.parquet"]);
    assert_eq!(cached.commit(), COMMIT);
}
