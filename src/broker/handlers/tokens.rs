//! What opens the door for a member: tokens, and the secret of one-time codes.
use qrcodegen::{QrCode, QrCodeEcc};
use serde_json::{Value, json};

use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::identity::{Error, Permission, Token, TotpSecret};
use crate::sys::clock::now_ms;

/// `GET /members/:name/tokens`.
pub fn list(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let name = may(at, "listing another member's tokens")?;
    let member = at.caller.team.member(name).ok_or_else(|| Error::NoMember(name.to_string()))?;
    let uses = at.service.uses.all()?;
    let used = |token: &Token| uses.get(&token.id).copied().max(token.last_used_at);
    let tokens: Value = member.tokens.iter().map(|t| info(name, t, used(t))).collect();
    Ok(Answer::json(200, &json!({"tokens": tokens})))
}

/// `DELETE /members/:name/tokens/:id`.
pub fn revoke(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let name = may(at, "revoking another member's tokens")?;
    at.service.editor.update(|file| file.revoke(name, at.params[1]))?;
    Ok(Answer::empty())
}

/// `POST /members/:name/rotate-token`: one new token, shown this once. All others end, and so do the member's
/// sessions but the one in which this is asked: whoever had a token could have begun one.
pub fn rotate(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let name = may(at, "rotating another member's token")?;
    let by = at.caller.member().name.as_str();
    // First: if this fails, nobody has lost a token that is shown once.
    at.service.main.end_sessions(name, at.caller.session_of(name))?;
    let minted = at.service.editor.update(|file| file.rotate(name, Some(by), now_ms()))?;
    let info = info(name, &minted.token, None);
    Ok(Answer::json(200, &json!({"token": minted.text, "tokenInfo": info})))
}

/// `POST /members/:name/enroll-totp`: a new secret, shown this once. What the old one opened ends. With `qr=1` there is
/// also the QR code of its URI, a text of 0 and 1 (dark) for each of its rows.
pub fn enroll_totp(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let name = may(at, "enrolling another member for one-time codes")?;
    at.service.main.forget_totp(name)?;
    at.service.main.end_sessions(name, at.caller.session_of(name))?;
    let (secret, editor) = (TotpSecret::new(), &at.service.editor);
    let team = editor.update(|file| {
        if file.member(name).is_none() {
            return Err(Error::NoMember(name.to_string()));
        }
        file.set_totp(name, secret.seal(&editor.kek, name)?)?;
        Ok(file.team.name.clone())
    })?;
    let uri = secret.uri(&team, name);
    let mut body = json!({"totpSecret": secret.base32(), "totpUri": uri});
    if at.call.query.get("qr") == Some("1")
        && let Ok(code) = QrCode::encode_text(&uri, QrCodeEcc::Low)
    {
        let row = |y| (0..code.size()).map(|x| if code.get_module(x, y) { '1' } else { '0' }).collect();
        body["qr"] = (0..code.size()).map(|y| Value::String(row(y))).collect();
    }
    Ok(Answer::json(200, &body))
}

/// The member that the path names, if the caller may do this.
fn may<'a>(at: &Authorized<'a>, doing: &str) -> Result<&'a str, Failure> {
    at.caller.must_be_or_hold(at.params[0], Permission::MembersManage, doing)?;
    Ok(at.params[0])
}

/// What may be said about a token.
pub(super) fn info(member: &str, token: &Token, used: Option<u64>) -> Value {
    json!({
        "id": token.id,
        "memberName": member,
        "label": token.label,
        "origin": token.origin,
        "createdAt": token.created_at,
        "lastUsedAt": used,
        "expiresAt": token.expires_at,
        "createdBy": token.created_by,
    })
}
