//! The entry of everything that is not a model call.
use serde_json::{Map, Value, json};

use super::entry::{object, read_status};
use super::read::{Invalid, Reader};

/// An exchange that is not a model call. Previews are at most 4096 bytes of decoded text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpaqueEntry {
    pub started_at: u64,
    pub ended_at: u64,
    pub host: String,
    pub method: String,
    pub url: String,
    pub status: Option<u16>,
    pub request_headers: Vec<(String, String)>,
    pub response_headers: Vec<(String, String)>,
    pub request_body_preview: Option<String>,
    pub response_body_preview: Option<String>,
    /// Additive fields: `tunnel`, `note`, `session`, `client`, `truncated`, byte counts.
    pub more: Map<String, Value>,
}

fn headers_to_json(headers: &[(String, String)]) -> Value {
    let mut out = Map::new();
    for (name, value) in headers {
        match out.get_mut(&name.to_ascii_lowercase()) {
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(value);
            }
            _ => {
                out.insert(name.to_ascii_lowercase(), Value::String(value.clone()));
            }
        }
    }
    Value::Object(out)
}

fn headers_read(at: &Reader<'_>) -> Result<Vec<(String, String)>, Invalid> {
    let map = at.present().and_then(Value::as_object).ok_or_else(|| at.invalid("is not an object"))?;
    let pair = |(name, value): (&String, &Value)| match value.as_str() {
        Some(text) => Ok((name.clone(), text.to_string())),
        None => Err(at.field(name).invalid("is not a string")),
    };
    map.iter().map(pair).collect()
}

/// Names of an opaque entry that are not additive.
const OPAQUE_FIELDS: [&str; 11] = [
    "kind",
    "startedAt",
    "endedAt",
    "host",
    "method",
    "url",
    "status",
    "requestHeaders",
    "responseHeaders",
    "requestBodyPreview",
    "responseBodyPreview",
];

impl OpaqueEntry {
    /// The entry's wire JSON. Headers become an object of lower-case names; repeated ones are joined with `, `.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = object(json!({
            "kind": "opaque_http",
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
            "host": self.host,
            "method": self.method,
            "url": self.url,
            "status": self.status,
            "requestHeaders": headers_to_json(&self.request_headers),
            "responseHeaders": headers_to_json(&self.response_headers),
            "requestBodyPreview": self.request_body_preview,
            "responseBodyPreview": self.response_body_preview,
        }));
        out.extend(self.more.clone());
        Value::Object(out)
    }

    pub(super) fn read(at: &Reader<'_>) -> Result<OpaqueEntry, Invalid> {
        let kind = at.field("kind");
        if kind.str()? != "opaque_http" {
            return Err(kind.invalid("is not opaque_http"));
        }
        let preview = |name: &str| at.field(name).optional(Reader::string);
        let mut more = at.present().and_then(Value::as_object).cloned().unwrap_or_default();
        more.retain(|name, _| !OPAQUE_FIELDS.contains(&name.as_str()));
        Ok(OpaqueEntry {
            started_at: at.field("startedAt").uint()?,
            ended_at: at.field("endedAt").uint()?,
            host: at.field("host").string()?,
            method: at.field("method").string()?,
            url: at.field("url").string()?,
            status: read_status(&at.field("status"))?,
            request_headers: headers_read(&at.field("requestHeaders"))?,
            response_headers: headers_read(&at.field("responseHeaders"))?,
            request_body_preview: preview("requestBodyPreview")?,
            response_body_preview: preview("responseBodyPreview")?,
            more,
        })
    }
}
