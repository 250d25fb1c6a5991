//! Every tool: its name, what the model reads about it, its fields, what it does.
use super::arguments::{Field, Kind};
use super::{Call, Outcome, files, messages, objectives};

/// A tool and everything that is told about it.
pub struct Tool {
    pub name: &'static str,
    /// One of these permissions lets a member use it; with none named everybody may.
    pub needs: &'static [&'static str],
    /// What it does, without the last full stop.
    pub about: &'static str,
    pub fields: &'static [Field],
    /// Whether its description ends with the open objectives.
    pub digest: bool,
    pub run: fn(&Call<'_>) -> Outcome,
}

impl Tool {
    const fn new(
        name: &'static str,
        about: &'static str,
        fields: &'static [Field],
        run: fn(&Call<'_>) -> Outcome,
    ) -> Tool {
        Tool { name, needs: &[], about, fields, digest: false, run }
    }

    const fn with_digest(self) -> Tool {
        Tool { digest: true, ..self }
    }

    const fn needing(self, needs: &'static [&'static str]) -> Tool {
        Tool { needs, ..self }
    }
}

const LEVELS: Kind = Kind::Choice(&["debug", "info", "notice", "warning", "error", "critical"]);
const STATUSES: Kind = Kind::Choice(&["active", "blocked", "done", "cancelled"]);

const BODY: Field = Field::needed("body", Kind::Text, "What to say");
const TITLE: Field = Field::optional("title", Kind::Text, "A heading of at most 200 characters");
const LEVEL: Field =
    Field::optional("level", LEVELS, "How urgent it is (info if absent); above info interrupts its readers");
const ATTACHMENTS: Field = Field::optional(
    "attachments",
    Kind::Texts,
    "Paths of team files (see fs_ls); readers may then read them",
);
const ID: Field = Field::needed("id", Kind::Text, "The objective's id");
const PATH: Field = Field::needed("path", Kind::Text, "An absolute path; your own home is /<your name>");
const RECURSIVE: Field = Field::optional("recursive", Kind::Switch, "With everything on the way, or below");

