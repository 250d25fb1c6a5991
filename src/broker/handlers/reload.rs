//! `POST /reload`: read the team file and the certificate now.
use serde_json::{Value, json};

use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::identity::Permission;

/// What has changed, and what needs a restart; 422 where the file is refused and the old state goes on.
pub fn post(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    if !at.caller.team.allows(at.caller.member(), Permission::TeamManage) {
        let name = Permission::TeamManage.name();
        return Err(Failure::Forbidden(format!("reloading requires the {name} permission")));
    }
    let refused = |error: String| Ok(Answer::json(422, &json!({"ok": false, "error": error})));
    let mut reloaded = match at.service.team.reload() {
        Ok(reloaded) => reloaded,
        Err(error) => return refused(error.to_string()),
    };
    match at.service.certificate.as_ref().map(|certificate| certificate.reload()) {
        Some(Err(error)) => return refused(error.to_string()),
        Some(Ok(true)) => reloaded.applied.push("certificate"),
        Some(Ok(false)) | None => {}
    }
    let restart: Value =
        reloaded.restart.iter().map(|(field, why)| json!({"field": field, "why": why})).collect();
    let body = json!({"ok": true, "applied": reloaded.applied, "restartRequired": restart});
    Ok(Answer::json(200, &body))
}
