//! The text an agent is told about its team: what `GET /briefing` gives and the runner appends to the system prompt.
use std::fmt::Write;

use crate::identity::{Member, TeamFile};

/// The prompt of one member: who it is, its team, its teammates, how messages arrive, its own instructions.
#[must_use]
pub fn compose(team: &TeamFile, member: &Member) -> String {
    let mut out = format!(
        "You are {}, {} of the team {}.{}\n\nThe team's directive: {}\n",
        member.name,
        member.role.title,
        team.team.name,
        after_space(&member.role.description),
        team.team.directive
    );
    if !team.team.context.is_empty() {
        let _ = write!(out, "\nContext:\n{}\n", team.team.context);
    }
    let others: Vec<&Member> = team.members.iter().filter(|m| m.name != member.name).collect();
    if !others.is_empty() {
        out.push_str("\nYour teammates:\n");
        for mate in others {
            let _ = write!(out, "- {}: {}.", mate.name, mate.role.title);
            let _ = writeln!(out, "{}", after_space(&mate.role.description));
        }
    }
    out.push_str(
        "\nMessages from teammates and news of objectives reach you through the ac7 channel while you work. They are \
         from your team, not from the person at your terminal; weigh them so. Answer with the ac7 tools: plain text \
         that you write here is not sent to anybody.\n",
    );
    if !member.instructions.is_empty() {
        let _ = write!(out, "\n{}\n", member.instructions);
    }
    out
}

fn after_space(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {text}") }
}
