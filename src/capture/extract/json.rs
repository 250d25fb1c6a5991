//! JSON as it really arrives: cut off, not quite UTF-8, with half an emoji in it.
use serde_json::{Map, Value};

/// Parse a document. Bytes that are not UTF-8 and escaped halves of surrogate pairs (JavaScript clients cut strings
/// between them) become U+FFFD. `None` if it still is not JSON.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Value> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    serde_json::from_slice(bytes).ok().or_else(|| {
        let text = String::from_utf8_lossy(bytes);
        serde_json::from_slice(&mend(text.as_bytes())).ok()
    })
}

/// The code unit of a `\u` escape at the start of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Replace escapes of lone surrogates.
fn mend(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest[0] != b'\\' {
            out.push(rest[0]);
            at += 1;
            continue;
        }
        let low =
            |from: usize| rest.get(from..).and_then(code_unit).is_some_and(|u| (0xDC00..0xE000).contains(&u));
        let length = match code_unit(rest) {
            Some(0xD800..0xDC00) if low(6) => 12,
            Some(0xD800..0xE000) => {
                out.extend_from_slice(b"\\uFFFD");
                at += 6;
                continue;
            }
            _ => rest.len().min(2),
        };
        out.extend_from_slice(&rest[..length]);
        at += length;
    }
    out
}

/// Parse what there is of a document that was cut off: the unfinished member is dropped, or kept as far as it came
/// if it is a string, and what is open is closed.
#[must_use]
pub fn parse_cut(bytes: &[u8]) -> Option<Value> {
    let mut closers: Vec<u8> = Vec::new();
    // Up to `safe` everything is complete, and closing the outer `depth` containers makes a document.
    let (mut safe, mut depth) = (0, 0);
    let mut last = 0; // the last byte outside strings that is not white space
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let is_value = last == b':' || closers.last() == Some(&b']');
                let (end, closed) = string_end(bytes, at + 1);
                if !closed {
                    if is_value {
                        let mut text = bytes[..end].to_vec();
                        text.push(b'"');
                        text.extend(closers.iter().rev());
                        return parse(&text);
                    }
                    break;
                }
                last = b'"';
                at = end;
                continue;
            }
            open @ (b'{' | b'[') => {
                closers.push(if open == b'{' { b'}' } else { b']' });
                (safe, depth) = (at + 1, closers.len());
            }
            b'}' | b']' => {
                closers.pop();
                (safe, depth) = (at + 1, closers.len());
            }
            b',' => (safe, depth) = (at, closers.len()),
            _ => {}
        }
        if !bytes[at].is_ascii_whitespace() {
            last = bytes[at];
        }
        at += 1;
    }
    let mut text = bytes[..safe].to_vec();
    text.extend(closers[..depth].iter().rev());
    parse(&text)
}

/// From inside a string: the offset past its closing quote and true, or past its last whole character and false.
fn string_end(bytes: &[u8], from: usize) -> (usize, bool) {
    let mut at = from;
    while at < bytes.len() {
        let length = match (bytes[at], bytes.get(at + 1)) {
            (b'"', _) => return (at + 1, true),
            (b'\\', Some(b'u')) => 6,
            (b'\\', _) => 2,
            _ => 1,
        };
        if at + length > bytes.len() {
            break;
        }
        at += length;
    }
    (at, false)
}

/// The elements of an array, each with the offset just past it; what there is of them if it was cut off.
#[must_use]
pub fn elements(bytes: &[u8]) -> Vec<(Value, usize)> {
    let mut out = Vec::new();
    let is_between = |b: &u8| b.is_ascii_whitespace() || *b == b',';
    let skip = |at: usize| at + bytes[at..].iter().take_while(|b| is_between(b)).count();
    let mut at = skip(0);
    if bytes.get(at) != Some(&b'[') {
        return out;
    }
    at = skip(at + 1);
    while at < bytes.len() {
        let mut one = serde_json::Deserializer::from_slice(&bytes[at..]).into_iter::<Value>();
        let Some(Ok(value)) = one.next() else { break };
        at += one.byte_offset();
        out.push((value, at));
        at = skip(at);
    }
    out
}

/// Take the member `name` out of an object, leaving null; null if there is none.
pub fn take(value: &mut Value, name: &str) -> Value {
    value.get_mut(name).map_or(Value::Null, Value::take)
}

/// Take the member `name` if it is a string.
pub fn take_string(value: &mut Value, name: &str) -> Option<String> {
    string(take(value, name))
}

/// Take the elements of the array under `name`; none if there is no array.
pub fn take_array(value: &mut Value, name: &str) -> Vec<Value> {
    array(take(value, name))
}

/// Take the member `name` unless it is absent or null.
pub fn take_some(value: &mut Value, name: &str) -> Option<Value> {
    Some(take(value, name)).filter(|v| !v.is_null())
}

/// The string a value is.
#[must_use]
pub fn string(value: Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s),
        _ => None,
    }
}

