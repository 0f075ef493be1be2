//! What no sandbox may reach, whoever asks for it.

use std::net::{IpAddr, Ipv4Addr};

use api::{CodeSandbox, Effective, Peer, PortRange, reason};

use crate::{
    cidr::Cidr,
    config::Config,
    label,
    status::{Verdict, words},
};

/// Where nodes and pods of the clouds get their credentials, and the ranges that lead there by another name. Public addresses
/// leave these out as well.
const CREDENTIALS: [&str; 8] = [
    LINK_LOCAL,
    "168.63.129.16/32",   // Azure's host
    "100.100.100.200/32", // Alibaba Cloud
    "fd00:ec2::/32",      // EC2, EKS Pod Identity
    "fd20:ce::254/128",   // Google Cloud
    "64:ff9b::/96",       // NAT64
    "64:ff9b:1::/48",     // NAT64 of one's own
    "2002::/16",          // 6to4
];
/// Nearly everybody's metadata service, and what else of the kind the clouds have beside it.
const LINK_LOCAL: &str = "169.254.0.0/16";
/// Where NodeLocal DNSCache answers, which is link-local as well.
const NODE_LOCAL_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));

/// The port of resolvers.
const DNS: u16 = 53;

/// Ready's verdict on a sandbox whose network is not made as it asks; none where it is.
///
/// A policy that opened the canary would have the agent wait for a proof that never comes, and end with words that do not
/// say which entry it was. What else leads to the API server, behind selectors and addresses of nodes, nobody knows here.
pub(crate) fn verdict(sandbox: &CodeSandbox, config: &Config) -> Option<Verdict> {
    let effective = sandbox.effective();
    let ranges = peers(&effective).filter_map(|(at, peer, reached)| {
        let closed = |range: Cidr| reached.and_then(|ports| self::closed(&range, ports, config));
        let why = range(peer.cidr.as_deref()?).map_or_else(Some, closed)?;
        Some(format!("{at}.cidr {why}"))
    });
    let found: Vec<_> = ranges.chain(selectors(&effective)).collect();
    (!found.is_empty()).then(|| {
        let said = format!(
            "{}; create the sandbox anew without that, or from a template without it",
            words(&found.join("; "))
        );
        Verdict::no(reason::NETWORK_FORBIDDEN, said)
    })
}

/// All ends of connections that are named, and where; with the ports there of those that are reached, which others are not.
fn peers(effective: &Effective) -> impl Iterator<Item = (String, &Peer, Option<&[PortRange]>)> {
    let allow = effective.allow.iter().enumerate().map(|(index, reach)| {
        (format!("network.allow[{index}]"), &reach.peer, Some(&*reach.ports))
    });
    let ports = effective.ports.iter().enumerate().flat_map(|(index, open)| {
        let from = open.from.iter().enumerate();
        from.map(move |(nth, peer)| (format!("network.ports[{index}].from[{nth}]"), peer, None))
    });
    allow.chain(ports)
}

/// The labels that a policy does not take: the API server would refuse it again and again, in words about the policy.
fn selectors(effective: &Effective) -> impl Iterator<Item = String> {
    peers(effective).flat_map(|(at, peer, _)| {
        let selectors =
            [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)];
        selectors.into_iter().flat_map(move |(field, selector)| {
            let labels = selector.iter().flat_map(|selector| &selector.match_labels);
            let bad = labels.filter(|(key, value)| !label::is_key(key) || !label::is_value(value));
            let at = at.clone();
            bad.map(move |(key, value)| {
                format!("{at}.{field} {key}={value} is no label of Kubernetes")
            })
        })
    })
}

/// A range that a policy takes, or why it is none.
fn range(text: &str) -> Result<Cidr, String> {
    let range: Cidr = text.parse()?;
    if range.is_mapped() {
        return Err(format!("{text} is of IPv4 addresses in the form of IPv6: write them as IPv4"));
    }
    let whole = range.normal();
    if whole == range {
        return Ok(range);
    }
    // Who writes it may mean either, and an API server that is strict about it refuses the policy.
    Err(format!("{text} names an address within a range: write {whole}, or {}", range.only()))
}

/// Why a range is closed to every sandbox on these ports, if it is.
fn closed(range: &Cidr, ports: &[PortRange], config: &Config) -> Option<String> {
    if let Some(canary) = config.canaries().find(|canary| range.contains(*canary)) {
        return Some(format!(
            "{range} contains {canary}, by which a sandbox sees that its network is closed: name ranges without it"
        ));
    }
    let secret = CREDENTIALS.into_iter().find(|secret| {
        secret.parse().is_ok_and(|secret| range.overlaps(&secret))
            && !is_resolver(range, ports, config)
    })?;
    Some(format!(
        "{range} has addresses of {secret}, from which nodes get their credentials: name ranges without them"
    ))
}

