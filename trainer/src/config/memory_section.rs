//! How much memory a run may take.

use serde::{Deserialize, Serialize};

use super::error::InvalidValue;

/// Units of a size, largest first.
const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A bound on the memory of a run: on the CPU that of the process, elsewhere that of its device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySection {
    /// Largest peak, such as "4GiB" or "900MiB"; unset means no bound. To fit, micro-batches
    /// shrink first, then blocks are run again in the backward pass; the cache gets what is left.
    ///
    /// Sizes that are "auto" grow up to it on a device that tells its memory; unset means four
    /// fifths of that for them, all of the device counted and not what is free, so that the same
    /// machine gives the same run.
    pub budget: Option<String>,
}

impl MemorySection {
    /// Checks that the budget is a size.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        let Some(text) = &self.budget else {
            return Ok(());
        };
        match bytes(text) {
            Some(_) => Ok(()),
            None => {
                let allowed = "a size with its unit, such as \"4GiB\", \"1.5GiB\" or \"900MiB\"";
                Err(InvalidValue::new("memory.budget", text, allowed))
            }
        }
    }

    /// The budget in bytes, if there is one.
    pub fn budget_bytes(&self) -> Option<u64> {
        self.budget.as_deref().and_then(bytes)
    }
}

/// A positive number and a unit.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = UNITS
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    let number: f64 = number.trim().parse().ok()?;
    let bytes = number * unit as f64;
    (bytes.is_finite() && bytes >= 1.0).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_number_and_a_unit() {
        assert_eq!(bytes("4GiB"), Some(4 << 30));
        assert_eq!(bytes(" 1.5 MiB"), Some(3 << 19));
        assert_eq!(bytes("7B"), Some(7));
        for text in ["", "4", "GiB", "-1GiB", "0B", "infGiB", "4GB", "NaNB"] {
            assert_eq!(bytes(text), None, "{text}");
            let section = MemorySection {
                budget: Some(text.into()),
            };
            assert_eq!(section.validate().unwrap_err().key, "memory.budget");
        }
        assert_eq!(MemorySection::default().validate(), Ok(()));
    }
}
