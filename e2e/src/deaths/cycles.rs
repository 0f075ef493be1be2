//! Sandboxes that are created and deleted again and again, and what the node holds before and after. tests.md E16.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{anyhow, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{Matrix, Step, follow::Caller};
use crate::kubectl;

/// How many sandboxes there are at once: a node of two cores makes about two a second.
const AT_ONCE: usize = 4;
/// How long the node may take to have cleaned up after the last of them.
const SETTLES: Duration = Duration::from_mins(2);

/// How many of each thing a node holds that a pod takes some of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Mounts, control groups of pods, network interfaces, network namespaces, packet filter rules, sockets that listen, and the
    /// watches of the API server on the kinds that a sandbox consists of.
    pub counts: [(&'static str, usize); 7],
}

impl Census {
    /// What there is now.
    pub async fn now() -> anyhow::Result<Self> {
        let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
        let lines = |path: &str, wanted: fn(&str) -> bool| {
            fs::read_to_string(path).unwrap_or_default().lines().filter(|line| wanted(line)).count()
        };
        let listens = |line: &str| line.split_whitespace().nth(3) == Some("0A");
        let metrics = kubectl(&["get", "--raw", "/metrics"]).await?;
        let watches = metrics.lines().filter(|line| is_watch(line));
        let watches = watches.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let watches = watches.sum::<f64>() as usize;
        Ok(Self {
            counts: [
                ("mounts", lines("/proc/self/mounts", |_| true)),
                ("control groups", pods_groups(Path::new("/sys/fs/cgroup"))),
                ("network interfaces", entries("/sys/class/net")),
                ("network namespaces", entries("/run/netns")),
                ("packet filter rules", rules().await?),
                (
                    "listening sockets",
                    lines("/proc/net/tcp", listens) + lines("/proc/net/tcp6", listens),
                ),
                ("watches", watches),
            ],
        })
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.map(|(name, count)| format!("{name} {count}"));
        f.write_str(&counts.join(", "))
    }
}

/// What the cluster's network plugin has said of pods: rules of iptables, and members of the sets that they name.
async fn rules() -> anyhow::Result<usize> {
    let mut count = 0;
    for program in [&["iptables-save"][..], &["ipset", "save"]] {
        let output = Command::new(program[0]).args(&program[1..]).output().await?;
        ensure!(output.status.success(), "{program:?}: {}", output.status);
        let says = |line: &&str| line.starts_with("-A ") || line.starts_with("add ");
        count += String::from_utf8_lossy(&output.stdout).lines().filter(says).count();
    }
    Ok(count)
}

fn is_watch(line: &str) -> bool {
    let kinds = ["codesandboxes", "codesandboxtemplates", "pods", "networkpolicies"];
    line.starts_with("apiserver_longrunning_requests{")
        && line.contains("verb=\"WATCH\"")
        && kinds.iter().any(|kind| line.contains(&format!("resource=\"{kind}\"")))
}

/// The control groups of pods: those below the kubelet's own, which every controller has one of in version 1.
fn pods_groups(path: &Path) -> usize {
    let is_kubelets = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"kubepods"))
    };
    let below = directories(path).into_iter();
    below.map(|path| if is_kubelets(&path) { count(&path) } else { pods_groups(&path) }).sum()
}

/// How many directories there are, this one among them.
fn count(path: &Path) -> usize {
    1 + directories(path).iter().map(|path| count(path)).sum::<usize>()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.map(|entry| entry.path()).collect()
}

impl Matrix {
    /// Creates so many sandboxes, waits until each is ready, and deletes it; what the node held before and holds after. Tells
    /// how many there were so far.
    pub async fn cycles(
        &self,
        number: u64,
        tell: impl Fn(u64),
    ) -> anyhow::Result<(Census, Census)> {
        // One first: what a first pod makes the node hold for good is nothing that grows.
        self.cycle(0).await?;
        let before = settled(None).await?;
        let mut cycles =
            stream::iter(1..=number).map(|number| self.cycle(number)).buffer_unordered(AT_ONCE);
        let mut ended = 0;
        while let Some(()) = cycles.try_next().await? {
            ended += 1;
            tell(ended);
        }
        let after = settled(Some(&before)).await?;
        Ok((before, after))
    }

    async fn cycle(&self, number: u64) -> anyhow::Result<()> {
        let name = format!("cycle-{number}");
        let mut caller = Caller::new(self.door.clone(), &name, Step::Create);
        let lived = async {
            caller.create(true).await?;
            caller.delete().await
        };
        lived.await.map_err(|words| anyhow!("{name}: {words}"))
    }
}

/// What the node holds once that no longer changes, or is no more than before. A look that fails is made again, as long as
/// there is time.
async fn settled(before: Option<&Census>) -> anyhow::Result<Census> {
    let end = Instant::now() + SETTLES;
    let mut last = Census::now().await;
    while Instant::now() < end {
        sleep(Duration::from_secs(5)).await;
        let now = Census::now().await;
        let same = matches!((&now, &last), (Ok(now), Ok(last)) if now == last);
        last = now;
        let grown = match (before, &last) {
            (Some(before), Ok(last)) => last.grown_since(before).is_some(),
            _ => false,
        };
        if same && !grown {
            break;
        }
    }
    last
}

impl Census {
    /// What there is more of than there was.
    pub fn grown_since(&self, before: &Self) -> Option<String> {
        let pairs = self.counts.iter().zip(&before.counts);
        let grown = pairs.filter(|((_, now), (_, then))| now > then);
        let grown: Vec<_> =
            grown.map(|((name, now), (_, then))| format!("{name}: {then} → {now}")).collect();
        (!grown.is_empty()).then(|| grown.join(", "))
    }

    /// Fails where there is more of anything than there was.
    pub fn no_more_than(&self, before: &Self) -> anyhow::Result<()> {
        let grown = self.grown_since(before);
        ensure!(grown.is_none(), "the node holds more than before: {}", grown.unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_is_named_and_what_is_less_is_fine() {
        let of = |first, second| Census {
            counts: [
                ("mounts", first),
                ("control groups", second),
                ("c", 1),
                ("d", 1),
                ("e", 1),
                ("f", 1),
                ("g", 1),
            ],
        };
        assert_eq!(of(3, 2).grown_since(&of(3, 2)), None);
        assert_eq!(of(2, 1).grown_since(&of(3, 2)), None);
        assert_eq!(of(4, 1).grown_since(&of(3, 2)).as_deref(), Some("mounts: 3 → 4"));
    }

    #[test]
    fn only_control_groups_of_pods_are_counted() {
        let root = std::env::temp_dir().join(format!("groups-{}", std::process::id()));
        for path in [
            "memory/kubepods/pod1/a",
            "memory/kubepods/pod1/b",
            "pids/user/x",
            "system.slice/kubepods.slice/p",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let counted = pods_groups(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(counted, 6);
    }

    #[test]
    fn only_watches_of_what_a_sandbox_consists_of_count() {
        let line = |verb: &str, resource: &str| {
            format!(
                "apiserver_longrunning_requests{{component=\"apiserver\",group=\"\",resource=\"{resource}\",verb=\"{verb}\"}} 3"
            )
        };
        assert!(is_watch(&line("WATCH", "pods")));
        assert!(!is_watch(&line("CONNECT", "pods")));
        assert!(!is_watch(&line("WATCH", "leases")));
    }
}
