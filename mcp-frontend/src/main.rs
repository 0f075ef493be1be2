//! The door agents use: MCP over Streamable HTTP, on top of `service`. No logic of its own.

mod args;
mod excerpt;
mod guard;
mod http;
mod metrics;
mod outputs;
mod run;
mod schema;
mod server;
mod tools;
mod transcript;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use clap::Parser;
use client::Sandboxes;
use service::Service;
use tracing_subscriber::EnvFilter;

/// MCP front end of CodeSandbox: creates CodeSandbox resources and runs code in them through the kube API.
#[derive(Parser)]
#[command(version, about)]
struct Args {
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
    /// Log lines as JSON.
    #[arg(long, env = "LOG_JSON")]
    log_json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    telemetry(args.log_json);
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

    let kube = client::infer().await?;
    let sandboxes = Sandboxes::new(kube, &args.namespace);
    let service = Arc::new(Service::new(sandboxes, service::Config { class: args.class }));
    let guard = guard::Guard { token, hosts: args.allowed_host, origins: args.allowed_origin };
    http::serve(args.listen, service, guard).await
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
