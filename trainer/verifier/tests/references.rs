//! Every reference answer of GSM8K can be read. The data is not part of the project: the folder
//! that holds `train.jsonl` and `test.jsonl` is named by `RLVR_GSM8K_DIR`.

use rlvr_verifier::{Gold, Policy};

/// The reference answers of a file: what stands between the last `####` and the closing quote.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (_, tail) = line.rsplit_once("####")?;
        Some(tail.trim_end().trim_end_matches(['"', '}']).trim())
    })
}

#[test]
fn gsm8k_references_can_be_read() {
    let Some(folder) = std::env::var_os("RLVR_GSM8K_DIR") else {
        println!("skipped: RLVR_GSM8K_DIR is not set");
        return;
    };
    let policy = Policy::default();
    let mut num_read = 0;
    for name in ["train.jsonl", "test.jsonl"] {
        let path = std::path::Path::new(&folder).join(name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for reference in references(&text) {
            let gold = Gold::parse(reference, &policy);
            let gold = gold.unwrap_or_else(|reason| panic!("{reference}: {reason}"));
            let plain: i64 = reference.replace(',', "").parse().expect("an integer");
            assert_eq!(
                gold.grade(&format!("It is \\boxed{{{plain}}}.")).correct,
                Some(true),
                "{reference}"
            );
            assert_eq!(
                gold.grade(&format!("#### {}", plain + 1)).correct,
                Some(false),
                "{reference}"
            );
            num_read += 1;
        }
    }
    println!("{num_read} references read");
    assert_eq!(num_read, 8792);
}
