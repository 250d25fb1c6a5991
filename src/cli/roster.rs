//! `ac7 roster`: how each member gets in.
use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::json;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, Verb, environment, format, rotate, team_file, terminal, text};
use crate::identity::{Member, TeamFile};
use crate::sys::clock::now_ms;

pub const VERB: Verb = Verb {
    name: "roster",
    group: Group::Team,
    summary: "Show each member's tokens and when they were used",
    operands: Operands::None,
    flags: &[
        &[
            Flag::switch("json", "One JSON object a line"),
            Flag::switch("reveal-token", "Rotate the token of --member and print the new one"),
        ],
        team_file::MEMBER,
        team_file::CONFIG,
        team_file::DB,
    ],
    examples: &[
        ("ac7 roster", "who has how many tokens, used when"),
        ("ac7 roster --reveal-token --member bob", "the same as ac7 rotate --member bob"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-roster(8)", "ac7-rotate(8)"],
    page: "ac7-roster",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    if parsed.has("reveal-token") {
        let name = team_file::member(parsed, verb)?;
        terminal::say(format_args!(
            "ac7 {verb}: a token is kept as its hash alone, so this mints a new one, as ac7 rotate does"
        ));
        return rotate::rotate(parsed, verb, &name);
    }
    let path = team_file::config(parsed, &environment);
    let (file, _) = TeamFile::load(&path).map_err(team_file::failed(verb))?;
    let only = parsed.text("member")?;
    let members: Vec<&Member> =
        file.members.iter().filter(|m| only.as_ref().is_none_or(|name| *name == m.name)).collect();
    if let (Some(name), true) = (only, members.is_empty()) {
        return Err(team_file::failed(verb)(crate::identity::Error::NoMember(name)));
    }
    let uses = team_file::uses(parsed, &environment, verb)?;
    let mut out = io::stdout().lock();
    let now = now_ms();
    let mut rows = vec![["NAME", "ROLE", "TOKENS", "TOTP", "LAST USED"].map(str::to_string).to_vec()];
    for member in members {
        let (used, totp) = (last_use(member, &uses), member.sealed_totp.is_some());
        if parsed.has("json") {
            let line = json!({
                "name": member.name,
                "role": member.role.to_json(),
                "tokens": member.tokens.len(),
                "totp": totp,
                "lastUsedAt": used,
            });
            writeln!(out, "{}", text::json_line(&line.to_string()))?;
        }
        let utf8 = terminal::utf8();
        rows.push(vec![
            member.name.clone(),
            text::cut(&text::line(&member.role.title, utf8), 24, utf8),
            member.tokens.len().to_string(),
            if totp { "yes" } else { "no" }.to_string(),
            used.map_or_else(|| "never".to_string(), |at| format::ago(at, now)),
        ]);
    }
    if !parsed.has("json") {
        write!(out, "{}", team_file::table(&rows))?;
    }
    Ok(0)
}

/// When one of the member's tokens was last used, in ms since the epoch.
fn last_use(member: &Member, uses: &HashMap<String, u64>) -> Option<u64> {
    member.tokens.iter().filter_map(|t| uses.get(&t.id).copied().max(t.last_used_at)).max()
}
