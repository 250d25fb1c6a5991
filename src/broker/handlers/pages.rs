//! The page and its files, for anybody: what it shows needs a session.
use crate::broker::call::{Answer, Body, Call, Failure};
use crate::broker::router::Service;
use crate::web::{Asset, HEADERS, INDEX, asset};

/// `GET /`, `GET /enroll`: the page, which reads its own address.
pub fn index(_: &Service, call: &Call, _: &[u8]) -> Result<Answer, Failure> {
    Ok(file(&INDEX, call))
}

/// `GET /web/:file`.
pub fn part(_: &Service, call: &Call, _: &[u8]) -> Result<Answer, Failure> {
    named(call)
}

/// The file that the path's last segment names.
pub fn named(call: &Call) -> Result<Answer, Failure> {
    let found = call.path.last().and_then(|name| asset(name));
    let found = found.ok_or_else(|| Failure::NotFound("the page has no such file".to_string()))?;
    Ok(file(found, call))
}

/// A file, or 304 where the client has it.
pub fn file(asset: &Asset, call: &Call) -> Answer {
    let etag = asset.etag();
    let known = call.headers.get("if-none-match").is_some_and(|tags| tags.contains(&etag));
    let mut headers: Vec<(&'static str, String)> =
        HEADERS.iter().map(|(name, value)| (*name, (*value).to_string())).collect();
    headers.push(("ETag", etag));
    headers.push(("Content-Type", asset.kind.to_string()));
    let body = if known { Vec::new() } else { asset.text.as_bytes().to_vec() };
    Answer { status: if known { 304 } else { 200 }, headers, body: Body::Json(body) }
}
