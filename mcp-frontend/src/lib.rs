//! The door agents use: MCP over Streamable HTTP or stdio, on top of `service`. No logic of its own.

mod args;
mod changes;
mod connections;
mod contents;
mod descriptors;
mod displays;
mod excerpt;
mod found;
#[doc(hidden)]
pub mod fuzzing;
mod gpus;
mod guard;
mod hex;
mod http;
mod limits;
mod linger;
mod looked;
mod metrics;
mod outcome;
mod outputs;
mod page;
mod patience;
mod pictures;
mod resources;
mod run;
mod schema;
mod server;
mod shutdown;
mod stdio;
#[cfg(test)]
mod testing;
mod tools;
mod toolsets;
mod transcript;
mod uris;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use clap::{Parser, builder::RangedU64ValueParser};
use client::Sandboxes;
use kube::config::ExecInteractiveMode;
use service::{Principal, Service};
use tracing_subscriber::EnvFilter;

use crate::{server::Server, shutdown::Shutdown, toolsets::Toolset};

/// The one principal there is until there are identities to tell apart. The same by HTTP and by stdio,
/// so that either finds the other's sandboxes.
const PRINCIPAL: &str = "mcp";

/// MCP front end of CodeSandbox: creates CodeSandbox resources and runs code in them through the kube API.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Serve on stdin and stdout, for a client that starts this program itself. With the rights of
    /// the kubeconfig; logs go to stderr.
    #[arg(long, conflicts_with_all = ["listen", "token_file", "allowed_host", "allowed_origin", "max_connections"])]
    stdio: bool,
    /// Where to listen. Without a token only loopback addresses are taken.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The namespace in which sandboxes are made.
    #[arg(long, env = "NAMESPACE")]
    namespace: String,
    /// The class of the sandboxes that are made.
    #[arg(long, env = "CLASS", default_value = api::names::DEFAULT_CLASS)]
    class: String,
    /// The file that holds the bearer token, such as a mounted Secret's key.
    #[arg(long, env = "TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// A name by which clients may address this server in the Host header. Loopback names and IP
    /// addresses always are allowed: only names can be rebound to another address.
    #[arg(long, env = "ALLOWED_HOSTS", value_delimiter = ',')]
    allowed_host: Vec<String>,
    /// An origin browsers may call from, such as https://app.example.com. Default: none.
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',')]
    allowed_origin: Vec<String>,
    /// How many connections of clients are taken; those above are told to try again.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 1024,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    max_connections: usize,
    #[command(flatten)]
    limits: limits::Flags,
    /// The template of sandboxes that name none, where the operator has one: it is counted by its amounts.
    #[arg(long, env = "DEFAULT_TEMPLATE")]
    default_template: Option<String>,
    /// Tools to offer beside those that everybody needs: each costs every model that sees it.
    #[arg(long, env = "TOOLSETS", value_delimiter = ',', value_enum)]
    toolsets: Vec<Toolset>,
    /// Log lines as JSON.
    #[arg(long, env = "LOG_JSON")]
    log_json: bool,
}

/// Runs the program.
pub fn main() -> anyhow::Result<()> {
    run()
}

#[tokio::main]
async fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    telemetry(args.log_json);
    if args.stdio {
        let kube = client::client(&unattended(kube::Config::infer().await?))?;
        let server = args.server(kube).of(Principal::new(PRINCIPAL));
        return stdio::serve(server, rmcp::transport::io::stdio_pipes()).await;
    }
    let token = match &args.token_file {
        Some(path) => Some(
            guard::Token::read(path)
                .with_context(|| format!("could not read the token in {}", path.display()))?,
        ),
        None if args.listen.ip().is_loopback() => {
            tracing::warn!(listen = %args.listen, "no token: whoever reaches this loopback port may use it");
            None
        }
        None => bail!(
            "refusing to listen on {} without a token: set --token-file, or listen on a loopback address such as 127.0.0.1:8080",
            args.listen
        ),
    };
    descriptors::prepare(args.max_connections);
    let server = args.server(client::infer().await?);
    let guard = guard::Guard { token, hosts: args.allowed_host, origins: args.allowed_origin };
    http::serve(args.listen, connections::Limits::new(args.max_connections), server, guard).await
}

impl Args {
    fn server(&self, kube: kube::Client) -> Server {
        let sandboxes = Sandboxes::new(kube, &self.namespace);
        let service = Arc::new(Service::new(sandboxes, self.config()));
        let tools = toolsets::tools(&self.toolsets);
        Server::new(service, Arc::default(), Shutdown::default()).with(tools)
    }

    fn config(&self) -> service::Config {
        service::Config {
            class: self.class.clone(),
            limits: self.limits.limits(),
            default_template: self.default_template.clone(),
        }
    }
}

/// A configuration whose credential plugin asks nobody: stdin is the client's, and it would read from it.
fn unattended(mut config: kube::Config) -> kube::Config {
    if let Some(plugin) = &mut config.auth_info.exec {
        plugin.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    config
}

fn telemetry(json: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,rmcp=warn,kube=info"));
    // A log nobody reads any more must not end the process.
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    if json { logs.json().init() } else { logs.init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> Option<String> {
        let all = ["mcp-frontend", "--namespace", "a"].iter().chain(arguments);
        Args::try_parse_from(all).err().map(|error| error.to_string())
    }

    #[test]
    fn over_stdio_a_credential_plugin_reads_no_stdin() {
        let mut config = kube::Config::new("https://localhost".parse().unwrap());
        assert!(unattended(config.clone()).auth_info.exec.is_none());
        config.auth_info.exec = serde_json::from_str(r#"{"command": "a"}"#).unwrap();
        let plugin = unattended(config).auth_info.exec.unwrap();
        assert_eq!(plugin.interactive_mode, Some(ExecInteractiveMode::Never));
    }

    #[test]
    fn what_bounds_callers_is_what_the_flags_say() {
        let flags = ["--namespace=a", "--class=b", "--default-template=python", "--max-gpus=1"];
        let args = Args::parse_from(["mcp-frontend"].iter().chain(&flags));
        let limits = service::Limits { sandboxes: Some(100), gpus: Some(1), ..Default::default() };
        let default_template = Some("python".into());
        let expected = service::Config { class: "b".into(), limits, default_template };
        assert_eq!(args.config(), expected);
    }

    #[test]
    fn the_bound_on_connections_is_one_that_can_be_kept() {
        for (connections, fits) in [(0, false), (1, true), (65_536, true), (65_537, false)] {
            let refusal = refusal(&[&format!("--max-connections={connections}")]);
            assert_eq!(refusal.is_none(), fits, "{connections}: {refusal:?}");
        }
    }

    #[test]
    fn stdio_takes_nothing_that_is_for_listening() {
        assert_eq!(refusal(&["--stdio"]), None);
        for other in [
            "--listen=127.0.0.1:1",
            "--token-file=t",
            "--allowed-host=h",
            "--allowed-origin=http://o",
            "--max-connections=1",
        ] {
            assert_eq!(refusal(&[other]), None);
            let refusal = refusal(&["--stdio", other]).unwrap();
            let flag = other.split('=').next().unwrap();
            assert!(
                refusal.contains(&format!("'--stdio' cannot be used with '{flag}")),
                "{refusal}"
            );
        }
    }
}
