use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use super::*;
use crate::sys::random;

/// A database in a folder that goes away with the test.
pub(super) struct Temp(PathBuf);

impl Temp {
    pub(super) fn new() -> (Temp, Store) {
        let folder = std::env::temp_dir().join(format!("ac7-main-{}", random::hex::<8>()));
        let store = Store::open(&folder.join("ac7.db")).unwrap();
        (Temp(folder), store)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MINUTE: u64 = 60_000;

fn session(member: &str, expires: u64) -> Session {
    Session { member: member.into(), created: 1, seen: 1, expires }
}

#[test]
fn the_file_is_private_ours_and_not_from_the_future() {
    let (temp, store) = Temp::new();
    let path = temp.0.join("ac7.db");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    store.with(|conn| Ok(conn.pragma_update(None, "user_version", 99)?)).unwrap();
    drop(store);
    let newer = Store::open(&path).err().unwrap();
    assert!(newer.to_string().contains("schema 99 of a newer ac7"), "{newer}");
    let other = temp.0.join("activity.db");
    drop(crate::store::activity::Store::open(&other).unwrap());
    let refused = Store::open(&other).err().unwrap();
    assert!(refused.to_string().ends_with("it is not an ac7 main database"), "{refused}");
}

#[test]
fn a_session_counts_until_it_ends() {
    let (_temp, store) = Temp::new();
    let (a, b, c) = ([1; 32], [2; 32], [3; 32]);
    for (hash, member) in [(&a, "ann"), (&b, "ann"), (&c, "bob")] {
        store.begin_session(hash, &session(member, 100)).unwrap();
    }
    assert_eq!(store.session(&a, 99).unwrap(), Some(session("ann", 100)));
    assert_eq!(store.session(&a, 100).unwrap(), None);
    assert_eq!(store.session(&[9; 32], 1).unwrap(), None);
    store.prolong_session(&a, 50, 200).unwrap();
    assert_eq!(store.session(&a, 150).unwrap().unwrap().seen, 50);

    store.end_sessions("ann", Some(&a)).unwrap();
    let alive = |store: &Store| [&a, &b, &c].map(|hash| store.session(hash, 2).unwrap().is_some());
    assert_eq!(alive(&store), [true, false, true]);
    store.prolong_session(&b, 3, 300).unwrap();
    assert_eq!(alive(&store), [true, false, true], "an ended one stays ended");
    store.end_session(&c).unwrap();
    assert_eq!(alive(&store), [true, false, false]);
    store.sweep(200, &[]).unwrap();
    assert_eq!(alive(&store), [false; 3]);
}

#[test]
fn the_latest_use_of_a_token_is_kept_while_the_token_is() {
    let (_temp, store) = Temp::new();
    let used = |pairs: &[(&str, u64)]| {
        let owned: Vec<_> = pairs.iter().map(|(id, at)| ((*id).to_string(), *at)).collect();
        store.tokens_used(&owned).unwrap();
    };
    used(&[("t1", 10), ("t2", 20)]);
    used(&[("t1", 5), ("t2", 30)]);
    let uses = store.token_uses().unwrap();
    assert_eq!((uses["t1"], uses["t2"]), (10, 30));
    store.sweep(0, &["t2", "t3"]).unwrap();
    assert_eq!(store.token_uses().unwrap().into_keys().collect::<Vec<_>>(), ["t2"]);
}

#[test]
fn too_many_failures_close_the_door_for_a_while() {
    let (_temp, store) = Temp::new();
    let counted = |tries, at| matches!(store.begin_attempt(tries, at).unwrap(), Attempt::Counted(_));
    let start = 100 * MINUTE;
    for i in 0..5 {
        assert!(counted(Tries::Of("ann"), start + i * MINUTE), "{i}");
    }
    let full = store.begin_attempt(Tries::Of("ann"), start + 5 * MINUTE).unwrap();
    assert_eq!(full, Attempt::Later(10 * MINUTE));
    assert!(counted(Tries::Of("bob"), start + 5 * MINUTE), "another member is not concerned");
    assert!(counted(Tries::Of("ann"), start + 15 * MINUTE), "the first one is forgotten");
    assert!(!counted(Tries::Of("ann"), start + 15 * MINUTE));
    store.forget_totp("ann").unwrap();
    assert!(counted(Tries::Of("ann"), start + 15 * MINUTE));

    for i in 0..10 {
        assert!(counted(Tries::Unnamed, start), "{i}");
    }
    assert_eq!(store.begin_attempt(Tries::Unnamed, start).unwrap(), Attempt::Later(15 * MINUTE));
    store.sweep(start + 15 * MINUTE, &[]).unwrap();
    assert!(counted(Tries::Unnamed, start), "swept");

    // Made-up names fill no disk: once there are too many, all names have to wait until the first ones are forgotten.
    let (_temp, store) = Temp::new();
    let counted = |tries, at| matches!(store.begin_attempt(tries, at).unwrap(), Attempt::Counted(_));
    assert!(counted(Tries::Of("ann"), start));
    let fill = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                INSERT INTO totp_failure (member, at) SELECT 'x' || i, ? FROM n";
    store.with(|conn| Ok(conn.execute(fill, [integer(start + MINUTE)])?)).unwrap();
    let full = store.begin_attempt(Tries::Of("bob"), start + 2 * MINUTE).unwrap();
    assert_eq!(full, Attempt::Later(13 * MINUTE));
    assert!(counted(Tries::Of("bob"), start + 16 * MINUTE));
}

#[test]
fn a_step_is_accepted_once() {
    let (_temp, store) = Temp::new();
    let attempt = |tries| match store.begin_attempt(tries, 1).unwrap() {
        Attempt::Counted(id) => id,
        Attempt::Later(_) => panic!("the door is closed"),
    };
    let accept = |step| store.accept_step(attempt(Tries::Of("ann")), "ann", step).unwrap();
    assert!(accept(7));
    assert!(!accept(7));
    assert!(!accept(6));
    assert!(accept(8));
    for _ in 0..20 {
        let id = attempt(Tries::Of("ann"));
        store.take_back_attempt(id).unwrap();
    }
    store.forget_totp("ann").unwrap();
    assert!(accept(8), "a new secret begins anew");
    assert!(store.accept_step(attempt(Tries::Unnamed), "bob", 8).unwrap());

    // One success without a name takes back itself alone: else whoever has a code could guess others' for ever.
    for _ in 0..9 {
        attempt(Tries::Unnamed);
    }
    let last = attempt(Tries::Unnamed);
    assert!(store.accept_step(last, "bob", 9).unwrap());
    attempt(Tries::Unnamed);
    assert!(matches!(store.begin_attempt(Tries::Unnamed, 1).unwrap(), Attempt::Later(_)));
}

#[test]
fn attempts_at_the_same_time_share_one_limit() {
    let (_temp, store) = Temp::new();
    let counted = thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let one = || store.begin_attempt(Tries::Of("ann"), 1).unwrap();
                    (0..3).filter(|_| matches!(one(), Attempt::Counted(_))).count()
                })
            })
            .collect();
        tries.into_iter().map(|t| t.join().unwrap()).sum::<usize>()
    });
    assert_eq!(counted, 5);
}