/// Whether a range is a resolver's one address, on the port of resolvers alone: some clouds have theirs where they hand out
/// credentials on another port.
fn is_resolver(range: &Cidr, ports: &[PortRange], config: &Config) -> bool {
    let is_dns = |ports: &PortRange| (ports.port, ports.end_port.unwrap_or(DNS)) == (DNS, DNS);
    let is_asked = !ports.is_empty() && ports.iter().all(is_dns);
    let is_one = |resolver: &IpAddr| range.contains(*resolver);
    *range == range.only()
        && (is_one(&NODE_LOCAL_DNS) || is_asked && config.dns_servers.iter().any(is_one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{asking, config};

    /// What is said of a range that a sandbox may reach.
    fn said(cidr: &str, config: &Config) -> Option<String> {
        let sandbox = asking(&json!({"allow": [{"cidr": "10.0.0.0/24"}, {"cidr": cidr}]}));
        verdict(&sandbox, config).map(|verdict| {
            assert_eq!((verdict.status, &*verdict.reason), ("False", reason::NETWORK_FORBIDDEN));
            verdict.message
        })
    }

    #[test]
    fn a_range_with_an_address_that_proves_the_network_closed_is_refused() {
        let mut config = config();
        assert_eq!(said("10.96.0.0/12", &config), None, "of which nothing is known");
        config.api_server_address = Some("10.96.0.1".into());
        let message = said("10.96.0.0/12", &config).unwrap();
        assert_eq!(
            message,
            "network.allow[1].cidr 10.96.0.0/12 contains 10.96.0.1, by which a sandbox sees that its network is closed: \
             name ranges without it; create the sandbox anew without that, or from a template without it"
        );
        assert_eq!(said("10.96.0.10/32", &config), None);

        config.network_canary = Some("[fd00::5]:80".parse().unwrap());
        assert!(said("fd00::/64", &config).unwrap().contains("contains fd00::5"));
        assert!(said("10.96.0.1/32", &config).is_some(), "the API server stays closed");
        assert_eq!(said("fd00:1::/64", &config), None);
    }

    #[test]
    fn an_api_server_that_is_known_by_a_name_is_no_address() {
        let mut config = config();
        config.api_server_address = Some("cluster.example.com".into());
        assert_eq!(config.canaries().count(), 0);
    }

    #[test]
    fn where_nodes_get_their_credentials_no_sandbox_comes() {
        let mut config = config();
        config.dns_servers = vec!["169.254.25.10".parse().unwrap()];
        for range in [
            "169.254.169.254/32",
            "169.254.169.252/32",
            "169.254.170.23/32",
            "169.254.20.0/24",
            "169.254.0.0/16",
            "168.63.129.16/32",
            "128.0.0.0/1",
            "fd00:ec2::23/128",
            "fd00::/8",
            "64:ff9b::a9fe:a9fe/128",
            "2002:a9fe:a9fe::/48",
        ] {
            let message = said(range, &config).unwrap_or_default();
            assert!(message.contains("get their credentials"), "{range}: {message}");
        }
        // A resolver on the node, which is link-local as well.
        assert_eq!(said("169.254.20.10/32", &config), None);
        assert_eq!(said("fd00:1::/64", &config), None);
    }

    /// Google Cloud's answers beside the metadata, Azure's beside the node's secrets.
    #[test]
    fn resolvers_with_credentials_beside_them_are_reached_on_their_port_alone() {
        let mut config = config();
        config.dns_servers = ["169.254.169.254", "168.63.129.16", "169.254.25.10"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let dns = json!({"port": 53, "protocol": "UDP"});
        for (ports, refused) in [
            (json!([dns]), false),
            (json!([dns, {"port": 53, "endPort": 53}]), false),
            (json!([]), true),
            (json!([{"port": 80}]), true),
            (json!([dns, {"port": 80}]), true),
            (json!([{"port": 53, "endPort": 80}]), true),
        ] {
            for resolver in ["169.254.169.254/32", "168.63.129.16/32", "169.254.25.10/32"] {
                let place = json!({"allow": [{"cidr": resolver, "ports": ports}]});
                assert_eq!(verdict(&asking(&place), &config).is_some(), refused, "{place}");
            }
        }
        let other = json!({"allow": [{"cidr": "169.254.169.253/32", "ports": [dns]}]});
        assert!(verdict(&asking(&other), &config).is_some(), "it is no resolver of theirs");
    }

    #[test]
    fn what_is_no_range_is_told_with_what_to_write() {
        for (range, words) in [
            ("10.0.0.0/33", "10.0.0.0/33 is not a range such as 10.96.0.0/12"),
            ("10.1.2.3/8", "write 10.0.0.0/8, or 10.1.2.3/32"),
            ("::ffff:10.0.0.0/104", "write them as IPv4"),
        ] {
            let message = said(range, &config()).unwrap();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn who_may_reach_a_sandbox_is_held_to_ranges_and_to_nothing_else() {
        let mut config = config();
        config.api_server_address = Some("10.96.0.1".into());
        let from = |cidrs: &[&str]| {
            let from: Vec<_> = cidrs.iter().map(|cidr| json!({"cidr": cidr})).collect();
            verdict(&asking(&json!({"ports": [{"port": 80, "from": from}]})), &config)
        };
        assert_eq!(from(&["10.96.0.0/12", "169.254.0.0/16"]), None);
        let message = from(&["10.96.0.0/12", "10.1.2.3/8"]).unwrap().message;
        assert!(message.starts_with("network.ports[0].from[1].cidr 10.1.2.3/8 names"), "{message}");
    }

    #[test]
    fn labels_that_nothing_can_have_are_told() {
        let pods = |labels: serde_json::Value| json!({"podSelector": {"matchLabels": labels}});
        let judge = |network: serde_json::Value| verdict(&asking(&network), &config());
        assert_eq!(judge(json!({"allow": [pods(json!({"a.b/c": "d", "e": ""}))]})), None);
        let bad = judge(json!({"allow": [pods(json!({"bad key": "x"}))]})).unwrap().message;
        assert!(bad.starts_with("network.allow[0].podSelector bad key=x is no label"), "{bad}");
        let spaces = json!({"namespaceSelector": {"matchLabels": {"a": "b/c"}}});
        let bad = judge(json!({"ports": [{"port": 80, "from": [spaces]}]})).unwrap().message;
        assert!(bad.starts_with("network.ports[0].from[0].namespaceSelector a=b/c"), "{bad}");
    }
}
