//! Whether a sandbox's pod is isolated: judged from the policies that are there, not from those that were meant.

use std::collections::BTreeMap;

use api::{CodeSandbox, names, reason};
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::ResourceExt;

use crate::{
    config::Config,
    network,
    observe::Observed,
    pod,
    status::{Verdict, words},
};

/// How many policies a message names; of more it gives the number.
const NAMED: usize = 5;

/// The deny policy, where it is there and says what it should.
pub(crate) fn deny<'a>(observed: &'a Observed, namespace: &str) -> Option<&'a NetworkPolicy> {
    observed.policy(names::DENY_POLICY).filter(|live| denies(live, namespace))
}

/// Whether a namespace's deny policy says what it should.
pub(crate) fn denies(live: &NetworkPolicy, namespace: &str) -> bool {
    network::same(live, &network::deny(namespace))
}

/// The sandbox's own policy as it is to be now: with what its setup may reach, until a pod has come to the end of that.
pub(crate) fn wanted(
    sandbox: &CodeSandbox,
    pod: Option<&Pod>,
    config: &Config,
) -> Option<NetworkPolicy> {
    if is_set_up(sandbox, pod) {
        network::own(sandbox, config)
    } else {
        network::during_setup(sandbox, config)
    }
}

/// Whether nothing is left of a setup, or to come, that may reach more than the sandbox.
fn is_set_up(sandbox: &CodeSandbox, pod: Option<&Pod>) -> bool {
    !sandbox.effective().setup_opens() || pod.is_some_and(pod::setup::is_over)
}

/// The sandbox's own policy, where it is there, is to be there, belongs to the sandbox and says what it should.
pub(crate) fn own<'a>(
    sandbox: &CodeSandbox,
    pod: Option<&Pod>,
    observed: &'a Observed,
    config: &Config,
) -> Option<&'a NetworkPolicy> {
    let wanted = wanted(sandbox, pod, config)?;
    observed
        .policy(&names::internet_policy(&sandbox.name_any()))
        .filter(|live| pod::is_owned(&live.metadata, sandbox))
        .filter(|live| network::same(live, &wanted))
}

/// NetworkIsolated's verdict on a pod.
pub(crate) fn isolated(
    sandbox: &CodeSandbox,
    pod: &Pod,
    observed: &Observed,
    config: &Config,
) -> Verdict {
    let nothing = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
    let deny = deny(observed, &sandbox.namespace().unwrap_or_default());
    let own = own(sandbox, Some(pod), observed, config);

    if !deny.is_some_and(|deny| network::selects(deny, labels)) {
        return Verdict::no(
            reason::NOT_DENIED,
            format!(
                "NetworkPolicy {} is missing, was changed or does not select the pod's labels; it is restored by itself, and a pod whose labels were changed is to be deleted",
                names::DENY_POLICY
            ),
        );
    }
    let ours = [deny, own].map(|policy| policy.map(ResourceExt::name_any));
    let openers = openers(&observed.policies, labels, &ours);
    if !openers.is_empty() {
        return Verdict::no(
            reason::OPENED_BY_POLICY,
            format!(
                "NetworkPolicy {} also selects the sandbox and opens it; delete it, or let its podSelector leave out {}={}",
                named(&openers),
                names::MANAGED_BY,
                names::MANAGER
            ),
        );
    }
    closed(sandbox, pod, own, config)
}

/// The verdict on a pod that the deny policy selects and, of others, at most its own opens.
fn closed(
    sandbox: &CodeSandbox,
    pod: &Pod,
    own: Option<&NetworkPolicy>,
    config: &Config,
) -> Verdict {
    let deny = names::DENY_POLICY;
    let Some(own) = own else {
        let missing = if wanted(sandbox, Some(pod), config).is_some() {
            "; the policy that opens to it what it may reach is not there yet"
        } else {
            ""
        };
        let said = format!("NetworkPolicy {deny} denies the sandbox all traffic{missing}");
        return Verdict::yes(reason::DENY_POLICY, said);
    };
    let own = own.name_any();
    if !is_set_up(sandbox, Some(pod)) {
        let said = format!(
            "NetworkPolicy {own} lets spec.setup reach public addresses, which is taken back when that has ended"
        );
        return Verdict::no(reason::SETTING_UP, said);
    }
    let effective = sandbox.effective();
    let only_internet = effective.allow.is_empty() && effective.ports.is_empty();
    let reason = if only_internet { reason::INTERNET_POLICY } else { reason::ALLOW_POLICY };
    let said = format!(
        "NetworkPolicy {deny} denies all traffic but what {own} lets through: {}",
        words(&network::reach::opened(&effective))
    );
    Verdict::yes(reason, said)
}

/// The names of the policies of others that let something through, sorted so that they do not change places.
fn openers(
    policies: &[std::sync::Arc<NetworkPolicy>],
    labels: &BTreeMap<String, String>,
    ours: &[Option<String>; 2],
) -> Vec<String> {
    let mut names: Vec<_> = policies
        .iter()
        .filter(|policy| network::opens(policy) && network::selects(policy, labels))
        .map(|policy| policy.name_any())
        .filter(|name| !ours.iter().flatten().any(|own| own == name))
        .collect();
    names.sort();
    names
}

