//! How each victim is found and ended.

use std::time::Duration;

use futures::future::{join, join_all};
use tokio::time::{Instant, sleep};

use super::{
    Dice, Matrix, Step, Victim,
    follow::Caller,
    judge::Claim,
    node::{self, Process},
    workload::{HUNGRY, hog, patient_hog},
};

/// How long a daemon is away at least, and at most that much longer, in milliseconds.
const AWAY: (u64, u64) = (1000, 2000);
/// The longest a hunt waits for its victim in a sandbox that is being made.
const HUNT: Duration = Duration::from_mins(1);

impl Matrix {
    /// Ends the victim, and brings back what nobody else does. A sandbox whose step is `over` is
    /// hunted in no longer.
    pub(super) async fn kill(
        &self,
        victim: Victim,
        sandboxes: &[(Step, String)],
        dice: &mut Dice,
        over: &(dyn Fn(&str) -> bool + Sync),
    ) -> anyhow::Result<(usize, Vec<(Caller, Claim)>)> {
        if let Some(daemon) = victim.daemon() {
            node::cluster(&["kill", daemon]).await?;
            sleep(Duration::from_millis(AWAY.0 + dice.below(AWAY.1))).await;
            node::cluster(&["revive"]).await?;
            return Ok((1, Vec::new()));
        }
        if let Some((component, program)) = victim.component() {
            self.process(component, program).await?.kill().await?;
            return Ok((1, Vec::new()));
        }
        let hunts = sandboxes.iter().map(|(step, name)| self.hunt(victim, *step, name, over));
        let mut hunted = (0, Vec::new());
        for hunt in join_all(hunts).await {
            let (kills, hog) = hunt?;
            hunted.0 += kills;
            hunted.1.extend(hog);
        }
        Ok(hunted)
    }

    /// Finds the victim in one sandbox, as soon as there is one, and ends it.
    async fn hunt(
        &self,
        victim: Victim,
        step: Step,
        sandbox: &str,
        over: &(dyn Fn(&str) -> bool + Sync),
    ) -> anyhow::Result<(usize, Option<(Caller, Claim)>)> {
        let end = Instant::now() + HUNT;
        while Instant::now() < end {
            let pod = self.pods_of(sandbox).await?.pop_first();
            let found = pod.iter().flat_map(|uid| node::processes(uid));
            let wanted = |process: &Process| match victim {
                Victim::Agent | Victim::ContainerMemory | Victim::ProcessMemory => {
                    process.is_agent()
                }
                _ => process.is_bridge(),
            };
            let found: Vec<Process> = found.filter(wanted).collect();
            if !found.is_empty() {
                return self.shoot(victim, step, sandbox, &found).await;
            }
            // A sandbox that is on its way out has none any more. Nor has one whose bridge went down
            // with the connections that a hunt elsewhere has reset, and which nobody calls again.
            if step.leaves() || over(sandbox) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok((0, None))
    }

    async fn shoot(
        &self,
        victim: Victim,
        step: Step,
        sandbox: &str,
        found: &[Process],
    ) -> anyhow::Result<(usize, Option<(Caller, Claim)>)> {
        match victim {
            // At the end that learns of it: the API server's Service is a rule of the node, and would
            // swallow what the other end says.
            Victim::FrontEndsConnections => {
                let front_end = self.process("mcp-frontend", "/mcp-frontend").await?;
                return Ok((front_end.reset(443).await?, None));
            }
            Victim::KubeletsConnections => return Ok((node::reset(10250).await?, None)),
            Victim::Bridge | Victim::Agent => {
                for process in found {
                    // It may just have ended by itself.
                    let _ = process.kill().await;
                }
                return Ok((found.len(), None));
            }
            _ => {}
        }
        let mut caller = Caller::new(self.door.clone(), sandbox, step);
        let arguments = if victim == Victim::ContainerMemory { patient_hog } else { hog }(sandbox);
        let hog = async {
            // A sandbox that is on its way out may well be gone before there is an outcome.
            if step.leaves() {
                self.door.call("run_command", arguments).await;
                return None;
            }
            let claim = caller.hog(arguments).await;
            Some((caller, claim))
        };
        if victim == Victim::ContainerMemory {
            let (hog, doomed) = join(hog, self.doom(sandbox)).await;
            return doomed.map(|()| (1, hog));
        }
        Ok((1, hog.await))
    }

    /// Has the kernel choose the agent, as soon as the process is there that will use up the memory.
    async fn doom(&self, sandbox: &str) -> anyhow::Result<()> {
        let end = Instant::now() + HUNT;
        while Instant::now() < end {
            let Some(pod) = self.pods_of(sandbox).await?.pop_first() else { break };
            let (agent, others): (Vec<_>, Vec<_>) =
                node::processes(&pod).into_iter().partition(Process::is_agent);
            let hungry = |process: &&Process| process.argv.iter().any(|arg| arg.contains(HUNGRY));
            if let Some(hog) = others.iter().find(hungry) {
                agent.iter().try_for_each(Process::doom)?;
                for other in others.iter().filter(|other| other.pid != hog.pid) {
                    // It may just have ended by itself.
                    let _ = other.spare();
                }
                return hog.spare();
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
