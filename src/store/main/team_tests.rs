use std::ops::ControlFlow;

use serde_json::json;

use super::tests::{Temp, assert_searches};
use super::*;
use crate::team::{Message, NewObjective, Objective, Post, Status};

fn post(body: &str, to: Option<&str>) -> Post {
    Post::from_json(&json!({"body": body, "to": to})).unwrap()
}

fn read(store: &Store, rows: &[i64]) -> Vec<Message> {
    let mut out = Vec::new();
    store
        .messages(rows, |_, message| {
            out.push(message);
            ControlFlow::Continue(())
        })
        .unwrap();
    out
}

fn bodies(store: &Store, rows: &[i64]) -> Vec<String> {
    read(store, rows).into_iter().map(|message| message.body).collect()
}

#[test]
fn messages_come_to_those_they_are_for_in_order() {
    let (_temp, store) = Temp::new();
    assert_eq!(store.last_message().unwrap(), 0);
    for (from, body, to) in
        [("ann", "1", Some("bob")), ("bob", "2", None), ("bob", "3", Some("cat")), ("cat", "4", Some("cat"))]
    {
        store.post(from, post(body, to), 10).unwrap();
    }
    let news = |name: &str, after, most| bodies(&store, &store.news(name, after, most).unwrap());
    assert_eq!(news("ann", 0, 9), ["1", "2"]);
    assert_eq!(news("bob", 0, 9), ["1", "2", "3"]);
    assert_eq!(news("bob", 0, 2), ["1", "2"]);
    assert_eq!(news("bob", 2, 9), ["3"]);
    assert_eq!(news("cat", 0, 9), ["2", "3", "4"]);
    assert_eq!(news("zed", 0, 9), ["2"]);
    let history =
        |within, before, most| bodies(&store, &store.history("bob", within, before, most).unwrap().unwrap());
    assert_eq!(history(Within::All, Before::Now, 9), ["3", "2", "1"]);
    assert_eq!(history(Within::All, Before::Now, 2), ["3", "2"]);
    assert_eq!(history(Within::With("cat"), Before::Now, 9), ["3"]);
    assert_eq!(history(Within::Everyone, Before::Now, 9), ["2"]);
    assert_eq!(history(Within::All, Before::Time(10), 9), [""; 0]);
    let second = read(&store, &[2])[0].id.clone();
    assert_eq!(history(Within::All, Before::Message(&second), 9), ["1"]);
    assert_eq!(store.history("bob", Within::All, Before::Message("x"), 9).unwrap(), None);
    assert_eq!(store.last_message().unwrap(), 4);
}

#[test]
fn times_follow_the_order_of_messages_unless_the_clock_was_wrong() {
    let (_temp, store) = Temp::new();
    let ts = |now| store.post("ann", post("x", None), now).unwrap().message.ts;
    assert_eq!([5_000, 4_999, 4_001, 6_000].map(ts), [5_000, 5_000, 5_000, 6_000]);
    assert_eq!([9_000_000, 6_001].map(ts), [9_000_000, 6_001], "a clock that was once wrong");
}

#[test]
fn a_change_of_an_objective_is_whole_or_nothing() {
    let (_temp, store) = Temp::new();
    let new = json!({"title": "t", "outcome": "o", "assignee": "bob", "watchers": ["dan"],
                     "attachments": [{"path": "/ann/a", "name": "a", "size": 1, "mimeType": "x/y"}]});
    let new = NewObjective::from_json(&new).unwrap();
    let made = store.create_objective(new, "ann", &[], 5).unwrap();
    let id = made.objective.id.clone();
    assert_eq!(made.sent.len(), 2);
    let found = |store: &Store| store.objective(&id).unwrap().unwrap();
    assert_eq!((found(&store).0, found(&store).1.len()), (made.objective.clone(), 2));

    let refused = store.change_objective(&id, &[], 6, |_| Err("no")).unwrap();
    assert_eq!(refused, Some(Err("no")));
    // Something that the table does not take: nothing of it is there afterwards, neither event nor message.
    let broken = |objective: &Objective| {
        let (_, events) = found(&store);
        Ok::<_, ()>((Objective { status: Status::Done, ..objective.clone() }, events))
    };
    assert!(store.change_objective(&id, &[], 6, broken).is_err());
    assert_eq!((found(&store).0, found(&store).1.len()), (made.objective, 2));
    assert_eq!(store.last_message().unwrap(), 2);
    assert_eq!(store.change_objective("nope", &[], 6, |_| Err("no")).unwrap(), None);
    assert_eq!(store.discuss("nope", "ann", &[], 6, |_| Err("no")).unwrap(), None);
    assert_eq!(store.objective("nope").unwrap(), None);
}

