//! A Jinja environment that behaves as the Python one in which chat templates are written.
//!
//! The settings are those of `transformers` (`chat_template_utils.py`): blocks trimmed on the right
//! and stripped on the left, `break` and `continue`, a `tojson` that is Python's `json.dumps` without
//! HTML escapes, `raise_exception`, `strftime_now`. Values print as Python prints them (`None`,
//! `True`, `['a']`), and strings, lists and dicts have the common Python methods.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State};

use super::python_text::{json_dumps, python_repr};

/// A fixed point in time, for templates that print the date.
///
/// The default is 26 July 2024, midnight: the date that Llama 3's template itself falls back to
/// where there is no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year, such as 2024.
    pub year: u32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
}

impl Default for Date {
    fn default() -> Self {
        Self {
            year: 2024,
            month: 7,
            day: 26,
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Date {
    /// Day of the week, 0 for Sunday (Sakamoto's method).
    fn weekday(self) -> usize {
        const OFFSETS: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 {
            self.year - 1
        } else {
            self.year
        };
        let offset = OFFSETS[self.month as usize - 1];
        ((year + year / 4 - year / 100 + year / 400 + offset + self.day) % 7) as usize
    }

    /// The date in C's `strftime` notation at midnight, or the directive that is not known.
    pub fn strftime(self, format: &str) -> Result<String, String> {
        let month = MONTHS[(self.month as usize - 1) % 12];
        let weekday = WEEKDAYS[self.weekday()];
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(next) = rest.next() {
            if next != '%' {
                text.push(next);
                continue;
            }
            let directive = rest.next().unwrap_or('%');
            text += &match directive {
                'Y' => self.year.to_string(),
                'y' => format!("{:02}", self.year % 100),
                'm' => format!("{:02}", self.month),
                'B' => month.into(),
                'b' | 'h' => month[..3].into(),
                'd' => format!("{:02}", self.day),
                'e' => format!("{:>2}", self.day),
                'A' => weekday.into(),
                'a' => weekday[..3].into(),
                'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
                'H' | 'M' | 'S' => "00".into(),
                'I' => "12".into(),
                'p' => "AM".into(),
                '%' => "%".into(),
                other => return Err(format!("strftime_now does not know %{other}")),
            };
        }
        Ok(text)
    }
}

/// The environment of a chat template.
pub fn environment(date: Date) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_formatter(print_like_python);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    set_date(&mut environment, date);
    environment
}

/// Replaces the date of `strftime_now`.
pub fn set_date(environment: &mut Environment<'static>, date: Date) {
    environment.add_function("strftime_now", move |format: String| {
        date.strftime(&format)
            .map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
    });
}

fn print_like_python(out: &mut Output, _state: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => Ok(out.write_str(value.as_str().unwrap_or_default())?),
        _ => Ok(out.write_str(&python_repr(value))?),
    }
}

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`.
fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let ensure_ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    let indent: Option<usize> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}")))?;
    let separators = match separators.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => {
            let reason = "tojson: separators must be a pair of strings";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    };
    let style = super::python_text::JsonStyle {
        ensure_ascii: ensure_ascii.unwrap_or(false),
        indent,
        separators,
        sort_keys: sort_keys.unwrap_or(false),
    };
    Ok(Value::from_safe_string(json_dumps(&json, &style)))
}
