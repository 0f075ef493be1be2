//! What a run has changed, in words.

use std::borrow::Cow;

use serde_json::{Value, json};
use wire::{
    limits::CHANGES_TOLD,
    v1::{ChangeKind, Changes},
};

/// The longest name that is told whole, in bytes: as long as file systems let one be.
const LONGEST: usize = 255;

/// What a run's caller asked about its changes, and was told.
pub(crate) enum Asked {
    Nothing,
    /// It was asked, and the agent has not said it.
    Untold,
    Told(Changes),
}

/// Lines for files, packages and ports, as far as there are any.
pub(crate) fn text(changes: &Changes) -> String {
    let files = changes.files.iter().map(|one| (one.kind(), String::from_utf8_lossy(&one.path)));
    let packages = changes.packages.iter().map(|one| {
        let version = if one.version.is_empty() { "" } else { "==" };
        (one.kind(), format!("{}{version}{}", one.name, one.version).into())
    });
    let ports = changes.ports.iter().map(|one| (one.kind(), one.port.to_string().into()));
    let lines = [
        line("files", files, changes.more_files),
        line("packages", packages, changes.more_packages),
        line("ports", ports, 0),
        changes.too_many.then(|| "files and packages: too many to compare".into()),
    ];
    let lines: Vec<String> = lines.into_iter().flatten().collect();
    if lines.is_empty() { "none".into() } else { lines.join("\n") }
}

fn line<'a>(
    what: &str,
    all: impl Iterator<Item = (ChangeKind, Cow<'a, str>)>,
    more: u32,
) -> Option<String> {
    // An honest agent tells no more.
    let all = all.take(CHANGES_TOLD).map(|(kind, name)| format!("{}{}", sign(kind), plain(&name)));
    let all: Vec<String> = all.collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!all.is_empty()).then(|| format!("{what}: {}{more}", all.join(" ")))
}

/// A name without what would be taken for something else: it is the user's, or an agent's invention.
fn plain(name: &str) -> String {
    let cut = &name[..name.floor_char_boundary(LONGEST)];
    let odd = cut.chars().any(|c| c.is_control() || c.is_whitespace());
    if odd { format!("{cut:?}") } else { cut.into() }
}

fn sign(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Changed | ChangeKind::Unspecified => '~',
    }
}

/// How many there are, for programs.
pub(crate) fn meta(changes: &Changes) -> Value {
    let all = |told: usize, more: u32| told as u64 + u64::from(more);
    json!({
        "files": all(changes.files.len(), changes.more_files),
        "packages": all(changes.packages.len(), changes.more_packages),
        "ports": changes.ports.len(),
        "compared": !changes.too_many,
    })
}

#[cfg(test)]
mod tests {
    use wire::v1::{FileChange, PackageChange, PortChange};

    use super::*;

    fn file(kind: ChangeKind, path: &str) -> FileChange {
        FileChange { kind: kind.into(), path: path.to_owned().into(), size: 1 }
    }

    #[test]
    fn changes_are_told_in_a_line_of_each_kind() {
        let changes = Changes {
            files: vec![
                file(ChangeKind::Added, "data/out.csv"),
                file(ChangeKind::Changed, "main.py"),
                file(ChangeKind::Removed, "my notes"),
            ],
            more_files: 7,
            packages: vec![
                PackageChange {
                    kind: ChangeKind::Added.into(),
                    name: "six".into(),
                    version: "1.17.0".into(),
                },
                PackageChange {
                    kind: ChangeKind::Removed.into(),
                    name: "left-pad".into(),
                    version: String::new(),
                },
            ],
            ports: vec![PortChange { kind: ChangeKind::Added.into(), port: 8000 }],
            ..Changes::default()
        };
        let expected = "files: +data/out.csv ~main.py -\"my notes\" and 7 more\n\
            packages: +six==1.17.0 -left-pad\nports: +8000";
        assert_eq!(text(&changes), expected);
        let expected = json!({"files": 10, "packages": 2, "ports": 1, "compared": true});
        assert_eq!(meta(&changes), expected);
    }

    #[test]
    fn no_change_is_told_and_one_that_nobody_looked_for_too() {
        assert_eq!(text(&Changes::default()), "none");
        let unknown = Changes { too_many: true, ..Changes::default() };
        assert_eq!(text(&unknown), "files and packages: too many to compare");
    }

    #[test]
    fn what_an_agent_makes_up_is_bounded_and_on_its_line() {
        let many = vec![file(ChangeKind::Added, &"a\n".repeat(500)); 2 * CHANGES_TOLD];
        let text = text(&Changes { files: many, ..Changes::default() });
        assert!(
            !text.contains('\n') && text.len() < CHANGES_TOLD * (2 * LONGEST),
            "{}",
            text.len()
        );
    }
}
