//! `ac7 member`: who is in the team.
use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::json;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, Verb, environment, team_file, terminal, text};
use crate::identity::{Member, MemberChange, NewMember, Permission, Role, TeamFile};
use crate::sys::clock::now_ms;

const PAGE: &str = "ac7-member";
const SEE_ALSO: &[&str] = &["ac7-member(8)", "ac7-roster(8)"];

/// Options that say what a member is.
const TRAITS: &[Flag] = &[
    Flag::value("description", "TEXT", "The role in a sentence"),
    Flag::value("instructions", "TEXT", "What this member is told beyond what the team is told"),
    Flag::value("permission", "NAME", "A permission or preset that the member has").many(),
];

pub const LIST: Verb = Verb {
    name: "member list",
    group: Group::Team,
    summary: "List the members",
    operands: Operands::None,
    flags: &[&[Flag::switch("json", "One JSON object a line")], team_file::CONFIG],
    examples: &[
        ("ac7 member list", "names, roles, permissions"),
        ("ac7 member list --json", "the same for programs"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: SEE_ALSO,
    page: PAGE,
    run: list,
};

pub const CREATE: Verb = Verb {
    name: "member create",
    group: Group::Team,
    summary: "Add a member and print the token",
    operands: Operands::One("NAME"),
    flags: &[
        &[Flag::value("title", "TEXT", "The role").or("member")],
        TRAITS,
        team_file::CONFIG,
        team_file::DB,
    ],
    examples: &[
        ("ac7 member create bob", "a member who may do what everybody may"),
        ("ac7 member create cat --title lead --permission operator", "one who leads"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: SEE_ALSO,
    page: PAGE,
    run: create,
};

pub const UPDATE: Verb = Verb {
    name: "member update",
    group: Group::Team,
    summary: "Change a member",
    operands: Operands::One("NAME"),
    flags: &[
        &[Flag::value("title", "TEXT", "The role")],
        TRAITS,
        &[Flag::switch("no-permissions", "Take all permissions away")],
        team_file::CONFIG,
    ],
    examples: &[
        ("ac7 member update bob --title tester", "another role, the rest as it is"),
        ("ac7 member update bob --permission activity.read", "this permission and no other"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: SEE_ALSO,
    page: PAGE,
    run: update,
};

pub const DELETE: Verb = Verb {
    name: "member delete",
    group: Group::Team,
    summary: "Remove a member, tokens and sessions",
    operands: Operands::One("NAME"),
    flags: &[&[Flag::switch("yes", "Do not ask")], team_file::CONFIG, team_file::DB],
    examples: &[("ac7 member delete bob", "ask, then remove"), ("ac7 member delete bob --yes", "do not ask")],
    exits: SUCCESS_OR_FAILURE,
    see_also: SEE_ALSO,
    page: PAGE,
    run: delete,
};

fn list(parsed: &Parsed) -> Result<u8, Error> {
    let path = team_file::config(parsed, &environment);
    let (file, _) = TeamFile::load(&path).map_err(team_file::failed(LIST.name))?;
    let mut out = io::stdout().lock();
    if parsed.has("json") {
        for member in &file.members {
            let leaves: Vec<&str> = file.permissions(member).iter().map(|p| p.name()).collect();
            let line = json!({
                "name": member.name,
                "role": member.role.to_json(),
                "permissions": leaves,
                "instructions": member.instructions,
            });
            writeln!(out, "{}", text::json_line(&line.to_string()))?;
        }
        return Ok(0);
    }
    let utf8 = terminal::utf8();
    let mut rows = vec![["NAME", "ROLE", "PERMISSIONS"].map(str::to_string).to_vec()];
    rows.extend(file.members.iter().map(|member| {
        vec![
            member.name.clone(),
            text::cut(&text::line(&member.role.title, utf8), 24, utf8),
            text::line(&permissions(&file, member), utf8),
        ]
    }));
    write!(out, "{}", team_file::table(&rows))?;
    Ok(0)
}

/// As the file has them; `all` for all of them.
fn permissions(file: &TeamFile, member: &Member) -> String {
    match file.permissions(member).len() {
        _ if member.permissions.is_empty() => "-".to_string(),
        n if n == Permission::ALL.len() => "all".to_string(),
        _ => member.permissions.join(", "),
    }
}

fn create(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, name, path) = (CREATE.name, operand(parsed), team_file::config(parsed, &environment));
    let given = json!({
        "name": name,
        "role": {
            "title": parsed.text("title")?.unwrap_or_else(|| "member".to_string()),
            "description": parsed.text("description")?.unwrap_or_default(),
        },
        "instructions": parsed.text("instructions")?,
        "permissions": parsed.all("permission")?,
    });
    let new = NewMember::from_json(&given).map_err(|e| Error::failed(verb, e))?;
    let (file, _) = TeamFile::load(&path).map_err(team_file::failed(verb))?;
    // A team that was just set up has no database yet: that is nothing to speak of.
    if file.member(&name).is_none() && !team_file::is_new(parsed, &environment) {
        // Whoever had this name before may have been deleted where the database was not at hand.
        team_file::with_main(parsed, &environment, verb, |store| store.forget(&name))?;
    }
    let token = TeamFile::update(&path, |file| file.add_member(new, None, now_ms()))
        .map_err(team_file::failed(verb))?;
    terminal::say(format_args!("ac7 {verb}: {name} is a member; this token is shown once"));
    writeln!(io::stdout(), "{token}")?;
    Ok(0)
}

fn update(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, name, path) = (UPDATE.name, operand(parsed), team_file::config(parsed, &environment));
    let (title, description) = (parsed.text("title")?, parsed.text("description")?);
    let permissions = Some(parsed.all("permission")?).filter(|given| !given.is_empty());
    if permissions.is_some() && parsed.has("no-permissions") {
        return Err(parsed.conflict("permission", "no-permissions"));
    }
    let permissions = if parsed.has("no-permissions") { Some(Vec::new()) } else { permissions };
    let instructions = parsed.text("instructions")?;
    if title.is_none() && description.is_none() && permissions.is_none() && instructions.is_none() {
        let why = "nothing to change".to_string();
        return Err(Error::Refused { verb, why, fix: "ac7 member update --help lists what can be changed" });
    }
    TeamFile::update(&path, |file| {
        let role = file.member(&name).map(|member| Role {
            title: title.unwrap_or_else(|| member.role.title.clone()),
            description: description.unwrap_or_else(|| member.role.description.clone()),
        });
        file.change_member(&name, MemberChange { role, instructions, permissions })
    })
    .map_err(team_file::failed(verb))?;
    terminal::say(format_args!("ac7 {verb}: changed {name}"));
    Ok(0)
}

fn delete(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, name, path) = (DELETE.name, operand(parsed), team_file::config(parsed, &environment));
    if !parsed.has("yes") {
        if !io::stdin().is_terminal() {
            let why = "not confirmed: standard input is no terminal".to_string();
            return Err(Error::Refused { verb, why, fix: "--yes" });
        }
        terminal::hint(format_args!(
            "Remove {} and end every token and session of theirs? [y/N] ",
            text::line(&name, true)
        ));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_err() || !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            terminal::say(format_args!("ac7 {verb}: nothing was changed"));
            return Ok(1);
        }
    }
    TeamFile::update(&path, |file| file.remove_member(&name)).map_err(team_file::failed(verb))?;
    team_file::with_main(parsed, &environment, verb, |store| store.forget(&name))?;
    terminal::say(format_args!("ac7 {verb}: removed {name}"));
    Ok(0)
}

fn operand(parsed: &Parsed) -> String {
    parsed.operands.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
