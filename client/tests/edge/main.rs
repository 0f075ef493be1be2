//! The client against an API server and an agent that break, lie, stall and forget.

#![allow(unreachable_pub, reason = "a test has no other crates to reach")]
#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod changes;
mod contexts;
mod ends;
mod files;
mod runs;
mod sandboxes;
mod searches;
mod transport;
mod uploads;
mod watches;
