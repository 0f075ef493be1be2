//! What a sandbox may reach besides, and who may reach it: as a policy's rules, and in words.

use api::{Effective, Egress, Labels, OpenPort, Peer, PortRange, Reach};
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

/// The rules by which a sandbox reaches what it may besides.
pub(super) fn egress(allow: &[Reach]) -> impl Iterator<Item = NetworkPolicyEgressRule> {
    allow.iter().map(|reach| NetworkPolicyEgressRule {
        to: Some(vec![peer(&reach.peer)]),
        ports: (!reach.ports.is_empty()).then(|| reach.ports.iter().map(ports).collect()),
    })
}

/// The rules by which a sandbox is reached.
pub(super) fn ingress(open: &[OpenPort]) -> impl Iterator<Item = NetworkPolicyIngressRule> {
    // The schema asks for somebody: in a rule, nobody is everybody.
    open.iter().filter(|open| !open.from.is_empty()).map(|open| NetworkPolicyIngressRule {
        from: Some(open.from.iter().map(peer).collect()),
        ports: Some(vec![ports(&range(open))]),
    })
}

fn range(open: &OpenPort) -> PortRange {
    PortRange { port: open.port, end_port: None, protocol: open.protocol }
}

fn peer(peer: &Peer) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: peer.pod_selector.as_ref().map(selector),
        namespace_selector: peer.namespace_selector.as_ref().map(selector),
        ..peer.cidr.as_deref().map(|cidr| super::range(cidr, None)).unwrap_or_default()
    }
}

fn selector(labels: &Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels.match_labels.clone()), ..LabelSelector::default() }
}

fn ports(range: &PortRange) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(range.port.into())),
        end_port: range.end_port.map(Into::into),
        // Said, though it is the default: the API server would fill it in.
        protocol: Some(range.protocol.unwrap_or_default().as_str().into()),
    }
}

/// All that is let through to and from a sandbox.
pub(crate) fn opened(effective: &Effective) -> String {
    let internet = (effective.egress == Egress::Internet).then(|| "public addresses".into());
    let allow = effective.allow.iter().map(|reach| format!("to {}", place(reach)));
    let ports = effective.ports.iter().map(entrance);
    internet.into_iter().chain(allow).chain(ports).collect::<Vec<_>>().join("; ")
}

/// A place that a sandbox may reach, in words.
pub(crate) fn place(reach: &Reach) -> String {
    let ports: Vec<_> = reach.ports.iter().map(ports_words).collect();
    let on = if ports.is_empty() { String::new() } else { format!(" on {}", ports.join(", ")) };
    format!("{}{on}", who(&reach.peer))
}

/// A port that others may reach, in words.
pub(crate) fn entrance(open: &OpenPort) -> String {
    let from: Vec<_> = open.from.iter().map(who).collect();
    format!("{} from {}", ports_words(&range(open)), from.join(", "))
}

fn ports_words(range: &PortRange) -> String {
    let protocol = range.protocol.unwrap_or_default().as_str();
    match range.end_port {
        Some(end) => format!("{protocol} {}-{end}", range.port),
        None => format!("{protocol} {}", range.port),
    }
}

fn who(peer: &Peer) -> String {
    match (&peer.cidr, &peer.pod_selector, &peer.namespace_selector) {
        (Some(cidr), _, _) => cidr.clone(),
        (None, Some(pods), None) => format!("pods {} of this namespace", listed(pods)),
        (None, Some(pods), Some(namespaces)) => {
            format!("pods {} of namespaces {}", listed(pods), listed(namespaces))
        }
        (None, None, Some(namespaces)) => format!("all pods of namespaces {}", listed(namespaces)),
        (None, None, None) => "nobody".into(),
    }
}

/// Labels as `kubectl -l` takes them.
fn listed(labels: &Labels) -> String {
    let labels: Vec<_> =
        labels.match_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::asking;

    #[test]
    fn what_is_let_through_is_said_in_full() {
        let db = json!({"matchLabels": {"app": "db", "tier": "back"}});
        let data = json!({"matchLabels": {"kubernetes.io/metadata.name": "data"}});
        for (network, words) in [
            (json!({"egress": "Internet"}), "public addresses"),
            (json!({"allow": [{"cidr": "10.1.0.0/16"}]}), "to 10.1.0.0/16"),
            (
                json!({"allow": [{"cidr": "10.1.0.0/16", "ports": [{"port": 53, "protocol": "UDP"}, {"port": 80, "endPort": 90}]}]}),
                "to 10.1.0.0/16 on UDP 53, TCP 80-90",
            ),
            (json!({"allow": [{"podSelector": db}]}), "to pods app=db,tier=back of this namespace"),
            (
                json!({"allow": [{"namespaceSelector": data}]}),
                "to all pods of namespaces kubernetes.io/metadata.name=data",
            ),
            (
                json!({"egress": "Internet", "allow": [{"podSelector": db, "namespaceSelector": data}],
                    "ports": [{"port": 8080, "from": [{"cidr": "10.2.0.0/16"}, {"podSelector": db}]}]}),
                "public addresses; to pods app=db,tier=back of namespaces kubernetes.io/metadata.name=data; \
                 TCP 8080 from 10.2.0.0/16, pods app=db,tier=back of this namespace",
            ),
        ] {
            assert_eq!(opened(&asking(&network).effective()), words);
        }
    }

    #[test]
    fn a_port_that_nobody_may_reach_is_not_one_that_everybody_may() {
        let open = OpenPort { port: 80, protocol: None, from: Vec::new() };
        assert_eq!(ingress(&[open]).count(), 0);
    }
}
