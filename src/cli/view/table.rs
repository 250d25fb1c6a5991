//! `ac7 traces`: a line a row.
use super::{Row, first_token, gist, opaque_gist, tokens_in, trouble};
use crate::activity::{Block, LlmEntry, What};
use crate::cli::terminal::Screen;
use crate::cli::{format, text};

const COLUMNS: usize = 11;
const HEADINGS: [&str; COLUMNS] =
    ["ID", "TIME", "SESSION", "MODEL", "IN", "CACHED", "OUT", "TTFT", "TOTAL", "STOP", "WHAT"];
/// Columns whose numbers are read against each other.
const RIGHT: [usize; 2] = [4, 6];
/// What gives way on a narrow terminal, first first.
const GIVES_WAY: [usize; 5] = [7, 5, 2, 8, 9];
const WHAT: usize = 10;
const MODEL: usize = 3;
/// Columns give way until the last one is this wide.
const LEAST_WHAT: usize = 20;
/// Where there is no terminal whose width would say how much fits.
const UNBOUNDED_WHAT: usize = 60;
/// No cell is wider than this.
const MOST_CELL: usize = 400;
const MOST_MODEL: usize = 28;
/// The same on a narrow terminal.
const MOST_MODEL_NARROW: usize = 18;

/// A row as the table shows it.
pub struct Line {
    cells: [String; COLUMNS],
    /// Whether it tells of an error.
    failed: bool,
}

impl Line {
    /// The cells of `row`. They are short, whatever the row holds.
    #[must_use]
    pub fn of(row: &Row, screen: &Screen) -> Line {
        let failed = match &row.event.what {
            What::Llm { entry, .. } => trouble(entry).is_some(),
            What::Opaque { entry, .. } => entry.status.is_some_and(|s| s >= 400),
            _ => false,
        };
        let cells = cells(row, screen).map(|cell| text::cut(&cell, MOST_CELL, screen.utf8));
        Line { cells, failed }
    }

    /// The line of a row that cannot be read: its id and why.
    #[must_use]
    pub fn unreadable(id: i64, why: &str, screen: &Screen) -> Line {
        let mut cells: [String; COLUMNS] = std::array::from_fn(|_| "-".to_string());
        cells[0] = id.to_string();
        cells[WHAT] = text::cut(&text::line(why, screen.utf8), MOST_CELL, screen.utf8);
        Line { cells, failed: true }
    }
}

/// A table whose columns were fitted to its first rows; later rows are printed under them as well as they fit.
pub struct Table {
    widths: [usize; COLUMNS],
    shown: [bool; COLUMNS],
}

impl Table {
    /// Fit the columns to `lines`.
    #[must_use]
    pub fn fit(lines: &[Line], screen: &Screen) -> Table {
        let mut widths = HEADINGS.map(text::width);
        for line in lines {
            for (width, cell) in widths.iter_mut().zip(&line.cells) {
                *width = (*width).max(text::width(cell));
            }
        }
        widths[MODEL] = widths[MODEL].min(if narrow(screen) { MOST_MODEL_NARROW } else { MOST_MODEL });
        let mut shown = [true; COLUMNS];
        let taken =
            |shown: &[bool; COLUMNS]| (0..WHAT).filter(|i| shown[*i]).map(|i| widths[i] + 2).sum::<usize>();
        widths[WHAT] = match screen.columns {
            None => UNBOUNDED_WHAT,
            Some(columns) => {
                for column in GIVES_WAY {
                    if taken(&shown) + LEAST_WHAT <= columns {
                        break;
                    }
                    shown[column] = false;
                }
                columns.saturating_sub(taken(&shown)).max(8)
            }
        };
        Table { widths, shown }
    }

    /// The line of headings.
    #[must_use]
    pub fn head(&self, screen: &Screen) -> String {
        screen.style("1", &self.line(&HEADINGS.map(str::to_string), screen)) + "\n"
    }

    /// A line of the table. One that tells of an error is red where there is colour; its words say so too.
    #[must_use]
    pub fn row(&self, line: &Line, screen: &Screen) -> String {
        let text = self.line(&line.cells, screen);
        (if line.failed { screen.style("31", &text) } else { text }) + "\n"
    }

