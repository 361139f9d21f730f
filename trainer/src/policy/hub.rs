//! Where a model is: a folder on this machine, or a repository on a Hugging Face hub.
//!
//! Hub files go into the cache that all Hugging Face tools share, so a model that another tool has
//! fetched is not fetched again. Settings come from the environment, as there: `HF_HOME`,
//! `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`.

use std::path::{Path, PathBuf};

use hf_hub::Cache;
use thiserror::Error;

use super::snapshot::{RepoKind, Snapshot};
use super::weights::{INDEX_FILE, SINGLE_FILE, WeightsError, read_index};

/// The public hub.
const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// Files without which a folder is not a model.
const REQUIRED_FILES: [&str; 2] = ["config.json", "tokenizer.json"];

/// Files that are fetched where the repository has them.
const OPTIONAL_FILES: [&str; 8] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
    "LICENSE",
];

/// A model that could not be found or fetched. No message holds a token.
#[derive(Debug, Error)]
pub enum HubError {
    /// The specification is neither an existing folder nor a hub id.
    #[error(
        "`{spec}` is neither an existing folder nor a hub id (`org/name` or `org/name@revision`)"
    )]
    NotASpec {
        /// What was given.
        spec: String,
    },
    /// The specification is a file.
    #[error("`{spec}` is a file; give the folder that holds config.json, or a hub id")]
    NotAFolder {
        /// What was given.
        spec: String,
    },
    /// The hub does not have the repository, or does not show it.
    #[error(
        "{endpoint} has no repository `{repo}` at revision `{revision}` that you may read \
         (status {status}); check the name, and for a private or gated one set HF_TOKEN \
         (no local folder has that name either)"
    )]
    RepoMissing {
        /// The hub.
        endpoint: String,
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The HTTP status.
        status: u16,
    },
    /// The repository does not have a file, or the cached part of it does not.
    #[error("`{repo}` at revision `{revision}` has no file `{file}`{hint}")]
    FileMissing {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The file.
        file: String,
        /// What may help.
        hint: &'static str,
    },
    /// Working offline, and the repository was never fetched.
    #[error(
        "`{repo}` at revision `{revision}` is not in the cache `{}`, and HF_HUB_OFFLINE forbids \
         fetching it", .cache.display()
    )]
    NotCached {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub cannot be reached.
    #[error(
        "{endpoint} cannot be reached for `{repo}`: {reason}; check the network and HF_ENDPOINT, \
         or give a local folder"
    )]
    Network {
        /// The hub.
        endpoint: String,
        /// The repository.
        repo: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is not a hub's, or a download failed.
    #[error("fetching `{file}` of `{repo}` from {endpoint} failed: {reason}")]
    Fetch {
        /// The hub.
        endpoint: String,
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// What went wrong.
        reason: String,
    },
    /// The cache cannot be placed or written.
    #[error("the model cache `{}` cannot be used: {reason}", .path.display())]
    Cache {
        /// The cache.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The list of shards cannot be used.
    #[error(transparent)]
    Index(#[from] WeightsError),
}

/// How to reach a hub and where to keep what it gives.
#[derive(Clone)]
pub struct Hub {
    /// Address, without a slash at the end.
    pub endpoint: String,
    /// The cache's `hub` folder.
    pub cache_dir: PathBuf,
    /// Access token; never printed.
    pub token: Option<String>,
    /// True if only the cache may be used.
    pub is_offline: bool,
    /// True if downloads show a bar on a terminal.
    pub is_progress_shown: bool,
}

impl core::fmt::Debug for Hub {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &without_password(&self.endpoint))
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("is_offline", &self.is_offline)
            .finish_non_exhaustive()
    }
}

/// The folder of `spec`, with the hub's settings from the environment; see [`Hub::resolve`].
pub fn resolve(spec: &str) -> Result<PathBuf, HubError> {
    if let Some(folder) = existing_folder(spec)? {
        return Ok(folder);
    }
    Hub::from_env(|name| std::env::var(name).ok())?.resolve(spec)
}

impl Hub {
    /// Settings from environment variables, read through `variable`.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
            Some(cache?.join("huggingface"))
        });
        let home = home.ok_or_else(|| HubError::Cache {
            path: "~/.cache/huggingface".into(),
            reason: "there is no home folder; set HF_HOME".into(),
        })?;
        let cache_dir = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let stored_token = || Cache::new(home.join("hub")).token();
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| PUBLIC_ENDPOINT.into());
        let offline = variable("HF_HUB_OFFLINE")
            .unwrap_or_default()
            .to_lowercase();
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            // The cache's links are relative and made from absolute paths.
            cache_dir: std::path::absolute(&cache_dir).unwrap_or(cache_dir),
            token: variable("HF_TOKEN").or_else(stored_token),
            is_offline: ["1", "on", "yes", "true"].contains(&offline.as_str()),
            is_progress_shown: true,
        })
    }

    /// The folder of `spec`: itself if it is an existing folder, else a snapshot in the cache of
    /// the repository `org/name` at `revision` (`main` if none is given), fetched as far as it is
    /// not there. All files of a snapshot belong to one commit. When the hub cannot be reached, the
    /// last commit that was fetched serves.
    pub fn resolve(&self, spec: &str) -> Result<PathBuf, HubError> {
        if let Some(folder) = existing_folder(spec)? {
            return Ok(folder);
        }
        let (repo, revision) =
            parse_id(spec).ok_or_else(|| HubError::NotASpec { spec: spec.into() })?;
        let snapshot = Snapshot::open(self, RepoKind::Model, repo, revision)?;
        for file in REQUIRED_FILES {
            snapshot.fetch(file)?;
        }
        for file in OPTIONAL_FILES {
            if snapshot.has(file) {
                snapshot.fetch(file)?;
            }
        }
        fetch_weights(&snapshot)?;
        snapshot.finish()?;
        Ok(snapshot.folder().into())
    }

    /// The endpoint as it may appear in a message.
    pub(super) fn shown_endpoint(&self) -> String {
        without_password(&self.endpoint)
    }

    /// `text` as it may appear in a message: a token in it is removed.
    pub(super) fn shown(&self, text: &str) -> String {
        let text = text.replace(&self.endpoint, &self.shown_endpoint());
        match self.token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => text.replace(token, "..."),
            None => text,
        }
    }
}

