//! The tables of the activity database, and how older files get them.
use crate::store::file::Kind;

/// Activity databases, as `file` opens them.
pub(super) const KIND: Kind = Kind {
    name: "activity",
    application_id: 0x6163_3761, // "ac7a"
    migrations: &[V1],
};

/// - `word`: short texts that many rows repeat (members, models, sessions, objectives).
/// - `block`: a piece of JSON text, stored once; deflated if `data` is shorter than `size`. `block_key` finds it by
///   the SHA-256 of the text. The hash stands there alone: once more in `block` would be the larger half of a small
///   block.
/// - `node`: one step of a chain: after what `parent` stands for come the text `lead` and the block `block`, which
///   belongs to the message of index `message`. Where a chain starts `parent` is 0.
/// - `activity`: an event. `skeleton` is its JSON without the lists; the four chains are the lists, 0 for none. `added`
///   is what this row made the file grow by, about. What comes before `skeleton` fits the page, so that filters and
///   sums never follow its overflow.
/// - `upload`: which uploads were accepted within a day; so few that nothing but their key needs an index.
/// - `state`: how often rows were pruned: ids that another connection remembers hold as long as this stays the same.
///
/// `refs` counts who points to a row: it goes when the count falls to 0. Foreign keys would need an index on each
/// pointing column to do this, for more than the columns take themselves; `check` proves the counts.
const V1: &str = "
CREATE TABLE word (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE,
    refs INTEGER NOT NULL
) STRICT;
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    refs INTEGER NOT NULL,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE block_key (
    hash BLOB PRIMARY KEY,
    block INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE node (
    id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    block INTEGER NOT NULL,
    lead INTEGER NOT NULL,
    message INTEGER NOT NULL,
    refs INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX node_step ON node (parent, block, lead);
CREATE TABLE activity (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    member INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    provider INTEGER,
    session INTEGER,
    objective INTEGER,
    model INTEGER,
    duration INTEGER,
    status INTEGER,
    failed INTEGER NOT NULL,
    tools TEXT,
    input INTEGER,
    output INTEGER,
    cache_creation INTEGER,
    cache_read INTEGER,
    size INTEGER NOT NULL,
    added INTEGER NOT NULL,
    system INTEGER NOT NULL,
    offered INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    answer INTEGER NOT NULL,
    skeleton_size INTEGER NOT NULL,
    skeleton BLOB NOT NULL
) STRICT;
CREATE INDEX activity_member ON activity (member, ts);
CREATE INDEX activity_ts ON activity (ts);
CREATE INDEX activity_session ON activity (session, ts) WHERE session IS NOT NULL;
CREATE INDEX activity_objective ON activity (objective, ts) WHERE objective IS NOT NULL;
CREATE TABLE upload (
    member TEXT NOT NULL,
    key TEXT NOT NULL,
    at INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    PRIMARY KEY (member, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE state (prunes INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (0);
";
