//! What callers are told, by verbs over an API server that a test answers for.

#![allow(unreachable_pub, reason = "a test has no other crates to reach")]
#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod ends;
mod extend;
mod lag;
mod limits;
mod quota;
mod support;
