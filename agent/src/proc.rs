//! The tree of processes below one, as /proc tells it.
//!
//! A process that daemonises is handed to its nearest subreaper, which is the run's supervisor:
//! so everything a run has started, and nothing else, descends from that.

use std::collections::HashMap;
use std::fs;

/// Everything that descends from `root`, parents first; zombies left out, they cannot be killed.
pub(crate) fn descendants(root: i32) -> Vec<i32> {
    descendants_but(root, |_| false)
}

/// The same without the children of `root` that `spared` names, and what descends from those.
pub(crate) fn descendants_but(root: i32, spared: impl Fn(i32) -> bool) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut zombies = Vec::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        // One that ends while we look has no stat any more.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        let Some((state, parent)) = state_and_parent(&stat) else { continue };
        children.entry(parent).or_default().push(pid);
        if state == b'Z' {
            zombies.push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            if parent == root && spared(pid) {
                continue;
            }
            found.push(pid);
            next.push(pid);
        }
    }
    found.retain(|pid| !zombies.contains(pid));
    found
}

/// The parent of a process; `None` if there is no such process.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    state_and_parent(&fs::read(format!("/proc/{pid}/stat")).ok()?).map(|(_, parent)| parent)
}

/// The third and fourth fields of a stat line. The second is a name in parentheses that may itself
/// hold spaces and parentheses, so the search begins behind the last one.
fn state_and_parent(stat: &[u8]) -> Option<(u8, i32)> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_its_parent() {
        assert_eq!(state_and_parent(b"7 (x) S 1 (y)) R 42 7 7 0"), Some((b'R', 42)));
        assert_eq!(state_and_parent(b"7"), None);
    }

    #[test]
    fn a_child_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(descendants(own).contains(&i32::try_from(child.id()).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
