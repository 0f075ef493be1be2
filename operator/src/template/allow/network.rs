//! How much of the network a sandbox may ask for beside its template's own.

use api::{CodeSandboxTemplateSpec, Egress, OpenPort, Peer, PortRange, Reach, Settings};

use super::listed;
use crate::{cidr::Cidr, network::reach};

/// The Internet, for the sandbox or its setup, where it is neither the template's own nor allowed.
pub(super) fn internet(asked: &Settings, template: &CodeSandboxTemplateSpec) -> Vec<String> {
    let egress = |settings: &Settings| settings.network.as_ref()?.egress;
    let defaults = &template.defaults;
    if [egress(defaults), template.allow.egress].contains(&Some(Egress::Internet)) {
        return Vec::new();
    }
    // The template's own is for its own commands alone.
    let setup = asked.setup.as_ref().filter(|setup| defaults.setup.as_ref() != Some(setup));
    let asked = [("network", egress(asked)), ("setup", setup.and_then(|setup| setup.egress))];
    let asked = asked.into_iter().filter(|(_, egress)| *egress == Some(Egress::Internet));
    asked.map(|(field, _)| format!("spec.{field}.egress Internet")).collect()
}

/// The places and ports that are neither the template's own nor within the ranges that it allows.
pub(super) fn places(asked: &Settings, template: &CodeSandboxTemplateSpec) -> Vec<String> {
    let asked = asked.network.clone().unwrap_or_default();
    let own = template.defaults.network.clone().unwrap_or_default();
    let allowed = &template.allow.network;
    // What is no range allows nothing.
    let ranges: Vec<Cidr> = allowed.iter().filter_map(|range| range.parse().ok()).collect();
    let is_within = |peer: &Peer| {
        let asked: Option<Cidr> = peer.cidr.as_deref().and_then(|cidr| cidr.parse().ok());
        asked.is_some_and(|asked| ranges.iter().any(|range| range.covers(&asked)))
    };
    let (own_places, own_ports) = (own.allow.unwrap_or_default(), own.ports.unwrap_or_default());
    let places = asked.allow.iter().flatten();
    let places = places.filter(|one| {
        !own_places.iter().any(|own| is_same_place(own, one)) && !is_within(&one.peer)
    });
    let places = places.map(|one| format!("spec.network.allow {}", reach::place(one)));
    let ports = asked.ports.iter().flatten();
    let ports = ports.filter(|one| {
        !own_ports.iter().any(|own| is_same_port(own, one)) && !one.from.iter().all(is_within)
    });
    let ports = ports.map(|one| format!("spec.network.ports {}", reach::entrance(one)));
    let bound = listed(allowed);
    places.chain(ports).map(|found| format!("{found} (allowed: {bound})")).collect()
}

/// Whether two places are the same, in whichever words.
fn is_same_place(one: &Reach, other: &Reach) -> bool {
    let ports = |reach: &Reach| -> Vec<_> {
        let said = |range: &PortRange| {
            (range.port, range.end_port.unwrap_or(range.port), range.protocol.unwrap_or_default())
        };
        reach.ports.iter().map(said).collect()
    };
    one.peer == other.peer && ports(one) == ports(other)
}

fn is_same_port(one: &OpenPort, other: &OpenPort) -> bool {
    let said = |open: &OpenPort| (open.port, open.protocol.unwrap_or_default());
    said(one) == said(other) && one.from == other.from
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::template::allow::tests::check;

    #[test]
    fn what_is_reached_besides_is_the_templates_or_within_a_range_that_it_allows() {
        let db = json!({"podSelector": {"matchLabels": {"app": "db"}}});
        let place = |cidr: &str| json!({"cidr": cidr, "ports": [{"port": 5432}]});
        let open = |from: Value| json!({"port": 80, "from": from});
        let template = json!({
            "defaults": {"network": {"allow": [place("192.0.2.0/24"), db], "ports": [open(json!([db]))]}},
            "allow": {"network": ["10.1.0.0/16", "fd00::/8", "nonsense"]},
        });
        for (network, found) in [
            (
                json!({"allow": [place("10.1.2.0/24"), {"cidr": "10.1.0.0/16"}, {"cidr": "fd00::/64"}]}),
                vec![],
            ),
            (json!({"allow": [db, place("192.0.2.0/24")], "ports": [open(json!([db]))]}), vec![]),
            (json!({"allow": [], "ports": [open(json!([{"cidr": "10.1.2.3/32"}]))]}), vec![]),
            // The same in other words.
            (
                json!({
                    "allow": [{"cidr": "192.0.2.0/24", "ports": [{"port": 5432, "endPort": 5432, "protocol": "TCP"}]}],
                    "ports": [{"port": 80, "protocol": "TCP", "from": [db]}],
                }),
                vec![],
            ),
            (
                json!({"allow": [{"cidr": "192.0.2.0/24", "ports": [{"port": 5432, "protocol": "UDP"}]}]}),
                vec!["spec.network.allow 192.0.2.0/24 on UDP 5432"],
            ),
            (
                json!({"allow": [place("10.0.0.0/8")]}),
                vec!["spec.network.allow 10.0.0.0/8 on TCP 5432"],
            ),
            // The template's own place, on more than its own ports.
            (json!({"allow": [{"cidr": "192.0.2.0/24"}]}), vec!["spec.network.allow 192.0.2.0/24"]),
            (
                json!({"allow": [{"podSelector": {"matchLabels": {"app": "web"}}}]}),
                vec!["spec.network.allow pods app=web of this namespace"],
            ),
            (
                json!({"ports": [open(json!([{"cidr": "10.1.2.3/32"}, {"cidr": "10.2.0.0/16"}]))]}),
                vec!["spec.network.ports TCP 80 from 10.1.2.3/32, 10.2.0.0/16"],
            ),
            (
                json!({"ports": [{"port": 81, "from": [db]}]}),
                vec!["spec.network.ports TCP 81 from pods app=db of this namespace"],
            ),
            (json!({"allow": [{"cidr": "10.1.0.0/33"}]}), vec!["spec.network.allow 10.1.0.0/33"]),
        ] {
            let allowed = " (allowed: 10.1.0.0/16, fd00::/8, nonsense)";
            let found: Vec<_> = found.iter().map(|found| format!("{found}{allowed}")).collect();
            assert_eq!(check(json!({"network": network}), template.clone()), found);
        }
        let asked = json!({"network": {"allow": [{"cidr": "10.1.2.0/24"}]}});
        assert_eq!(
            check(asked, json!({})),
            ["spec.network.allow 10.1.2.0/24 (allowed: the template's own)"]
        );
    }
}
