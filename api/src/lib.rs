//! The kinds of `codesandbox.dev` and the names that operator, client and front end share.
//!
//! Pure data: no client, no clock, no I/O.

#[cfg(feature = "watch")]
mod decode;
mod duration;
mod effective;
pub mod names;
#[allow(unreachable_pub, reason = "the derive makes its helper types pub")]
mod network;
#[allow(unreachable_pub, reason = "the derive makes its helper types pub")]
#[allow(clippy::duplicated_attributes, reason = "each column has its type")]
mod pool;
pub mod quantity;
#[allow(unreachable_pub, reason = "the derive makes its helper types pub")]
mod sandbox;
#[allow(unreachable_pub, reason = "the derive makes its helper types pub")]
mod settings;
#[allow(unreachable_pub, reason = "the derive makes its helper types pub")]
mod setup;
mod status;
#[allow(unreachable_pub, reason = "the derive makes its helper types pub")]
#[allow(clippy::duplicated_attributes, reason = "each column has its type")]
mod template;

#[cfg(feature = "watch")]
pub use decode::Decoder;
pub use duration::Duration;
pub use effective::Effective;
pub use network::{Egress, Labels, Network, OpenPort, Peer, PortRange, Protocol, Reach};
pub use pool::{CodeSandboxPool, CodeSandboxPoolSpec, CodeSandboxPoolStatus};
pub use sandbox::{CodeSandbox, CodeSandboxSpec, Rest};
pub use settings::{
    EnvSource, EnvVar, Gpu, ImagePullPolicy, LocalObjectReference, OnIdle, Resources,
    RestartPolicy, SecretKeyRef, Settings, Workspace,
};
pub use setup::{ConfigMapKeyRef, Git, Setup, SetupFile};
pub use status::{
    CodeSandboxStatus, Start, StartMode, Termination, TerminationReason, condition, reason, start,
};
pub use template::{
    Allow, BoundTemplate, CodeSandboxTemplate, CodeSandboxTemplateSpec, CodeSandboxTemplateStatus,
    Max, PodPatch,
};

/// The API group of every kind.
pub const GROUP: &str = "codesandbox.dev";
/// The version of every kind.
pub const VERSION: &str = "v1alpha1";
