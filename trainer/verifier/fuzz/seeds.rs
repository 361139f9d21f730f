//! Writes the case files as seeds: `seeds FOLDER`, one sub-folder per target.

use std::path::Path;

fn main() {
    let folder = std::env::args().nth(1).expect("the folder for the seeds");
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fixtures/verifier");
    let mut count = 0;
    for entry in std::fs::read_dir(cases).expect("the case files") {
        let path = entry.expect("an entry").path();
        // The oracle's pairs are many and alike.
        if path.extension().is_none_or(|end| end != "jsonl") || path.ends_with("oracle.jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(path).expect("a case file");
        for line in text.lines() {
            let case: serde_json::Value = serde_json::from_str(line).expect("a case");
            let (Some(gold), Some(answer)) = (case["gold"].as_str(), case["answer"].as_str())
            else {
                continue;
            };
            write(&folder, "extraction", count, answer);
            write(
                &folder,
                "grading",
                count,
                &format!("{}\n{}", gold.replace('\n', " "), answer),
            );
            count += 1;
        }
    }
    println!("{count} seeds for each target");
}

fn write(folder: &str, target: &str, number: usize, text: &str) {
    let folder = Path::new(folder).join(target);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(format!("case-{number:04}")), text).expect("a seed");
}
