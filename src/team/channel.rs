//! Channels: named conversations that members join.
use serde_json::{Map, Value, json};

use crate::activity::{Invalid, Reader};

/// The channel that everybody is in: its id, and its slug.
pub const GENERAL: &str = "general";

/// A channel. Its messages refer to it by the id, so it can have another slug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub id: String,
    pub slug: String,
    pub created_by: String,
    /// ms since the epoch.
    pub created_at: u64,
    /// ms since the epoch; `None` while one can post there.
    pub archived_at: Option<u64>,
}

/// A channel as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSummary {
    pub channel: Channel,
    /// `None` for who is not in it.
    pub my_role: Option<ChannelRole>,
    pub members: usize,
}

/// Somebody who is in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMember {
    pub name: String,
    pub role: ChannelRole,
    /// ms since the epoch.
    pub joined_at: u64,
}

/// What a member may do in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelRole {
    /// Rename it, archive it, say who is in it.
    Admin,
    /// Read and post.
    Member,
}

impl ChannelRole {
    const NAMES: [&'static str; 2] = ["admin", "member"];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        ChannelRole::NAMES[self as usize]
    }

    /// The role of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<ChannelRole> {
        [ChannelRole::Admin, ChannelRole::Member].into_iter().find(|role| role.name() == name)
    }

    fn read(at: &Reader<'_>) -> Result<ChannelRole, Invalid> {
        let name = at.one_of(&ChannelRole::NAMES)?;
        ChannelRole::from_name(name).ok_or_else(|| at.invalid("is no role"))
    }
}

impl Channel {
    /// The wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Value::Object(self.fields())
    }

    fn fields(&self) -> Map<String, Value> {
        let fields = [
            ("id", json!(self.id)),
            ("slug", json!(self.slug)),
            ("createdBy", json!(self.created_by)),
            ("createdAt", json!(self.created_at)),
            ("archivedAt", json!(self.archived_at)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// A channel from its wire JSON.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn from_json(value: &Value) -> Result<Channel, Invalid> {
        Channel::read(&Reader::new(value))
    }

    fn read(at: &Reader<'_>) -> Result<Channel, Invalid> {
        Ok(Channel {
            id: at.field("id").string()?,
            slug: at.field("slug").string()?,
            created_by: at.field("createdBy").string()?,
            created_at: at.field("createdAt").uint()?,
            archived_at: at.field("archivedAt").optional(Reader::uint)?,
        })
    }
}

impl ChannelSummary {
    /// The wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = self.channel.fields();
        out.insert("joined".to_string(), json!(self.my_role.is_some()));
        out.insert("myRole".to_string(), json!(self.my_role.map(ChannelRole::name)));
        out.insert("memberCount".to_string(), json!(self.members));
        Value::Object(out)
    }

    /// A summary from its wire JSON.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn from_json(value: &Value) -> Result<ChannelSummary, Invalid> {
        let at = Reader::new(value);
        let count = at.field("memberCount");
        Ok(ChannelSummary {
            channel: Channel::read(&at)?,
            my_role: at.field("myRole").optional(ChannelRole::read)?,
            members: usize::try_from(count.uint()?).map_err(|_| count.invalid("is too large"))?,
        })
    }
}

impl ChannelMember {
    /// The wire JSON; `channel` is the id of the channel.
    #[must_use]
    pub fn to_json(&self, channel: &str) -> Value {
        let (name, role, joined) = (&self.name, self.role.name(), self.joined_at);
        json!({"channelId": channel, "memberName": name, "role": role, "joinedAt": joined})
    }
}

/// The `{slug}` of a request.
///
/// # Errors
/// It is missing, or none.
pub fn read_slug(value: &Value) -> Result<String, Invalid> {
    let slug = Reader::new(value).field("slug");
    if !valid_slug(slug.str()?) {
        return Err(slug.invalid("is not 1 to 32 of a-z 0-9 and single dashes between them"));
    }
    slug.string()
}

/// The `{member?, role?}` of a request: who joins, and as what. Nobody named is who asks.
///
/// # Errors
/// A field has a wrong type, or the role is none.
pub fn read_joining(value: &Value) -> Result<(Option<String>, Option<ChannelRole>), Invalid> {
    let at = Reader::new(value);
    let member = at.field("member").optional(|r| r.text(1, 128))?;
    Ok((member, at.field("role").optional(ChannelRole::read)?))
}

fn valid_slug(slug: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    slug.len() <= 32 && slug.split('-').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_words_with_dashes_between() {
        for (slug, want) in [
            ("a", true),
            ("7", true),
            ("ops", true),
            ("ops-2-x", true),
            ("", false),
            ("Ops", false),
            ("-ops", false),
            ("ops-", false),
            ("o--s", false),
            ("o_s", false),
            ("o s", false),
            ("é", false),
        ] {
            assert_eq!(read_slug(&json!({"slug": slug})).is_ok(), want, "{slug}");
        }
        assert!(valid_slug(&"a".repeat(32)) && !valid_slug(&"a".repeat(33)));
        assert_eq!(read_slug(&json!({})).unwrap_err().path, "slug");
    }

    #[test]
    fn a_summary_comes_back_from_its_json() {
        let channel = Channel {
            id: "c".into(),
            slug: "ops".into(),
            created_by: "ann".into(),
            created_at: 1,
            archived_at: None,
        };
        assert_eq!(Channel::from_json(&channel.to_json()).unwrap(), channel);
        for my_role in [None, Some(ChannelRole::Admin), Some(ChannelRole::Member)] {
            let summary = ChannelSummary { channel: channel.clone(), my_role, members: 3 };
            assert_eq!(summary.to_json()["joined"], my_role.is_some());
            assert_eq!(ChannelSummary::from_json(&summary.to_json()).unwrap(), summary);
        }
    }

    #[test]
    fn whoever_joins_may_be_named() {
        let read = |value: Value| read_joining(&value).map_err(|invalid| invalid.path);
        assert_eq!(read(json!({})), Ok((None, None)));
        let both = read(json!({"member": "bob", "role": "admin"}));
        assert_eq!(both, Ok((Some("bob".to_string()), Some(ChannelRole::Admin))));
        assert_eq!(read(json!({"member": 1})), Err("member".to_string()));
        assert_eq!(read(json!({"role": "owner"})), Err("role".to_string()));
    }
}
