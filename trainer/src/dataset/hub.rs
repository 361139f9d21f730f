//! Datasets of the hub: the parquet or JSON files of one split, through the usual cache.
//!
//! `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean elsewhere. When
//! the hub cannot be reached, files that an earlier run fetched are used.

use std::path::{Component, Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};

use super::error::{DatasetError, Place};
use super::row::Row;
use super::source::read_json;
use super::spec::HubSpec;
use super::table::read_parquet;

/// How the hub is reached.
#[derive(Clone, Debug)]
pub(crate) struct HubAccess {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    is_offline: bool,
}

impl HubAccess {
    /// Reads the environment.
    fn from_env(spec: &HubSpec) -> Result<Self, DatasetError> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| String::from("https://huggingface.co"));
        let cache = set("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".cache").join("huggingface")))
            .map(|home| home.join("hub"));
        let Some(cache) = cache else {
            return Err(DatasetError::Hub {
                spec: spec.to_string(),
                endpoint,
                reason: String::from("there is no home directory for the cache; set HF_HOME"),
            });
        };
        Ok(Self {
            endpoint,
            cache,
            token: set("HF_TOKEN"),
            is_offline: set("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
        })
    }
}

/// The records of all files of one split.
pub(crate) fn fetch(spec: &HubSpec) -> Result<Vec<(Place, Row)>, DatasetError> {
    fetch_through(&HubAccess::from_env(spec)?, spec)
}

fn fetch_through(access: &HubAccess, spec: &HubSpec) -> Result<Vec<(Place, Row)>, DatasetError> {
    let mut rows = Vec::new();
    for path in files(access, spec)? {
        if path
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            rows.extend(read_parquet(&path)?);
        } else {
            rows.extend(read_json(&path)?);
        }
    }
    Ok(rows)
}

/// The files of the split on this machine, fetched where they are missing.
fn files(access: &HubAccess, spec: &HubSpec) -> Result<Vec<PathBuf>, DatasetError> {
    let failed = |reason: String| DatasetError::Hub {
        spec: spec.to_string(),
        endpoint: access.endpoint.clone(),
        reason,
    };
    let repo = Repo::with_revision(spec.name.clone(), RepoType::Dataset, spec.revision.clone());
    let cache = Cache::new(access.cache.clone());
    let refused = match online(access, &repo) {
        Ok((api, commit, names)) => {
            let names = of_split(&names, &spec.split).map_err(failed)?;
            let snapshot = cache.repo(repo.clone()).pointer_path(&commit);
            let fetch = |name: &String| {
                let cached = snapshot.join(name);
                if cached.exists() {
                    return Ok(cached);
                }
                let fetched = api.repo(repo.clone()).download(name);
                fetched.map_err(|error| failed(format!("{name}: {error}")))
            };
            return names.iter().map(fetch).collect();
        }
        Err(reason) => reason,
    };
    let Some(snapshot) = cached_snapshot(&cache, &repo) else {
        return Err(failed(format!(
            "{refused}; nothing is cached under {}; check the name, the network, and HF_TOKEN if \
             the dataset is private",
            access.cache.display()
        )));
    };
    let names = of_split(&cached_names(&snapshot), &spec.split)
        .map_err(|reason| failed(format!("{refused}; in the cache: {reason}")))?;
    Ok(names.iter().map(|name| snapshot.join(name)).collect())
}

/// The commit of the revision and the names of its files, as the hub tells them.
fn online(access: &HubAccess, repo: &Repo) -> Result<(Api, String, Vec<String>), String> {
    if access.is_offline {
        return Err(String::from("HF_HUB_OFFLINE is set"));
    }
    let cache = Cache::new(access.cache.clone());
    let mut builder = ApiBuilder::from_cache(cache)
        .with_endpoint(access.endpoint.clone())
        .with_retries(3)
        .with_progress(false);
    if let Some(token) = &access.token {
        builder = builder.with_token(Some(token.clone()));
    }
    let api = builder.build().map_err(|error| error.to_string())?;
    let info = api
        .repo(repo.clone())
        .info()
        .map_err(|error| error.to_string())?;
    let names = info.siblings.into_iter().map(|file| file.rfilename);
    Ok((api, info.sha, names.collect()))
}

/// The folder of the revision in the cache, by branch or by commit.
fn cached_snapshot(cache: &Cache, repo: &Repo) -> Option<PathBuf> {
    let reference = cache
        .path()
        .join(repo.folder_name())
        .join("refs")
        .join(repo.revision());
    let commit = std::fs::read_to_string(reference).unwrap_or_else(|_| repo.revision().to_string());
    let snapshot = cache.repo(repo.clone()).pointer_path(commit.trim());
    snapshot.is_dir().then_some(snapshot)
}

