//! With a broker: signing in, a trace that goes on, the team's pages.
use serde_json::json;

use crate::browser::Browser;
use crate::calls::{Session, story, text_block, tool};
use crate::rig::Team;

#[test]
fn sign_in_see_a_trace_grow_sign_out() {
    let team = Team::start();
    team.upload(&story());
    let browser = Browser::start();
    browser.open(&team.url("/"));
    browser.wait("document.querySelector('[name=code]')");
    browser.assert_accessible_everywhere("sign-in");
    let mut used = 0;
    let right = team.code(&mut used);
    let wrong = if right == "000000" { "111111" } else { "000000" };
    browser.run_with("fill('member', 'ann'); fill('code', arguments[0]); press('Sign in')", &json!([wrong]));
    browser.wait("text('[role=alert]').includes('That code is wrong')");
    browser.run_with("fill('code', arguments[0]); press('Sign in')", &json!([right]));
    browser.wait("text('nav').includes('Sign out')");
    assert_eq!(browser.run("return document.cookie"), "", "no script reads the session");

    browser.run("press('My trace')");
    browser.wait("text('.status').includes('live') && rows().length >= 11");
    let seen = browser.run("return rows().length").as_u64().unwrap();
    let mut session = Session::new("5e55-0009");
    session.ask("Do more");
    team.upload(&[session.call(&[tool("x1", "ls")])]);
    browser.wait("rows().some(row => row.textContent.includes('Do more'))");
    // A result comes with the next call, and the call before shows it.
    team.upload(&[session.call(&[text_block("That is all.")])]);
    browser.wait("rows().some(row => row.textContent.includes('ls → ok'))");
    assert!(browser.run("return rows().length").as_u64().unwrap() >= seen);
    // Who reads further up is told of what is new, and stays where he is.
    browser.size(1280, 420);
    browser.run("document.querySelector('.list').scrollTop = 0");
    browser.wait("document.querySelector('.list').scrollTop === 0 && rows()[0].ariaPosInSet === '1'");
    session.ask("One more");
    team.upload(&[session.call(&[text_block("Here you are.")])]);
    browser.wait("shown(document.querySelector('.pill')) && text('.pill').includes('new')");
    assert_eq!(browser.run("return document.querySelector('.list').scrollTop"), 0);
    browser.run("document.querySelector('.pill').click()");
    browser.wait("rows().some(row => row.textContent.includes('Here you are.')) && !shown(document.querySelector('.pill'))");

    browser.run("press('Sign out')");
    browser.wait("document.querySelector('[name=code]')");
    let status = "(async () => (await fetch('/roster')).status)()";
    assert_eq!(browser.run(&format!("return {status}")), 401);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_team_and_its_objectives() {
    let team = Team::start();
    let bob = team.member("bob", &[]);
    team.member("cat", &[]);
    let browser = Browser::start();
    team.sign_in(&browser);
    browser.wait("text('.home').includes('bob')");
    // Say something; what others say comes by itself.
    browser
        .run("const i = document.querySelector('.say input'); i.value = 'Hello all'; i.form.requestSubmit()");
    browser.wait("text('.rail').includes('Hello all')");
    team.post("/push", &json!({"body": "The <b>build</b> is red", "data": {"thread": "chan:general"}}));
    browser.wait("text('.rail').includes('The <b>build</b> is red')");
    // An objective from its beginning to its end.
    browser.run("press('New objective')");
    browser.wait("document.querySelector('dialog[open] [name=title]')");
    browser.assert_accessible_everywhere("new-objective");
    browser.run("fill('title', 'Write the manual'); fill('outcome', 'Every verb has a page'); fill('assignee', 'ann'); fill('watchers', 'bob'); press('Create')");
    browser.wait("text('h1') === 'Write the manual' && text('.about').includes('Every verb has a page')");
    let mut session = Session::new("5e55-0004");
    session.ask("Write it");
    let id = browser.run("return decodeURIComponent(location.hash.split('/').pop())");
    let begin = json!({"kind": "objective_open", "ts": crate::calls::BEGIN - 1, "objectiveId": id});
    team.upload(&[begin, session.call(&[text_block("It is written.")])]);
    browser.run(
        "const i = document.querySelector('.say input'); i.value = 'How far is it?'; i.form.requestSubmit()",
    );
    browser.wait("text('.talk').includes('How far is it?')");
    browser.assert_accessible_everywhere("objective");
    browser.run("press('Block')");
    browser.wait("document.querySelector('dialog[open] [name=blockReason]')");
    browser.run("fill('blockReason', 'No power')");
    browser.confirm("Block");
    browser.wait("text('.state').includes('blocked: No power')");
    browser.run("press('Unblock')");
    browser.wait("text('.state').includes('active')");
    browser.run("press('Watchers')");
    browser.wait("document.querySelector('dialog[open] [name=add]')");
    browser.run("fill('add', 'cat'); fill('remove', 'bob')");
    browser.confirm("Change");
    browser.wait("text('.about').includes('watched by cat')");
    browser.wait("!document.querySelector('dialog[open]')");
    // What is being typed stays when others say and do something.
    browser.run("window.input = document.querySelector('.say input'); input.value = 'I am'; input.focus()");
    let path = format!("/objectives/{}/discuss", id.as_str().unwrap());
    team.post(&path, &json!({"body": "Who is on it?"}));
    browser.wait("text('.talk').includes('Who is on it?')");
    assert_eq!(browser.run("return document.activeElement === input && input.value"), "I am");
    // What is refused is told, and can be put right.
    browser.run("press('Watchers')");
    browser.wait("document.querySelector('dialog[open] [name=add]')");
    browser.run("fill('add', 'nobody')");
    browser.confirm("Change");
    browser.wait("text('dialog[open] .bad').includes('nobody')");
    browser.confirm("Cancel");
    browser.complaints();
    browser.run("press('Reassign')");
    browser.wait("document.querySelector('dialog[open] [name=to]')");
    browser.run("fill('to', 'bob')");
    browser.confirm("Reassign");
    browser.wait("text('.about').includes('Assigned to bob')");
    assert_eq!(browser.run("return all('.about button').some(b => b.textContent === 'Complete')"), false);
    browser.run("press('Cancel it')");
    browser.wait("document.querySelector('dialog[open] [name=reason]')");
    browser.run("fill('reason', 'Not needed')");
    browser.confirm("Cancel it");
    browser.wait("text('.state').includes('cancelled')");
    assert_eq!(browser.run("return all('.about .tools button').length"), 0, "nothing is left to be done");
    browser.run("location.hash = '#/'");
    browser.wait("text('.home').includes('cancelled (1)')");
    // What others take up shows itself.
    let next = json!({"title": "Ship it", "outcome": "It is out", "assignee": "bob"});
    let next = team.post("/objectives", &next);
    browser.wait("text('.home').includes('on Ship it')");
    bob.json(
        "POST",
        &format!("/objectives/{}/complete", next["id"].as_str().unwrap()),
        Some(&json!({"result": "Out"})),
    )
    .unwrap();
    browser.wait("text('.home').includes('done (1)')");
    browser.assert_accessible_everywhere("home");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn members_and_devices() {
    let team = Team::start();
    let browser = Browser::start();
    team.sign_in(&browser);
    browser.run("press('Members')");
    browser.wait("text('main').includes('manage members')");
    browser.run("press('New member')");
    browser.wait("document.querySelector('dialog[open] [name=name]')");
    browser.assert_accessible_everywhere("new-member");
    browser.run("fill('name', 'bob'); fill('title', 'engineer'); document.querySelector('[name=\"activity.read\"]').click(); press('Create')");
    let token = browser
        .wait("text('dialog[open] .code').startsWith('ac7_') && text('dialog[open] .code').split(' ')[0]");
    browser.run("press('Close')");
    browser.wait("text('main').includes('read everybody')");
    assert_eq!(
        team.client.json("GET", "/members", None).unwrap()["members"][1]["permissions"],
        json!(["activity.read"])
    );
    // The token works, until another takes its place.
    let token = token.as_str().unwrap();
    let open = |token: &str| team.as_one(token).json("GET", "/briefing", None).is_ok();
    assert!(open(token));
    let of_bob = |name: &str| {
        browser.run_with(
            "all('.member').find(m => m.textContent.startsWith('bob')).querySelectorAll('button').forEach(b => b.textContent === arguments[0] && b.click())",
            &json!([name]),
        );
        browser.wait("document.querySelector('dialog[open]')");
    };
    of_bob("New token");
    assert!(browser.run("return text('dialog[open]')").as_str().unwrap().contains("Every token of bob ends"));
    browser.run("press('Make it')");
    let token = {
        let next =
            "text('dialog[open] .code').startsWith('ac7_') && text('dialog[open] .code').split(' ')[0]";
        let next = browser.wait(next);
        assert!(!open(token) && open(next.as_str().unwrap()));
        next
    };
    browser.run("press('Close')");
    of_bob("One-time codes");
    browser.run("press('Make them')");
    browser.wait("document.querySelector('dialog[open] .qr path')");
    browser.assert_accessible_everywhere("totp");
    browser.run("press('Close')");
    of_bob("Tokens");
    browser.wait("text('dialog[open]').includes('rotate')");
    browser.confirm("Revoke");
    browser.wait("text('dialog[open]:last-of-type').includes('locked out at once')");
    browser.run("all('dialog[open]').at(-1).querySelector('button').click()");
    browser.wait("!all('dialog[open]').some(d => d.textContent.includes('locked out'))");
    assert!(!open(token.as_str().unwrap()));
    browser.run("press('Close')");
    of_bob("Change");
    assert_eq!(browser.run("return document.querySelector('dialog [name=\"activity.read\"]').checked"), true);
    browser.run("fill('title', 'reviewer'); document.querySelector('[name=\"activity.read\"]').click()");
    browser.confirm("Save");
    browser
        .wait("text('main').includes('reviewer') && text('main').includes('May work on what is assigned')");

    // A device asks; whoever follows its address decides.
    let asked = team.post("/enroll", &json!({"labelHint": "laptop <b>"}));
    browser.open(asked["verificationUriComplete"].as_str().unwrap());
    browser.wait("text('.code') !== ''");
    assert_eq!(browser.run("return text('.code')"), asked["userCode"]);
    browser.assert_accessible_everywhere("enroll");
    browser.run("press('For a member')");
    browser.wait("document.querySelector('dialog[open] [name=memberName]')");
    browser.run("fill('memberName', 'bob'); press('Approve')");
    browser.wait("text('main').includes('No device waits with the code')");
    let got = team.post("/enroll/poll", &json!({"deviceCode": asked["deviceCode"]}));
    assert!(open(got["token"].as_str().unwrap()) && got["member"]["name"] == "bob");
    // A device may come with a member of its own.
    let asked = team.post("/enroll", &json!({"labelHint": "ci"}));
    browser.run("location.hash = '#/enroll'");
    browser.wait("text('.code') !== ''");
    browser.run("press('For a new member')");
    browser.wait("document.querySelector('dialog[open] [name=name]')?.value === 'ci'");
    browser.run("fill('title', 'builder')");
    browser.confirm("Approve");
    browser.wait("text('main').includes('No device asks')");
    let got = team.post("/enroll/poll", &json!({"deviceCode": asked["deviceCode"]}));
    assert_eq!((&got["member"]["name"], &got["member"]["role"]["title"]), (&json!("ci"), &json!("builder")));
    let token = got["token"].as_str().unwrap();
    assert!(open(token));
    let asked = team.post("/enroll", &json!({}));
    browser.run("location.hash = '#/members'");
    browser.wait("all('.member').length === 3");
    browser.assert_accessible_everywhere("members");
    browser.run("all('.member').at(-1).querySelectorAll('button').forEach(b => b.textContent === 'Remove' && b.click())");
    browser.wait("text('dialog[open]').includes('Its tokens and sessions end at once')");
    browser.confirm("Remove");
    browser.wait("all('.member').length === 2");
    assert!(!open(token));
    browser.run("location.hash = '#/enroll'");
    browser.wait("text('.code') !== ''");
    browser.run("press('Reject')");
    browser.wait("document.querySelector('dialog[open] [name=reason]')");
    browser.confirm("Reject");
    browser.wait("text('main').includes('No device asks')");
    let polled = team.client.json("POST", "/enroll/poll", Some(&json!({"deviceCode": asked["deviceCode"]})));
    assert!(polled.unwrap_err().to_string().contains("400"), "it was rejected");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn no_other_page_may_frame_or_feed_it() {
    let team = Team::start();
    let answer = team.client.send("GET", "/", None).unwrap();
    assert_eq!(answer.status, 200);
    let browser = Browser::start();
    browser.open(&team.url("/"));
    browser.wait("document.querySelector('[name=code]')");
    let blocked = "let hit = 0; document.addEventListener('securitypolicyviolation', () => hit++); \
         const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s); \
         const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i); \
         window.hits = () => hit";
    browser.run(blocked);
    browser.wait("hits() >= 2");
    assert_eq!(browser.run("return window.pwned ?? null"), json!(null));
}
