//! The contract between the agent and its clients: messages, limits and error codes.
//!
//! No logic and nothing of Kubernetes, so that both ends can change without each other.

mod code;
pub mod limits;

pub use code::{Code, Error};

/// The messages and both ends of the service, generated from `proto/agent.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the proto file documents it"
)]
pub mod v1 {
    tonic::include_proto!("codesandbox.agent.v1");
}

/// The protocol's version. A client works with agents of this version and the one before.
pub const PROTOCOL: u32 = 1;

/// The name of the abstract unix socket on which the agent listens. It is bound to the pod's network
/// namespace, so that nothing outside the pod can reach it.
pub const SOCKET: &str = "codesandbox-agent";