/// Every file below a folder, relative to it.
fn cached_names(snapshot: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![snapshot.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.strip_prefix(snapshot).ok().and_then(Path::to_str) {
                names.push(name.to_string());
            }
        }
    }
    names
}

/// The data files of a split, sorted: `train` finds `data/train-00000-of-00001.parquet`,
/// `train.jsonl` and `train/0000.parquet`; `main/train` finds those below a folder `main`.
fn of_split(names: &[String], split: &str) -> Result<Vec<String>, String> {
    let (config, split) = match split.rsplit_once('/') {
        Some((config, split)) => (Some(config), split),
        None => (None, split),
    };
    let mut found: Vec<&String> = names
        .iter()
        .filter(|name| is_safe(name) && belongs(name, config, split))
        .collect();
    if found.iter().any(|name| name.ends_with(".parquet")) {
        found.retain(|name| name.ends_with(".parquet"));
    }
    found.sort();
    let mut folders: Vec<&str> = found.iter().map(|name| folder(name)).collect();
    folders.dedup();
    match folders.as_slice() {
        [_] => whole(found),
        [] => Err(format!(
            "no .parquet, .jsonl or .json file of split `{split}` among: {}",
            listed(names)
        )),
        [first, ..] => Err(format!(
            "split `{split}` is there more than once, in {}; name one, such as {}/{split}",
            folders.join(", "),
            first.rsplit('/').next().unwrap_or(first)
        )),
    }
}

/// Files that are numbered `-00000-of-00002` must all be there: a cache may hold only some.
fn whole(found: Vec<&String>) -> Result<Vec<String>, String> {
    let promised = found.iter().find_map(|name| {
        let (_, rest) = name.rsplit_once("-of-")?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].parse::<usize>().ok()
    });
    match promised {
        Some(promised) if found.len() != promised => {
            Err(format!("{} of {promised} files are there", found.len()))
        }
        _ => Ok(found.into_iter().cloned().collect()),
    }
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn listed(names: &[String]) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).take(20).collect();
    names.sort_unstable();
    names.join(", ")
}

/// A name must not lead out of the cache.
fn is_safe(name: &str) -> bool {
    Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
}

