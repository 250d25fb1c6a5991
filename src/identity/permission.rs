//! What a member may do beyond what everybody may.

/// A leaf permission, in the order in which lists show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    TeamManage,
    MembersManage,
    ObjectivesCreate,
    ObjectivesCancel,
    ObjectivesReassign,
    ObjectivesWatch,
    ActivityRead,
}

impl Permission {
    /// All of them, in order.
    pub const ALL: [Permission; 7] = [
        Permission::TeamManage,
        Permission::MembersManage,
        Permission::ObjectivesCreate,
        Permission::ObjectivesCancel,
        Permission::ObjectivesReassign,
        Permission::ObjectivesWatch,
        Permission::ActivityRead,
    ];

    /// The name on the wire and in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Permission::TeamManage => "team.manage",
            Permission::MembersManage => "members.manage",
            Permission::ObjectivesCreate => "objectives.create",
            Permission::ObjectivesCancel => "objectives.cancel",
            Permission::ObjectivesReassign => "objectives.reassign",
            Permission::ObjectivesWatch => "objectives.watch",
            Permission::ActivityRead => "activity.read",
        }
    }

    /// The permission of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Permission> {
        Permission::ALL.into_iter().find(|p| p.name() == name)
    }
}
