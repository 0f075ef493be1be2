//! The Internet, as a policy's rules: what of it a sandbox with `egress: Internet` reaches, or a setup.

use std::net::IpAddr;

use api::{Effective, Egress, Peer, Reach};
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::range;
use crate::config::Config;

/// What is not the Internet, of IPv4: private, shared, link-local (metadata services), loopback, special, multicast.
/// The one public-looking address among them is Azure's, of the host beside each virtual machine: it hands out the
/// node's secrets.
const NOT_INTERNET_V4: [&str; 12] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// The same of IPv6, and the ranges that lead back to IPv4 (NAT64, 6to4). Mapped addresses are not among them: they
/// are not routed, and Go, which reads them as IPv4, would have the API server refuse the policy.
const NOT_INTERNET_V6: [&str; 9] = [
    "::/128",
    "::1/128",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// The rules that let a sandbox reach the Internet: public addresses, and port 53 of the administrator's resolvers.
pub(super) fn rules(
    egress: Egress,
    config: &Config,
) -> impl Iterator<Item = NetworkPolicyEgressRule> {
    let rules = match egress {
        Egress::Deny => None,
        Egress::Internet => Some([public(config)].into_iter().chain(resolvers(config))),
    };
    rules.into_iter().flatten()
}

/// Whether a policy opens the Internet, whatever it leaves out of it. No list of places does: none of them may be all addresses.
pub(crate) fn is_opened_by(policy: &NetworkPolicy) -> bool {
    let rules = policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten());
    let ranges =
        rules.flat_map(|rule| rule.to.iter().flatten()).filter_map(|to| to.ip_block.as_ref());
    ranges.into_iter().any(|range| range.cidr.ends_with("/0"))
}

/// What a sandbox reaches without the Internet, as far as addresses tell it: the ranges among its places. Where it has any
/// places, also all that is not the Internet, since pods and the Services before them have their addresses there.
pub(crate) fn kept_without(effective: &Effective, config: &Config) -> Vec<Reach> {
    if effective.allow.is_empty() {
        return Vec::new();
    }
    let inside = reserved(config, true).chain(reserved(config, false)).map(|cidr| Reach {
        peer: Peer { cidr: Some(cidr), ..Peer::default() },
        ports: Vec::new(),
    });
    let named = effective.allow.iter().filter(|reach| reach.peer.cidr.is_some()).cloned();
    inside.chain(named).collect()
}

/// What of a family of addresses is not the Internet.
fn reserved(config: &Config, ipv4: bool) -> impl Iterator<Item = String> {
    let known = if ipv4 { &NOT_INTERNET_V4[..] } else { &NOT_INTERNET_V6 };
    let cluster = config.cluster_cidrs.iter().filter(move |cidr| cidr.is_ipv4() == ipv4);
    known.iter().map(ToString::to_string).chain(cluster.map(ToString::to_string))
}

fn public(config: &Config) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: Some(vec![
            range("0.0.0.0/0", Some(reserved(config, true).collect())),
            range("::/0", Some(reserved(config, false).collect())),
        ]),
        ports: None,
    }
}

fn resolvers(config: &Config) -> Option<NetworkPolicyEgressRule> {
    let servers: Vec<_> =
        config.dns_servers.iter().map(|&server| range(&host(server), None)).collect();
    let port = |protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(53)),
        protocol: Some(protocol.into()),
        end_port: None,
    };
    (!servers.is_empty()).then(|| NetworkPolicyEgressRule {
        to: Some(servers),
        ports: Some(vec![port("UDP"), port("TCP")]),
    })
}

fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        network,
        testing::{asking, config, internet},
    };

    #[test]
    fn the_internet_is_told_from_every_list_of_places() {
        let own = |sandbox| network::own(&sandbox, &config()).unwrap();
        assert!(is_opened_by(&own(internet())));
        let mut changed = own(internet());
        changed.spec.as_mut().unwrap().egress.as_mut().unwrap().truncate(1);
        assert!(is_opened_by(&changed), "with other resolvers");
        let both = json!({"egress": "Internet", "allow": [{"cidr": "10.1.2.0/24"}]});
        assert!(is_opened_by(&own(asking(&both))));
        let pods = json!({"podSelector": {"matchLabels": {"app": "db"}}});
        for network in [
            json!({"allow": [{"cidr": "1.0.0.0/8"}, {"cidr": "2000::/3"}, pods]}),
            json!({"ports": [{"port": 80, "from": [pods]}]}),
        ] {
            assert!(!is_opened_by(&own(asking(&network))), "{network}");
        }
        assert!(!is_opened_by(&network::deny("demo")));
    }

    /// What a sandbox with this network keeps, on which ports.
    fn kept(network: &serde_json::Value) -> Vec<(String, usize)> {
        let kept = kept_without(&asking(network).effective(), &config());
        kept.into_iter().map(|place| (place.peer.cidr.unwrap(), place.ports.len())).collect()
    }

    #[test]
    fn what_is_kept_without_the_internet_is_the_ranges_of_the_sandbox_and_where_pods_may_be() {
        let pods =
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "ports": [{"port": 5432}]});
        let inside: Vec<_> = NOT_INTERNET_V4
            .into_iter()
            .chain(["203.0.113.0/24"])
            .chain(NOT_INTERNET_V6)
            .chain(["2001:db8::/32"])
            .map(|range| (range.to_owned(), 0))
            .collect();
        assert_eq!(kept(&json!({"allow": [pods]})), inside);
        let range = json!({"cidr": "198.51.100.0/24", "ports": [{"port": 80}]});
        let both = [&inside[..], &[("198.51.100.0/24".into(), 1)]].concat();
        assert_eq!(kept(&json!({"allow": [pods, range]})), both);
        for nothing in [json!({}), json!({"ports": [{"port": 80, "from": [range]}]})] {
            assert_eq!(kept(&nothing), []);
        }
    }
}
