//! How fast the page is with many calls. `make bench` prints the figures; as a test this only looks that all is there.
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::calls::{Session, long, text_block};
use crate::rig::{Team, View, local};

/// In every document, before its own scripts: when rows are first painted, and what keeps the page busy for over 50 ms.
const WATCH: &str = "window.tasks = []; new PerformanceObserver(list => tasks.push(...list.getEntries().map(e => e.duration)))\
     .observe({type: 'longtask', buffered: true}); \
     new MutationObserver((_, observer) => { if (!document.querySelector('.space > .row')) return; observer.disconnect(); \
       requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); })); }) \
     .observe(document, {childList: true, subtree: true})";

/// Scroll from one end to the other in a hundred steps; the longest that a step took.
const SCROLL: &str = "return (async () => { const list = document.querySelector('.list'), next = () => new Promise(requestAnimationFrame); \
     let longest = 0; for (let i = 0; i <= 100; i++) { const from = performance.now(); \
       list.scrollTop = (list.scrollHeight - list.clientHeight) * i / 100; await next(); await next(); \
       longest = Math.max(longest, performance.now() - from); } return longest; })()";

struct Figures {
    browser: Browser,
}

impl Figures {
    /// A line of the table.
    fn tell(what: &str, value: &str, target: &str) {
        println!("{what:<58} {value:>12}   {target}");
    }

    fn ms(&self, what: &str, script: &str, target: &str) {
        let value = self.browser.run(script).as_f64().unwrap();
        Figures::tell(what, &format!("{value:.0} ms"), target);
    }

    /// The longest task since the last time.
    fn tasks(&self, what: &str) {
        let script = "const longest = Math.max(0, ...tasks); tasks.length = 0; return longest";
        let longest = self.browser.run(script).as_f64().unwrap();
        let value = if longest == 0.0 { "none".to_string() } else { format!("{longest:.0} ms") };
        Figures::tell(what, &value, "none over 50 ms");
    }

    fn memory(&self, what: &str) {
        self.browser.devtools("HeapProfiler.collectGarbage", &json!({}));
        let used = self.browser.devtools("Runtime.getHeapUsage", &json!({}))["usedSize"].as_f64().unwrap();
        Figures::tell(what, &format!("{:.0} MB", used / 1e6), "150 MB");
    }
}

#[test]
fn figures_of_the_page() {
    // A build without optimisation would take minutes; it shows that the figures can be taken.
    let sessions = if cfg!(debug_assertions) { 20 } else { 200 };
    let calls = 50 * sessions;
    let events = long(sessions);
    let (home, db) = local(&events);
    let view = View::start(&home, &db);
    let at = Figures { browser: Browser::start() };
    at.browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": WATCH}));
    println!();

    at.browser.open(&view.url);
    at.browser.wait("window.painted");
    let data =
        "performance.getEntriesByType('resource').find(e => e.name.includes('/activity?')).responseEnd";
    at.ms(
        &format!("ac7 view of {calls} calls: rows painted after data"),
        &format!("return painted - {data}"),
        "300 ms",
    );
    at.browser.run("tasks.length = 0");
    at.ms("  scroll, the longest of 100 steps of the newest 500", SCROLL, "");
    at.tasks("  longest task meanwhile");

    // A file has all of them at once.
    let file = home.join("trace.html");
    let done = home.run(["export", "--html", file.to_str().unwrap(), "--db", db.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    at.browser.open(&format!("file://{}", file.display()));
    at.browser.wait("window.painted");
    let parsed = "performance.getEntriesByType('navigation')[0].domInteractive";
    at.ms(
        &format!("file of {calls} calls: rows painted after data"),
        &format!("return painted - {parsed}"),
        "300 ms",
    );
    at.browser.run("tasks.length = 0");
    at.ms("  scroll, the longest of 100 steps of all", SCROLL, "");
    at.tasks("  longest task meanwhile");
    at.memory("  memory");
    assert_eq!(at.browser.run("return Number(rows().at(-1).ariaSetSize)"), json!(51 * sessions));
    drop(view);

    // 1 000 calls with the tools of a real client, against what they are when each has all that it was sent with.
    let mut events = events;
    events.truncate(1000);
    let tool = |n| json!({"name": format!("Tool{n}"), "description": "What it is for. ".repeat(200), "inputSchema": {}});
    let tools: Value = (0..20).map(tool).collect();
    events.iter_mut().for_each(|event| event["entry"]["request"]["tools"] = tools.clone());
    let logical: usize = events.iter().map(|event| event.to_string().len()).sum();
    let (home, db) = local(&events);
    let file = home.join("trace.html");
    let done = home.run(["export", "--html", file.to_str().unwrap(), "--db", db.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let written = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
    Figures::tell("file of 1 000 calls, of the bytes they have", &format!("1/{}", logical / written), "1/20");

    // A long message; rows that keep coming.
    let team = Team::start();
    let mut session = Session::new("5e55-0100");
    session.ask("Read it all");
    team.upload(&[session
        .call(&[text_block(&"All work and no play makes a long message of many lines.\n".repeat(18_000))])]);
    team.sign_in(&at.browser);
    at.browser.run("press('My trace')");
    at.browser.wait("rows().length === 2 && text('.status').includes('live')");
    let open = "return (async () => { const from = performance.now(), next = () => new Promise(requestAnimationFrame); \
         rows()[1].click(); let more; while (!(more = all('.detail button').find(b => b.textContent.startsWith('Show all')))) await next(); \
         more.click(); await next(); await next(); return performance.now() - from; })()";
    at.ms("a message of 1 MB: opened, all of it shown", open, "200 ms");
    at.browser.run("press('Close'); tasks.length = 0");
    let (each, began) = (Duration::from_millis(100), Instant::now());
    for i in 0..50_u32 {
        let calls: Vec<Value> =
            (0..5).map(|n| session.call(&[text_block(&format!("live {}", i * 5 + n))])).collect();
        team.upload(&calls);
        thread::sleep((each * (i + 1)).saturating_sub(began.elapsed()));
    }
    let last = Instant::now();
    at.browser.wait("rows().some(row => row.textContent.includes('live 249'))");
    let behind = format!("{:.0} ms", last.elapsed().as_secs_f64() * 1e3);
    Figures::tell("50 live rows a second for 5 s: behind at the end", &behind, "");
    at.tasks("  longest task meanwhile");
    at.browser.wait("text('.figures').startsWith('251calls')");
}
