//! Storing a growing conversation against a raw insert of the same events, and what both take on disk.
//!
//! `ingest_bench [CALLS]` makes a conversation as an agent repeats it; `ingest_bench FILE` takes events from a file,
//! one a line (or rows of `ac7 traces --json`). Three rounds of each, on fresh files under `TMPDIR`; medians.
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use ac7::store::activity::{Parser, Query, Reader, Store, Upload};
use rusqlite::{Connection, params};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A small generator of pseudo-random numbers: every run makes the same words.
struct Words(u64);

impl Words {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn text(&mut self, words: usize) -> String {
        const WORDS: [&str; 8] = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "particular"];
        let mut out = String::new();
        for _ in 0..words {
            let _ = write!(out, "{}{} ", WORDS[self.next(8) as usize], self.next(999));
        }
        out
    }
}

/// Events as bench/ingest.py makes them, in the spelling of Python's `json.dumps`.
fn conversation(calls: usize) -> Vec<String> {
    let mut words = Words(1);
    let system = words.text(1500);
    let tools: Vec<String> = (0..9)
        .map(|i| {
            format!(
                r#"{{"name": "tool{i}", "description": "{}", "inputSchema": {{"type": "object"}}}}"#,
                words.text(200)
            )
        })
        .collect();
    let tools = tools.join(", ");
    let mut messages = String::new();
    let mut events = Vec::new();
    for i in 0..calls {
        let role = if i % 2 == 0 { "user" } else { "assistant" };
        let comma = if i > 0 { ", " } else { "" };
        let text = words.text(60);
        let _ = write!(
            messages,
            r#"{comma}{{"role": "{role}", "content": [{{"type": "text", "text": "{text}"}}]}}"#
        );
        let answer = words.text(60);
        events.push(format!(
            r#"{{"kind": "llm_exchange", "ts": {}, "duration": 5, "entry": {{"kind": "anthropic_messages", "startedAt": 1, "endedAt": 6, "request": {{"model": "claude-x", "maxTokens": 9, "temperature": null, "system": "{system}", "messages": [{messages}], "tools": [{tools}]}}, "response": {{"stopReason": "end_turn", "stopSequence": null, "status": 200, "messages": [{{"role": "assistant", "content": [{{"type": "text", "text": "{answer}"}}]}}], "usage": {{"inputTokens": 1, "outputTokens": 2, "cacheCreationInputTokens": 0, "cacheReadInputTokens": 0}}}}}}}}"#,
            1_700_000_000_000_u64 + i as u64
        ));
    }
    events
}

/// Bodies of uploads of at most 500 KB or 50 events.
fn batches(events: &[String]) -> Vec<Vec<&str>> {
    let mut out = vec![Vec::new()];
    let mut size = 0;
    for event in events {
        if size > 500_000 || out.last().is_some_and(|b| b.len() == 50) {
            out.push(Vec::new());
            size = 0;
        }
        size += event.len();
        if let Some(batch) = out.last_mut() {
            batch.push(event.as_str());
        }
    }
    out
}

fn bytes_in(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

fn raw(folder: &Path, batches: &[Vec<&str>]) -> Result<f64> {
    let mut db = Connection::open(folder.join("raw.db"))?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    db.execute_batch(
        "CREATE TABLE activity (id INTEGER PRIMARY KEY, member TEXT, ts INTEGER, kind TEXT, event TEXT)",
    )?;
    let started = Instant::now();
    for batch in batches {
        let tx = db.transaction()?;
        {
            let mut insert = tx.prepare(
                "INSERT INTO activity (member, ts, kind, event) VALUES ('ann', 1, 'llm_exchange', ?)",
            )?;
            for event in batch {
                insert.execute(params![event])?;
            }
        }
        tx.commit()?;
    }
    Ok(started.elapsed().as_secs_f64())
}

fn ours(folder: &Path, batches: &[Vec<&str>]) -> Result<(f64, f64)> {
    let bodies: Vec<Vec<u8>> =
        batches.iter().map(|b| format!(r#"{{"events": [{}]}}"#, b.join(",")).into_bytes()).collect();
    let mut store = Store::open(&folder.join("ours.db"))?;
    let parser = Parser::new();
    let (mut parsing, started) = (0.0, Instant::now());
    for body in bodies {
        let at = Instant::now();
        let batch = parser.upload(body)?;
        parsing += at.elapsed().as_secs_f64();
        store.append(&[Upload { member: "ann", batch: &batch, key: None }], 1)?;
    }
    Ok((started.elapsed().as_secs_f64(), parsing))
}

fn main() -> Result<()> {
    let what = env::args().nth(1).unwrap_or_else(|| "300".into());
    let events = match what.parse() {
        Ok(calls) => conversation(calls),
        Err(_) => fs::read_to_string(&what)?
            .lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line)?;
                Ok(value.get("event").map_or_else(|| line.to_string(), Value::to_string))
            })
            .collect::<Result<_>>()?,
    };
    let total: usize = events.iter().map(String::len).sum();
    let batches = batches(&events);
    let (mut raws, mut all, mut parses, mut disk, mut reading) = (Vec::new(), Vec::new(), Vec::new(), 0, 0.0);
    for round in 0..3 {
        let folder = env::temp_dir().join(format!("ac7-ingest-bench-{}-{round}", std::process::id()));
        let (one, two) = (folder.join("raw"), folder.join("ours"));
        fs::create_dir_all(&one)?;
        fs::create_dir_all(&two)?;
        raws.push(raw(&one, &batches)?);
        let (whole, parsing) = ours(&two, &batches)?;
        all.push(whole);
        parses.push(parsing);
        disk = bytes_in(&two)?;
        let started = Instant::now();
        let mut rows = Vec::new();
        let query = Query { limit: 200, ..Query::default() };
        Reader::open(&two.join("ours.db"))?.list(&query, |row| {
            rows.push(row.event.len());
            std::ops::ControlFlow::Continue(())
        })?;
        reading = rows.iter().sum::<usize>() as f64 / started.elapsed().as_secs_f64() / 1e6;
        let keep = env::var_os("KEEP").is_some();
        if !keep {
            fs::remove_dir_all(&folder)?;
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[1]
    };
    let (raw, all, parsing) = (median(&mut raws), median(&mut all), median(&mut parses));
    let speed = |seconds: f64| total as f64 / seconds / 1e6;
    println!("{} events, {:.1} MB", events.len(), total as f64 / 1e6);
    println!(
        "raw insert {:.0} MB/s, ours {:.0} MB/s (parsing alone {:.0}): {:.2} x",
        speed(raw),
        speed(all),
        speed(parsing),
        raw / all
    );
    println!("stored {disk} bytes, 1/{:.0}; reading back {reading:.0} MB/s", total as f64 / disk as f64);
    Ok(())
}
