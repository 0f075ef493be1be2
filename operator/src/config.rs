//! What the administrator decides for every sandbox of this installation.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use api::ImagePullPolicy;
use clap::Args;

use crate::{cidr::Cidr, injection::AgentInjection, template::shipped::Shipped};

/// The settings that shape what is built. They are arguments to `plan`, never globals.
#[derive(Clone, Debug, Args)]
pub(crate) struct Config {
    /// The `className` of the CodeSandboxes that are ours; others are left alone
    #[arg(long, env = "OPERATOR_CLASS", default_value = api::names::DEFAULT_CLASS)]
    pub(crate) class: String,

    /// The Helm release, in the label of every pod we make
    #[arg(long, env = "OPERATOR_INSTANCE")]
    pub(crate) instance: String,

    /// The image that holds the agent at /agent
    #[arg(long, env = "OPERATOR_AGENT_IMAGE")]
    pub(crate) agent_image: String,

    /// When to pull the agent's image: Always, `IfNotPresent` or Never
    #[arg(long, env = "OPERATOR_AGENT_IMAGE_PULL_POLICY", value_parser = pull_policy)]
    pub(crate) agent_image_pull_policy: Option<ImagePullPolicy>,

    /// How the agent gets into pods
    #[arg(long, env = "OPERATOR_AGENT_INJECTION", default_value = "Auto", value_enum)]
    pub(crate) agent_injection: AgentInjection,

    /// The image of CodeSandboxes that name none
    #[arg(long, env = "OPERATOR_SANDBOX_IMAGE")]
    pub(crate) sandbox_image: String,

    /// When to pull a sandbox's image where the CodeSandbox does not say: Always, `IfNotPresent` or Never
    #[arg(long, env = "OPERATOR_SANDBOX_IMAGE_PULL_POLICY", value_parser = pull_policy)]
    pub(crate) sandbox_image_pull_policy: Option<ImagePullPolicy>,

    /// The template of CodeSandboxes that name none. Default: none, and then they may have what they like
    #[arg(long, env = "OPERATOR_DEFAULT_TEMPLATE")]
    pub(crate) default_template: Option<String>,

    /// The CodeSandboxTemplates that come with the installation, by their names, as JSON
    #[arg(long, env = "OPERATOR_TEMPLATES", default_value = "{}", hide_env_values = true)]
    pub(crate) templates: Shipped,

    /// How long a pod may run at most, whatever its ttl says
    #[arg(long, env = "OPERATOR_MAX_LIFETIME", default_value = "24h", value_parser = lifetime)]
    pub(crate) max_lifetime: Duration,

    /// How much of a sandbox's CPU limit is reserved for it on its node, in percent
    #[arg(long, env = "OPERATOR_CPU_REQUEST_PERCENT", default_value = "10", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) cpu_request_percent: u8,

    /// Run nothing in a sandbox before its agent has seen that the network is closed; where it stays open, never
    #[arg(long, env = "OPERATOR_REQUIRE_NETWORK_ISOLATION", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) require_network_isolation: bool,

    /// An address that answers every pod without a network policy and no sandbox, by which the agent sees that.
    /// Default: that of the API server's Service
    #[arg(long, env = "OPERATOR_NETWORK_CANARY")]
    pub(crate) network_canary: Option<SocketAddr>,

    /// The address of the API server's Service, which no sandbox may be allowed to reach. Kubernetes tells it every container
    #[arg(long, env = "KUBERNETES_SERVICE_HOST")]
    pub(crate) api_server_address: Option<String>,

    /// A resolver that sandboxes with egress Internet may use; repeat it for up to three
    #[arg(long = "dns-server", env = "OPERATOR_DNS_SERVERS", value_delimiter = ',', num_args = 1)]
    pub(crate) dns_servers: Vec<IpAddr>,

    /// A range of the cluster (pods, services, nodes) that egress Internet must not reach, besides the private ones; repeat it for more
    #[arg(
        long = "cluster-cidr",
        env = "OPERATOR_CLUSTER_CIDRS",
        value_delimiter = ',',
        num_args = 1,
        value_parser = exception
    )]
    pub(crate) cluster_cidrs: Vec<Cidr>,
}

impl Config {
    /// The addresses by which sandboxes see that their network is closed, as far as they are known: the canary, and that
    /// of the API server.
    pub(crate) fn canaries(&self) -> impl Iterator<Item = IpAddr> {
        let canary = self.network_canary.map(|canary| canary.ip());
        // A name, as some clouds give it, is no address.
        let server = self.api_server_address.as_deref().and_then(|address| address.parse().ok());
        canary.into_iter().chain(server)
    }
}

/// A prefix of 0 is refused: the API takes only exceptions that are smaller than what they are cut out of.
fn exception(text: &str) -> Result<Cidr, String> {
    let range: Cidr = text.parse()?;
    if range.is_everything() { Err(format!("{text} is all addresses")) } else { Ok(range) }
}

fn pull_policy(text: &str) -> Result<ImagePullPolicy, String> {
    [ImagePullPolicy::Always, ImagePullPolicy::IfNotPresent, ImagePullPolicy::Never]
        .into_iter()
        .find(|policy| policy.as_str() == text)
        .ok_or_else(|| format!("{text} is none of Always, IfNotPresent, Never"))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    match text.parse::<kube::core::Duration>().map(Duration::from) {
        // kube drops the sign.
        Ok(duration) if duration.as_secs() > 0 && !text.starts_with('-') => Ok(duration),
        _ => Err(format!("{text} is not a time of at least a second, such as 24h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_cut_out_of_all_are_not_all() {
        assert_eq!(exception("10.96.0.0/12").unwrap().to_string(), "10.96.0.0/12");
        for bad in ["0.0.0.0/0", "::/0", "10.0.0.0"] {
            assert!(exception(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lifetimes_are_at_least_a_second() {
        assert_eq!(lifetime("90m").unwrap().as_secs(), 5400);
        for bad in ["0s", "1ms", "-1h", "tomorrow"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }
}
