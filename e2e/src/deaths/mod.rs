//! The kill matrix: every part that can die, at every step a sandbox goes through.
//!
//! One kill meets all steps at once: ten sandboxes are brought into the phases, the victim is ended
//! with SIGKILL and comes back, and every step is followed to its end through the public door, by a
//! caller that does what the errors say. What breaks in between is counted by its code; what is
//! false, happens twice, stays behind or never ends is a fault.

mod cycles;
mod follow;
mod judge;
mod kill;
mod matrix;
pub mod node;
mod rests;
mod round;
mod storm;
mod tally;
mod workload;

use std::fmt;

pub use cycles::Census;
pub use judge::{Fault, Finding};
pub use matrix::Matrix;
pub use node::Usage;
pub use round::Round;
pub use storm::Storm;
pub use tally::{Tally, listed};

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The connections of the front end to the API server: exec streams and the watch.
    FrontEndsConnections,
    /// The connections of the API server to the kubelet: exec streams.
    KubeletsConnections,
    /// `agent connect` in each sandbox: the pod's end of an exec stream.
    Bridge,
    /// PID 1 of each sandbox.
    Agent,
    /// PID 1 of each sandbox, by the kernel, when the sandbox is out of memory.
    ContainerMemory,
    /// A process of the user's in each sandbox, by the kernel, when the sandbox is out of memory.
    ProcessMemory,
    /// The MCP front end.
    FrontEnd,
    /// The operator.
    Operator,
    /// The kubelet.
    Kubelet,
    /// containerd.
    Containerd,
    /// The API server.
    ApiServer,
    /// etcd.
    Etcd,
}

impl Victim {
    /// Every victim.
    pub const ALL: [Self; 12] = [
        Self::FrontEndsConnections,
        Self::KubeletsConnections,
        Self::Bridge,
        Self::Agent,
        Self::ContainerMemory,
        Self::ProcessMemory,
        Self::FrontEnd,
        Self::Operator,
        Self::Kubelet,
        Self::Containerd,
        Self::ApiServer,
        Self::Etcd,
    ];

    /// Whether agents die with it, and with them what they know of their runs.
    pub fn ends_agents(self) -> bool {
        matches!(self, Self::Agent | Self::ContainerMemory)
    }

    /// The process of the cluster that it is, by its name in `e2e/cluster`.
    fn daemon(self) -> Option<&'static str> {
        match self {
            Self::Kubelet => Some("kubelet"),
            Self::Containerd => Some("containerd"),
            Self::ApiServer => Some("kube-apiserver"),
            Self::Etcd => Some("etcd"),
            _ => None,
        }
    }

    /// The component of the release that it is: its label's value, and its program.
    fn component(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::FrontEnd => Some(("mcp-frontend", "/mcp-frontend")),
            Self::Operator => Some(("operator", "/operator")),
            _ => None,
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FrontEndsConnections => "exec stream, front end – API server",
            Self::KubeletsConnections => "exec stream, API server – kubelet",
            Self::Bridge => "agent's bridge",
            Self::Agent => "agent (PID 1)",
            Self::ContainerMemory => "agent, out of memory",
            Self::ProcessMemory => "a process, out of memory",
            Self::FrontEnd => "front end",
            Self::Operator => "operator",
            Self::Kubelet => "kubelet",
            Self::Containerd => "containerd",
            Self::ApiServer => "API server",
            Self::Etcd => "etcd",
        })
    }
}

/// What a sandbox is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The request to create it is on its way.
    Create,
    /// It exists; its pod is not ready.
    Start,
    /// It is being set up.
    Setup,
    /// A command runs that says nothing until its end.
    Run,
    /// A command runs whose output is read as it comes.
    Stream,
    /// A file is being written, over and over.
    Upload,
    /// It is being suspended, to be resumed once it is.
    Pause,
    /// It is being resumed.
    Resume,
    /// It is being deleted, with a command running.
    Delete,
}

impl Step {
    /// Every step, with how many of ten sandboxes are in it.
    const SHARES: [(Self, usize); 9] = [
        (Self::Create, 1),
        (Self::Start, 1),
        (Self::Setup, 1),
        (Self::Run, 1),
        (Self::Stream, 2),
        (Self::Upload, 1),
        (Self::Pause, 1),
        (Self::Resume, 1),
        (Self::Delete, 1),
    ];

    /// Whether a sandbox in this step has a disk.
    fn has_disk(self) -> bool {
        matches!(self, Self::Pause | Self::Resume)
    }

    /// Whether its pod is on its way out.
    fn leaves(self) -> bool {
        matches!(self, Self::Pause | Self::Delete)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Setup => "setup",
            Self::Run => "run",
            Self::Stream => "stream",
            Self::Upload => "upload",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Delete => "delete",
        })
    }
}

/// Randomness that a printed seed repeats.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound` (SplitMix64; the bias of the remainder does not matter here).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
