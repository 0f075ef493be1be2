//! The network policies of sandboxes: one that denies all of them everything, and one for each that may reach anything.
//!
//! Policies are additive, so the deny policy of a namespace is made once and never varies: two installations in one
//! namespace share it, nothing of either is in it, and it has no owner to go with.

use std::collections::BTreeMap;

use api::{CodeSandbox, Effective, Egress, names};
use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicySpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta},
};
use kube::ResourceExt;

use crate::{config::Config, pod, selector};

pub(crate) mod forbidden;
pub(crate) mod internet;
pub(crate) mod reach;

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

/// The policy that lets one sandbox reach what it may, and be reached; none where that is nothing.
pub(crate) fn own(sandbox: &CodeSandbox, config: &Config) -> Option<NetworkPolicy> {
    let effective = sandbox.effective();
    policy(sandbox, effective.egress, &effective, config)
}

/// The same while its setup goes on, which may reach more.
pub(crate) fn during_setup(sandbox: &CodeSandbox, config: &Config) -> Option<NetworkPolicy> {
    let effective = sandbox.effective();
    policy(sandbox, effective.setup_egress(), &effective, config)
}

fn policy(
    sandbox: &CodeSandbox,
    egress: Egress,
    effective: &Effective,
    config: &Config,
) -> Option<NetworkPolicy> {
    let egress: Vec<_> =
        internet::rules(egress, config).chain(reach::egress(&effective.allow)).collect();
    let ingress: Vec<_> = reach::ingress(&effective.ports).collect();
    if egress.is_empty() && ingress.is_empty() {
        return None;
    }
    let types = [("Egress", !egress.is_empty()), ("Ingress", !ingress.is_empty())];
    let types = types.into_iter().filter(|(_, opened)| *opened);
    let uid = sandbox.uid().unwrap_or_default();
    Some(NetworkPolicy {
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
            policy_types: Some(types.map(|(type_, _)| type_.into()).collect()),
            // Either is there, empty or not, as in the deny policy.
            egress: Some(egress),
            ingress: Some(ingress),
        }),
    })
}

/// The labels of a pod without those that are only for its sidecars.
fn only_ours(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().filter(|(key, _)| !key.starts_with("sidecar.")).collect()
}

fn range(cidr: &str, except: Option<Vec<String>>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.into(), except }),
        ..NetworkPolicyPeer::default()
    }
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
    use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, asking, config, opener, sandbox};

    fn own_of_internet() -> NetworkPolicy {
        own(&testing::internet(), &config()).unwrap()
    }

    #[test]
    fn the_deny_policy_denies_everything_and_names_no_installation() {
        insta::assert_yaml_snapshot!(deny("demo"));
    }

    #[test]
    fn the_internet_policy_is_only_the_internet() {
        insta::assert_yaml_snapshot!(own_of_internet());
    }

    #[test]
    fn a_sandbox_that_reaches_nothing_and_is_reached_by_nobody_has_no_policy_of_its_own() {
        assert_eq!(own(&sandbox(), &config()), None);
        let nothing = json!({"egress": "Deny", "allow": [], "ports": []});
        assert_eq!(own(&asking(&nothing), &config()), None);
    }

    #[test]
    fn its_own_policy_opens_what_is_asked_for_and_nothing_else() {
        let network = json!({
            "allow": [
                {"cidr": "10.1.2.0/24", "ports": [{"port": 5432}, {"port": 8000, "endPort": 8010, "protocol": "UDP"}]},
                {"cidr": "fd00:1::/64"},
                {"podSelector": {"matchLabels": {"app": "db"}}, "ports": [{"port": 6379}]},
                {"podSelector": {"matchLabels": {"app": "registry"}},
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tools"}}},
                {"namespaceSelector": {"matchLabels": {"team": "data"}}},
            ],
            "ports": [
                {"port": 8080, "from": [{"cidr": "10.9.0.0/16"}, {"podSelector": {"matchLabels": {"app": "web"}}}]},
                {"port": 53, "protocol": "UDP", "from": [{"namespaceSelector": {"matchLabels": {"team": "data"}}}]},
            ],
        });
        insta::assert_yaml_snapshot!(own(&asking(&network), &config()).unwrap().spec);
    }

    #[test]
    fn what_is_allowed_besides_the_internet_is_added_to_it() {
        let network = json!({"egress": "Internet", "allow": [{"cidr": "10.1.2.0/24"}]});
        let both = own(&asking(&network), &config()).unwrap().spec.unwrap();
        let mut rules = own_of_internet().spec.unwrap().egress.unwrap();
        rules.push(NetworkPolicyEgressRule {
            to: Some(vec![range("10.1.2.0/24", None)]),
            ports: None,
        });
        assert_eq!(both.egress, Some(rules));
    }

    #[test]
    fn a_setup_reaches_what_its_sandbox_may_and_the_internet_besides() {
        let network = json!({"allow": [{"cidr": "10.1.2.0/24"}], "ports": [{"port": 80, "from": [{"cidr": "10.0.0.0/8"}]}]});
        let mut sandbox = asking(&network);
        sandbox.spec.settings.setup =
            serde_json::from_value(json!({"commands": ["true"], "egress": "Internet"})).unwrap();
        let mut with_internet = network.clone();
        with_internet["egress"] = "Internet".into();
        let config = config();
        assert_eq!(during_setup(&sandbox, &config), own(&asking(&with_internet), &config));
        assert_eq!(own(&sandbox, &config), own(&asking(&network), &config));
    }

    #[test]
    fn a_policy_opens_the_directions_in_which_something_is_asked_for() {
        let ports = json!({"ports": [{"port": 80, "from": [{"cidr": "10.0.0.0/8"}]}]});
        let spec = own(&asking(&ports), &config()).unwrap().spec.unwrap();
        assert_eq!((spec.policy_types, spec.egress), (Some(vec!["Ingress".into()]), Some(vec![])));
    }

    #[test]
    fn without_resolvers_no_port_53_is_opened() {
        let mut config = config();
        config.dns_servers.clear();
        assert_eq!(
            own(&testing::internet(), &config).unwrap().spec.unwrap().egress.unwrap().len(),
            1
        );
    }

    #[test]
    fn an_apply_takes_back_rules_of_either_direction() {
        for policy in [deny("demo"), own_of_internet()] {
            let spec = policy.spec.unwrap();
            assert!(spec.egress.is_some() && spec.ingress.is_some());
        }
    }

    #[test]
    fn both_policies_select_the_pod_and_nobody_elses() {
        let labels = pod::labels(&sandbox(), &config());
        let others = [("app".into(), "web".into())].into();
        for policy in [deny("demo"), own_of_internet()] {
            assert!(selects(&policy, &labels));
            assert!(!selects(&policy, &others));
        }
    }

    #[test]
    fn a_policy_is_one_sandboxs_only_if_it_selects_no_other() {
        let mut policy = own_of_internet();
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
