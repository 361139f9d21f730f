//! Every way in which a save or a file can be broken.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::config::{ConfigIdentity, RunConfig};
use crate::failure::Failure;

const KEEP_ALL: Retention = Retention {
    keep_last: 100,
    keep_best: 0,
};

fn identity() -> ConfigIdentity {
    ConfigIdentity::of(&RunConfig::default()).unwrap()
}

fn meta(score: Option<f64>) -> CheckpointMeta {
    let config = identity();
    CheckpointMeta { config, score }
}

fn write_two_files(dir: &Path) -> Result<(), BoxError> {
    fs::write(dir.join("optimizer.bin"), [7u8; 3000])?;
    fs::create_dir(dir.join("model"))?;
    fs::write(dir.join("model/weights.bin"), [1u8; 70_000])?;
    Ok(())
}

fn store(retention: Retention) -> (TempDir, CheckpointStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(&folder.path().join("checkpoints"), retention).unwrap();
    (folder, store)
}

fn save(store: &CheckpointStore, step: u64) -> PathBuf {
    let saved = store.save(step, meta(None), &mut write_two_files);
    saved.unwrap().path
}

fn names(store: &CheckpointStore) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(store.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_found_and_listed() {
    let (_folder, store) = store(KEEP_ALL);
    assert!(store.latest_valid().unwrap().found.is_none());
    for step in [9, 120, 10] {
        let path = save(&store, step);
        assert!(path.ends_with(format!("step-{step:06}")));
    }
    let search = store.latest_valid().unwrap();
    assert!(search.rejected.is_empty());
    let found = search.found.unwrap();
    assert_eq!(found.manifest.step, 120);
    let files = &found.manifest.files;
    let listed: Vec<_> = files
        .iter()
        .map(|it| (it.path.as_str(), it.bytes))
        .collect();
    assert_eq!(
        listed,
        [("model/weights.bin", 70_000), ("optimizer.bin", 3000)]
    );
    // head -c 3000 /dev/zero | tr '\0' '\7' | sha256sum
    assert_eq!(
        files[1].sha256,
        "48c187767dddb44e5b7af78dabdec2b14f0f983e86e1fe695c65bc6a2a3cb42f"
    );
    assert_eq!(names(&store), ["step-000009", "step-000010", "step-000120"]);
}

/// Breaks a checkpoint.
type Damaging = fn(&Path);

/// Name, the damage, and what the warning says.
const DAMAGES: [(&str, Damaging, &str); 7] = [
    (
        "cut",
        |dir| fs::write(dir.join("optimizer.bin"), [7u8; 2999]).unwrap(),
        "2999 bytes",
    ),
    (
        "changed",
        |dir| {
            let mut bytes = [7u8; 3000];
            bytes[1500] ^= 1;
            fs::write(dir.join("optimizer.bin"), bytes).unwrap();
        },
        "optimizer.bin does not match",
    ),
    (
        "file gone",
        |dir| fs::remove_file(dir.join("model/weights.bin")).unwrap(),
        "model/weights.bin cannot be read",
    ),
    (
        "manifest gone",
        |dir| fs::remove_file(dir.join("manifest.json")).unwrap(),
        "manifest.json cannot be read",
    ),
    (
        "manifest cut",
        |dir| fs::write(dir.join("manifest.json"), "{").unwrap(),
        "manifest.json does not match",
    ),
    (
        "sum gone",
        |dir| fs::remove_file(dir.join("manifest.sha256")).unwrap(),
        "manifest.sha256 cannot be read",
    ),
    (
        "empty",
        |dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::create_dir(dir).unwrap();
        },
        "cannot be read",
    ),
];

#[test]
fn every_kind_of_damage_falls_back_to_the_checkpoint_before() {
    for (name, damage, expected) in DAMAGES {
        let (_folder, store) = store(KEEP_ALL);
        save(&store, 1);
        damage(&save(&store, 2));
        let search = store.latest_valid().unwrap();
        assert_eq!(search.found.unwrap().manifest.step, 1, "{name}");
        let warning = search.rejected[0].to_string();
        assert!(warning.contains("step-000002"), "{name}: {warning}");
        assert!(warning.contains(expected), "{name}: {warning}");
        // Saving the same step again replaces the damaged one.
        save(&store, 2);
        assert_eq!(
            store.latest_valid().unwrap().found.unwrap().manifest.step,
            2
        );
        assert_eq!(names(&store), ["step-000001", "step-000002"], "{name}");
    }
}

