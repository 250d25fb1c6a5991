//! The team itself: what all members are told, and named sets of permissions.
use serde_json::{Map, Value, json};

use super::permission::Permission;
use crate::activity::{Invalid, Reader};

/// What all members share.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    /// 1 to 128 characters.
    pub name: String,
    /// What the team is there for; 1 to 512 characters.
    pub directive: String,
    /// What everybody should know; at most 4096 characters.
    pub context: String,
    /// Named sets of permissions, in the file's order.
    pub presets: Vec<(String, Vec<Permission>)>,
    /// Fields this version does not know.
    pub more: Map<String, Value>,
}

/// Fields of a team that are not additive.
const FIELDS: [&str; 4] = ["name", "directive", "context", "permissionPresets"];

impl Team {
    /// The permissions that a member's list amounts to, in the order of [`Permission::ALL`].
    ///
    /// A name that is neither a permission nor a preset gives nothing: a member whose preset was deleted goes on
    /// working with the rest.
    #[must_use]
    pub fn resolve(&self, names: &[String]) -> Vec<Permission> {
        let held = |p: &Permission| {
            names.iter().any(|name| {
                p.name() == name || self.presets.iter().any(|(preset, set)| preset == name && set.contains(p))
            })
        };
        Permission::ALL.into_iter().filter(held).collect()
    }

    /// The wire JSON, without the fields this version does not know: those are the file's affair.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let preset = |(name, set): &(String, Vec<Permission>)| {
            (name.clone(), set.iter().map(|p| json!(p.name())).collect())
        };
        json!({
            "name": self.name,
            "directive": self.directive,
            "context": self.context,
            "permissionPresets": Value::Object(self.presets.iter().map(preset).collect()),
        })
    }

    pub(super) fn to_file_json(&self) -> Value {
        let mut out = self.to_json();
        if let Value::Object(map) = &mut out {
            map.extend(self.more.clone());
        }
        out
    }

    pub(super) fn read(at: &Reader<'_>) -> Result<Team, Invalid> {
        let presets = at.field("permissionPresets");
        let names = match presets.present() {
            None => Vec::new(),
            Some(Value::Object(map)) => map.keys().collect(),
            Some(_) => return Err(presets.invalid("is not an object")),
        };
        let preset = |name: &String| {
            let leaves = presets.field(name).items()?;
            let leaf = |r: &Reader<'_>| {
                Permission::from_name(r.str()?).ok_or_else(|| r.invalid("is not a known permission"))
            };
            Ok((name.clone(), leaves.iter().map(leaf).collect::<Result<_, _>>()?))
        };
        let context = |r: &Reader<'_>| r.text(0, 4096);
        Ok(Team {
            name: at.field("name").line(1, 128)?,
            directive: at.field("directive").text(1, 512)?,
            context: at.field("context").optional(context)?.unwrap_or_default(),
            presets: names.into_iter().map(preset).collect::<Result<_, _>>()?,
            more: others(at, &FIELDS),
        })
    }
}

/// The fields of an object that are not in `known`.
pub(super) fn others(at: &Reader<'_>, known: &[&str]) -> Map<String, Value> {
    let mut more = at.present().and_then(Value::as_object).cloned().unwrap_or_default();
    more.retain(|name, _| !known.contains(&name.as_str()));
    more
}
