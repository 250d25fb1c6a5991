//! Without a broker: the local database in the browser, and the file that opens from disk.
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::calls::{HOSTILE, Session, hostile, long, story, text_block};
use crate::rig::{View, local, record};

/// Open what the rail shows of the story, in order of time.
fn rail(browser: &Browser) -> Value {
    browser.run("return rows().map(row => row.querySelector('.text')?.textContent.trim() ?? row.textContent)")
}

fn is_the_story(browser: &Browser) {
    browser.wait("rows().length >= 11");
    let rail = rail(browser);
    let lines: Vec<&str> = rail.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let want = [
        "Fix the failing test, please",
        "Thinks Look first.",
        "Says I look at it.",
        "Bash cargo test → ok all is well",
        "Bash false → exit status 1",
        "Says It is fixed now.",
        "Now commit it",
        "Error overloaded_error: Overloaded",
        "Bash git commit → ok all is well",
        "Says Committed.",
        "dropped 3 the queue was full",
    ];
    for want in want {
        assert!(lines.contains(&want), "{want} is not in {lines:?}");
    }
    let figures = browser.run("return text('.figures')");
    assert!(["6calls", "≈ $0."].iter().all(|want| figures.as_str().unwrap().contains(want)), "{figures}");
    // What is open says what was new, and holds the rest.
    browser.run("rows().find(row => row.textContent.includes('git commit')).click()");
    browser.wait("/Call 5.*Raw JSON/.test(text('.detail'))");
    let detail = browser.wait("text('.detail')");
    for want in [
        "200 tool_use",
        "to first token 300 ms",
        "7 earlier messages",
        "claude-opus-4-5",
        "req_5",
        "in the next call",
    ] {
        assert!(detail.as_str().unwrap().contains(want), "{want}: {detail}");
    }
    for folded in ["exit status 1", "null", "undefined"] {
        assert!(!detail.as_str().unwrap().contains(folded), "earlier messages are folded: {detail}");
    }
    browser.run(
        "all('.detail summary').filter(s => /earlier|System/.test(s.textContent)).forEach(s => s.click())",
    );
    browser
        .wait("text('.detail').includes('exit status 1') && text('.detail').includes('You help with code')");
}

#[test]
fn the_local_database_in_the_browser() {
    let (home, db) = local(&story());
    let view = View::start(&home, &db);
    let browser = Browser::start();
    browser.open(&view.url);
    is_the_story(&browser);
    assert_eq!(browser.run("return location.search"), "", "the token does not stay in the address");
    browser.picture("view-light");
    // New rows come by themselves.
    let mut session = Session::new("5e55-0002");
    session.ask("And now something else");
    record(&db, &[session.call(&[text_block("Something else it is.")])]);
    browser.wait("rows().some(row => row.textContent.includes('Something else it is.'))");
    // The hosts.
    browser.run("press('Close'); press('Hosts')");
    browser.wait("text('table').includes('github.com')");
    assert!(browser.run("return text('table')").as_str().unwrap().contains("tunnelled: scope"));
    browser.picture("hosts");
    browser.assert_accessible("hosts");
    // The address opens once.
    browser.open(&view.url);
    assert!(browser.wait("text('body')").as_str().unwrap().contains("token"));
    let origin = view.url.split("/?").next().unwrap();
    browser.open(origin);
    browser.wait("rows().length > 5");
    browser.run("document.cookie = 'x=y'");
    assert_eq!(
        browser.run("return document.cookie.includes('ac7_view')"),
        false,
        "no script reads the cookie"
    );
}

#[test]
fn the_page_is_sent_packed_to_who_takes_that() {
    let (home, db) = local(&[]);
    let view = View::start(&home, &db);
    for path in ["/", "/web/app.js", "/web/app.css"] {
        let (head, plain) = view.get(path, "");
        assert!(head.starts_with("http/1.1 200 ") && !head.contains("content-encoding"), "{path}: {head}");
        let (head, packed) = view.get(path, "Accept-Encoding: gzip, br\r\n");
        assert!(
            head.starts_with("http/1.1 200 ") && head.contains("content-encoding: gzip\r\n"),
            "{path}: {head}"
        );
        // Another program unpacks it.
        let mut gzip = Command::new("gzip");
        let mut gzip = gzip.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        gzip.stdin.take().unwrap().write_all(&packed).unwrap();
        let unpacked = gzip.wait_with_output().unwrap();
        assert!(unpacked.status.success() && unpacked.stdout == plain && !plain.is_empty(), "{path}");
    }
}

