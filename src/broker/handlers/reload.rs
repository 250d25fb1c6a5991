//! `POST /reload`: read the team file now.
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
    Ok(match at.service.team.reload() {
        Ok(reloaded) => {
            let restart: Value =
                reloaded.restart.iter().map(|(field, why)| json!({"field": field, "why": why})).collect();
            let body = json!({"ok": true, "applied": reloaded.applied, "restartRequired": restart});
            Answer::json(200, &body)
        }
        Err(error) => Answer::json(422, &json!({"ok": false, "error": error.to_string()})),
    })
}
