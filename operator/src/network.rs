//! The network policies of sandboxes: one that denies all of them everything, and one for each that may reach the Internet.
//!
//! Policies are additive, so the deny policy of a namespace is made once and never varies: two installations in one
//! namespace share it, nothing of either is in it, and it has no owner to go with.

use std::{collections::BTreeMap, net::IpAddr};

use api::{CodeSandbox, names};
use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;

use crate::{config::Config, pod, selector};

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

/// The policy that denies every sandbox pod of a namespace all traffic, both ways.
pub(crate) fn deny(namespace: &str) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(names::DENY_POLICY.into()),
            namespace: Some(namespace.into()),
            labels: Some([(names::MANAGED_BY.into(), names::MANAGER.into())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: names::SANDBOX.into(),
                    operator: "Exists".into(),
                    values: None,
                }]),
                match_labels: Some([(names::MANAGED_BY.into(), names::MANAGER.into())].into()),
            }),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            // Empty and not absent: an apply takes back only what it sets, and somebody may have added rules.
            egress: Some(vec![]),
            ingress: Some(vec![]),
        }),
    }
}

/// The policy that lets one sandbox reach public addresses, and port 53 of the administrator's resolvers.
pub(crate) fn internet(sandbox: &CodeSandbox, config: &Config) -> NetworkPolicy {
    let uid = sandbox.uid().unwrap_or_default();
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(names::internet_policy(&sandbox.name_any())),
            namespace: sandbox.namespace(),
            labels: Some(only_ours(pod::labels(sandbox, config))),
            owner_references: pod::owner(sandbox),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some([(names::SANDBOX_UID.into(), uid)].into()),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Egress".into()]),
            egress: Some([public(config)].into_iter().chain(resolvers(config)).collect()),
            ingress: Some(vec![]), // as in the deny policy
        }),
    }
}

/// The labels of a pod without those that are only for its sidecars.
fn only_ours(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().filter(|(key, _)| !key.starts_with("sidecar.")).collect()
}

fn public(config: &Config) -> NetworkPolicyEgressRule {
    let but = |reserved: &[&str], ipv4: bool| {
        let cluster = config.cluster_cidrs.iter().filter(|cidr| cidr.is_ipv4() == ipv4);
        let all = reserved.iter().map(ToString::to_string).chain(cluster.map(ToString::to_string));
        all.collect()
    };
    NetworkPolicyEgressRule {
        to: Some(vec![
            range("0.0.0.0/0", Some(but(&NOT_INTERNET_V4, true))),
            range("::/0", Some(but(&NOT_INTERNET_V6, false))),
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

fn range(cidr: &str, except: Option<Vec<String>>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.into(), except }),
        ..NetworkPolicyPeer::default()
    }
}

fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// Whether a policy says what we would have it say. Servers store empty lists as absent ones.
pub(crate) fn same(live: &NetworkPolicy, ours: &NetworkPolicy) -> bool {
    let normal = |policy: &NetworkPolicy| {
        let mut spec = policy.spec.clone().unwrap_or_default();
        spec.egress = spec.egress.filter(|rules| !rules.is_empty());
        spec.ingress = spec.ingress.filter(|rules| !rules.is_empty());
        spec
    };
    normal(live) == normal(ours)
}

/// Whether a policy lets anything through to or from the pods it selects.
pub(crate) fn opens(policy: &NetworkPolicy) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let has = |type_: &str, default: bool| {
        spec.policy_types.as_ref().map_or(default, |types| types.iter().any(|one| one == type_))
    };
    let ingress = spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty());
    let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    (ingress && has("Ingress", true)) || (egress && has("Egress", true))
}

/// Whether a policy selects pods with these labels.
pub(crate) fn selects(policy: &NetworkPolicy, labels: &BTreeMap<String, String>) -> bool {
    let spec = policy.spec.as_ref();
    spec.is_some_and(|spec| selector::matches(spec.pod_selector.as_ref(), labels))
}

