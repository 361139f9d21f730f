//! The arms that can be compared, by name.

use crate::config::InvalidValue;

/// An arm: a name and what it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Name in reports and of its directory.
    pub name: &'static str,
    /// `selection.method`.
    pub method: &'static str,
    /// Further keys.
    pub sets: &'static [&'static str],
}

const fn plain(name: &'static str) -> Arm {
    Arm {
        name,
        method: name,
        sets: &[],
    }
}

/// Every arm, references first.
pub const ARMS: [Arm; 11] = [
    plain("dynamic_sampling"),
    plain("greso"),
    plain("hive"),
    plain("random_gate"),
    plain("uniform"),
    plain("greso_code"),
    Arm {
        name: "hive-paper-main-text",
        method: "hive",
        sets: &["selection.method.preset=paper-main-text"],
    },
    Arm {
        name: "hive-per-raw-batch",
        method: "hive",
        sets: &["selection.method.pool=per_raw_batch"],
    },
    plain("stage1_only"),
    plain("stage2_only"),
    plain("mopps"),
];

/// The arms of a comma-separated list, in its order.
///
/// # Errors
/// If a name is not known or is given twice.
pub fn arms(list: &str) -> Result<Vec<Arm>, InvalidValue> {
    let mut found: Vec<Arm> = Vec::new();
    for name in list.split(',').map(str::trim) {
        let known = ARMS.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
        let arm = ARMS.iter().find(|it| it.name == name);
        let arm =
            arm.ok_or_else(|| InvalidValue::new("--arms", name, format!("one of {known}")))?;
        if found.contains(arm) {
            return Err(InvalidValue::new("--arms", name, "each arm once"));
        }
        found.push(*arm);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::resolve;
    use crate::config::{DEFAULT_RECIPE, RecipeText};

    #[test]
    fn every_arm_is_a_valid_configuration() {
        let recipe = RecipeText::find(DEFAULT_RECIPE).unwrap();
        for arm in ARMS {
            let mut sets = vec![format!("selection.method={}", arm.method)];
            sets.extend(arm.sets.iter().map(|it| (*it).to_string()));
            resolve(&recipe, &sets, Vec::new()).unwrap();
        }
    }

    #[test]
    fn arms_are_found_by_name() {
        let found = arms("hive, greso").unwrap();
        assert_eq!(found[0].name, "hive");
        assert_eq!(found[1].name, "greso");
        assert!(arms("hive,hive").unwrap_err().allowed.contains("once"));
        assert!(
            arms("hyve")
                .unwrap_err()
                .allowed
                .contains("dynamic_sampling")
        );
    }
}
