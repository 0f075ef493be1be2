//! The kinds of `codesandbox.dev` and the names that operator, client and front end share.
//!
//! Pure data: no client, no clock, no I/O.

#[cfg(feature = "watch")]
mod decode;
mod duration;
pub mod names;
#[allow(unreachable_pub, reason = "the derive makes its helper types pub")]
mod sandbox;
mod status;

#[cfg(feature = "watch")]
pub use decode::Decoder;
pub use duration::Duration;
pub use sandbox::{
    CodeSandbox, CodeSandboxSpec, Egress, EnvSource, EnvVar, Gpu, ImagePullPolicy,
    LocalObjectReference, Network, Resources, SecretKeyRef,
};
pub use status::{
    CodeSandboxStatus, Start, StartMode, Termination, TerminationReason, condition, reason,
};

/// The API group of every kind.
pub const GROUP: &str = "codesandbox.dev";
/// The version of every kind.
pub const VERSION: &str = "v1alpha1";
