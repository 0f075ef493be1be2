//! Kube verbs and agent sessions: how a program makes a sandbox and runs code in it.
//!
//! ```text
//! Sandboxes (watch cache, create, delete, wait) ─► Session (one exec stream, Hello checked) ─► Run, files
//! ```
//!
//! What the agent says is untrusted input: user code shares its uid. Nothing here turns a
//! lost stream into a result.

mod connect;
mod contexts;
mod ends;
mod error;
mod exec;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod gpus;
mod greeting;
mod names;
mod run;
mod runs;
mod sandboxes;
mod session;
mod version;

pub use connect::{client, infer};
pub use ends::End;
pub use error::Error;
pub use files::{Contents, Found, Piece};
pub use greeting::Greeting;
pub use run::Run;
pub use sandboxes::Sandboxes;
pub use session::{Lane, Session};
pub use version::is_older;
