//! The node as its root sees it: processes of pods, connections, and the verbs of `e2e/cluster`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use tokio::process::Command;

const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/cluster");

/// As `oom_score_adj`: the whole of the memory is added to what a process has.
const DOOMED: u16 = 1000;
/// Next to nothing is added. (What nobody has set is often 0.)
pub(super) const SPARED: u16 = 1;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Memory, in KiB.
    pub rss_kib: u64,
    /// Open files.
    pub files: usize,
}

/// A process in a pod's cgroup.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its pid on the node.
    pub pid: u32,
    /// Its arguments.
    pub argv: Vec<String>,
}

impl Process {
    /// Whether it is the agent as PID 1, not one of its other faces.
    pub fn is_agent(&self) -> bool {
        self.runs(api::names::AGENT, "serve")
    }

    /// Whether it is a bridge, the end of an exec stream.
    pub fn is_bridge(&self) -> bool {
        self.runs(api::names::AGENT, "connect")
    }

    fn runs(&self, program: &str, verb: &str) -> bool {
        self.argv.first().is_some_and(|arg| arg == program)
            && self.argv.get(1).is_some_and(|arg| arg == verb)
    }

    /// What it holds.
    pub fn usage(&self) -> Option<Usage> {
        let proc = PathBuf::from(format!("/proc/{}", self.pid));
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let rss_kib = rss.split_whitespace().next()?.parse().ok()?;
        Some(Usage { rss_kib, files: fs::read_dir(proc.join("fd")).ok()?.count() })
    }

    /// Ends it as the kernel would, without a word.
    pub async fn kill(&self) -> anyhow::Result<()> {
        run("kill", &["-9", &self.pid.to_string()]).await.map(drop)
    }

    /// Makes it the kernel's first choice when memory runs out.
    pub fn doom(&self) -> anyhow::Result<()> {
        self.set_oom_score_adj(DOOMED)
    }

    /// Makes it the kernel's last choice when memory runs out.
    pub fn spare(&self) -> anyhow::Result<()> {
        self.set_oom_score_adj(SPARED)
    }

    fn set_oom_score_adj(&self, to: u16) -> anyhow::Result<()> {
        let file = format!("/proc/{}/oom_score_adj", self.pid);
        fs::write(&file, to.to_string()).context(file)
    }
}

/// The processes of a pod.
pub fn processes(pod_uid: &str) -> Vec<Process> {
    // With systemd's cgroup driver a UID has underscores.
    let (plain, escaped) = (format!("pod{pod_uid}"), format!("pod{}", pod_uid.replace('-', "_")));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let cgroups = fs::read_to_string(entry.path().join("cgroup")).ok()?;
            if !cgroups.contains(&plain) && !cgroups.contains(&escaped) {
                return None;
            }
            let cmdline = fs::read(entry.path().join("cmdline")).ok()?;
            let argv = cmdline.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let argv = argv.filter(|arg| !arg.is_empty()).map(String::from).collect::<Vec<_>>();
            // One that has ended but is not reaped yet has none.
            (!argv.is_empty()).then_some(Process { pid, argv })
        })
        .collect()
}

/// Whether this machine is the cluster's node, so that there is something to kill.
pub fn is_here() -> bool {
    std::env::var_os("CLUSTER").is_none_or(|cluster| cluster == "embedded")
        && Path::new(CLUSTER).exists()
}

/// Calls a verb of `e2e/cluster`.
pub async fn cluster(verb: &[&str]) -> anyhow::Result<()> {
    run(CLUSTER, verb).await.map(drop)
}

/// Resets established TCP connections of the node to a port; how many there were.
pub async fn reset(port: u16) -> anyhow::Result<usize> {
    let listed = run("ss", &["-HtnK", "state", "established", "dport", &port.to_string()]).await?;
    Ok(listed.lines().count())
}

impl Process {
    /// Resets established TCP connections of its pod to a port; how many there were.
    pub async fn reset(&self, port: u16) -> anyhow::Result<usize> {
        let (pid, port) = (self.pid.to_string(), port.to_string());
        let ss = ["-t", &pid, "-n", "ss", "-HtnK", "state", "established", "dport", &port];
        Ok(run("nsenter", &ss).await?.lines().count())
    }
}

async fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(crate::PATIENCE * 2, output)
        .await
        .with_context(|| format!("{program} hangs"))??;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {stderr}", args.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
