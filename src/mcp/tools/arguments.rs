//! A tool's fields as data: the schema the model reads, and what it sent read against that.
use serde_json::{Map, Value, json};

/// One argument of a tool.
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// For the model; ends without a full stop.
    pub about: &'static str,
}

/// What an argument is.
#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    /// A text that may be empty.
    Content,
    /// A list of texts. One text alone is taken for a list of one.
    Texts,
    /// A whole number. Digits in a text are taken for one.
    Count,
    /// `true` or `false`, also in a text.
    Switch,
    /// One of these texts.
    Choice(&'static [&'static str]),
}

impl Field {
    pub const fn needed(name: &'static str, kind: Kind, about: &'static str) -> Field {
        Field { name, kind, required: true, about }
    }

    pub const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Field {
        Field { name, kind, required: false, about }
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text | Kind::Content => json!({"type": "string"}),
            Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
            Kind::Count => json!({"type": "integer", "minimum": 0}),
            Kind::Switch => json!({"type": "boolean"}),
            Kind::Choice(words) => json!({"type": "string", "enum": words}),
        };
        schema["description"] = self.about.into();
        schema
    }

    /// The value in the form that the broker wants, or what is wrong with it.
    fn read(&self, value: &Value) -> Result<Value, String> {
        let read = match (self.kind, value) {
            (Kind::Text | Kind::Content, Value::String(_)) => Some(value.clone()),
            (Kind::Texts, Value::String(_)) => Some(json!([value])),
            (Kind::Texts, Value::Array(items)) if items.iter().all(Value::is_string) => Some(value.clone()),
            (Kind::Count, Value::Number(n)) => n.as_u64().map(Value::from),
            (Kind::Count, Value::String(text)) => text.parse::<u64>().ok().map(Value::from),
            (Kind::Switch, Value::Bool(_)) => Some(value.clone()),
            (Kind::Switch, Value::String(text)) => text.parse::<bool>().ok().map(Value::from),
            (Kind::Choice(words), Value::String(text)) if words.contains(&text.as_str()) => {
                Some(value.clone())
            }
            _ => None,
        };
        read.ok_or_else(|| match self.kind {
            Kind::Text | Kind::Content => "is not a text".to_string(),
            Kind::Texts => "is not a list of texts".to_string(),
            Kind::Count => "is not a whole number".to_string(),
            Kind::Switch => "is neither true nor false".to_string(),
            Kind::Choice(words) => format!("is not one of {}", words.join(", ")),
        })
    }
}

/// The JSON schema of a tool's arguments.
pub fn schema(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|f| (f.name.to_string(), f.schema())).collect();
    let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// What a tool was called with; every value is of its field's kind, and what is required is there.
#[derive(Debug, Default)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Read what the model sent. Empty texts and lists count as absent; what no field names is left out.
    ///
    /// # Errors
    /// `<field> is required`, or what is wrong with the field.
    pub fn read(fields: &[Field], sent: &Value) -> Result<Arguments, String> {
        if !sent.is_object() && !sent.is_null() {
            return Err("the arguments are not an object".to_string());
        }
        let mut read = Map::new();
        for field in fields {
            let value = sent.get(field.name).filter(|value| match value {
                Value::Null => false,
                Value::String(text) => matches!(field.kind, Kind::Content) || !text.trim().is_empty(),
                Value::Array(items) => !items.is_empty(),
                _ => true,
            });
            match value {
                Some(value) => {
                    let value = field.read(value).map_err(|why| format!("{} {why}", field.name))?;
                    read.insert(field.name.to_string(), value);
                }
                None if field.required => return Err(format!("{} is required", field.name)),
                None => {}
            }
        }
        Ok(Arguments(read))
    }

    /// A text that is required, or "".
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// A text that may be absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A number that may be absent.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The texts of a list.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// An object of those of the named arguments that are there.
    pub fn only(&self, names: &[&str]) -> Map<String, Value> {
        let pick = |name: &&str| Some(((*name).to_string(), self.0.get(*name)?.clone()));
        names.iter().filter_map(pick).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field::needed("body", Kind::Text, "The text"),
        Field::optional("to", Kind::Texts, "Who"),
        Field::optional("limit", Kind::Count, "How many"),
        Field::optional("deep", Kind::Switch, "Whether"),
        Field::optional("level", Kind::Choice(&["info", "warning"]), "How urgent"),
        Field::optional("file", Kind::Content, "What"),
    ];

    #[test]
    fn what_a_model_may_send_and_what_not() {
        for (sent, want) in [
            (json!({"body": "b"}), Ok(json!({"body": "b"}))),
            (json!({"body": " b ", "more": 1, "to": null}), Ok(json!({"body": " b "}))),
            (
                json!({"body": "b", "to": "ann", "limit": "5"}),
                Ok(json!({"body": "b", "to": ["ann"], "limit": 5})),
            ),
            (
                json!({"body": "b", "to": ["x", "y"], "limit": 0, "deep": "true", "level": "info"}),
                Ok(json!({"body": "b", "to": ["x", "y"], "limit": 0, "deep": true, "level": "info"})),
            ),
            (json!({"body": "b", "deep": false, "to": []}), Ok(json!({"body": "b", "deep": false}))),
            (json!({"body": "b", "file": ""}), Ok(json!({"body": "b", "file": ""}))),
            (Value::Null, Err("body is required")),
            (json!({}), Err("body is required")),
            (json!({"body": " "}), Err("body is required")),
            (json!({"body": null}), Err("body is required")),
            (json!([]), Err("the arguments are not an object")),
            (json!({"body": 7}), Err("body is not a text")),
            (json!({"body": "b", "to": [7]}), Err("to is not a list of texts")),
            (json!({"body": "b", "limit": -1}), Err("limit is not a whole number")),
            (json!({"body": "b", "limit": "many"}), Err("limit is not a whole number")),
            (json!({"body": "b", "deep": 1}), Err("deep is neither true nor false")),
            (json!({"body": "b", "level": "loud"}), Err("level is not one of info, warning")),
        ] {
            let read = Arguments::read(FIELDS, &sent).map(|read| Value::Object(read.0));
            assert_eq!(read, want.map_err(str::to_string), "{sent}");
        }
    }

    #[test]
    fn the_schema_says_the_same() {
        let schema = schema(FIELDS);
        assert_eq!(schema["required"], json!(["body"]));
        assert_eq!(schema["properties"]["level"]["enum"], json!(["info", "warning"]));
        assert_eq!(schema["properties"]["to"]["items"]["type"], "string");
        assert_eq!(schema["properties"]["body"]["description"], "The text");
    }
}
