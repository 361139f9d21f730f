//! One commit of a hub repository in the shared cache.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::hub::{Hub, HubError};

/// How often a broken download is taken up again.
const RETRIES: usize = 3;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

impl RepoKind {
    fn repo_type(self) -> RepoType {
        match self {
            Self::Model => RepoType::Model,
            Self::Dataset => RepoType::Dataset,
        }
    }
}

/// One commit of a repository: what it holds, and what of that is in the cache.
pub struct Snapshot {
    hub: Hub,
    kind: RepoKind,
    repo: String,
    revision: String,
    commit: String,
    names: Vec<String>,
    folder: PathBuf,
    /// None when the hub was not asked.
    api: Option<Api>,
}

/// By hand, because the client's own would print the token.
impl core::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Snapshot")
            .field("hub", &self.hub)
            .field("repo", &self.repo)
            .field("revision", &self.revision)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Asks the hub which commit `revision` is and what it holds. Offline, or when the hub cannot
    /// be reached, the commit that was fetched last is taken with the files that the cache has.
    pub fn open(hub: &Hub, kind: RepoKind, repo: &str, revision: &str) -> Result<Self, HubError> {
        if hub.is_offline {
            return Self::cached(hub, kind, repo, revision).ok_or_else(|| HubError::NotCached {
                repo: repo.into(),
                revision: revision.into(),
                cache: hub.cache_dir.clone(),
            });
        }
        match Self::asked(hub, kind, repo, revision) {
            Err(error @ HubError::Network { .. }) => {
                Self::cached(hub, kind, repo, revision).ok_or(error)
            }
            answered => answered,
        }
    }

    fn asked(hub: &Hub, kind: RepoKind, repo: &str, revision: &str) -> Result<Self, HubError> {
        let network = |reason: String| HubError::Network {
            endpoint: hub.shown_endpoint(),
            repo: repo.into(),
            reason: hub.shown(&reason),
        };
        let api = ApiBuilder::from_cache(Cache::new(hub.cache_dir.clone()))
            .with_endpoint(hub.endpoint.clone())
            .with_token(hub.token.clone())
            .with_progress(hub.is_progress_shown)
            .with_retries(RETRIES)
            .build()
            .map_err(|error| network(error.to_string()))?;
        let handle = Repo::with_revision(repo.into(), kind.repo_type(), revision.into());
        let info = api.repo(handle).info();
        let info = info.map_err(|error| match failure(&error) {
            Failure::Status(status @ (401 | 403 | 404)) => HubError::RepoMissing {
                endpoint: hub.shown_endpoint(),
                repo: repo.into(),
                revision: revision.into(),
                status,
            },
            Failure::Status(status) => network(format!("it answered with status {status}")),
            Failure::Other(reason) => network(reason),
        })?;
        if info.sha.is_empty() || !info.sha.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(network("its answer names no commit".into()));
        }
        let names = info.siblings.into_iter().map(|file| file.rfilename);
        let names = names.filter(|name| stays_inside(name)).collect();
        Ok(Self::new(
            hub,
            kind,
            repo,
            revision,
            info.sha,
            names,
            Some(api),
        ))
    }

    /// The commit that the cache has for `revision`, which may itself be a commit.
    fn cached(hub: &Hub, kind: RepoKind, repo: &str, revision: &str) -> Option<Self> {
        let handle = Repo::new(repo.into(), kind.repo_type());
        let place = hub.cache_dir.join(handle.folder_name());
        let listed = std::fs::read_to_string(place.join("refs").join(revision)).ok();
        let commit = listed.map_or_else(|| revision.into(), |commit| commit.trim().to_string());
        let mut snapshot = Self::new(hub, kind, repo, revision, commit, Vec::new(), None);
        list_files(&snapshot.folder, "", &mut snapshot.names);
        (!snapshot.names.is_empty()).then_some(snapshot)
    }

    fn new(
        hub: &Hub,
        kind: RepoKind,
        repo: &str,
        revision: &str,
        commit: String,
        names: Vec<String>,
        api: Option<Api>,
    ) -> Self {
        let handle = Repo::new(repo.into(), kind.repo_type());
        let folder = Cache::new(hub.cache_dir.clone())
            .repo(handle)
            .pointer_path(&commit);
        Self {
            hub: hub.clone(),
            kind,
            repo: repo.into(),
            revision: revision.into(),
            commit,
            names,
            folder,
            api,
        }
    }

    /// Where the fetched files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The commit.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Every file of the commit; of the cached part of it when the hub was not asked.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// True if the commit holds `file`.
    pub fn has(&self, file: &str) -> bool {
        self.names.iter().any(|name| name == file)
    }

    /// The file in the cache, fetched if it is not there.
    pub fn fetch(&self, file: &str) -> Result<PathBuf, HubError> {
        let missing = |hint| HubError::FileMissing {
            repo: self.repo.clone(),
            revision: self.revision.clone(),
            file: file.into(),
            hint,
        };
        if !self.has(file) {
            return Err(missing(match self.api {
                Some(_) => "",
                None => " in the cache, and the hub was not reached",
            }));
        }
        let place = self.folder.join(file);
        match &self.api {
            Some(api) if !place.exists() => {
                let commit = self.commit.clone();
                let handle = Repo::with_revision(self.repo.clone(), self.kind.repo_type(), commit);
                api.repo(handle)
                    .download(file)
                    .map_err(|error| match failure(&error) {
                        Failure::Status(404) => missing(""),
                        Failure::Status(status) => self.failed(file, format!("status {status}")),
                        Failure::Other(reason) => self.failed(file, reason),
                    })
            }
            _ => Ok(place),
        }
    }

    /// Notes that this commit is what the revision stands for, once all files are there.
    pub fn finish(&self) -> Result<(), HubError> {
        if self.api.is_none() || self.revision == self.commit {
            return Ok(());
        }
        let handle = Repo::with_revision(
            self.repo.clone(),
            self.kind.repo_type(),
            self.revision.clone(),
        );
        let cache = Cache::new(self.hub.cache_dir.clone()).repo(handle);
        cache
            .create_ref(&self.commit)
            .map_err(|error| HubError::Cache {
                path: self.hub.cache_dir.clone(),
                reason: error.to_string(),
            })
    }

    fn failed(&self, file: &str, reason: String) -> HubError {
        HubError::Fetch {
            endpoint: self.hub.shown_endpoint(),
            repo: self.repo.clone(),
            file: file.into(),
            reason: self.hub.shown(&reason),
        }
    }
}

/// A name that does not lead out of the snapshot: the list comes from elsewhere.
fn stays_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

enum Failure {
    Status(u16),
    Other(String),
}

fn failure(error: &ApiError) -> Failure {
    match error {
        ApiError::RequestError(error) => match error.as_ref() {
            ureq::Error::StatusCode(status) => Failure::Status(*status),
            other => Failure::Other(other.to_string()),
        },
        ApiError::TooManyRetries(error) => failure(error),
        other => Failure::Other(other.to_string()),
    }
}

fn list_files(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            list_files(&entry.path(), &format!("{name}/"), names);
        } else if entry.path().exists() {
            names.push(name);
        }
    }
}