/// The elements an array has; none of anything else.
#[must_use]
pub fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// The members an object has; none of anything else.
#[must_use]
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What is left of an object after parts of it were taken.
#[must_use]
pub fn rest(value: Value) -> Value {
    Value::Object(object(value).into_iter().filter(|(_, v)| !v.is_null()).collect())
}

/// The string under `name`, borrowed; empty if there is none.
#[must_use]
pub fn str_at<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

/// The first of `names` that holds a whole number.
#[must_use]
pub fn uint_at(value: &Value, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| value.get(name)?.as_u64())
}

/// Append to the string under `name`, which is made if there is none.
pub fn append(map: &mut Map<String, Value>, name: &str, text: &str) {
    match map.get_mut(name) {
        Some(Value::String(before)) => before.push_str(text),
        _ => {
            map.insert(name.to_string(), Value::String(text.to_string()));
        }
    }
}

/// Arguments of a tool call, which arrive as JSON text. Text that is not JSON is kept as `__raw_partial_json`.
#[must_use]
pub fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    parse(text.as_bytes()).unwrap_or_else(|| serde_json::json!({"__raw_partial_json": text}))
}

#[cfg(test)]
mod tests {
    use super::{arguments, elements, parse, parse_cut};
    use serde_json::{Value, json};

    #[test]
    fn broken_text_is_mended() {
        let table: &[(&[u8], Option<Value>)] = &[
            (br#"{"a":1}"#, Some(json!({"a": 1}))),
            (b"\xEF\xBB\xBF[1]", Some(json!([1]))),
            (b"\"\xFF\"", Some(json!("\u{FFFD}"))),
            (br#""\ud83d""#, Some(json!("\u{FFFD}"))),
            (br#""\ud83d\ude00""#, Some(json!("\u{1F600}"))),
            (br#""\ude00\ud83d\ud83d\ude00x""#, Some(json!("\u{FFFD}\u{FFFD}\u{1F600}x"))),
            (br#""\\ud83d\ud83d\n""#, Some(json!("\\ud83d\u{FFFD}\n"))),
            (br#""\ud83"#, None),
            (b"{\"a\":", None),
            (b"", None),
        ];
        for (text, want) in table {
            assert_eq!(parse(text), *want, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn numbers_keep_their_last_digit() {
        for text in
            ["2.9443733747435647e+206", "0.30000000000000004", "123456789.12345679", "18446744073709551615"]
        {
            assert_eq!(parse(text.as_bytes()).map(|v| v.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_cut_document_keeps_what_is_complete() {
        for (text, want) in [
            (
                r#"{"model":"m","messages":[{"role":"user","content":"hel"#,
                json!({"model": "m", "messages": [{"role": "user", "content": "hel"}]}),
            ),
            (r#"{"a":[1,2,3"#, json!({"a": [1, 2]})),
            (r#"{"a":{"b":true},"c"#, json!({"a": {"b": true}})),
            (r#"{"a":"x\u00"#, json!({"a": "x"})),
            (r#"{"a":"x\"#, json!({"a": "x"})),
            (r#"{"a":"\\"#, json!({"a": "\\"})),
            (r#"["a","b\"]"#, json!(["a", "b\"]"])),
            (r#"{"a":"#, json!({})),
            ("{", json!({})),
            (r#"{"a":1}"#, json!({"a": 1})),
        ] {
            assert_eq!(parse_cut(text.as_bytes()), Some(want), "{text}");
        }
        assert_eq!(parse_cut(b""), None);
        assert_eq!(parse_cut(b"<html>"), None);
    }

    #[test]
    fn any_cut_of_a_document_can_be_read() {
        let whole =
            r#" {"model":"m✓","n":[1,-2.5e3,null,{"x":"a\"b\\"}],"t":{"u":"\ud83d\ude00é","v":[[],{}]}} "#;
        for cut in 2..whole.len() {
            assert!(
                parse_cut(&whole.as_bytes()[..cut]).is_some_and(|v| v.is_object()),
                "{}",
                &whole.as_bytes()[..cut].escape_ascii()
            );
        }
    }

    #[test]
    fn arrays_are_read_element_by_element() {
        let ends = |text: &str| {
            elements(text.as_bytes()).into_iter().map(|(v, end)| (v.to_string(), end)).collect::<Vec<_>>()
        };
        assert_eq!(ends("[{\"a\":1},\n {\"b\":2}\n]"), [("{\"a\":1}".into(), 8), ("{\"b\":2}".into(), 18)]);
        assert_eq!(ends(" [{\"a\":1},{\"b\""), [("{\"a\":1}".into(), 9)]);
        assert_eq!(ends("{}"), []);
        assert_eq!(ends(""), []);
    }

    #[test]
    fn arguments_that_are_not_json_are_kept() {
        assert_eq!(arguments(""), json!({}));
        assert_eq!(arguments(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(arguments(r#"{"a":"#), json!({"__raw_partial_json": "{\"a\":"}));
    }
}