fn named(names: &[String]) -> String {
    let first = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::injection::Way;
    use crate::testing::{config, observed, opener, sandbox};

    const DENY: &str = r#"{"egress": "Deny"}"#;
    const INTERNET: &str = r#"{"egress": "Internet"}"#;
    const ALLOW: &str = r#"{"allow": [{"cidr": "10.1.2.0/24"}]}"#;
    const PORTS: &str =
        r#"{"egress": "Internet", "ports": [{"port": 80, "from": [{"cidr": "10.1.2.0/24"}]}]}"#;

    fn asking(network: &str) -> CodeSandbox {
        crate::testing::asking(&serde_json::from_str(network).unwrap())
    }

    fn judge(network: &str, policies: Vec<NetworkPolicy>) -> Verdict {
        let sandbox = asking(network);
        let pod = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);
        isolated(&sandbox, &pod, &observed(None, policies), &config())
    }

    fn own(network: &str) -> NetworkPolicy {
        network::own(&asking(network), &config()).unwrap()
    }

    #[test]
    fn it_is_true_only_of_policies_that_are_there() {
        let deny = || network::deny("demo");
        for (network, policies, status, reason) in [
            (DENY, vec![deny()], "True", reason::DENY_POLICY),
            (DENY, vec![], "False", reason::NOT_DENIED),
            (INTERNET, vec![deny(), own(INTERNET)], "True", reason::INTERNET_POLICY),
            (INTERNET, vec![deny()], "True", reason::DENY_POLICY),
            (INTERNET, vec![own(INTERNET)], "False", reason::NOT_DENIED),
            (ALLOW, vec![deny(), own(ALLOW)], "True", reason::ALLOW_POLICY),
            (ALLOW, vec![deny()], "True", reason::DENY_POLICY),
            (ALLOW, vec![own(ALLOW)], "False", reason::NOT_DENIED),
            (PORTS, vec![deny(), own(PORTS)], "True", reason::ALLOW_POLICY),
            (DENY, vec![deny(), opener("allow")], "False", reason::OPENED_BY_POLICY),
            (ALLOW, vec![deny(), own(ALLOW), opener("x")], "False", reason::OPENED_BY_POLICY),
            // A policy of its own is an opener where it was not asked for.
            (DENY, vec![deny(), own(INTERNET)], "False", reason::OPENED_BY_POLICY),
            (ALLOW, vec![deny(), own(INTERNET)], "False", reason::OPENED_BY_POLICY),
        ] {
            let verdict = judge(network, policies);
            assert_eq!((verdict.status, verdict.reason.as_str()), (status, reason), "{verdict:?}");
        }
    }

    #[test]
    fn while_a_setup_goes_on_its_policy_is_the_sandboxs_own_and_afterwards_an_opener() {
        let mut sandbox = asking(ALLOW);
        sandbox.spec.settings.setup = serde_json::from_str(r#"{"egress": "Internet"}"#).unwrap();
        let goes_on = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);
        let mut is_over = goes_on.clone();
        is_over.status = crate::testing::pod_with(&crate::testing::running()).status;
        let wide = network::during_setup(&sandbox, &config()).unwrap();
        for (pod, own, status, reason) in [
            (&goes_on, Some(&wide), "False", reason::SETTING_UP),
            (&goes_on, None, "True", reason::DENY_POLICY),
            (&is_over, Some(&wide), "False", reason::OPENED_BY_POLICY),
            (&is_over, Some(&own(ALLOW)), "True", reason::ALLOW_POLICY),
            (&is_over, None, "True", reason::DENY_POLICY),
        ] {
            let policies = [network::deny("demo")].into_iter().chain(own.cloned()).collect();
            let verdict = isolated(&sandbox, pod, &observed(None, policies), &config());
            assert_eq!((verdict.status, verdict.reason.as_str()), (status, reason), "{verdict:?}");
        }
    }

    #[test]
    fn what_is_let_through_is_said() {
        let message = judge(PORTS, vec![network::deny("demo"), own(PORTS)]).message;
        assert_eq!(
            message,
            "NetworkPolicy codesandbox-deny denies all traffic but what box-internet lets through: \
             public addresses; TCP 80 from 10.1.2.0/24"
        );
        let message = judge(ALLOW, vec![network::deny("demo")]).message;
        assert!(message.ends_with("is not there yet"), "{message}");
    }

    #[test]
    fn a_changed_policy_of_ours_does_not_count_as_ours() {
        let mut deny = network::deny("demo");
        deny.spec.as_mut().unwrap().egress = opener("x").spec.unwrap().egress;
        assert_eq!(judge(DENY, vec![deny]).reason, reason::NOT_DENIED);

        for network in [INTERNET, ALLOW] {
            let mut wider = own(network);
            wider.spec.as_mut().unwrap().egress = opener("x").spec.unwrap().egress;
            let verdict = judge(network, vec![network::deny("demo"), wider]);
            assert_eq!(verdict.reason, reason::OPENED_BY_POLICY);
        }
    }

    #[test]
    fn a_pod_whose_labels_were_taken_away_is_not_isolated() {
        let sandbox = sandbox();
        let mut pod = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);
        pod.metadata.labels.as_mut().unwrap().remove(names::MANAGED_BY);
        let observed = observed(None, vec![network::deny("demo")]);
        assert_eq!(isolated(&sandbox, &pod, &observed, &config()).reason, reason::NOT_DENIED);
    }

    #[test]
    fn openers_are_named_in_order_and_counted_when_many() {
        let mut policies = vec![network::deny("demo")];
        policies.extend(["g", "f", "e", "d", "c", "b", "a"].map(opener));
        let message = judge(DENY, policies).message;
        assert!(message.contains("a, b, c, d, e (and 2 more)"), "{message}");
    }
}
