//! Sandboxes from nothing, one after the other.

use api::{CodeSandbox, Settings};
use e2e::{Cluster, deaths::node};

use crate::starts::{Spans, Starter};

/// What was measured, for each sandbox.
#[derive(Default)]
pub(crate) struct Cold {
    pub(crate) spans: Vec<Spans>,
    /// The memory of an agent that nobody has come to yet, in KiB. None where the node is not this machine, or the runtime
    /// shows it no processes.
    pub(crate) fresh_kib: Vec<f64>,
    /// The same once somebody has come and nothing has been run: an open stream is no use of a sandbox, so it is idle.
    pub(crate) idle_kib: Vec<f64>,
}

/// Makes so many.
pub(crate) async fn measure(
    cluster: &Cluster,
    spec: &Settings,
    count: usize,
) -> anyhow::Result<Cold> {
    let starter = Starter::new(cluster).await?;
    let mut cold = Cold::default();
    for index in 0..count {
        let name = format!("bench-cold-{index}");
        starter.delete(&name).await?;
        let start = starter.ready(&name, spec.clone().into()).await?;
        cold.fresh_kib.extend(agent_kib(&start.sandbox));
        starter.connect(&start).await?;
        cold.idle_kib.extend(agent_kib(&start.sandbox));
        cold.spans.push(starter.run(&start).await?);
        starter.delete(&name).await?;
    }
    Ok(cold)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn agent_kib(sandbox: &CodeSandbox) -> Option<f64> {
    let pod = sandbox.status.as_ref()?.pod_uid.as_deref()?;
    let agent = node::processes(pod).into_iter().find(node::Process::is_agent)?;
    Some(agent.usage()?.rss_kib as f64)
}
