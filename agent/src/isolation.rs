//! The proof that the network is closed, which comes before anything of the user's.
//!
//! A node enforces policies on a pod some 50 to 230 ms after its start, or never, and what was connected until then
//! stays connected. So the agent itself tries to connect to an address that is open to every pod without a policy, and
//! denied to every sandbox: the canary, which is the API server's unless the administrator knows a better one.
//! That the canary answers nobody for some other reason is the one error this could make. Whoever wants to run
//! something has come through the API server, though, so that a look of just before or after that is worth believing.

use std::env;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, timeout};
use wire::{Code, Error};

/// The value of `CODESANDBOX_CANARY` that stands for the API server, whose address every container has.
const API_SERVER: &str = "kubernetes";
/// How many attempts have to fail at once. Behind the API server's address there may be several, of which some
/// are down and refuse, and packets get lost: one that is answered counts for more than all that are not.
const AT_ONCE: usize = 16;
/// How long it is until it is tried again.
const PAUSE: Duration = Duration::from_millis(15);
/// How long a canary that does not answer is listened to: within a cluster an answer takes a fiftieth of it.
const SILENCE: Duration = Duration::from_millis(100);
/// The same of what was open to a setup, which may be at the other end of the world.
const FAR_SILENCE: Duration = Duration::from_millis(600);
/// How long the first attempt is listened to before it gets company.
const HEAD_START: Duration = Duration::from_millis(15);
/// For how long a look holds that began before its caller came. An API server that has just been started lets nobody
/// through for longer than that.
const FRESH: Duration = Duration::from_secs(1);
/// How long the proof may take: forty times what nodes were seen to need.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where the network was opened for a setup: it is the operator that closes it, once it has heard of the setup's end,
/// and another may have to take over first.
const AFTER_SETUP: Duration = Duration::from_mins(1);

/// Whether the network has been seen closed.
#[derive(Debug)]
pub(crate) struct Proof {
    /// What has to be out of reach: the canary first, then what was open to the setup. None where the administrator asks for
    /// no proof.
    closed: Vec<SocketAddr>,
    /// How long that may take.
    patience: Duration,
    /// When the look began that saw it.
    proven: watch::Sender<Option<Instant>>,
    /// Set once somebody has come through the API server about that time, or by another look.
    confirmed: OnceCell<()>,
}

impl Proof {
    /// That nothing is proven yet, where something is to be.
    pub(crate) fn new(canary: Option<SocketAddr>, opened: Vec<SocketAddr>) -> Self {
        let patience = if opened.is_empty() { PATIENCE } else { AFTER_SETUP };
        let closed = canary.map(|canary| [canary].into_iter().chain(opened).collect());
        Self {
            closed: closed.unwrap_or_default(),
            patience,
            proven: watch::Sender::new(None),
            confirmed: OnceCell::new(),
        }
    }

    /// Looks for the proof, and returns if there is none to be had.
    pub(crate) async fn seek(&self) {
        if !self.closed.is_empty() {
            let Ok(began) = timeout(self.patience, until_closed(&self.closed)).await else {
                return;
            };
            self.proven.send_replace(Some(began));
        }
        pending::<()>().await;
    }

    /// Waits for the proof: what comes after this runs in a network that is closed.
    pub(crate) async fn hold(&self) -> Result<(), Error> {
        let Some(canary) = self.closed.first() else { return Ok(()) };
        let came = Instant::now();
        let mut proven = self.proven.subscribe();
        // It ends with the agent, which owns it.
        let began = proven.wait_for(Option::is_some).await.ok().and_then(|began| *began);
        let confirm = async || {
            if began.is_some_and(|began| began + FRESH > came) {
                return Ok(());
            }
            match timeout(PATIENCE, until_closed(&self.closed)).await {
                Ok(_) => Ok(()),
                Err(_) => Err(open(*canary)),
            }
        };
        self.confirmed.get_or_try_init(confirm).await.map(drop)
    }
}

fn open(canary: SocketAddr) -> Error {
    let message = format!(
        "the sandbox reaches {canary}, which its network policy denies, so nothing is run in it; tell the administrator that the cluster does not enforce network policies"
    );
    Error::new(Code::NotIsolated, message)
}

/// Waits until none of these, the canary first, answers any of several attempts, and says when the first of them began.
async fn until_closed(addresses: &[SocketAddr]) -> Instant {
    loop {
        let began = Instant::now();
        let looks = addresses.iter().enumerate().map(|(number, address)| {
            looks_closed(*address, if number == 0 { SILENCE } else { FAR_SILENCE })
        });
        let closed = join_all(looks).await;
        if closed.into_iter().all(|closed| closed) {
            return began;
        }
        sleep(PAUSE).await;
    }
}

/// Whether none of several attempts is answered. One alone first: an open network is told by it, and an API server is not
/// to be flooded.
async fn looks_closed(address: SocketAddr, silence: Duration) -> bool {
    let mut first = pin!(is_closed(address, silence));
    match timeout(HEAD_START, &mut first).await {
        Ok(false) => return false,
        Ok(true) => {}
        Err(_) => return all_closed(address, silence).await && first.await,
    }
    all_closed(address, silence).await
}

async fn all_closed(address: SocketAddr, silence: Duration) -> bool {
    let attempts = [address; AT_ONCE].map(|address| is_closed(address, silence));
    join_all(attempts).await.into_iter().all(|closed| closed)
}

/// Whether a connection is refused or comes to nothing.
async fn is_closed(address: SocketAddr, silence: Duration) -> bool {
    match timeout(silence, TcpStream::connect(address)).await {
        Err(_) => true,
        Ok(Ok(_)) => false,
        // Others, such as of too many open files, say nothing of the network.
        Ok(Err(error)) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::TimedOut
                | ErrorKind::PermissionDenied
        ),
    }
}

/// The canary that the pod's spec names, if it asks for a proof.
pub(crate) fn canary(named: Option<&str>) -> io::Result<Option<SocketAddr>> {
    let var = |name: &str| env::var(name).unwrap_or_default();
    named
        .map(|named| {
            address(named, &var("KUBERNETES_SERVICE_HOST"), &var("KUBERNETES_SERVICE_PORT"))
        })
        .transpose()
}

fn address(named: &str, host: &str, port: &str) -> io::Result<SocketAddr> {
    let found = if named == API_SERVER {
        host.parse::<IpAddr>().ok().zip(port.parse().ok()).map(SocketAddr::from)
    } else {
        named.parse().ok()
    };
    // Without it nothing could be proven, and so nothing is run.
    found.ok_or_else(|| {
        io::Error::other(format!("CODESANDBOX_CANARY: {named:?} is no address that is known"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_is_the_api_server_or_what_is_named() {
        for (named, expected) in [
            ("kubernetes", Some("10.96.0.1:443")),
            ("192.0.2.1:80", Some("192.0.2.1:80")),
            ("[fd00::1]:80", Some("[fd00::1]:80")),
            ("example.com:80", None),
            ("", None),
        ] {
            let found = address(named, "10.96.0.1", "443").ok().map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{named}");
        }
        assert_eq!(address("kubernetes", "fd00::1", "443").unwrap().to_string(), "[fd00::1]:443");
        assert!(address("kubernetes", "", "").is_err());
    }
}
