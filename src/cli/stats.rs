//! `ac7 stats`: what an activity database holds, and what it takes.
use std::io::{self, Write};

use serde_json::{Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::progress::Progress;
use super::terminal::Screen;
use super::{Group, SUCCESS_OR_FAILURE, Verb, format, text, traces};
use crate::store;
use crate::store::activity::{Day, Reader, Stats};
use crate::sys::localtime::Zone;

pub const VERB: Verb = Verb {
    name: "stats",
    group: Group::Read,
    summary: "Count rows and bytes by member and day",
    operands: Operands::None,
    flags: &[&[traces::DB, Flag::switch("json", "One JSON object")]],
    examples: &[
        ("ac7 stats", "what was recorded, and what it takes"),
        ("ac7 stats --db ac7-activity.db", "the same for the broker's database in this directory"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-stats(1)", "ac7-traces(1)"],
    page: "ac7-stats",
    run,
};

const HEADINGS: [&str; 6] = ["MEMBER", "DAY", "ROWS", "LOGICAL", "STORED", "RATIO"];
/// The columns from here on are numbers.
const NUMBERS: usize = 2;
const MOST_MEMBER: usize = 40;

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let db = traces::database(parsed, verb)?;
    let screen = Screen::stdout();
    let mut progress = Progress::new(false);
    let found = Reader::open(db.path()).and_then(|reader| reader.stats(|done, of| progress.tell(done, of)));
    progress.clear();
    let stats = match found {
        Ok(stats) => stats,
        // Nothing was recorded yet where nobody named a file: that is no failure.
        Err(store::Error::Missing { .. }) if db.is_usual() => {
            Stats { days: Vec::new(), blocks: 0, nodes: 0, file: 0, free: 0 }
        }
        Err(error) => return Err(Error::failed(verb, error)),
    };
    let out = if parsed.has("json") { json_of(&stats).to_string() + "\n" } else { table(&stats, &screen) };
    io::stdout().lock().write_all(out.as_bytes())?;
    Ok(0)
}

fn json_of(stats: &Stats) -> Value {
    let day = |d: &Day| {
        json!({"memberName": d.member, "day": date(d), "rows": d.rows, "logicalBytes": d.logical,
               "storedBytes": d.stored})
    };
    json!({
        "days": stats.days.iter().map(day).collect::<Vec<_>>(),
        "blocks": stats.blocks,
        "nodes": stats.nodes,
        "fileBytes": stats.file,
        "freeBytes": stats.free,
    })
}

fn date(day: &Day) -> String {
    Zone::utc().local(day.day).date()
}

fn table(stats: &Stats, screen: &Screen) -> String {
    let cells = |member: String, day: String, rows: u64, logical: u64, stored: u64| {
        let ratio = (logical * 10 + stored / 2).checked_div(stored);
        let ratio = ratio.map_or("-".to_string(), |n| format!("{}.{}", n / 10, n % 10));
        vec![member, day, format::count(rows), format::bytes(logical), format::bytes(stored), ratio]
    };
    let mut rows = vec![HEADINGS.map(str::to_string).to_vec()];
    for d in &stats.days {
        let member = text::cut(&text::line(&d.member, screen.utf8), MOST_MEMBER, screen.utf8);
        rows.push(cells(member, date(d), d.rows, d.logical, d.stored));
    }
    let sum = |of: fn(&Day) -> u64| stats.days.iter().map(of).sum::<u64>();
    let all = (sum(|d| d.rows), sum(|d| d.logical), sum(|d| d.stored));
    rows.push(cells("all".to_string(), String::new(), all.0, all.1, all.2));
    let out = sums(&rows, NUMBERS, screen);
    let (blocks, nodes) = (format::counted(stats.blocks, "block"), format::counted(stats.nodes, "node"));
    let (file, free) = (format::bytes(stats.file), format::bytes(stats.free));
    out + &format!("{blocks}, {nodes}; the file has {file}, {free} of it free\n")
}

/// A table whose last row sums the others up; columns from `numbers` on are numbers.
pub fn sums(rows: &[Vec<String>], numbers: usize, screen: &Screen) -> String {
    let mut out = String::new();
    for (n, line) in text::columns(rows, numbers).iter().enumerate() {
        let bold = n == 0 || n + 1 == rows.len();
        out.push_str(&if bold { screen.style("1", line) } else { line.clone() });
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_agree_and_the_last_line_sums_up() {
        let screen = Screen { columns: None, utf8: true, colour: false, zone: Zone::utc(), now: 0 };
        let day = |member: &str, day: u64, rows, logical, stored| Day {
            member: member.to_string(),
            day: day * 86_400_000,
            rows,
            logical,
            stored,
        };
        let days = vec![day("ann", 20_000, 1200, 2 << 20, 64 << 10), day("b\x1b", 20_001, 3, 0, 0)];
        let stats = Stats { days, blocks: 1, nodes: 2000, file: 1 << 20, free: 4096 };
        let want = "\
MEMBER  DAY          ROWS  LOGICAL  STORED  RATIO
ann     2024-10-04  1 200  2.0 MiB  64 KiB   32.0
b\\x1b   2024-10-05      3      0 B     0 B      -
all                 1 203  2.0 MiB  64 KiB   32.0
1 block, 2 000 nodes; the file has 1.0 MiB, 4.0 KiB of it free
";
        assert_eq!(table(&stats, &screen), want);
        assert_eq!(json_of(&stats)["days"][0]["day"], "2024-10-04");
    }
}
