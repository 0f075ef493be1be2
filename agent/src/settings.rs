//! What the pod's spec tells the agent, through variables that user code never sees.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use wire::v1::OomKilled;

/// What begins the name of every variable that is ours.
const RESERVED: &str = "CODESANDBOX_";
/// Where the container's own cgroup is, as the container sees it.
const CGROUP: &str = "/sys/fs/cgroup";

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The name of the abstract socket: `CODESANDBOX_SOCKET`, or the one both ends know.
    pub(crate) socket: String,
    /// Where the logs of runs are: `CODESANDBOX_RUNS_DIR`.
    pub(crate) runs: PathBuf,
    /// Where runs start and relative paths begin: `CODESANDBOX_WORKDIR`.
    pub(crate) workspace: PathBuf,
    /// Where the home directory is, whatever user code takes for it: `CODESANDBOX_HOME`.
    pub(crate) home: PathBuf,
    /// How long nobody may use the sandbox before it ends: `CODESANDBOX_IDLE_TIMEOUT_MS`. None: for as long as it lives.
    pub(crate) idle_timeout: Option<Duration>,
    /// Whether that time begins with the first call, and not at once: `CODESANDBOX_AWAITS_CALL`, of any value.
    pub(crate) awaits_call: bool,
    /// What has to be out of reach before anything runs: `CODESANDBOX_CANARY`. None: nothing has to be.
    pub(crate) canary: Option<String>,
    /// The port of 127.0.0.1 on which names are refused: `CODESANDBOX_RESOLVER_PORT`. None: others resolve them.
    pub(crate) resolver_port: Option<u16>,
    /// Where the kubelet finds a pod's last words: `CODESANDBOX_TERMINATION_LOG`, or Kubernetes' own default.
    pub(crate) last_words: PathBuf,
    /// What Hello proves the pod with: `CODESANDBOX_POD_UID`.
    pub(crate) pod_uid: String,
}

impl Settings {
    pub(crate) fn from_env() -> Self {
        let var = |name: &str| {
            env::var(format!("{RESERVED}{name}")).ok().filter(|value| !value.is_empty())
        };
        Self {
            socket: var("SOCKET").unwrap_or_else(|| wire::SOCKET.to_owned()),
            runs: var("RUNS_DIR")
                .map_or_else(|| PathBuf::from("/.codesandbox/runs"), PathBuf::from),
            workspace: var("WORKDIR").map_or_else(default_workspace, PathBuf::from),
            home: var("HOME").map_or_else(|| PathBuf::from("/home/sandbox"), PathBuf::from),
            idle_timeout: var("IDLE_TIMEOUT_MS")
                .and_then(|milliseconds| milliseconds.parse().ok())
                .map(Duration::from_millis),
            awaits_call: var("AWAITS_CALL").is_some(),
            canary: var("CANARY"),
            resolver_port: var("RESOLVER_PORT").and_then(|port| port.parse().ok()),
            last_words: var("TERMINATION_LOG")
                .map_or_else(|| PathBuf::from("/dev/termination-log"), PathBuf::from),
            pod_uid: var("POD_UID").unwrap_or_default(),
        }
    }
}

fn default_workspace() -> PathBuf {
    let usual = Path::new("/workspace");
    if usual.is_dir() {
        usual.to_owned()
    } else {
        env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }
}

/// Takes our own variables out of what a command inherits.
pub(crate) fn hide_ours(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.as_encoded_bytes().starts_with(RESERVED.as_bytes()) {
            command.env_remove(name);
        }
    }
}

/// How many processes the cgroup allows; 0 where that is not known or not limited.
pub(crate) fn pids_max() -> u64 {
    pids_max_of(Path::new(CGROUP))
}

fn pids_max_of(cgroup: &Path) -> u64 {
    amount_of(cgroup, ["pids.max", "pids/pids.max"])
}

/// How many processes of the cgroup the kernel has killed for memory; 0 where it does not say.
pub(crate) fn oom_kills() -> u64 {
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
        .iter()
        .find_map(|path| oom_count(&fs::read_to_string(path).ok()?))
        .unwrap_or(0)
}

/// How much memory the cgroup may hold, and the most that it has held.
pub(crate) fn memory() -> OomKilled {
    memory_of(Path::new(CGROUP))
}

fn memory_of(cgroup: &Path) -> OomKilled {
    OomKilled {
        limit_bytes: amount_of(cgroup, ["memory.max", "memory/memory.limit_in_bytes"]),
        peak_bytes: amount_of(cgroup, ["memory.peak", "memory/memory.max_usage_in_bytes"]),
    }
}

/// The amount that the cgroup's file says, of one version or the other; 0 where none says any.
fn amount_of(cgroup: &Path, names: [&str; 2]) -> u64 {
    let said = |name: &str| amount(&fs::read_to_string(cgroup.join(name)).ok()?);
    names.into_iter().find_map(said).unwrap_or(0)
}

/// Where there is no limit, the word `max` says so, or of memory in the first version a number that is beyond any machine.
fn amount(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 62)
}

fn oom_count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_that_is_no_limit_is_none() {
        for (text, expected) in [
            ("268435456\n", Some(268_435_456)),
            ("0\n", Some(0)),
            ("max\n", None),
            ("4611686018427387903\n", Some((1 << 62) - 1)),
            ("4611686018427387904\n", None),
            ("9223372036854771712\n", None),
            ("", None),
        ] {
            assert_eq!(amount(text), expected, "{text}");
        }
    }

    #[test]
    fn how_many_processes_are_allowed_is_read_in_both_cgroup_versions() {
        for (name, text, expected) in [
            ("pids.max", "100\n", 100),
            // As where the limit is the pod's, or nobody's.
            ("pids.max", "max\n", 0),
            ("pids/pids.max", "100\n", 100),
            ("another", "100\n", 0),
        ] {
            let cgroup = tempfile::tempdir().unwrap();
            fs::create_dir(cgroup.path().join("pids")).unwrap();
            fs::write(cgroup.path().join(name), text).unwrap();
            assert_eq!(pids_max_of(cgroup.path()), expected, "{name} {text}");
        }
    }

    #[test]
    fn limit_and_peak_of_memory_are_read_in_both_cgroup_versions() {
        let none = "9223372036854771712\n";
        for (files, limit_bytes, peak_bytes) in [
            (&[("memory.max", "2\n"), ("memory.peak", "1\n")][..], 2, 1),
            (&[("memory.max", "max\n"), ("memory.peak", "1\n")], 0, 1),
            // Linux before 5.19.
            (&[("memory.max", "2\n")], 2, 0),
            (
                &[
                    ("memory/memory.limit_in_bytes", "2\n"),
                    ("memory/memory.max_usage_in_bytes", "1\n"),
                ],
                2,
                1,
            ),
            (&[("memory/memory.limit_in_bytes", none)], 0, 0),
            (&[], 0, 0),
        ] {
            let cgroup = tempfile::tempdir().unwrap();
            fs::create_dir(cgroup.path().join("memory")).unwrap();
            for (name, text) in files {
                fs::write(cgroup.path().join(name), text).unwrap();
            }
            assert_eq!(
                memory_of(cgroup.path()),
                OomKilled { limit_bytes, peak_bytes },
                "{files:?}"
            );
        }
    }

    #[test]
    fn kills_for_memory_are_counted_in_both_cgroup_versions() {
        assert_eq!(
            oom_count("low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 0\n"),
            Some(3)
        );
        assert_eq!(oom_count("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), Some(5));
        assert_eq!(oom_count("low 0\n"), None);
    }
}
