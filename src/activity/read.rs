//! Reading JSON by hand, with the path of whatever is wrong.
use std::fmt;

use serde_json::{Map, Value};

/// A field that is missing or is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where: `events[3].entry.request.model`; empty for the whole document.
    pub path: String,
    /// What is wrong with it: `is not a string`.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the document" } else { &self.path };
        write!(f, "{path} {}", self.message)
    }
}

impl std::error::Error for Invalid {}

/// Whether a value is nested more than `levels` deep.
#[must_use]
pub fn deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|v| deeper(v, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|v| deeper(v, levels - 1)),
        _ => false,
    }
}

/// A place in a JSON document: the value there, if any, and how one came to it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> Reader<'a> {
    /// The whole document.
    #[must_use]
    pub fn new(value: &'a Value) -> Reader<'a> {
        Reader { value: Some(value), path: String::new() }
    }

    /// The member `name` of the object here; an absent one is found out when it is read.
    #[must_use]
    pub fn field(&self, name: &str) -> Reader<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Reader { value: self.value.and_then(|v| v.get(name)), path: format!("{}{dot}{name}", self.path) }
    }

    /// What is wrong here, in words.
    #[must_use]
    pub fn invalid(&self, message: &str) -> Invalid {
        Invalid { path: self.path.clone(), message: message.to_string() }
    }

    /// The value, unless it is absent or null.
    #[must_use]
    pub fn present(&self) -> Option<&'a Value> {
        self.value.filter(|v| !v.is_null())
    }

    fn expect<T>(&self, found: Option<T>, what: &str) -> Result<T, Invalid> {
        found.ok_or_else(|| match self.value {
            None => self.invalid("is missing"),
            Some(_) => self.invalid(&format!("is not {what}")),
        })
    }

    /// # Errors
    /// Absent, or not a string.
    pub fn str(&self) -> Result<&'a str, Invalid> {
        self.expect(self.value.and_then(Value::as_str), "a string")
    }

    /// # Errors
    /// Absent, or not a string.
    pub fn string(&self) -> Result<String, Invalid> {
        self.str().map(str::to_string)
    }

    /// A string of `min` to `max` characters.
    ///
    /// # Errors
    /// Absent, not a string, or shorter or longer.
    pub fn text(&self, min: usize, max: usize) -> Result<String, Invalid> {
        let text = self.str()?;
        if (min..=max).contains(&text.chars().count()) {
            return Ok(text.to_string());
        }
        Err(self.invalid(&format!("is not {min} to {max} characters long")))
    }

    /// A string of `min` to `max` characters that stays on its line: what lists and prompts show beside other things
    /// may hold no control characters.
    ///
    /// # Errors
    /// As [`Reader::text`], or there is one.
    pub fn line(&self, min: usize, max: usize) -> Result<String, Invalid> {
        let text = self.text(min, max)?;
        if text.chars().any(char::is_control) {
            return Err(self.invalid("holds control characters"));
        }
        Ok(text)
    }

    /// # Errors
    /// Absent, or not a whole number from 0 to 2^64-1.
    pub fn uint(&self) -> Result<u64, Invalid> {
        self.expect(self.value.and_then(Value::as_u64), "a whole number")
    }

    /// # Errors
    /// Absent, or not true or false.
    pub fn bool(&self) -> Result<bool, Invalid> {
        self.expect(self.value.and_then(Value::as_bool), "true or false")
    }

    /// A string out of a list of allowed ones.
    ///
    /// # Errors
    /// Absent, not a string, or not in the list.
    pub fn one_of(&self, allowed: &[&'static str]) -> Result<&'a str, Invalid> {
        let text = self.str()?;
        if allowed.contains(&text) {
            return Ok(text);
        }
        Err(self.invalid(&format!("is not one of {}", allowed.join(", "))))
    }

    /// The fields of the object here.
    ///
    /// # Errors
    /// Absent, or not an object.
    pub fn object(&self) -> Result<Map<String, Value>, Invalid> {
        self.expect(self.value.and_then(Value::as_object).cloned(), "an object")
    }

    /// The elements of the array here.
    ///
    /// # Errors
    /// Absent, or not an array.
    pub fn items(&self) -> Result<Vec<Reader<'a>>, Invalid> {
        let array = self.expect(self.value.and_then(Value::as_array), "an array")?;
        let place = |(i, value)| Reader { value: Some(value), path: format!("{}[{i}]", self.path) };
        Ok(array.iter().enumerate().map(place).collect())
    }

    /// `None` where the value is absent or null, else what `read` makes of it.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn optional<T>(&self, read: impl FnOnce(&Self) -> Result<T, Invalid>) -> Result<Option<T>, Invalid> {
        self.present().map(|_| read(self)).transpose()
    }
}