    fn line(&self, cells: &[String; COLUMNS], screen: &Screen) -> String {
        let mut out = String::new();
        for i in (0..COLUMNS).filter(|i| self.shown[*i]) {
            let width = self.widths[i];
            let cell = match i {
                WHAT | MODEL => text::cut(&cells[i], width, screen.utf8),
                _ => cells[i].clone(),
            };
            if i == WHAT {
                out.push_str(&cell);
            } else if RIGHT.contains(&i) {
                let fill = width.saturating_sub(text::width(&cell));
                out.push_str(&format!("{}{cell}  ", " ".repeat(fill)));
            } else {
                out.push_str(&text::pad(&cell, width + 2));
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

fn cells(row: &Row, screen: &Screen) -> [String; COLUMNS] {
    let utf8 = screen.utf8;
    let mut cells: [String; COLUMNS] = std::array::from_fn(|_| "-".to_string());
    cells[0] = row.id.to_string();
    cells[1] = time(row.event.ts, screen);
    match &row.event.what {
        What::Llm { duration, entry } => {
            cells[2] = session(entry, utf8);
            let model = entry.request.model.as_ref().or(entry.about.served_model.as_ref());
            cells[MODEL] = model.map_or_else(|| "?".to_string(), |m| text::line(m, utf8));
            if let Some((total, cached)) = tokens_in(entry) {
                cells[4] = format::count(total);
                cells[5] = format::percent(cached, total).unwrap_or_else(|| "-".to_string());
            }
            let output = entry
                .response
                .as_ref()
                .and_then(|r| r.usage.as_ref())
                .and_then(|u| u.whole_output(entry.provider));
            cells[6] = output.map_or_else(|| "-".to_string(), format::count);
            cells[7] = first_token(entry).map_or_else(|| "-".to_string(), format::duration);
            cells[8] = format::duration(*duration);
            cells[9] = stop(entry, utf8);
            cells[WHAT] = what(entry, utf8);
        }
        What::Opaque { duration, entry } => {
            if !entry.more.contains_key("note") {
                cells[8] = format::duration(*duration);
            }
            cells[9] = entry.status.map_or_else(|| "-".to_string(), |s| s.to_string());
            cells[WHAT] = opaque_gist(entry, utf8);
        }
        What::ObjectiveOpen { objective_id } => {
            cells[WHAT] = format!("objective {} opened", text::line(objective_id, utf8));
        }
        What::ObjectiveClose { objective_id, result } => {
            cells[9] = text::line(result, utf8);
            cells[WHAT] = format!("objective {} closed", text::line(objective_id, utf8));
        }
    }
    cells
}

/// Whether the terminal has fewer than 120 columns.
fn narrow(screen: &Screen) -> bool {
    screen.columns.is_some_and(|n| n < 120)
}

/// The time of day; with its date if that is not today's, and with its offset where there is room.
fn time(ts: u64, screen: &Screen) -> String {
    let (then, now) = (screen.zone.local(ts), screen.zone.local(screen.now));
    match (then.date() == now.date(), narrow(screen)) {
        (true, _) => then.clock(),
        (false, true) => format!("{} {}", then.date(), then.clock()),
        (false, false) => then.to_string(),
    }
}

/// The beginning of the session's id, and of the subagent's.
fn session(entry: &LlmEntry, utf8: bool) -> String {
    let short =
        |id: &Option<String>| id.as_ref().map(|id| text::line(id, utf8).chars().take(4).collect::<String>());
    match entry.about.session.as_ref().map(|s| (short(&s.id), short(&s.agent_id))) {
        Some((Some(id), Some(agent))) => format!("{id}/{agent}"),
        Some((Some(id), None)) => id,
        _ => "-".to_string(),
    }
}

fn stop(entry: &LlmEntry, utf8: bool) -> String {
    let response = entry.response.as_ref();
    let status = response.and_then(|r| r.status).filter(|s| *s >= 400);
    match (status, response.and_then(|r| r.stop_reason.as_ref())) {
        (Some(status), _) => status.to_string(),
        (None, Some(reason)) => text::line(reason, utf8),
        (None, None) if entry.about.truncated => "cut off".to_string(),
        (None, None) => "-".to_string(),
    }
}

/// The first tool that the model calls, else what it says; an error before all else.
fn what(entry: &LlmEntry, utf8: bool) -> String {
    if let Some(trouble) = trouble(entry) {
        return text::line(&trouble, utf8);
    }
    let blocks = || entry.response.iter().flat_map(|r| &r.messages).flat_map(|m| &m.content);
    let is_tool = |block: &&Block| matches!(block, Block::ToolUse { .. });
    let is_text = |block: &&Block| matches!(block, Block::Text { .. });
    let tools = blocks().filter(is_tool).count();
    match blocks().find(is_tool).or_else(|| blocks().find(is_text)).or_else(|| blocks().next()) {
        Some(block) if tools > 1 => format!("(1 of {tools}) {}", gist(block, utf8)),
        Some(block) => gist(block, utf8),
        None => "(an empty answer)".to_string(),
    }
}