/// In the order in which they are listed.
pub const TOOLS: &[Tool] = &[
    Tool::new(
        "roster",
        "List the members of the team, their roles, and who is connected",
        &[],
        messages::roster,
    ),
    Tool::new(
        "broadcast",
        "Send a message to every member of the team. Prefer send or a channel for what not all need",
        &[BODY, TITLE, LEVEL, ATTACHMENTS],
        messages::broadcast,
    ),
    Tool::new(
        "send",
        "Send a message to one member",
        &[Field::needed("to", Kind::Text, "The member's name (see roster)"), BODY, TITLE, LEVEL, ATTACHMENTS],
        messages::send,
    ),
    Tool::new(
        "channels_list",
        "List the team's channels and whether you are in them",
        &[],
        messages::channels,
    ),
    Tool::new(
        "channels_post",
        "Post a message to a channel that you are in",
        &[Field::needed("channel", Kind::Text, "The channel's name or id"), BODY, TITLE, LEVEL, ATTACHMENTS],
        messages::post,
    ),
    Tool::new(
        "recent",
        "Show recent messages, oldest first: all of yours, or those with one member or of one channel",
        &[
            Field::optional("with", Kind::Text, "Only messages with this member"),
            Field::optional("channel", Kind::Text, "Only messages of this channel"),
            Field::optional("limit", Kind::Count, "How many (default 20, at most 500)"),
        ],
        messages::recent,
    ),
    Tool::new(
        "objectives_list",
        "List the objectives that you take part in; all of them if you manage members",
        &[Field::optional("status", STATUSES, "Only those in this state")],
        objectives::all,
    )
    .with_digest(),
    Tool::new("objectives_view", "Show an objective and what has happened to it", &[ID], objectives::view),
    Tool::new(
        "objectives_update",
        "Say that an objective of yours is blocked, or active again",
        &[
            ID,
            Field::needed("status", Kind::Choice(&["active", "blocked"]), "Its state from now on"),
            Field::optional("blockReason", Kind::Text, "What it waits for; required with blocked"),
        ],
        objectives::update,
    ),
    Tool::new(
        "objectives_discuss",
        "Write to everybody who takes part in an objective",
        &[ID, BODY, TITLE, ATTACHMENTS],
        objectives::discuss,
    ),
    Tool::new(
        "objectives_complete",
        "Close an objective that is assigned to you, once its outcome is reached. This cannot be undone",
        &[ID, Field::needed("result", Kind::Text, "What was done, measured against the outcome")],
        objectives::complete,
    )
    .with_digest(),
    Tool::new(
        "objectives_create",
        "Give a member an objective",
        &[
            Field::needed("title", Kind::Text, "A line of at most 200 characters"),
            Field::needed("outcome", Kind::Text, "What must be true for it to be done"),
            Field::needed("assignee", Kind::Text, "The member who is to do it"),
            Field::optional("body", Kind::Text, "Whatever else the assignee needs to know"),
            Field::optional("watchers", Kind::Texts, "Members who are told what happens to it"),
            ATTACHMENTS,
        ],
        objectives::create,
    )
    .needing(&["objectives.create"]),
    Tool::new(
        "objectives_cancel",
        "Cancel an objective. This cannot be undone",
        &[ID, Field::optional("reason", Kind::Text, "Why")],
        objectives::cancel,
    )
    .needing(&["objectives.cancel", "objectives.create"]),
    Tool::new(
        "objectives_watchers",
        "Add or remove members who are told what happens to an objective",
        &[
            ID,
            Field::optional("add", Kind::Texts, "Members to add"),
            Field::optional("remove", Kind::Texts, "Members to remove"),
        ],
        objectives::watchers,
    )
    .needing(&["objectives.watch", "objectives.create"]),
    Tool::new(
        "objectives_reassign",
        "Give an objective to another member",
        &[
            ID,
            Field::needed("to", Kind::Text, "The member who is to do it from now on"),
            Field::optional("note", Kind::Text, "What that member needs to know"),
        ],
        objectives::reassign,
    )
    .needing(&["objectives.reassign", "members.manage"]),
    Tool::new(
        "fs_ls",
        "List a directory of the team's files",
        &[Field::optional("path", Kind::Text, "An absolute path (your own home if absent)")],
        files::list,
    ),
    Tool::new("fs_stat", "Show what is known about a file or directory", &[PATH], files::stat),
    Tool::new(
        "fs_read",
        "Read a team file of at most 4 MiB: text as it is, anything else in base64",
        &[PATH],
        files::read,
    ),
    Tool::new(
        "fs_write",
        "Write a team file of at most 4 MiB, from text or from base64",
        &[
            PATH,
            Field::needed("mimeType", Kind::Text, "What it is, like text/plain or image/png"),
            Field::optional("text", Kind::Content, "The content"),
            Field::optional("base64", Kind::Text, "The content, encoded, if it is not text"),
            Field::optional(
                "collide",
                Kind::Choice(&["error", "suffix", "overwrite"]),
                "What to do if there is a file already (error if absent); those it was sent to read what overwrites it",
            ),
        ],
        files::write,
    ),
    Tool::new("fs_mkdir", "Make a directory", &[PATH, RECURSIVE], files::make),
    Tool::new("fs_rm", "Remove a file or directory", &[PATH, RECURSIVE], files::remove),
    Tool::new(
        "fs_mv",
        "Move or rename a file or directory",
        &[
            Field::needed("from", Kind::Text, "The absolute path it has"),
            Field::needed("to", Kind::Text, "The absolute path it is to have"),
        ],
        files::rename,
    ),
    Tool::new("fs_shared", "List the files that others have shared with you", &[], files::shared),
];