fn belongs(name: &str, config: Option<&str>, split: &str) -> bool {
    let mut parts: Vec<&str> = name.split('/').collect();
    let file = parts.pop().unwrap_or("");
    let is_data = [".parquet", ".jsonl", ".json"]
        .iter()
        .any(|extension| file.ends_with(extension));
    let is_named = file
        .strip_prefix(split)
        .is_some_and(|rest| rest.starts_with(['-', '_', '.']));
    let is_in_folder = parts.last() == Some(&split);
    let has_config = config.is_none_or(|config| parts.contains(&config));
    is_data && has_config && (is_named || is_in_folder)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::super::spec::Spec;
    use super::super::table::tests::table;
    use super::*;

    fn hub_spec(text: &str) -> HubSpec {
        match Spec::parse(text).unwrap() {
            Spec::Hub(spec) => spec,
            other => panic!("{other:?}"),
        }
    }

    /// A hub on this machine with one dataset; remembers what it was asked.
    struct Server {
        endpoint: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        fn start(files: Vec<(&'static str, Vec<u8>)>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let log = asked.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    serve(stream, &files, &log);
                }
            });
            Self { endpoint, asked }
        }

        fn access(&self, cache: &Path) -> HubAccess {
            HubAccess {
                endpoint: self.endpoint.clone(),
                cache: cache.to_path_buf(),
                token: Some(String::from("secret")),
                is_offline: false,
            }
        }
    }

    fn serve(mut stream: TcpStream, files: &[(&str, Vec<u8>)], log: &Mutex<Vec<String>>) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let request = lines.next().unwrap().unwrap();
        let headers: Vec<String> = lines
            .map_while(|line| line.ok().filter(|line| !line.is_empty()))
            .map(|line| line.to_lowercase())
            .collect();
        let path = request.split(' ').nth(1).unwrap().to_string();
        let has_token = headers.contains(&String::from("authorization: bearer secret"));
        log.lock().unwrap().push(path.clone());
        let (status, extra, body) = respond(&path, &headers, files, has_token);
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
            body.len()
        )
        .unwrap();
        stream.write_all(&body).unwrap();
    }

    fn respond(
        path: &str,
        headers: &[String],
        files: &[(&str, Vec<u8>)],
        has_token: bool,
    ) -> (&'static str, String, Vec<u8>) {
        if !has_token {
            return ("401 Unauthorized", String::new(), Vec::new());
        }
        if path == "/api/datasets/o/n/revision/main" {
            let names: Vec<serde_json::Value> = files
                .iter()
                .map(|(name, _)| serde_json::json!({ "rfilename": name }))
                .collect();
            let info = serde_json::json!({ "siblings": names, "sha": "c0ffee" });
            return ("200 OK", String::new(), info.to_string().into_bytes());
        }
        let name = path.strip_prefix("/datasets/o/n/resolve/main/");
        let Some((name, content)) = files.iter().find(|(file, _)| Some(*file) == name) else {
            return ("404 Not Found", String::new(), Vec::new());
        };
        let range = headers
            .iter()
            .find_map(|line| line.strip_prefix("range: bytes="))
            .unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(content.len(), |end: usize| end + 1);
        let extra = format!(
            "Content-Range: bytes {start}-{}/{}\r\nETag: \"{}\"\r\nX-Repo-Commit: c0ffee\r\n",
            end - 1,
            content.len(),
            name.replace('/', "-"),
        );
        ("206 Partial Content", extra, content[start..end].to_vec())
    }

    fn texts(rows: &[(Place, Row)]) -> Vec<&str> {
        rows.iter()
            .map(|(_, row)| row["question"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_split_is_fetched_once_and_then_found_in_the_cache() {
        let server = Server::start(vec![
            ("README.md", b"#".to_vec()),
            (
                "main/train-00000-of-00002.parquet",
                table(&[("1+1", "#### 2")]),
            ),
            (
                "main/train-00001-of-00002.parquet",
                table(&[("2+2", "#### 4")]),
            ),
            (
                "main/test-00000-of-00001.parquet",
                table(&[("3+3", "#### 6")]),
            ),
        ]);
        let cache = tempfile::tempdir().unwrap();
        let access = server.access(cache.path());
        let spec = hub_spec("hub:o/n");
        let rows = fetch_through(&access, &spec).unwrap();
        assert_eq!(texts(&rows), ["1+1", "2+2"]);
        let num_asked = server.asked.lock().unwrap().len();
        assert_eq!(fetch_through(&access, &spec).unwrap().len(), 2);
        let asked = server.asked.lock().unwrap().clone();
        assert_eq!(asked[num_asked..], ["/api/datasets/o/n/revision/main"]);
        assert!(!asked.iter().any(|path| path.contains("test")));
        let offline = HubAccess {
            is_offline: true,
            ..access
        };
        assert_eq!(
            texts(&fetch_through(&offline, &spec).unwrap()),
            ["1+1", "2+2"]
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        let server = Server::start(vec![("train.jsonl", b"{\"question\": \"1+1\"}".to_vec())]);
        let cache = tempfile::tempdir().unwrap();
        let access = server.access(cache.path());
        let without_token = HubAccess {
            token: None,
            ..access.clone()
        };
        for (access, spec, wanted) in [
            (&without_token, "hub:o/n", "HF_TOKEN"),
            (&access, "hub:o/other", "check the name"),
            (&access, "hub:o/n:test", "among: train.jsonl"),
        ] {
            let message = fetch_through(access, &hub_spec(spec))
                .unwrap_err()
                .to_string();
            assert!(message.contains(wanted), "{message}");
            assert!(message.contains(&server.endpoint), "{message}");
        }
        let rows = fetch_through(&access, &hub_spec("hub:o/n")).unwrap();
        assert_eq!(texts(&rows), ["1+1"]);
    }

    #[test]
    fn files_of_a_split() {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_string()).collect()
        };
        let all = names(&[
            "main/train-0.parquet",
            "socratic/train-0.parquet",
            "main/test-0.parquet",
            "train.jsonl",
            "training.json",
            "../train.parquet",
        ]);
        assert_eq!(
            of_split(&all, "main/train").unwrap(),
            ["main/train-0.parquet"]
        );
        let message = of_split(&all, "train").unwrap_err();
        assert!(message.contains("main, socratic"), "{message}");
        assert!(of_split(&all, "validation").is_err());
        for outside in [
            "../train.parquet",
            "/train.parquet",
            "a/../../train.parquet",
        ] {
            assert!(of_split(&names(&[outside]), "train").is_err(), "{outside}");
        }
        let half = names(&["data/train-00000-of-00002.parquet"]);
        assert_eq!(
            of_split(&half, "train").unwrap_err(),
            "1 of 2 files are there"
        );
        let folders = names(&["default/train/0000.parquet", "default/test/0000.parquet"]);
        assert_eq!(
            of_split(&folders, "test").unwrap(),
            ["default/test/0000.parquet"]
        );
        assert_eq!(of_split(&folders, "default/test").unwrap().len(), 1);
    }
}
