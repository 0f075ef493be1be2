//! What was open to a setup and is to be closed to the sandbox: the addresses by which the agent proper sees that it is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::kept::Place;

/// The file with the addresses, in the directory of the logs of runs, which both containers have.
const FILE: &str = "setup.opened";
/// How long it is at most, in bytes: what so many addresses take.
const MAX_FILE: u64 = 256;
/// How many addresses are enough. Each is tried several times when they are to be closed.
const ENOUGH: usize = 3;
/// How long one may take to answer; who takes longer is none that could be seen to answer no more (`isolation`).
const ANSWER: Duration = Duration::from_millis(500);
/// How long the network may take to open.
const OPENS: Duration = Duration::from_secs(1);
/// The pause before they are tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// The port of resolvers.
const DNS: u16 = 53;

/// Takes down addresses that answer: resolvers, and whom the commands have spoken with, but for what the sandbox keeps. Where
/// none does it is tried again for a while, since the network may only just be opening.
pub(super) async fn take_down(directory: &Path, kept: &[Place]) -> io::Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(read);
    let candidates = candidates(&read("/etc/resolv.conf"), &tables, kept);
    let end = Instant::now() + OPENS;
    let mut open = answering(&candidates).await;
    while open.is_empty() && !candidates.is_empty() && Instant::now() < end {
        sleep(PAUSE).await;
        open = answering(&candidates).await;
    }
    fs::create_dir_all(directory)?;
    fs::write(directory.join(FILE), open.join("\n"))
}

/// Who may be out of reach when the setup's network is closed.
fn candidates(resolv_conf: &str, tables: &[String], kept: &[Place]) -> BTreeSet<SocketAddr> {
    let peers = tables.iter().flat_map(|table| peers(table));
    let all = resolvers(resolv_conf).into_iter().chain(peers);
    all.filter(|address| !kept.iter().any(|place| place.covers(address))).collect()
}

/// The first of these that answer.
async fn answering(candidates: &BTreeSet<SocketAddr>) -> Vec<String> {
    let mut open = Vec::new();
    for candidate in candidates {
        if open.len() == ENOUGH {
            break;
        }
        if matches!(timeout(ANSWER, TcpStream::connect(candidate)).await, Ok(Ok(_))) {
            open.push(candidate.to_string());
        }
    }
    open
}

/// What a setup of this pod has taken down; nothing where there was none.
pub(crate) fn opened(directory: &Path) -> Vec<SocketAddr> {
    // User code may have put anything there.
    let mut said = String::new();
    let file = File::open(directory.join(FILE));
    let _ = file.and_then(|file| file.take(MAX_FILE).read_to_string(&mut said));
    said.lines().filter_map(|line| line.parse().ok()).take(ENOUGH).collect()
}

fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|server| server.trim().parse::<IpAddr>().ok());
    addresses.filter(is_elsewhere).map(|address| SocketAddr::new(address, DNS)).collect()
}

/// The other ends of the connections in a table of the kernel's, those that were closed within the last minute too.
fn peers(table: &str) -> Vec<SocketAddr> {
    let peers = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(2);
        let (remote, state) = (columns.next()?, columns.next()?);
        // Established, or in one of the states in which one is being closed.
        matches!(state, "01" | "04" | "05" | "06" | "08" | "09" | "0B").then(|| address(remote))?
    });
    peers.filter(|peer| is_elsewhere(&peer.ip()) && peer.port() != 0).collect()
}

fn is_elsewhere(address: &IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
}

/// An address as the kernel writes it: words of 32 bits in the machine's order, in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let words = host.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let host = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(host, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(addresses: &[SocketAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn resolvers_are_those_that_are_not_this_machine() {
        let said = "search a.b\nnameserver 127.0.0.1\n nameserver 1.1.1.1\nnameserver ::1\nnameserver 2606:4700::1111\nnameserver x\n";
        assert_eq!(told(&resolvers(said)), ["1.1.1.1:53", "[2606:4700::1111]:53"]);
    }

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n";

    fn line(remote: &str, state: &str) -> String {
        format!("   0: 0100007F:9999 {remote} {state} 00000000:00000000\n")
    }

    #[test]
    fn what_the_sandbox_may_reach_as_well_is_not_to_be_closed() {
        let table = HEAD.to_owned() + &line("0A0200C0:01BB", "01") + &line("0B0200C0:0050", "01");
        let resolvers = "nameserver 1.1.1.1\nnameserver 10.0.0.53\n";
        let opened = |kept: serde_json::Value| {
            let kept: Vec<Place> = serde_json::from_value(kept).unwrap();
            let found = candidates(resolvers, std::slice::from_ref(&table), &kept);
            told(&found.into_iter().collect::<Vec<_>>())
        };
        let all = ["1.1.1.1:53", "10.0.0.53:53", "192.0.2.10:443", "192.0.2.11:80"];
        assert_eq!(opened(json!([])), all);
        let place = json!({"cidr": "192.0.2.0/24", "ports": [{"port": 443}]});
        assert_eq!(opened(json!([{"cidr": "10.0.0.0/8"}, place])), ["1.1.1.1:53", "192.0.2.11:80"]);
        assert_eq!(opened(json!([{"cidr": "10.0.0.0/8"}, {"cidr": "192.0.2.0/24"}])), [all[0]]);
    }

    #[test]
    fn peers_are_whom_somebody_speaks_with_or_has_until_now() {
        let table = [
            HEAD.to_owned(),
            line("0A0200C0:01BB", "01"),
            line("0B0200C0:0050", "06"),
            line("0C0200C0:0050", "02"), // not answered
            line("00000000:0000", "0A"), // listens
            line("0100007F:0050", "01"), // this machine
        ];
        assert_eq!(told(&peers(&table.concat())), ["192.0.2.10:443", "192.0.2.11:80"]);
        let mapped = line("0000000000000000FFFF00000A0200C0:01BB", "01");
        assert_eq!(told(&peers(&format!("{HEAD}{mapped}"))), ["192.0.2.10:443"]);
        let six = line("B80D0120000000000000000001000000:01BB", "01");
        assert_eq!(told(&peers(&format!("{HEAD}{six}"))), ["[2001:db8::1]:443"]);
        assert_eq!(peers("nonsense\nx y z w"), []);
    }
}
