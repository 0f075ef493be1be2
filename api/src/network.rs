//! What a sandbox may reach over the network, and who may reach it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a sandbox may reach over the network, and who may reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Deny reaches nothing, DNS included, and is the default. Internet reaches public addresses and DNS, nothing of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// What it may reach besides: addresses or pods, no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub allow: Option<Vec<Reach>>,
    /// Its ports that others may reach. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub ports: Option<Vec<OpenPort>>,
}

/// What a sandbox may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Egress {
    /// Nothing.
    #[default]
    Deny,
    /// Public addresses and DNS.
    Internet,
}

/// A place to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reach {
    /// Where.
    #[serde(flatten)]
    pub peer: Peer,
    /// The ports there. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ports: Vec<PortRange>,
}

/// A port and who may reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenPort {
    /// The port.
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: u16,
    /// Its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Who may, as in allow.
    #[schemars(schema_with = "peers")]
    pub from: Vec<Peer>,
}

/// One end of a connection, in a NetworkPolicy's terms: addresses, or pods by their labels.
// Not Services: a policy cannot name one, and to read those of other namespaces is no right of the operator's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cidr) != (has(self.podSelector) || has(self.namespaceSelector))")
        .message("needs either cidr, or selectors"),
)]
pub struct Peer {
    /// A range of addresses, such as 10.1.0.0/16.
    // Only its shape, which costs nothing to check: whether it is one the operator says in a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 49), regex(pattern = r"^[0-9a-fA-F:.]+/(0|[1-9][0-9]{0,2})$"))]
    #[x_kube(validation = Rule::new("!self.endsWith('/0')").message("must not be all addresses; for public ones use egress: Internet"))]
    pub cidr: Option<String>,
    /// Pods with these labels. Without namespaceSelector: of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "labels")]
    pub pod_selector: Option<Labels>,
    /// In namespaces with these labels. Without podSelector: all pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "labels")]
    pub namespace_selector: Option<Labels>,
}

/// Labels that have to be there, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Labels {
    /// The labels.
    pub match_labels: BTreeMap<String, String>,
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.endPort) || self.endPort >= self.port").message("endPort must not be less than port"),
)]
pub struct PortRange {
    /// The port, or the first.
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: u16,
    /// The last. Default: port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub end_port: Option<u16>,
    /// Their protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// Default: TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The value a policy takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Labels, at least one: none would be everybody, which nobody is to get by leaving something out. Without words, of which
/// each CRD would have them four times.
fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["matchLabels"],
        "properties": {"matchLabels": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "minProperties": 1,
            "maxProperties": 8,
        }},
    })
}

/// Who may reach a port. What each part is `allow` says already; how all addresses are to be reached is nothing of this.
fn peers(generator: &mut SchemaGenerator) -> Schema {
    let mut peer = Peer::json_schema(generator);
    peer.remove("description");
    let properties = peer.get_mut("properties").and_then(|properties| properties.as_object_mut());
    for (name, property) in properties.into_iter().flatten() {
        let Some(property) = property.as_object_mut() else { continue };
        property.remove("description");
        if name == "cidr" {
            property.remove("x-kubernetes-validations");
            property.insert("pattern".into(), r"^[0-9a-fA-F:.]+/[1-9][0-9]{0,2}$".into());
        }
    }
    json_schema!({"type": "array", "items": peer, "minItems": 1, "maxItems": 8})
}
