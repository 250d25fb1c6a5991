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

/// A file, packed for who takes that, or 304 where the client has it.
pub fn file(asset: &Asset, call: &Call) -> Answer {
    let packed = call.headers.get("accept-encoding").is_some_and(takes_gzip);
    let etag = asset.etag(packed);
    let known = call.headers.get("if-none-match").is_some_and(|tags| tags.contains(&etag));
    let mut headers: Vec<(&'static str, String)> =
        HEADERS.iter().map(|(name, value)| (*name, (*value).to_string())).collect();
    headers.push(("ETag", etag));
    headers.push(("Vary", "Accept-Encoding".to_string()));
    headers.push(("Content-Type", asset.kind.to_string()));
    if packed && !known {
        headers.push(("Content-Encoding", "gzip".to_string()));
    }
    let body = match (known, packed) {
        (true, _) => Vec::new(),
        (false, true) => asset.packed.to_vec(),
        (false, false) => asset.text().into_bytes(),
    };
    Answer { status: if known { 304 } else { 200 }, headers, body: Body::Json(body) }
}

/// Whether an `Accept-Encoding` (RFC 9110 §12.5.3) takes gzip.
fn takes_gzip(value: &str) -> bool {
    value.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
        gzip && weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::takes_gzip;

    #[test]
    fn what_takes_gzip() {
        for (value, want) in [
            ("gzip, deflate, br, zstd", true),
            ("br, GZIP;q=0.5", true),
            ("gzip ; q=1", true),
            ("gzip;q=0", false),
            ("gzip;Q=0", false),
            ("gzip;q=0.000, br", false),
            ("gzip;q=x", false),
            ("identity", false),
            ("", false),
            ("xgzip", false),
        ] {
            assert_eq!(takes_gzip(value), want, "{value}");
        }
    }
}