fn fetch_weights(snapshot: &Snapshot) -> Result<(), HubError> {
    if snapshot.has(SINGLE_FILE) || !snapshot.has(INDEX_FILE) {
        snapshot.fetch(SINGLE_FILE)?;
        return Ok(());
    }
    let index = snapshot.fetch(INDEX_FILE)?;
    let shards: std::collections::BTreeSet<String> = read_index(&index)?.into_values().collect();
    for shard in shards {
        snapshot.fetch(&shard)?;
    }
    Ok(())
}

fn existing_folder(spec: &str) -> Result<Option<PathBuf>, HubError> {
    let path = Path::new(spec);
    match (path.is_dir(), path.exists()) {
        (true, _) => Ok(Some(path.into())),
        (false, true) => Err(HubError::NotAFolder { spec: spec.into() }),
        (false, false) => Ok(None),
    }
}

/// `org/name[@revision]`, with the characters that the hub allows.
pub fn parse_id(spec: &str) -> Option<(&str, &str)> {
    let (repo, revision) = spec.split_once('@').unwrap_or((spec, "main"));
    let (org, name) = repo.split_once('/')?;
    let is_plain = |part: &str, extra: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-', '/'])
            && !part.ends_with(['.', '-', '/'])
            && !part.contains("..")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    let is_id = is_plain(org, "._-") && is_plain(name, "._-") && is_plain(revision, "._-/");
    is_id.then_some((repo, revision))
}

/// An address without the `user:password@` that it may carry.
fn without_password(endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = match rest.split_once('/') {
                Some((authority, path)) => (authority, format!("/{path}")),
                None => (rest, String::new()),
            };
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{path}")
        }
        None => endpoint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_paths_are_told_apart() {
        assert_eq!(
            parse_id("org/some-model_1.5"),
            Some(("org/some-model_1.5", "main"))
        );
        assert_eq!(
            parse_id("org/name@refs/pr/3"),
            Some(("org/name", "refs/pr/3"))
        );
        for path in [
            "name", "./a/b", "/a/b", "a/b/c", "a/../b", "a b/c", "a/", "a/b@", "a/b@../x",
        ] {
            assert_eq!(parse_id(path), None, "{path}");
        }
        let error = resolve("./no/such/folder").unwrap_err().to_string();
        assert!(error.contains("`./no/such/folder` is neither"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            resolve(folder.path().to_str().unwrap()).unwrap(),
            folder.path()
        );
        let file = folder.path().join("config.json");
        std::fs::write(&file, "{}").unwrap();
        assert!(matches!(
            resolve(file.to_str().unwrap()),
            Err(HubError::NotAFolder { .. })
        ));
    }

    #[test]
    fn settings_come_from_the_environment() {
        let home = tempfile::tempdir().unwrap();
        let text = home.path().to_str().unwrap();
        let read = |pairs: &[(&str, &str)]| {
            Hub::from_env(|name| {
                let found = pairs.iter().find(|pair| pair.0 == name);
                found.map(|pair| pair.1.to_string())
            })
            .unwrap()
        };
        let plain = read(&[("HF_HOME", text), ("HF_TOKEN", "")]);
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache_dir, home.path().join("hub"));
        assert_eq!((plain.token, plain.is_offline), (None, false));
        std::fs::write(home.path().join("token"), "stored\n").unwrap();
        assert_eq!(read(&[("HF_HOME", text)]).token.as_deref(), Some("stored"));
        let all = read(&[
            ("HF_HOME", text),
            ("HF_HUB_CACHE", "/elsewhere"),
            ("HF_ENDPOINT", "http://user:pw@mirror/hub/"),
            ("HF_TOKEN", "secret"),
            ("HF_HUB_OFFLINE", "TRUE"),
        ]);
        assert_eq!(all.cache_dir, Path::new("/elsewhere"));
        assert_eq!(all.endpoint, "http://user:pw@mirror/hub");
        assert!(all.is_offline);
        let shown = format!(
            "{all:?} {}",
            all.shown("a secret at http://user:pw@mirror/hub/x")
        );
        assert!(
            !shown.contains("secret") && !shown.contains("pw"),
            "{shown}"
        );
        assert!(shown.ends_with("a ... at http://mirror/hub/x"), "{shown}");
    }
}
