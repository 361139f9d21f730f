//! The list of a checkpoint's files, and its verification.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Damage;
use crate::config::{ConfigIdentity, hex};

pub(super) const MANIFEST: &str = "manifest.json";
const MANIFEST_SUM: &str = "manifest.sha256";

/// Format of the manifest; a reader refuses another one.
const FORMAT: u32 = 1;

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path inside the checkpoint, with forward slashes.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a checkpoint says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this record.
    pub format: u32,
    /// Steps that were complete.
    pub step: u64,
    /// Held-out accuracy at that step; larger is better; `None` if it was not measured.
    pub score: Option<f64>,
    /// The configuration of the run, as far as a resumed run must share it.
    pub config: ConfigIdentity,
    /// Every file but the manifest's own two, sorted by path.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Flushes and lists the files below `dir`, then writes the manifest beside them.
    pub(super) fn seal(
        dir: &Path,
        step: u64,
        score: Option<f64>,
        config: ConfigIdentity,
    ) -> io::Result<Self> {
        let mut files = Vec::new();
        list_files(dir, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Self {
            format: FORMAT,
            step,
            score,
            config,
            files,
        };
        let json = serde_json::to_vec_pretty(&manifest)?;
        let sum = format!("{}  {MANIFEST}\n", hex(&Sha256::digest(&json)));
        write_flushed(&dir.join(MANIFEST), &json)?;
        write_flushed(&dir.join(MANIFEST_SUM), sum.as_bytes())?;
        flush_dir(dir)?;
        Ok(manifest)
    }

    /// Reads the manifest and checks it against its own checksum.
    pub(super) fn read(dir: &Path) -> Result<Self, Damage> {
        let json = read_file(dir, MANIFEST)?;
        let sum = read_file(dir, MANIFEST_SUM)?;
        let digest = hex(&Sha256::digest(&json));
        if !sum.starts_with(digest.as_bytes()) {
            let file = MANIFEST.into();
            return Err(Damage::Checksum { file });
        }
        let damaged = |reason: String| Damage::Manifest { reason };
        let manifest: Self =
            serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            let reason = format!("format {} instead of {FORMAT}", manifest.format);
            return Err(damaged(reason));
        }
        Ok(manifest)
    }

    /// Reads every file and compares size and checksum.
    pub(super) fn verify(&self, dir: &Path) -> Result<(), Damage> {
        for entry in &self.files {
            let unreadable = |source: io::Error| Damage::Unreadable {
                file: entry.path.clone(),
                source,
            };
            let path = dir.join(&entry.path);
            let found = fs::metadata(&path).map_err(unreadable)?.len();
            if found != entry.bytes {
                return Err(Damage::Size {
                    file: entry.path.clone(),
                    found,
                    expected: entry.bytes,
                });
            }
            if checksum(&path).map_err(unreadable)?.1 != entry.sha256 {
                let file = entry.path.clone();
                return Err(Damage::Checksum { file });
            }
        }
        Ok(())
    }
}

fn read_file(dir: &Path, name: &str) -> Result<Vec<u8>, Damage> {
    fs::read(dir.join(name)).map_err(|source| Damage::Unreadable {
        file: name.into(),
        source,
    })
}

fn list_files(dir: &Path, prefix: &str, files: &mut Vec<FileEntry>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), &format!("{name}/"), files)?;
            flush_dir(&entry.path())?;
        } else if name != MANIFEST && name != MANIFEST_SUM {
            File::open(entry.path())?.sync_all()?;
            let (bytes, sha256) = checksum(&entry.path())?;
            let path = name;
            files.push(FileEntry {
                path,
                bytes,
                sha256,
            });
        }
    }
    Ok(())
}

/// Size and SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn checksum(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut bytes = 0;
    loop {
        let num_read = file.read(&mut buffer)?;
        if num_read == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        bytes += num_read as u64;
        hash.update(&buffer[..num_read]);
    }
}

fn write_flushed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a directory durable; only Unix offers this.
pub(super) fn flush_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}