#[test]
fn filters_are_the_servers_and_stand_in_the_address() {
    let (home, db) = local(&story());
    let view = View::start(&home, &db);
    let browser = Browser::start();
    browser.open(&view.url);
    browser.wait("rows().length >= 11");
    browser.run(
        "const q = document.querySelector('[type=search]'); q.value = 'GIT commit'; q.form.requestSubmit()",
    );
    browser.wait("location.hash.includes('q=GIT') && text('.status').startsWith('2 rows')");
    browser.run("press('Remove filter q')");
    browser.wait("text('.status').startsWith('6 rows')");
    browser.run("all('label').find(l => l.textContent === 'Errors').querySelector('input').click()");
    browser.wait("location.hash.includes('status=error') && text('.status').startsWith('1 row ·') && text('.figures').includes('1failed calls')");
    // Other requests are a kind of their own.
    browser.run("location.hash = '#/?kind=other'");
    browser.wait("text('.status').startsWith('3 rows') && rows().some(row => row.textContent.includes('api.anthropic.com/api/hello → 200'))");
    browser.run("location.hash = '#/?kind=all'");
    browser.wait(
        "text('.status').startsWith('9 rows') && rows().some(row => row.textContent.includes('github.com:443 → scope'))",
    );
    browser.run("location.hash = '#/?model=no-such'");
    browser.wait("text('.status').includes('Nothing fits')");
    browser.run("press('Clear them')");
    browser.wait("text('.status').startsWith('6 rows')");
    // A span of time, brushed on the chart.
    browser.run(
        "const c = document.querySelector('.chart'), b = c.getBoundingClientRect(), at = x => ({clientX: b.left + b.width * x, \
         clientY: b.top + 9, pointerId: 1, bubbles: true}); c.setPointerCapture = () => {}; \
         c.dispatchEvent(new PointerEvent('pointerdown', at(0))); c.dispatchEvent(new PointerEvent('pointermove', at(.4))); \
         c.dispatchEvent(new PointerEvent('pointerup', at(.4)))",
    );
    browser.wait("location.hash.includes('from=') && /^[123] rows? /.test(text('.status'))");
    // A row's address leads to it.
    browser.open("about:blank");
    browser.open(&format!("{}/#/?row=r3", view.url.split("/?").next().unwrap()));
    browser.wait("text('.detail').includes('Call 3')");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn an_export_opens_from_disk() {
    let (home, db) = local(&story());
    let file = home.join("trace.html");
    let done = home.run(["export", "--html", file.to_str().unwrap(), "--db", db.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let browser = Browser::start();
    browser.open(&format!("file://{}", file.display()));
    is_the_story(&browser);
    assert!(browser.run("return text('.status')").as_str().unwrap().starts_with("6 rows"));
    assert_eq!(browser.run("return document.querySelector('.status').textContent.includes('live')"), false);
    assert_eq!(browser.run("return performance.getEntriesByType('resource').length"), 0, "it loads nothing");
    browser.run("press('Close'); const q = document.querySelector('[type=search]'); q.value = 'all is WELL'; q.form.requestSubmit()");
    browser.wait("text('.status').startsWith('5 rows')");
    assert_eq!(browser.complaints(), [""; 0]);
    browser.picture("export");
}

#[test]
fn a_search_finds_what_an_export_holds_once() {
    let (home, db) = local(&long(3));
    let file = home.join("trace.html");
    let done = home.run(["export", "--html", file.to_str().unwrap(), "--db", db.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let browser = Browser::start();
    let open = |hash: &str| {
        browser.open("about:blank");
        browser.open(&format!("file://{}#/?{hash}", file.display()));
    };
    // A request that a session repeats, an answer and the calls after it, the last answer, a prompt of its own in each
    // session, prompts and tools that all have.
    for (text, rows) in [
        ("REQUEST+1", "50 rows"),
        ("step+2.40", "10 rows"),
        ("step+2.49", "1 row"),
        ("billing+50", "3 rows"),
        ("help+with+code", "150 rows"),
        ("Runs+a+command", "150 rows"),
        ("step+3.0", "Nothing fits"),
    ] {
        open(&format!("q={text}"));
        browser.wait(&format!("text('.status').startsWith({})", json!(rows)));
    }
    // What is found is whole when it is opened.
    open("q=step+2.49&row=r150");
    browser.wait("/Call 150[^]*97 earlier messages[^]*Raw JSON/.test(text('.detail'))");
    browser.wait(
        "(() => { all('.detail details:not([open]) > summary').forEach(s => s.click()); \
         return ['Request 2', 'step 2.0', 'Runs a command', 'billing 50'].every(want => text('.detail').includes(want)); })()",
    );
}

/// Unfold everything that is there.
const UNFOLD: &str = "for (let i = 0; i < 6; i++) all('.detail details:not([open]) > summary').forEach(s => s.click()); \
     all('.detail button').filter(b => b.textContent.startsWith('Show all')).forEach(b => b.click())";

#[test]
fn a_hostile_trace_is_text() {
    let (home, db) = local(&hostile());
    let file = home.join("trace.html");
    let done = home.run(["export", "--html", file.to_str().unwrap(), "--db", db.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let view = View::start(&home, &db);
    let browser = Browser::start();
    for url in [view.url.clone(), format!("file://{}", file.display())] {
        browser.open(&url);
        browser.wait("rows().length > 4");
        browser.run("location.hash = '#/?kind=all'");
        browser.wait("rows().some(row => row.textContent.includes('Tunnel'))");
        let count = browser.run("return rows().length").as_u64().unwrap();
        let mut opened = 0;
        for i in 0..count {
            browser.run_with(
                "const row = rows()[arguments[0]]; row.matches('.turn') || row.click()",
                &json!([i]),
            );
            if browser.run("return !document.querySelector('.detail').hidden") == true {
                browser.wait("!text('.detail').includes('Loading')");
                browser.run(UNFOLD);
                opened += 1;
            }
            inert(&browser, &url);
        }
        assert!(opened > 5, "{opened} of {count}");
        browser.run("location.hash = '#/?tab=hosts'");
        browser.wait("text('table').includes('onerror')");
        inert(&browser, &url);
        browser.picture("hostile");
        assert_eq!(browser.complaints(), [""; 0], "{url}");
    }
}

fn inert(browser: &Browser, place: &str) {
    let script = "return {pwned: window.pwned ?? null, \
         made: all('main img, main script, main iframe, main style, main [onerror], main a[href^=javascript], main base').length, \
         seen: /[\\u202e\\u2066\\u200b\\x1b\\x07\\0\\x9b]/.test(document.body.innerText + document.title + \
            all('*').flatMap(n => [...n.attributes].filter(a => a.name !== 'value').map(a => a.value)).join('')), \
         shown: document.body.textContent.includes('onerror')}";
    let found = browser.run(script);
    assert_eq!(
        found,
        json!({"pwned": null, "made": 0, "seen": false, "shown": true}),
        "{place}: {HOSTILE:?}"
    );
}

#[test]
fn every_key_does_what_the_list_says() {
    let (home, db) = local(&story());
    let view = View::start(&home, &db);
    let browser = Browser::start();
    browser.open(&view.url);
    browser.wait("rows().length >= 11");
    let line = |want: &str| {
        let seen = browser.run("return chosen()?.textContent ?? ''");
        assert!(seen.as_str().unwrap().contains(want), "{want} is not in {seen}");
    };
    let then = |keys: &str, want: &str| {
        browser.keys(keys);
        browser.wait(&format!("chosen()?.textContent.includes({})", json!(want)));
        line(want);
    };
    then("j", "Fix the failing test");
    then("j", "Look first.");
    then("jj", "cargo test");
    then("k", "I look at it.");
    then("n", "Now commit it");
    then("p", "Fix the failing test");
    then("e", "false");
    then("e", "Overloaded");
    browser.keys("\u{e007}"); // Enter
    browser.wait("text('.detail').includes('overloaded_error')");
    browser.wait("document.activeElement.closest('.detail')");
    browser.keys("\u{e00c}"); // Escape
    browser.wait("document.querySelector('.detail').hidden && document.activeElement.matches('.list')");
    browser.keys("/");
    browser.wait("document.activeElement.type === 'search'");
    browser.keys("j");
    assert_eq!(browser.run("return document.querySelector('[type=search]').value"), "j", "typing is typing");
    browser.keys("\u{e00c}");
    browser.keys("f");
    browser.wait("rows().length <= 3");
    browser.keys("f");
    browser.wait("rows().length >= 11");
    browser.keys("?");
    browser.wait("document.querySelector('dialog').open");
    browser.keys("\u{e00c}");
    browser.wait("!document.querySelector('dialog').open");
    // Every control can be reached by Tab, in the order in which it stands, and shows that it is.
    browser.run("document.activeElement.blur(); scrollTo(0, 0)");
    let wanted = browser
        .run("return all('a, button, input, select, .list, details summary').filter(shown).length")
        .as_u64()
        .unwrap();
    let mut reached = Vec::new();
    for _ in 0..wanted + 4 {
        browser.keys("\u{e004}");
        let at = browser.run(
            "const n = document.activeElement; if (n === document.body) return null; \
             return [all('*').indexOf(n), getComputedStyle(n).outlineStyle]",
        );
        if at.is_null() || reached.contains(&at[0]) {
            break;
        }
        assert_ne!(at[1], "none", "focus is seen: {at}");
        reached.push(at[0].clone());
    }
    let places: Vec<u64> = reached.iter().map(|at| at.as_u64().unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(places.len() as u64 >= wanted, "{} of {wanted} were reached", places.len());
}

#[test]
fn both_themes_and_narrow_screens_can_be_read() {
    let (home, db) = local(&story());
    let view = View::start(&home, &db);
    let browser = Browser::start();
    browser.open(&view.url);
    for (width, height) in [(1280, 900), (820, 1000), (390, 844)] {
        browser.size(width, height);
        for theme in ["light", "dark"] {
            browser.theme(theme);
            browser.run("location.hash = '#/?x=' + Math.random()");
            browser.wait("rows().length >= 6");
            let place = format!("{width} {theme}");
            browser.assert_accessible(&place);
            browser.picture(&format!("list-{width}-{theme}"));
            browser.run("rows().find(row => row.classList.contains('step')).click()");
            browser.wait("text('.detail').includes('Raw JSON')");
            browser.run(UNFOLD);
            browser.assert_accessible(&format!("{place}, a call"));
            browser.picture(&format!("call-{width}-{theme}"));
            browser.run("press('Close')");
        }
    }
    browser.run("press('Theme')");
    let chosen = browser.wait("document.documentElement.dataset.theme");
    browser.open(view.url.split("/?").next().unwrap());
    browser.wait("rows().length >= 6");
    assert_eq!(browser.run("return document.documentElement.dataset.theme"), chosen, "it is kept");
}

#[test]
fn ten_thousand_rows_are_all_there() {
    let (home, db) = local(&long(200));
    let view = View::start(&home, &db);
    let browser = Browser::start();
    browser.open(&view.url);
    browser.wait("rows().length >= 11");
    // The figures are of all rows, though only the newest are here.
    browser.wait(
        "text('.figures').startsWith('10\u{2009}000calls') && text('.status').startsWith('500 rows so far')",
    );
    assert_eq!(browser.run("return text('.figures').includes('of those loaded')"), false);
    // The newest page is there at once; reading upwards fetches the rest.
    for page in 1..=20 {
        let there = format!(
            "(() => {{ document.querySelector('.list').scrollTop = 0; \
             return Number(text('.status').split(' rows')[0].replace(/\\D/g, '')) >= {page} * 500; }})()"
        );
        browser.wait(&there);
    }
    browser.wait("!text('.status').includes('more')");
    assert!(
        browser.run("return text('.figures')").as_str().unwrap().starts_with("10\u{2009}000calls"),
        "the page counts the same"
    );
    let total = browser.wait("Number(rows()[0]?.ariaSetSize)").as_u64().unwrap();
    assert_eq!(total, 10_200, "a line for each turn and each call");
    // Nowhere is a hole: what is on the screen is what should be there, each in its place and in the order of reading.
    for part in 0..=20 {
        browser.run_with("const l = document.querySelector('.list'); l.scrollTop = (l.scrollHeight - l.clientHeight) * arguments[0] / 20", &json!([part]));
        browser.wait(
            "(() => { const l = document.querySelector('.list'), h = rows()[0].offsetHeight, top = rows()[0].parentNode.getBoundingClientRect().top, first = Math.floor(l.scrollTop / h) + 1, \
             last = Math.min(10200, Math.ceil((l.scrollTop + l.clientHeight) / h)), there = new Set(rows().map(r => Number(r.ariaPosInSet))); \
             for (let i = first; i <= last; i++) if (!there.has(i)) return false; \
             return rows().length < 120 && all('.space > .row').every((row, i) => row === rows()[i] && \
               Math.abs(row.getBoundingClientRect().top - top - (row.ariaPosInSet - 1) * h) < 1); })()",
        );
    }
    browser.wait("rows().at(-1).textContent.includes('step 199.49')");
}
