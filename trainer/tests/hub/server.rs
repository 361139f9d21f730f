//! A hub of one repository: a thread that serves files with the conventions of the real one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

/// The one repository.
pub const REPO: &str = "org/tiny";

/// Its one commit.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has, and what it was asked.
#[derive(Default)]
pub struct State {
    /// Contents by file name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files that are listed but not served.
    pub lost: Vec<String>,
    /// Paths in the order of the requests.
    pub requests: Vec<String>,
    /// Values of the header `authorization`.
    pub tokens: Vec<String>,
}

/// A running server; it ends with the test process.
pub struct Server {
    /// Its address.
    pub endpoint: String,
    /// Shared with the thread.
    pub state: Arc<Mutex<State>>,
}

impl Server {
    /// Starts a server on a free port.
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            files,
            ..State::default()
        }));
        let shared = state.clone();
        let address = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &shared, &address);
            }
        });
        Self { endpoint, state }
    }

    /// The requests whose path contains `part`, since the last call.
    pub fn take_requests(&self, part: &str) -> usize {
        let requests = std::mem::take(&mut self.state.lock().unwrap().requests);
        requests.iter().filter(|path| path.contains(part)).count()
    }
}

fn answer(stream: TcpStream, state: &Mutex<State>, endpoint: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_string());
        }
    }
    let mut state = state.lock().unwrap();
    state.requests.push(path.clone());
    state.tokens.extend(headers.get("authorization").cloned());
    let response = respond(
        &state,
        &path,
        headers.get("range").map(String::as_str),
        endpoint,
    );
    drop(state);
    let mut stream = stream;
    stream.write_all(&response)
}

fn respond(state: &State, path: &str, range: Option<&str>, endpoint: &str) -> Vec<u8> {
    let api = format!("/api/models/{REPO}/revision/");
    if path.starts_with(&api) {
        let known = ["main", "v1", COMMIT].contains(&&path[api.len()..]);
        let siblings: Vec<_> = state
            .files
            .keys()
            .map(|name| json!({ "rfilename": name }))
            .collect();
        let body = json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return if known {
            reply("200 OK", "", body.as_bytes())
        } else {
            reply("404 Not Found", "x-error-code: RevisionNotFound\r\n", b"")
        };
    }
    let resolved = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/"));
    let (name, redirected) = match (resolved, path.strip_prefix("/store/")) {
        (Some(name), _) => (name, false),
        (None, Some(name)) => (name, true),
        (None, None) => return reply("404 Not Found", "x-error-code: RepoNotFound\r\n", b""),
    };
    let lost = state.lost.iter().any(|lost| lost == name);
    let Some(body) = state.files.get(name).filter(|_| !lost) else {
        return reply("404 Not Found", "x-error-code: EntryNotFound\r\n", b"");
    };
    let etag = format!("{:016x}", body.len() * 31 + name.len());
    // Large files live elsewhere, as on the real hub.
    if name.ends_with(".safetensors") && !redirected {
        let headers = format!(
            "location: {endpoint}/store/{name}\r\nx-linked-etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n"
        );
        return reply("302 Found", &headers, b"");
    }
    let headers =
        format!("etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\naccept-ranges: bytes\r\n");
    let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
    else {
        return reply("200 OK", &headers, body);
    };
    let from: usize = from.parse().unwrap();
    let to = to
        .parse()
        .map_or(body.len(), |last: usize| (last + 1).min(body.len()));
    let headers = format!(
        "{headers}content-range: bytes {from}-{}/{}\r\n",
        to - 1,
        body.len()
    );
    reply("206 Partial Content", &headers, &body[from..to])
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut response = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    )
    .into_bytes();
    response.extend(body);
    response
}