#[test]
fn a_deleted_member_leaves_nothing() {
    let (_temp, store) = Temp::new();
    store.begin_session(&[1; 32], &session("ann", 100)).unwrap();
    let Attempt::Counted(id) = store.begin_attempt(Tries::Of("ann"), 1).unwrap() else { panic!() };
    assert!(store.accept_step(id, "ann", 7).unwrap());
    store.forget("ann").unwrap();
    assert_eq!(store.session(&[1; 32], 2).unwrap(), None);
    let Attempt::Counted(id) = store.begin_attempt(Tries::Of("ann"), 1).unwrap() else { panic!() };
    assert!(store.accept_step(id, "ann", 7).unwrap());
}

#[test]
fn the_queries_use_their_indices() {
    let (_temp, store) = Temp::new();
    for sql in [
        "SELECT member FROM session WHERE hash = x'00' AND expires > 1",
        "DELETE FROM session WHERE member = 'a' AND hash IS NOT x'00'",
        "DELETE FROM session WHERE expires <= 1",
        "SELECT at FROM totp_failure WHERE member IS 'a' AND at > 1 AND at <= 2 ORDER BY at DESC LIMIT 1 OFFSET 4",
        "DELETE FROM totp_failure WHERE at <= 1",
        "SELECT 1 FROM totp_failure WHERE at > 1 LIMIT 1 OFFSET 49999",
        "SELECT min(at) FROM totp_failure WHERE at > 1",
        "DELETE FROM totp_failure WHERE id = 1 OR member = 'a'",
        "DELETE FROM totp WHERE member = 'a'",
        "UPDATE session SET seen = 1, expires = 2 WHERE hash = x'00'",
        "SELECT created FROM enrolment WHERE network IS 'a' AND created > 1 ORDER BY created DESC LIMIT 1 OFFSET 9",
        "SELECT expires - 1 FROM enrolment WHERE expires > 1 ORDER BY expires DESC LIMIT 1 OFFSET 999",
        "SELECT id, expires, polled, decision, sealed, reason, member, token_id FROM enrolment WHERE device_code = x'00'",
        "SELECT id, decided IS NOT NULL, expires FROM enrolment WHERE user_code = 'a'",
        "SELECT user_code FROM enrolment WHERE expires > 1 AND decided IS NULL ORDER BY expires",
        "UPDATE enrolment SET polled = 1, polls = polls + 1 WHERE id = 1 AND polled IS 2",
        "SELECT token_id FROM enrolment WHERE expires <= 1 AND token_id IS NOT NULL AND sealed IS NOT NULL",
        "UPDATE enrolment SET token_id = NULL WHERE expires <= 1 AND token_id = 'a' AND sealed IS NOT NULL",
        "DELETE FROM enrolment WHERE expires <= 1 AND NOT (token_id IS NOT NULL)",
        "SELECT id FROM fs_entry WHERE path = '/b'",
        "SELECT id FROM fs_entry WHERE parent = '/b'",
        "SELECT id FROM fs_entry WHERE hash = x'00'",
        "SELECT max(length(path)) FROM fs_entry WHERE (path = '/b' OR (path > '/b' || '/' AND path < '/b' || '0'))",
        "SELECT sum(size), count(*) FROM fs_entry WHERE owner = 'b'",
        "DELETE FROM fs_entry WHERE owner = 'b'",
        "SELECT endpoint, p256dh, auth FROM push_subscription WHERE member = 'a' AND key = 'k'",
        "SELECT 1 FROM push_subscription WHERE endpoint = 'e' AND member = 'a'",
        "DELETE FROM push_subscription WHERE uid = 'u' AND member = 'a'",
    ] {
        assert_searches(&store, sql);
    }
}

