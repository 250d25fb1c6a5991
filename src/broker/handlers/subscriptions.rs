//! `/push/vapid-public-key`, `/push/subscriptions`: browsers that want to be told.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::object;
use crate::activity::Reader;
use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::broker::webpush::{Receiver, check};
use crate::identity::{Error, WebPush};
use crate::store::main::Subscription;
use crate::sys::clock::now_ms;

/// `GET /push/vapid-public-key`: the key that a browser subscribes with.
pub fn key(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    Ok(Answer::json(200, &json!({"publicKey": public_key(at)?})))
}

/// `POST /push/subscriptions`: what the browser's `subscribe` gave, `{endpoint, keys: {p256dh, auth}}`.
pub fn subscribe(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let body = object(&at.body)?;
    let body = Reader::new(&body);
    let (endpoint, keys) = (body.field("endpoint"), body.field("keys"));
    let private = at.service.team.settings().web_push.private_endpoints;
    check(endpoint.str().map_err(Failure::invalid)?, private)
        .map_err(|bad| Failure::invalid(endpoint.invalid(bad.0)))?;
    let bytes = |name: &str, length: usize| {
        let field = keys.field(name);
        let text = field.str().map_err(Failure::invalid)?.trim_end_matches('=');
        let found = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == length);
        found.ok_or_else(|| Failure::invalid(field.invalid(&format!("is not {length} bytes in base64url"))))
    };
    let p256dh = bytes("p256dh", 65)?;
    let mut auth = [0; 16];
    auth.copy_from_slice(&bytes("auth", 16)?);
    // Tried now: later there would be nobody to tell.
    let receiver = Receiver { key: p256dh, auth };
    let no_point = |_| Failure::invalid(keys.field("p256dh").invalid("is not a point on P-256"));
    receiver.encrypt(b"").map_err(no_point)?;
    let endpoint = endpoint.string().map_err(Failure::invalid)?;
    let new = Subscription { endpoint, p256dh: receiver.key, auth };
    let member = &at.caller.member().name;
    let (id, created) = at.service.main.subscribe(member, &new, &public_key(at)?, now_ms())?;
    Ok(Answer::json(200, &json!({"id": id, "endpoint": new.endpoint, "createdAt": created})))
}

/// `DELETE /push/subscriptions/:id`, of the caller's own.
pub fn unsubscribe(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    match at.service.main.unsubscribe(&at.caller.member().name, at.params[0])? {
        true => Ok(Answer::empty()),
        false => Err(Failure::NotFound("there is no such subscription of yours".to_string())),
    }
}

/// The public key. The pair is made when it is first asked for, and none where it could not be used: what a browser
/// subscribes with is of use only while the private half can be opened.
fn public_key(at: &Authorized<'_>) -> Result<String, Failure> {
    let (settings, kek) = (at.service.team.settings(), &at.service.editor.kek);
    if let (Some(_), Some(public)) = (settings.web_push.keys(kek)?, &settings.web_push.public_key) {
        return Ok(public.clone());
    }
    let kek = WebPush::sealing(kek)?;
    at.service.editor.update(|file| match WebPush::of(file).map_err(Error::Refused)? {
        // Somebody was faster.
        WebPush { public_key: Some(public), sealed: Some(_), .. } => Ok(public),
        _ => Ok(file.new_vapid(&kek)),
    })
}
