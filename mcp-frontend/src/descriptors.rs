//! File descriptors: one a connection, and some for all else.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many are for all else: the kube API, exec streams, spare places, the runtime's own.
const ELSE: u64 = 256;

/// Takes as many as this process may have, and warns if they are fewer than it takes connections.
/// The soft limit is 1024 in most places, for programs that call `select`; this one does not.
pub(crate) fn prepare(connections: usize) {
    match raise() {
        Ok(limit) => {
            if let Some(needed) = shortage(limit, connections) {
                tracing::warn!(
                    limit,
                    needed,
                    "fewer file descriptors than --max-connections asks for: clients will wait to be accepted; raise the limit (ulimit -Hn) or lower --max-connections"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "could not raise the limit of file descriptors"),
    }
}

/// Raises the soft limit to the hard one, and says what that is.
fn raise() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many would be needed, where the limit is lower.
fn shortage(limit: u64, connections: usize) -> Option<u64> {
    let needed = (connections as u64).saturating_add(ELSE);
    (limit < needed).then_some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // Enough for the tests that run beside this one.
        let low = hard.min(512) - 1;
        setrlimit(Resource::RLIMIT_NOFILE, low, hard).unwrap();
        assert_eq!(raise(), Ok(hard));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
    }

    #[test]
    fn a_shortage_says_how_many_would_do() {
        assert_eq!(shortage(1279, 1024), Some(1280));
        assert_eq!(shortage(1280, 1024), None);
    }
}
