//! Whether a sandbox's pod is isolated: judged from the policies that are there, not from those that were meant.

use std::collections::BTreeMap;

use api::{CodeSandbox, Egress, names, reason};
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::ResourceExt;

use crate::{config::Config, network, observe::Observed, pod, status::Verdict};

/// How many policies a message names; of more it gives the number.
const NAMED: usize = 5;

/// The deny policy, where it is there and says what it should.
pub(crate) fn deny<'a>(observed: &'a Observed, namespace: &str) -> Option<&'a NetworkPolicy> {
    observed
        .policy(names::DENY_POLICY)
        .filter(|live| network::same(live, &network::deny(namespace)))
}

/// Whether a sandbox is to have a policy of its own now: where it may reach something itself, or its setup may, which a pod
/// is yet to come to the end of.
pub(crate) fn is_opened(sandbox: &CodeSandbox, pod: Option<&Pod>) -> bool {
    let effective = sandbox.effective();
    effective.egress == Egress::Internet
        || effective.setup_opens() && !pod.is_some_and(pod::setup::is_over)
}

/// The sandbox's own policy, where it is there, is to be there, belongs to the sandbox and says what it should.
pub(crate) fn internet<'a>(
    sandbox: &CodeSandbox,
    pod: Option<&Pod>,
    observed: &'a Observed,
    config: &Config,
) -> Option<&'a NetworkPolicy> {
    if !is_opened(sandbox, pod) {
        return None;
    }
    observed
        .policy(&names::internet_policy(&sandbox.name_any()))
        .filter(|live| pod::is_owned(&live.metadata, sandbox))
        .filter(|live| network::same(live, &network::internet(sandbox, config)))
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
    let own = internet(sandbox, Some(pod), observed, config);

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
    match (sandbox.effective().egress, own) {
        (Egress::Deny, Some(own)) => Verdict::no(
            reason::SETTING_UP,
            format!(
                "NetworkPolicy {} lets spec.setup reach public addresses, and is removed when that has ended",
                own.name_any()
            ),
        ),
        (Egress::Deny, None) => Verdict::yes(
            reason::DENY_POLICY,
            format!("NetworkPolicy {} denies the sandbox all traffic", names::DENY_POLICY),
        ),
        (Egress::Internet, Some(own)) => Verdict::yes(
            reason::INTERNET_POLICY,
            format!(
                "NetworkPolicy {} denies all traffic but what {} lets through: public addresses",
                names::DENY_POLICY,
                own.name_any()
            ),
        ),
        (Egress::Internet, None) => Verdict::yes(
            reason::DENY_POLICY,
            format!(
                "NetworkPolicy {} denies the sandbox all traffic; the policy that opens the Internet to it is not there yet",
                names::DENY_POLICY
            ),
        ),
    }
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
    use api::Network;

    use super::*;
    use crate::injection::Way;
    use crate::testing::{config, observed, opener, sandbox};

    fn judge(egress: Egress, policies: Vec<NetworkPolicy>) -> Verdict {
        let mut sandbox = sandbox();
        sandbox.spec.settings.network = Some(Network { egress: Some(egress) });
        let pod = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);
        isolated(&sandbox, &pod, &observed(None, policies), &config())
    }

    fn own() -> NetworkPolicy {
        let mut sandbox = sandbox();
        sandbox.spec.settings.network = Some(Network { egress: Some(Egress::Internet) });
        network::internet(&sandbox, &config())
    }

    #[test]
    fn it_is_true_only_of_policies_that_are_there() {
        let deny = || network::deny("demo");
        for (egress, policies, status, reason) in [
            (Egress::Deny, vec![deny()], "True", reason::DENY_POLICY),
            (Egress::Deny, vec![], "False", reason::NOT_DENIED),
            (Egress::Internet, vec![deny(), own()], "True", reason::INTERNET_POLICY),
            (Egress::Internet, vec![deny()], "True", reason::DENY_POLICY),
            (Egress::Internet, vec![own()], "False", reason::NOT_DENIED),
            (Egress::Deny, vec![deny(), opener("allow")], "False", reason::OPENED_BY_POLICY),
            // A policy of its own is an opener where it was not asked for.
            (Egress::Deny, vec![deny(), own()], "False", reason::OPENED_BY_POLICY),
        ] {
            let verdict = judge(egress, policies);
            assert_eq!((verdict.status, verdict.reason.as_str()), (status, reason), "{verdict:?}");
        }
    }

    #[test]
    fn a_changed_policy_of_ours_does_not_count_as_ours() {
        let mut deny = network::deny("demo");
        deny.spec.as_mut().unwrap().egress = opener("x").spec.unwrap().egress;
        assert_eq!(judge(Egress::Deny, vec![deny]).reason, reason::NOT_DENIED);

        let mut wider = own();
        wider.spec.as_mut().unwrap().egress = opener("x").spec.unwrap().egress;
        let verdict = judge(Egress::Internet, vec![network::deny("demo"), wider]);
        assert_eq!(verdict.reason, reason::OPENED_BY_POLICY);
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
        let message = judge(Egress::Deny, policies).message;
        assert!(message.contains("a, b, c, d, e (and 2 more)"), "{message}");
    }
}
