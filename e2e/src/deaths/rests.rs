//! Sandboxes that are suspended and resumed while something dies, by the word of their user.

use api::{CodeSandbox, condition};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Step,
    follow::{Caller, PAUSE},
    judge::End,
    round::Followed,
    workload::Program,
};
use crate::{Cluster, PATIENCE, is};

/// What is written onto the disk before, and looked for after.
const KEPT: &str = "kept on the disk";

/// Writes onto the disk; the sandbox that is to be resumed is suspended then.
pub(super) async fn begin(caller: &mut Caller, objects: &Api<CodeSandbox>) -> Result<(), String> {
    caller.say("keep", &format!("printf '{KEPT}' > /workspace/kept")).await?;
    if caller.step == Step::Resume {
        suspend(caller, objects, true).await?;
        suspended(caller, objects).await?;
    }
    Ok(())
}

/// Suspends a sandbox, waits until it says that it has no pod, and resumes it; or resumes one that is suspended.
pub(super) fn follow(mut caller: Caller, cluster: &Cluster) -> JoinHandle<Followed> {
    let cluster = cluster.clone();
    tokio::spawn(async move {
        let end = rest(&mut caller, &cluster).await;
        let (end, ready) =
            end.map_or_else(|words| (Err(words), None), |(end, ready)| (Ok(end), Some(ready)));
        (caller, end, ready)
    })
}

async fn rest(caller: &mut Caller, cluster: &Cluster) -> Result<(End, Instant), String> {
    let mut meanwhile = 0;
    if caller.step == Step::Pause {
        suspend(caller, &cluster.sandboxes, true).await?;
        let uid = suspended(caller, &cluster.sandboxes).await?;
        meanwhile = loop {
            match timeout(PATIENCE, cluster.pods_of(&uid)).await {
                Ok(Ok(pods)) => break pods.len(),
                _ if caller.in_time() => sleep(PAUSE).await,
                other => return Err(format!("its pods cannot be listed: {other:?}")),
            }
        };
    }
    suspend(caller, &cluster.sandboxes, false).await?;
    caller.create(true).await?;
    let ready = Instant::now();
    let first = caller.run(&Program::short(), "first").await?;
    let kept = caller.say("kept", "cat /workspace/kept").await? == KEPT;
    Ok((End::Rested { meanwhile, pods: 0, kept, first }, ready))
}

/// Says whether a sandbox is to be suspended, until it has been heard.
async fn suspend(
    caller: &mut Caller,
    objects: &Api<CodeSandbox>,
    value: bool,
) -> Result<(), String> {
    let patch = Patch::Merge(json!({"spec": {"suspend": value}}));
    while caller.in_time() {
        let params = PatchParams::default();
        match timeout(PATIENCE, objects.patch(&caller.sandbox, &params, &patch)).await {
            Ok(Ok(_)) => return Ok(()),
            other => caller.last = format!("{other:?}"),
        }
        sleep(PAUSE).await;
    }
    Err(caller.last.clone())
}

/// Waits until a sandbox says that it has no pod; gives its UID.
async fn suspended(caller: &mut Caller, objects: &Api<CodeSandbox>) -> Result<String, String> {
    while caller.in_time() {
        match timeout(PATIENCE, objects.get(&caller.sandbox)).await {
            Ok(Ok(object)) if is(&object, condition::SUSPENDED) => {
                return object.metadata.uid.ok_or_else(|| "it has no UID".into());
            }
            other => caller.last = format!("not suspended: {other:?}"),
        }
        sleep(PAUSE).await;
    }
    Err(caller.last.clone())
}
