//! Sandboxes of a pool, at a rate, whether or not those before are done.

use std::time::Duration;

use anyhow::Context;
use api::StartMode;
use e2e::pool::Pool;
use futures::future::try_join_all;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::starts::{Spans, Starter};

/// How many pods wait at the beginning: a node of two cores makes about two a second, as many as are taken.
pub(crate) const REPLICAS: usize = 20;
/// What each of its pods may use, so that so many fit: half of the processors that a cold one has.
pub(crate) const CPU: &str = "500m";
/// The time between two sandboxes.
const EVERY: Duration = Duration::from_millis(500);

/// What was measured.
pub(crate) struct Warm {
    /// Of each sandbox that had a pod of the pool.
    pub(crate) spans: Vec<Spans>,
    /// How many had none.
    pub(crate) cold: usize,
}

/// A pool whose pods are all ready.
pub(crate) async fn pool() -> anyhow::Result<Pool> {
    let template = json!({"defaults": {"resources": {"cpu": CPU, "memory": "96Mi"}}});
    let pool = Pool::make("bench-pool", u32::try_from(REPLICAS)?, &template).await?;
    pool.full(REPLICAS).await?;
    Ok(pool)
}

/// Asks for so many sandboxes, one every half second, and deletes each after its first output.
pub(crate) async fn measure(pool: &Pool, count: u32) -> anyhow::Result<Warm> {
    let starter = Starter::new(&pool.cluster).await?;
    for index in 0..count {
        starter.delete(&format!("bench-warm-{index}")).await?;
    }
    let began = Instant::now();
    let starts = (0..count).map(|index| {
        let starter = starter.clone();
        async move {
            let name = format!("bench-warm-{index}");
            let spec = pool.spec(json!({}))?;
            sleep_until(began + EVERY * index).await;
            let start = starter.ready(&name, spec).await?;
            starter.connect(&start).await?;
            let spans = starter.run(&start).await?;
            starter.delete(&name).await?;
            let status = start.sandbox.status.context("it is ready")?;
            anyhow::Ok((status.start.context("it has a pod")?.mode, spans))
        }
    });
    let starts = try_join_all(starts).await?;
    let cold = starts.iter().filter(|(mode, _)| *mode == StartMode::Cold).count();
    let warm = starts.into_iter().filter(|(mode, _)| *mode == StartMode::Warm);
    Ok(Warm { spans: warm.map(|(_, spans)| spans).collect(), cold })
}