/// Whether a sandbox has to know about a policy: it is the deny policy, bears the name of its own, or selects its pod.
pub(crate) fn concerns(
    policy: &NetworkPolicy,
    sandbox: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let name = policy.metadata.name.as_deref();
    name == Some(names::DENY_POLICY)
        || name == Some(&names::internet_policy(sandbox))
        || selects(policy, labels)
}

/// Whether a policy selects the pods of the sandbox with this UID and no others, whatever else it says.
pub(crate) fn selects_only(policy: &NetworkPolicy, uid: &str) -> bool {
    let only_it = LabelSelector {
        match_labels: Some([(names::SANDBOX_UID.into(), uid.into())].into()),
        ..LabelSelector::default()
    };
    policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref()) == Some(&only_it)
}

/// The name of the sandbox a policy was made for: one that selects no other.
pub(crate) fn made_for(policy: &NetworkPolicy) -> Option<String> {
    let mut owners = policy.metadata.owner_references.iter().flatten();
    let owner =
        owners.find(|owner| owner.controller == Some(true) && owner.kind == "CodeSandbox")?;
    selects_only(policy, &owner.uid).then(|| owner.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, opener, sandbox};

    #[test]
    fn the_deny_policy_denies_everything_and_names_no_installation() {
        insta::assert_yaml_snapshot!(deny("demo"));
    }

    #[test]
    fn the_internet_policy_is_only_the_internet() {
        insta::assert_yaml_snapshot!(internet(&sandbox(), &config()));
    }

    #[test]
    fn without_resolvers_no_port_53_is_opened() {
        let mut config = config();
        config.dns_servers.clear();
        assert_eq!(internet(&sandbox(), &config).spec.unwrap().egress.unwrap().len(), 1);
    }

    #[test]
    fn an_apply_takes_back_rules_of_either_direction() {
        for policy in [deny("demo"), internet(&sandbox(), &config())] {
            let spec = policy.spec.unwrap();
            assert!(spec.egress.is_some() && spec.ingress.is_some());
        }
    }

    #[test]
    fn both_policies_select_the_pod_and_nobody_elses() {
        let labels = pod::labels(&sandbox(), &config());
        let others = [("app".into(), "web".into())].into();
        for policy in [deny("demo"), internet(&sandbox(), &config())] {
            assert!(selects(&policy, &labels));
            assert!(!selects(&policy, &others));
        }
    }

    #[test]
    fn a_policy_is_one_sandboxs_only_if_it_selects_no_other() {
        let mut policy = internet(&sandbox(), &config());
        assert_eq!(made_for(&policy).as_deref(), Some("box"));
        policy.spec.as_mut().unwrap().pod_selector = Some(LabelSelector::default());
        assert_eq!(made_for(&policy), None);
        assert_eq!(made_for(&deny("demo")), None);
    }

    #[test]
    fn what_the_server_gives_back_is_the_same_and_added_rules_are_not() {
        let ours = deny("demo");
        let mut live = ours.clone();
        let spec = live.spec.as_mut().unwrap();
        (spec.egress, spec.ingress) = (None, None);
        assert!(same(&live, &ours));

        live.spec.as_mut().unwrap().egress = Some(vec![NetworkPolicyEgressRule::default()]);
        assert!(!same(&live, &ours));
        assert!(!same(&NetworkPolicy::default(), &ours));
    }

    #[test]
    fn only_rules_that_count_open_something() {
        assert!(opens(&opener("allow")));
        assert!(!opens(&deny("demo")));
        assert!(!opens(&NetworkPolicy::default()));

        // Egress rules are without effect where the types name Ingress alone.
        let mut policy = opener("allow");
        policy.spec.as_mut().unwrap().policy_types = Some(vec!["Ingress".into()]);
        assert!(!opens(&policy));
        policy.spec.as_mut().unwrap().policy_types = None;
        assert!(opens(&policy));
    }
}
