//! What a caller may do with sandboxes: principal, authorisation, verbs. Free of any transport.
//!
//! Doors (MCP now, others later) turn their protocol into these verbs and these errors back
//! into their protocol, and hold no logic of their own.

mod error;
mod extend;
mod inside;
mod limits;
mod principal;
mod queue;
mod quota;
mod request;
mod session;
mod verbs;

pub use error::{Code, Error};
pub use limits::Limits;
pub use principal::Principal;
pub use queue::Queue;
pub use request::Create;
pub use verbs::{Config, Service};