/// A device that asks at `created`.
fn device(store: &Store, n: u32, network: &str, created: u64) -> Begun {
    let mut code = [0; 32];
    code[..4].copy_from_slice(&n.to_le_bytes());
    let new = Enrolment {
        user_code: format!("c{n}"),
        label_hint: None,
        source_ip: Some(network.to_string()),
        source_ua: None,
        created,
        expires: created + LIFE_MS,
    };
    store.begin_enrolment(&code, Some(network), &new).unwrap()
}

#[test]
fn devices_are_counted_by_network_and_all_together() {
    let (_temp, store) = Temp::new();
    let start = 100 * MINUTE;
    for n in 0..10 {
        assert_eq!(device(&store, n, "a", start + u64::from(n)), Begun::Done);
    }
    assert_eq!(device(&store, 10, "a", start + 10), Begun::Later(60 * MINUTE - 10));
    assert_eq!(device(&store, 11, "a", start + 60 * MINUTE), Begun::Done, "the first has gone");
    assert_eq!(device(&store, 11, "b", start + 60 * MINUTE), Begun::Taken);
    let many = "WITH RECURSIVE n (i) AS (SELECT 12 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
        INSERT INTO enrolment (device_code, user_code, network, created, expires)
        SELECT randomblob(32), 'c' || i, 'n' || i, ?1, ?1 + ?2 FROM n";
    let at = integer(start + 5 * MINUTE);
    store.write(|tx| tx.execute(many, [at, integer(LIFE_MS)])).unwrap();
    assert_eq!(device(&store, 1000, "x", start + 5 * MINUTE), Begun::Done, "the thousandth");
    assert_eq!(device(&store, 1001, "y", start + 6 * MINUTE), Begun::Later(54 * MINUTE));
}

#[test]
fn a_question_that_comes_too_soon_changes_nothing() {
    let (_temp, store) = Temp::new();
    let start = 100 * MINUTE;
    assert_eq!(device(&store, 0, "a", start), Begun::Done);
    for (at, want) in [
        (0, Polled::Pending),
        (1, Polled::TooSoon),
        (2000, Polled::TooSoon),
        (2500, Polled::Pending),
        (4999, Polled::TooSoon),
        (5000, Polled::Pending),
        (1000, Polled::Pending), // a clock that was set back
        (LIFE_MS, Polled::Gone),
    ] {
        assert_eq!(store.poll_enrolment(&[0; 32], start + at).unwrap(), want, "{at}");
    }
    assert_eq!(store.poll_enrolment(&[1; 32], start).unwrap(), Polled::Gone);
}

/// Every table of a query is reached by an index, and what it gives comes in order.
pub(super) fn assert_searches(store: &Store, sql: &str) {
    let plan: Vec<String> = store
        .with(|conn| {
            let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let rows = explain.raw_query().mapped(|row| row.get(3));
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .unwrap();
    let bad = |line: &String| line.contains("SCAN") || line.contains("TEMP B-TREE");
    assert!(!plan.iter().any(bad), "{sql}: {plan:?}");
}
