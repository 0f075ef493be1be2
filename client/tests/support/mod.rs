//! A cluster of one pod for the client's tests: an API server that knows only `exec`, and an agent.
//!
//! Both run within the test's own runtime and talk over a real TCP connection and a real
//! websocket, so that they break as the real ones do. Tests wait for what happens, with a
//! deadline, and never for time to pass.

pub mod agent;
pub mod apiserver;
pub mod events;
pub mod sandboxes;

use std::time::Duration;

pub use agent::{Agent, Asked};
pub use apiserver::{Answer, Cluster, Fault};
pub use sandboxes::Stored;

/// Waits for what has to come soon. Long for a loaded machine, short for a test that hangs.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it comes within 30 s")
}

/// For tests under paused time: two virtual minutes, longer than everything the client waits for.
pub async fn at_last<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), what).await.expect("it comes within 2 min")
}

/// An error with its sources, in one line: what a person reads.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