#[test]
fn an_interrupted_save_is_ignored_and_removed() {
    let (_folder, store) = store(KEEP_ALL);
    save(&store, 1);
    let left = store.dir().join(".tmp-step-000002");
    fs::create_dir(&left).unwrap();
    write_two_files(&left).unwrap();
    assert_eq!(
        store.latest_valid().unwrap().found.unwrap().manifest.step,
        1
    );
    let store = CheckpointStore::new(left.parent().unwrap(), KEEP_ALL).unwrap();
    assert!(!left.exists());
    assert_eq!(
        store.latest_valid().unwrap().found.unwrap().manifest.step,
        1
    );
}

#[test]
fn a_failed_writer_loses_nothing() {
    let (_folder, store) = store(KEEP_ALL);
    let mut fail = |dir: &Path| -> Result<(), BoxError> {
        write_two_files(dir)?;
        Err("the weights are not finite".into())
    };
    let first = store.save(1, meta(None), &mut fail).unwrap_err();
    assert!(
        first.to_string().ends_with("there was none before it"),
        "{first}"
    );
    save(&store, 1);
    let error = Failure::from(store.save(2, meta(None), &mut fail).unwrap_err()).chain();
    assert!(
        error.contains("step 2") && error.contains("not finite"),
        "{error}"
    );
    assert!(error.contains("step-000001, is intact"), "{error}");
    assert_eq!(names(&store), ["step-000001"]);
}

/// `/dev/full` refuses every byte as a full disk does.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_names_path_and_the_checkpoint_that_is_left() {
    let (_folder, store) = store(KEEP_ALL);
    save(&store, 1);
    let mut in_the_writer = |dir: &Path| -> Result<(), BoxError> {
        std::os::unix::fs::symlink("/dev/full", dir.join("weights.bin"))?;
        fs::write(dir.join("weights.bin"), [0u8; 100])?;
        Ok(())
    };
    let mut in_the_manifest = |dir: &Path| -> Result<(), BoxError> {
        write_two_files(dir)?;
        std::os::unix::fs::symlink("/dev/full", dir.join("manifest.json"))?;
        Ok(())
    };
    for write in [
        &mut in_the_writer as &mut dyn FnMut(&Path) -> _,
        &mut in_the_manifest,
    ] {
        let failure = Failure::from(store.save(2, meta(None), write).unwrap_err());
        assert_eq!(failure.exit_code(), 1);
        let error = failure.chain();
        assert!(error.contains("checkpoints: the disk is full"), "{error}");
        assert!(error.contains("step-000001, is intact"), "{error}");
        assert_eq!(names(&store), ["step-000001"]);
    }
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let retention = Retention {
        keep_last: 2,
        keep_best: 1,
    };
    let (_folder, store) = store(retention);
    for (step, score) in [(1, 0.2), (2, 0.8), (3, 0.5), (4, 0.6), (5, 0.7)] {
        let saved = store.save(step, meta(Some(score)), &mut write_two_files);
        assert_eq!(saved.unwrap().manifest.step, step);
    }
    let kept = ["step-000002", "step-000004", "step-000005"];
    assert_eq!(names(&store), kept);
}

#[test]
fn a_checkpoint_of_another_configuration_lists_what_differs() {
    let (_folder, store) = store(KEEP_ALL);
    save(&store, 1);
    let found = store.latest_valid().unwrap().found.unwrap();
    assert!(found.check_config(&identity()).is_ok());
    let mut config = RunConfig::default();
    config.run.steps += 1;
    let longer = ConfigIdentity::of(&config).unwrap();
    assert!(found.check_config(&longer).is_ok());
    config.update.learning_rate = 0.5;
    config.run.seed = 3;
    let other = ConfigIdentity::of(&config).unwrap();
    let error = found.check_config(&other).unwrap_err().to_string();
    assert!(error.contains("run.seed was 17, is 3"), "{error}");
    assert!(error.contains("update.learning_rate was"), "{error}");
    assert!(!error.contains("run.steps was"), "{error}");
}
