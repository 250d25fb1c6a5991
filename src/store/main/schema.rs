//! The tables of the main database, and how older files get them.
use crate::store::file::Kind;

/// Main databases, as `file` opens them.
pub(super) const KIND: Kind = Kind {
    name: "main",
    application_id: 0x6163_376d, // "ac7m"
    migrations: &[V1, V2, V3, V4, V5],
};

/// Times are ms since the epoch, hashes SHA-256.
///
/// - `session`: cookies that count; `seen` is coarse, `expires` moves with it.
/// - `token`: when a token of the team file was last used.
/// - `totp`: the last step of which a code was accepted; earlier ones and this one no longer are.
/// - `totp_failure`: codes that were wrong; `member` is the name that was said, of a member or not, or null.
/// - `enrolment`: devices that asked for a token. `sealed` is the token from its approval until it was fetched,
///   encrypted; `polled` and `polls` say when and how often it was asked for.
const V1: &str = "
CREATE TABLE session (
    hash BLOB PRIMARY KEY,
    member TEXT NOT NULL,
    created INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_member ON session (member);
CREATE INDEX session_expires ON session (expires);
CREATE TABLE token (
    id TEXT PRIMARY KEY,
    used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE totp (
    member TEXT PRIMARY KEY,
    step INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE totp_failure (
    id INTEGER PRIMARY KEY,
    member TEXT,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX totp_failure_member ON totp_failure (member, at);
CREATE INDEX totp_failure_at ON totp_failure (at);
CREATE TABLE enrolment (
    id INTEGER PRIMARY KEY,
    device_code BLOB NOT NULL UNIQUE,
    user_code TEXT NOT NULL UNIQUE,
    label_hint TEXT,
    source_ip TEXT,
    source_ua TEXT,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    decided INTEGER,
    decision TEXT CHECK (decision IN ('approved', 'rejected')),
    reason TEXT,
    member TEXT,
    token_id TEXT,
    sealed TEXT,
    polled INTEGER,
    polls INTEGER NOT NULL DEFAULT 0,
    CHECK ((decided IS NULL) = (decision IS NULL))
) STRICT;
CREATE INDEX enrolment_source ON enrolment (source_ip, created);
CREATE INDEX enrolment_expires ON enrolment (expires);
";

/// The team plane. Who is a member is known to the team file alone, so names are plain text here.
///
/// - `message`: what was said, once, however many it is for. It is for everyone, or for those in `channel`, or for those
///   in `delivery`. Ids grow in the order in which messages are committed; `uid` is the one on the wire.
/// - `delivery`: whose message it is. `peer` is the other one of the two between whom it goes; `quiet`: it shows in the
///   history, but is not streamed.
/// - `channel`: the first row is the one that everybody is in; it has no members of its own.
/// - `channel_member`: `since` is the last message that there was before the member joined.
/// - `objective`, `objective_watcher`, `objective_event`: what is asked of whom, and what became of it.
/// - `attachment`: the files of a message or of an objective; whoever may see that may read them.
const V2: &str = "
CREATE TABLE channel (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    slug TEXT NOT NULL,
    creator TEXT NOT NULL,
    created INTEGER NOT NULL,
    archived INTEGER
) STRICT;
CREATE UNIQUE INDEX channel_open ON channel (slug) WHERE archived IS NULL;
CREATE INDEX channel_slug ON channel (slug, archived);
INSERT INTO channel (id, uid, slug, creator, created)
VALUES (1, 'general', 'general', '__system__', unixepoch() * 1000);
CREATE TABLE channel_member (
    channel INTEGER NOT NULL REFERENCES channel (id),
    member TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'member')),
    joined INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (channel, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX channel_member_member ON channel_member (member);
CREATE TABLE objective (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'blocked', 'done', 'cancelled')),
    assignee TEXT NOT NULL,
    originator TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    completed INTEGER,
    result TEXT,
    block_reason TEXT,
    attachments TEXT NOT NULL,
    CHECK ((status = 'blocked') = (block_reason IS NOT NULL)),
    CHECK ((status = 'done') = (completed IS NOT NULL) AND (status = 'done') = (result IS NOT NULL))
) STRICT;
CREATE INDEX objective_assignee ON objective (assignee, status);
CREATE INDEX objective_originator ON objective (originator, status);
CREATE INDEX objective_status ON objective (status);
CREATE TABLE objective_watcher (
    id INTEGER PRIMARY KEY,
    objective INTEGER NOT NULL REFERENCES objective (id),
    member TEXT NOT NULL,
    UNIQUE (objective, member)
) STRICT;
CREATE INDEX objective_watcher_member ON objective_watcher (member, objective);
CREATE TABLE objective_event (
    id INTEGER PRIMARY KEY,
    objective INTEGER NOT NULL REFERENCES objective (id),
    ts INTEGER NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('assigned', 'blocked', 'unblocked', 'completed', 'cancelled', 'reassigned',
                                       'watcher_added', 'watcher_removed')),
    payload TEXT NOT NULL
) STRICT;
CREATE INDEX objective_event_objective ON objective_event (objective);
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    ts INTEGER NOT NULL,
    sender TEXT,
    recipient TEXT,
    title TEXT,
    body TEXT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('debug', 'info', 'notice', 'warning', 'error', 'critical')),
    data TEXT NOT NULL,
    attachments TEXT NOT NULL,
    everyone INTEGER NOT NULL CHECK (everyone IN (0, 1)),
    channel INTEGER REFERENCES channel (id),
    objective INTEGER REFERENCES objective (id)
) STRICT;
CREATE INDEX message_ts ON message (ts);
CREATE INDEX message_everyone ON message (everyone) WHERE everyone = 1;
CREATE INDEX message_channel ON message (channel) WHERE channel IS NOT NULL;
CREATE INDEX message_objective ON message (objective) WHERE objective IS NOT NULL;
CREATE TABLE delivery (
    member TEXT NOT NULL,
    message INTEGER NOT NULL REFERENCES message (id),
    peer TEXT,
    quiet INTEGER NOT NULL CHECK (quiet IN (0, 1)),
    PRIMARY KEY (member, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_peer ON delivery (member, peer, message) WHERE peer IS NOT NULL;
CREATE TABLE attachment (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    message INTEGER REFERENCES message (id),
    objective INTEGER REFERENCES objective (id),
    CHECK ((message IS NULL) <> (objective IS NULL))
) STRICT;
CREATE INDEX attachment_path ON attachment (path);
CREATE INDEX attachment_message ON attachment (message) WHERE message IS NOT NULL;
CREATE INDEX attachment_objective ON attachment (objective) WHERE objective IS NOT NULL;
";

/// `enrolment.network`: whose devices are counted together, the address or the /64 that one customer has.
const V3: &str = "
ALTER TABLE enrolment ADD COLUMN network TEXT;
DROP INDEX enrolment_source;
CREATE INDEX enrolment_network ON enrolment (network, created);
";

/// Files.
///
/// - `fs_entry`: files and folders of members; `hash`, `size` and `mime` are null for folders, `parent` is the path
///   without its last name.
/// - `attachment.entry`: the file that it is, wherever it is moved; null once that is gone, since a later one at the same
///   path is another one.
const V4: &str = "
CREATE TABLE fs_entry (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    parent TEXT NOT NULL,
    owner TEXT NOT NULL,
    hash BLOB,
    size INTEGER,
    mime TEXT,
    created INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    updated INTEGER NOT NULL,
    CHECK ((hash IS NULL) = (size IS NULL) AND (hash IS NULL) = (mime IS NULL))
) STRICT;
CREATE INDEX fs_entry_parent ON fs_entry (parent);
CREATE INDEX fs_entry_owner ON fs_entry (owner, size);
CREATE INDEX fs_entry_hash ON fs_entry (hash) WHERE hash IS NOT NULL;
ALTER TABLE attachment ADD COLUMN entry INTEGER REFERENCES fs_entry (id) ON DELETE SET NULL;
CREATE INDEX attachment_entry ON attachment (entry) WHERE entry IS NOT NULL;
";

/// `push_subscription`: browsers that want notices. `endpoint` is the URL of the push service, `p256dh` and `auth` are the
/// browser's keys, `key` is the broker's public key that it subscribed with: with another one the service takes nothing.
const V5: &str = "
CREATE TABLE push_subscription (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    member TEXT NOT NULL,
    endpoint TEXT NOT NULL UNIQUE,
    p256dh BLOB NOT NULL,
    auth BLOB NOT NULL,
    key TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;
CREATE INDEX push_subscription_member ON push_subscription (member);
";