#[test]
fn the_queries_of_the_team_plane_use_their_indices() {
    let (_temp, store) = Temp::new();
    let (some, status) = (Some("x"), Some(Status::Active));
    for sql in [
        inbox::sql::NEWS_OWN,
        inbox::sql::NEWS_EVERYONE,
        inbox::sql::NEWS_CHANNEL,
        inbox::sql::PAST_OWN,
        inbox::sql::PAST_EVERYONE,
        inbox::sql::PAST_JOINED,
        inbox::sql::PAST_WITH,
        inbox::sql::PAST_CHANNEL,
        inbox::sql::PAST_OBJECTIVE,
        inbox::sql::CHANNELS,
        inbox::sql::BY_TIME,
        inbox::sql::MESSAGE,
        channel::sql::OPEN_BY_SLUG,
        channel::sql::ARCHIVED_BY_SLUG,
        channel::sql::ROLE,
        channel::sql::COUNT,
        "DELETE FROM channel_member WHERE member = ?",
        objective::sql::FORMER,
        Wanted { status, ..Wanted::default() }.sql(),
        "DELETE FROM delivery WHERE member = ?",
        "DELETE FROM objective_watcher WHERE member = ?",
        "SELECT member FROM channel_member WHERE channel = ?",
        "SELECT ts FROM objective_event WHERE objective = ? ORDER BY id",
        "SELECT 1 FROM attachment WHERE path = ?",
    ] {
        assert_searches(&store, sql);
    }
    // These two gather rows by several ways and sort them.
    for wanted in
        [Wanted { assignee: some, ..Wanted::default() }, Wanted { involving: some, ..Wanted::default() }]
    {
        let plan: Vec<String> = store
            .with(|conn| {
                let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", wanted.sql()))?;
                let rows = explain.raw_query().mapped(|row| row.get(3));
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .unwrap();
        assert!(!plan.iter().any(|line| line.contains("SCAN objective")), "{plan:?}");
    }
}

#[test]
fn channels_have_an_end() {
    let (_temp, store) = Temp::new();
    let make = |slug: &str, creator: &str| store.create_channel(slug, creator, 1).unwrap().map(drop);
    for n in 0..100 {
        make(&format!("a{n}"), "ann").unwrap();
    }
    assert_eq!(make("b", "ann"), Err(NoChange::TooMany { most: 100, own: true }));
    assert_eq!(make("a7", "ann"), Err(NoChange::Taken));
    // Those of others, and the first one.
    let fill = "WITH RECURSIVE n (i) AS (VALUES (101) UNION ALL SELECT i + 1 FROM n WHERE i < 999)
                INSERT INTO channel (uid, slug, creator, created) SELECT 'u' || i, 'x' || i, 'x' || i, 1 FROM n";
    store.with(|conn| Ok(conn.execute(fill, [])?)).unwrap();
    assert_eq!(make("b", "bob"), Err(NoChange::TooMany { most: 1000, own: false }));
    let by = Changer { name: "ann", manages: false };
    store.archive_channel("a0", by, 2).unwrap().unwrap();
    make("b", "bob").unwrap();
}
