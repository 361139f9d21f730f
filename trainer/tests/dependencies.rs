//! Who may depend on whom, read from the manifests themselves and from the resolved tree.
//! Nothing here needs a network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const OURS: [&str; 8] = [
    "rlvr-core",
    "rlvr-backends",
    "rlvr-cuda-emulator",
    "rlvr-bounds",
    "rlvr-verifier",
    "rlvr-fixtures",
    "rlvr-benches",
    "trainer",
];

/// What only the package `backends` may name.
const BACKENDS: [&str; 5] = ["flex", "ndarray", "wgpu", "vulkan", "cuda"];

fn workspace() -> PathBuf {
    let trainer = Path::new(env!("CARGO_MANIFEST_DIR"));
    trainer
        .parent()
        .expect("trainer lies in the workspace")
        .into()
}

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .args(["--offline", "--locked"])
        .current_dir(workspace())
        .output()
        .expect("cargo starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args:?}: {words}");
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// One dependency of a manifest.
#[derive(Clone, Debug)]
struct Dependency {
    name: String,
    is_dev: bool,
    uses_default_features: bool,
    features: Vec<String>,
}

/// Every package of the workspace with its direct dependencies.
fn manifests() -> BTreeMap<String, Vec<Dependency>> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo metadata writes JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let dependency = |value: &Value| Dependency {
        name: word(&value["name"]),
        is_dev: value["kind"] == "dev",
        uses_default_features: value["uses_default_features"] == true,
        features: list(&value["features"]).iter().map(word).collect(),
    };
    let packages = list(&metadata["packages"]);
    let with_dependencies = packages.iter().map(|package| {
        let dependencies = list(&package["dependencies"]);
        let dependencies = dependencies.iter().map(dependency).collect();
        (word(&package["name"]), dependencies)
    });
    with_dependencies.collect()
}

/// Everything that a package is built from, with its default features.
fn tree(package: &str) -> BTreeSet<String> {
    let args = [
        "tree",
        "-p",
        package,
        "-e",
        "normal,build",
        "--prefix",
        "none",
    ];
    let text = cargo(&args);
    let names = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.map(String::from).collect()
}

fn normal(dependencies: &[Dependency]) -> BTreeSet<&str> {
    let normal = dependencies.iter().filter(|it| !it.is_dev);
    normal.map(|it| it.name.as_str()).collect()
}

#[test]
fn our_packages_use_each_other_as_the_table_says() {
    let of_trainer: &[&str] = &[
        "rlvr-core",
        "rlvr-backends",
        "rlvr-bounds",
        "rlvr-verifier",
        "rlvr-fixtures",
    ];
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("rlvr-core", &[] as &[&str]),
        ("rlvr-backends", &["rlvr-core"]),
        ("rlvr-cuda-emulator", &[]),
        ("rlvr-bounds", &[]),
        ("rlvr-verifier", &[]),
        ("rlvr-fixtures", &[]),
        ("trainer", of_trainer),
        ("rlvr-benches", &OURS),
    ]);
    let manifests = manifests();
    let names: BTreeSet<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        OURS.into_iter().collect(),
        "packages of the workspace"
    );
    for (package, dependencies) in &manifests {
        for dependency in dependencies {
            let name = dependency.name.as_str();
            let is_ours = OURS.contains(&name);
            let is_allowed = allowed[package.as_str()].contains(&name)
                || (dependency.is_dev && name == "rlvr-fixtures");
            assert!(!is_ours || is_allowed, "{package} must not use {name}");
        }
    }
}

#[test]
fn burn_is_pinned_and_stays_where_it_belongs() {
    let manifests = manifests();
    for package in ["rlvr-bounds", "rlvr-verifier", "rlvr-fixtures"] {
        let tree = tree(package);
        let burn: Vec<_> = tree.iter().filter(|it| it.starts_with("burn")).collect();
        assert!(burn.is_empty(), "{package} must not use {burn:?}");
    }
    let verifier = tree("rlvr-verifier");
    assert!(
        !verifier.contains("serde"),
        "rlvr-verifier must not use serde"
    );
    let core = normal(&manifests["rlvr-core"]);
    let known = BTreeSet::from(["burn", "num-traits", "serde"]);
    assert!(core.is_subset(&known), "rlvr-core uses {core:?}");
    for (package, dependencies) in &manifests {
        for dependency in dependencies.iter().filter(|it| it.name == "burn") {
            let features = &dependency.features;
            assert!(
                !dependency.uses_default_features,
                "{package}: burn's default features"
            );
            let names_backend = features.iter().any(|it| BACKENDS.contains(&it.as_str()));
            let is_allowed = !names_backend || dependency.is_dev;
            assert!(is_allowed, "{package} names a backend: {features:?}");
        }
    }
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).expect("it is committed");
    let version = trainer::commands::doctor::BURN_VERSION;
    let pinned = format!("name = \"burn\"\nversion = \"{version}\"");
    assert!(
        lock.contains(&pinned),
        "Cargo.lock has another Burn than {version}"
    );
}

#[test]
fn core_is_built_without_std_and_without_a_backend() {
    let tree = tree("rlvr-core");
    for backend in [
        "burn-flex",
        "burn-ndarray",
        "burn-wgpu",
        "burn-cuda",
        "burn-cubecl",
    ] {
        assert!(!tree.contains(backend), "rlvr-core must not use {backend}");
    }
    for package in ["core", "bounds", "trainer/verifier"] {
        let source = workspace().join(package).join("src/lib.rs");
        let text = std::fs::read_to_string(&source).expect("every package has a lib.rs");
        let is_comment = |line: &str| line.starts_with("//") || line.trim().is_empty();
        let is_stub = text.lines().all(is_comment);
        assert!(
            is_stub || text.contains("no_std"),
            "{} lacks no_std",
            source.display()
        );
    }
}

#[test]
fn only_backends_names_a_backend() {
    let mut files = Vec::new();
    for folder in [
        "core/src",
        "trainer/src",
        "bounds/src",
        "trainer/verifier/src",
    ] {
        rust_files(&workspace().join(folder), &mut files);
    }
    assert!(files.len() > 10, "the sources were not found");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file is UTF-8");
        let found = words_of_a_backend(&text);
        // Tests may open a device by name; they end a file or have one of their own.
        let is_test = file.components().any(|it| it.as_os_str() == "tests")
            || file.file_stem().is_some_and(|it| it == "tests");
        assert!(is_test || found.is_none(), "{}: {found:?}", file.display());
    }
}

/// What code outside `backends` must not say, if this text says it before its tests.
fn words_of_a_backend(text: &str) -> Option<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let forms = |name: &str| [format!("Device::{name}("), format!("feature = \"{name}\"")];
    let mut words: Vec<String> = BACKENDS.into_iter().flat_map(forms).collect();
    words.push("Device::default()".into());
    words
        .into_iter()
        .find(|words| code.contains(words.as_str()))
}

#[test]
fn a_named_backend_is_noticed() {
    assert!(words_of_a_backend("let device = Device::flex();").is_some());
    assert!(words_of_a_backend("#[cfg(feature = \"cuda\")]").is_some());
    assert!(words_of_a_backend("#[cfg(test)]\nlet device = Device::flex();").is_none());
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}
