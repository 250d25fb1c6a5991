//! The tables of the main database, and how older files get them.
use crate::store::file::Kind;

/// Main databases, as `file` opens them.
pub(super) const KIND: Kind = Kind {
    name: "main",
    application_id: 0x6163_376d, // "ac7m"
    migrations: &[V1],
};

/// Times are ms since the epoch, hashes SHA-256.
///
/// - `session`: cookies that count; `seen` is coarse, `expires` moves with it.
/// - `token`: when a token of the team file was last used.
/// - `totp`: the last step of which a code was accepted; earlier ones and this one no longer are.
/// - `totp_failure`: codes that were wrong; `member` is null where none was named, or one that is not there.
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
