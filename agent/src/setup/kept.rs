//! What the sandbox may reach as well as its setup, so that it is not to be out of reach afterwards.

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// A range of addresses that stays open, in the words of a sandbox's spec.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    cidr: String,
    /// The ports there; none are all.
    ports: Vec<Ports>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ports {
    port: u16,
    end_port: Option<u16>,
    /// TCP where nothing is said.
    protocol: Option<String>,
}

/// The places that a text names.
pub(super) fn read(text: &str) -> io::Result<Vec<Place>> {
    serde_json::from_str(text).map_err(io::Error::other)
}

impl Place {
    /// Whether an address is spoken with over TCP here.
    pub(super) fn covers(&self, address: &SocketAddr) -> bool {
        let of_any =
            self.ports.is_empty() || self.ports.iter().any(|one| one.covers(address.port()));
        of_any && is_within(address.ip(), &self.cidr) == Some(true)
    }
}

impl Ports {
    fn covers(&self, port: u16) -> bool {
        let tcp = self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        tcp && (self.port..=self.end_port.unwrap_or(self.port)).contains(&port)
    }
}

/// Whether an address is in a range; nothing where that is none.
fn is_within(address: IpAddr, range: &str) -> Option<bool> {
    let (first, prefix) = range.split_once('/')?;
    let prefix: u32 = prefix.parse().ok()?;
    let alike = match (address, first.parse().ok()?) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return Some(false),
    };
    Some(alike >= prefix)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_is_a_range_of_addresses_on_its_ports_over_tcp() {
        for (cidr, ports, address, covered) in [
            ("192.0.2.0/24", json!([]), "192.0.2.255:80", true),
            ("192.0.2.0/24", json!([]), "192.0.3.0:80", false),
            ("192.0.2.7/32", json!([]), "192.0.2.7:80", true),
            ("192.0.2.7/32", json!([]), "192.0.2.6:80", false),
            ("2001:db8::/32", json!([]), "[2001:db8:1::1]:80", true),
            ("2001:db8::/32", json!([]), "[2001:db9::1]:80", false),
            ("::/8", json!([]), "0.0.0.1:80", false),
            ("192.0.2.0/24", json!([{"port": 80}, {"port": 443}]), "192.0.2.1:443", true),
            ("192.0.2.0/24", json!([{"port": 80}, {"port": 443}]), "192.0.2.1:444", false),
            ("192.0.2.0/24", json!([{"port": 80, "endPort": 90}]), "192.0.2.1:90", true),
            ("192.0.2.0/24", json!([{"port": 80, "endPort": 90}]), "192.0.2.1:91", false),
            ("192.0.2.0/24", json!([{"port": 53, "protocol": "TCP"}]), "192.0.2.1:53", true),
            ("192.0.2.0/24", json!([{"port": 53, "protocol": "UDP"}]), "192.0.2.1:53", false),
            ("192.0.2.0", json!([]), "192.0.2.0:80", false),
            ("x/8", json!([]), "192.0.2.0:80", false),
        ] {
            let place = json!({"cidr": cidr, "ports": ports});
            let place: Place = serde_json::from_value(place).unwrap();
            assert_eq!(place.covers(&address.parse().unwrap()), covered, "{place:?} {address}");
        }
        // What leaves its ports out has all of them.
        let place: Place = serde_json::from_value(json!({"cidr": "192.0.2.0/24"})).unwrap();
        assert!(place.covers(&"192.0.2.1:1".parse().unwrap()));
    }

    #[test]
    fn places_are_read_as_the_operator_writes_them() {
        let kept = r#"[{"cidr": "10.0.0.0/8"},
            {"cidr": "192.0.2.0/24", "ports": [{"port": 80, "endPort": 90}]}]"#;
        let kept = read(kept).unwrap();
        let covered = ["10.1.2.3:1", "192.0.2.1:90", "192.0.2.1:91"]
            .map(|address| kept.iter().any(|place| place.covers(&address.parse().unwrap())));
        assert_eq!(covered, [true, true, false]);
        assert!(read("{").is_err(), "nothing is kept by mistake");
    }
}
