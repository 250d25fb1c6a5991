//! With a broker, and what goes on while a page is open: a real session under ac7, notices.
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use support::mock::{ANSWER, Mock, Options};
use support::push::{self, PushService};
use support::run::{Finished, wait_until};

use crate::browser::Browser;
use crate::rig::Team;

/// An agent that waits for a line, makes one call of the model and waits for another line.
const AGENT: &str = "read _; curl -sS --max-time 60 --noproxy '' -o /dev/null -H 'Content-Type: application/json' \
     -d \"$2\" \"$1\"; read _";

#[test]
fn what_a_session_does_appears_on_the_objective_that_is_open() {
    let (team, mock) = (Team::start(), Mock::start(Options::default()));
    let browser = Browser::start();
    team.sign_in(&browser);
    let made =
        team.post("/objectives", &json!({"title": "Say hello", "outcome": "It was said", "assignee": "ann"}));
    browser.run_with("location.hash = `#/objective/${arguments[0]}`", &json!([made["id"]]));
    browser.wait("text('.status').includes('Nothing was recorded under this objective yet')");

    let home = support::ac7!();
    let (url, call) = (
        format!("https://api.anthropic.com:{}/v1/messages", mock.port),
        json!({"model": "claude-opus-4-5", "max_tokens": 64, "stream": true, "system": "Be brief.",
            "messages": [{"role": "user", "content": "Who is there?"}]}),
    );
    let mut session = home.ac7(["run", "--connect-to", "::127.0.0.1:", "--url", team.client.url()]);
    session.env("AC7_TOKEN", &team.token).arg("--ca-cert").arg(&mock.ca_pem);
    session.args(["--", "sh", "-c", AGENT, "agent", &url, &call.to_string()]);
    let mut session =
        session.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = session.stdin.take().unwrap();
    browser.run("window.same = true");
    writeln!(stdin).unwrap();
    let seen =
        |what: &str| browser.wait(&format!("rows().some(row => row.textContent.includes({}))", json!(what)));
    seen("Who is there?");
    seen(ANSWER);
    assert!(
        browser.run("return text('.figures')").as_str().unwrap().starts_with("1calls"),
        "the figures follow"
    );
    assert_eq!(browser.run("return window.same"), true, "nothing was loaded anew");
    browser.run("rows().find(row => row.textContent.includes('Says')).click()");
    browser.wait("/claude-opus-4-5.*cache read 100.*Raw JSON/s.test(text('.detail'))");
    browser.run("press('System · 9 B')");
    browser.wait("text('.detail').includes('Be brief.')");
    drop(stdin);
    let done = Finished::from(&session.wait_with_output().unwrap());
    assert_eq!(done.code, Some(1), "the second line does not come: {}", done.stderr);

    // The objective ends, and with it what comes to its trace.
    browser.run("press('Close'); press('Complete')");
    browser.wait("document.querySelector('dialog[open] [name=result]')");
    browser.run("fill('result', 'Hello was said')");
    browser.confirm("Complete");
    browser.wait("text('.state').includes('done') && text('.about').includes('Hello was said')");
    browser.wait("rows().length === 2 && !text('.status').includes('live')");
    browser.assert_accessible_everywhere("objective-done");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// The notices that the browser shows: titles, texts, what they are about.
const SHOWN: &str = "(async () => (await (await navigator.serviceWorker.getRegistration('/web/')).getNotifications())\
     .map(n => [n.title, n.body, n.data]))()";

/// A headless browser has no push service: this one is given to the page. What it got is carried to the worker by hand.
#[test]
fn notices_come_to_a_browser_that_asked_for_them() {
    let (team, service) = (Team::start(), PushService::start());
    let bob = team.member("bob", &["objectives.create"]);
    let say = |title: &str| {
        let new = json!({"title": title, "outcome": "o", "assignee": "ann"});
        bob.json("POST", "/objectives", Some(&new)).unwrap()["id"].as_str().unwrap().to_string()
    };
    let browser = Browser::start();
    team.sign_in(&browser);
    browser.wait("text('.home').includes('Notify me')");
    browser.decide("notifications", "denied");
    browser.run("press('Notify me')");
    browser.wait("text('.home').includes('The browser does not allow it')");
    browser.decide("notifications", "granted");
    let receiver = push::Browser::fresh();
    browser.run_with(
        "const [given] = arguments; PushManager.prototype.subscribe = async options => { window.asked = options; \
         return {toJSON: () => given}; }",
        &json!([receiver.subscription(&service.endpoint("ann"))]),
    );
    browser.run("press('Notify me')");
    browser.wait("text('.home').includes('This browser tells you')");
    browser.picture("notices");
    let asked = "return [asked.userVisibleOnly, asked.applicationServerKey.length]";
    assert_eq!(browser.run(asked), json!([true, 65]), "a point on P-256");
    // Somebody assigns, and the broker sends.
    let id = say("Look at <b>this</b>");
    let posted = wait_until("the notice", || service.got().first().cloned());
    let notice: Value = receiver.read(&posted.body);
    browser.devtools("ServiceWorker.enable", &json!({}));
    let message = json!({"origin": team.client.url(), "registrationId": "0", "data": notice.to_string()});
    // What comes before the browser has stored the worker is lost; the same notice again takes the place of the first.
    let shown = wait_until("the notice on the screen", || {
        browser.devtools("ServiceWorker.deliverPushMessage", &message);
        Some(browser.run(&format!("return {SHOWN}"))).filter(|shown| *shown != json!([]))
    });
    assert_eq!(shown.as_array().unwrap().len(), 1, "{shown}");
    assert!(shown[0][1].as_str().unwrap().contains("Look at <b>this</b>"), "{shown}");
    assert_eq!(shown[0][2], format!("obj:{id}"));
    // Who has had enough is not told any more.
    browser.run("press('Stop it')");
    browser.wait("text('.home').includes('Notify me') && !text('.home').includes('This browser tells you')");
    let cat = team.member("cat", &[]);
    let other = push::Browser::fresh();
    cat.json("POST", "/push/subscriptions", Some(&other.subscription(&service.endpoint("cat")))).unwrap();
    say("once more");
    bob.json("POST", "/push", Some(&json!({"to": "cat", "body": "hello"}))).unwrap();
    let paths = wait_until("a later notice", || Some(service.got()).filter(|got| got.len() > 1));
    assert_eq!(paths.last().unwrap().path, "/push/cat", "there was none between");
    assert_eq!(browser.complaints(), [""; 0]);
}
