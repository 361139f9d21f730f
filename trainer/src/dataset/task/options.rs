//! The options of a task spec: `NAME?key=value&…`.

use core::ops::RangeInclusive;

use super::super::error::DatasetError;
use super::{NAMES, Style};
use crate::seed::Stream;

/// A size that may vary from problem to problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: u32,
    pub(super) high: u32,
}

impl Range {
    pub(super) fn draw(self, stream: &mut Stream) -> u32 {
        self.low + stream.below(u64::from(self.high - self.low) + 1) as u32
    }

    pub(super) fn map(self, change: impl Fn(u32) -> u32) -> Self {
        Self {
            low: change(self.low),
            high: change(self.high),
        }
    }
}

/// A number of exactly so many digits; one digit includes zero.
pub(super) fn draw_number(digits: u32, stream: &mut Stream) -> i64 {
    let low = if digits == 1 {
        0
    } else {
        10u64.pow(digits - 1)
    };
    (low + stream.below(10u64.pow(digits) - low)) as i64
}

/// The options that have not been taken yet, and the keys that were asked for.
pub(super) struct Options {
    text: String,
    name: String,
    pairs: Vec<(String, String)>,
    known: Vec<String>,
}

impl Options {
    pub(super) fn parse(text: &str) -> Result<Self, DatasetError> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let mut options = Self {
            text: format!("task:{text}"),
            name: name.to_string(),
            pairs: Vec::new(),
            known: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| options.error(format!("`{pair}` is not key=value")))?;
            if options.pairs.iter().any(|(other, _)| other == key) {
                return Err(options.error(format!("`{key}` is given twice")));
            }
            options.pairs.push((key.to_string(), value.to_string()));
        }
        Ok(options)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> DatasetError {
        DatasetError::spec(&self.text, reason)
    }

    pub(super) fn unknown_task(&self, name: &str) -> DatasetError {
        let known = NAMES.iter().copied().chain(["mix"]);
        self.error(format!(
            "no task `{name}`; did you mean task:`{}`? The tasks are {} and mix",
            nearest(name, known).unwrap_or_default(),
            NAMES.join(", ")
        ))
    }

    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_string());
        let index = self.pairs.iter().position(|(other, _)| other == key)?;
        Some(self.pairs.remove(index).1)
    }

    /// A size or a range of sizes.
    pub(super) fn range(
        &mut self,
        key: &str,
        allowed: RangeInclusive<u32>,
    ) -> Result<Option<Range>, DatasetError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let (low, high) = value.split_once('-').unwrap_or((&value, &value));
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high))
                if low <= high && allowed.contains(&low) && allowed.contains(&high) =>
            {
                Ok(Some(Range { low, high }))
            }
            _ => Err(self.error(format!(
                "`{key}={value}` is not possible: a number or a range such as 1-3 within {} to {}",
                allowed.start(),
                allowed.end()
            ))),
        }
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> Result<bool, DatasetError> {
        match self.take(key).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(value) => {
                Err(self.error(format!("`{key}={value}` is not possible: true or false")))
            }
        }
    }

    pub(super) fn style(&mut self) -> Result<Style, DatasetError> {
        match self.take("style").as_deref() {
            None | Some("plain") => Ok(Style::Plain),
            Some("question") => Ok(Style::Question),
            Some(value) => Err(self.error(format!(
                "`style={value}` is not possible: plain or question"
            ))),
        }
    }

    pub(super) fn weight(&mut self, key: &str) -> Result<Option<f64>, DatasetError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match value.parse::<f64>() {
            Ok(weight) if weight.is_finite() && weight > 0.0 => Ok(Some(weight)),
            _ => Err(self.error(format!("`{key}={value}` is not possible: a weight above 0"))),
        }
    }

    /// Every option must have been taken.
    pub(super) fn finish(&self) -> Result<(), DatasetError> {
        let Some((key, _)) = self.pairs.first() else {
            return Ok(());
        };
        let known = self.known.iter().map(String::as_str);
        Err(self.error(format!(
            "`{}` has no option `{key}`; did you mean `{}`? Its options are {}",
            self.name,
            nearest(key, known).unwrap_or_default(),
            self.known.join(", ")
        )))
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|other| strsim::damerau_levenshtein(word, other))
}
