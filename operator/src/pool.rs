//! Pools: pods of a template that run before anybody asks for them.
//!
//! A pool's pod is made by the same builder as a sandbox's, from a sandbox of nobody that asks for nothing. It bears the
//! hash of all that is in it: what is another by now, because the template, our configuration or the builder changed, is
//! replaced, and a sandbox can have the pod if its own would have the same.

pub(crate) mod claim;
pub(crate) mod controller;
pub(crate) mod lull;
pub(crate) mod member;
mod plan;
mod source;
mod status;
#[cfg(test)]
pub(crate) mod testing;
