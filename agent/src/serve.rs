//! `agent serve`: PID 1 of a sandbox, from its socket's first byte to its end.

use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdUnixListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::prctl;
use tokio::net::UnixListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use wire::limits::{
    CONNECTION_WINDOW, KEEPALIVE, KEEPALIVE_TIMEOUT, KILL_GRACE, MAX_MESSAGE, MAX_STREAMS,
    STREAM_WINDOW,
};
use wire::v1::agent_server::AgentServer;

use crate::context::Contexts;
use crate::ending::Ending;
use crate::files::{Extracts, Watches};
use crate::idle::{Counted, Usage};
use crate::isolation::{self, Proof};
use crate::names;
use crate::reaper::Reaper;
use crate::run::registry::Registry;
use crate::service::Service;
use crate::settings::Settings;
use crate::setup;

/// What says in the directory of the logs of runs, which outlives the agent, that the first call has come.
const CALLED: &str = "called";
/// How many threads may be in file operations at once.
const BLOCKING_THREADS: usize = 8;
/// The stack of each: most of what they do is system calls, but patterns are compiled by recursion. What is
/// not used costs nothing.
const BLOCKING_STACK: usize = 2 << 20;

/// Serves until it is told to end, or has a reason of its own.
pub(crate) fn serve(settings: Settings) -> io::Result<ExitCode> {
    // Runs share our uid: without this they could attach to us, or read our memory.
    prctl::set_dumpable(false)?;
    // One thread is enough for what is little more than copying, and costs the least memory.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(BLOCKING_STACK)
        // For ever: where a sandbox can start no more threads, those that are there go on.
        .thread_keep_alive(Duration::MAX)
        .build()?;
    let result = runtime.block_on(run(Arc::new(settings)));
    // Not dropped: that would wait for blocking threads, on a disk that hangs for example.
    runtime.shutdown_background();
    result
}

async fn run(settings: Arc<Settings>) -> io::Result<ExitCode> {
    // PID 1 is sent no signal that it does not handle, so these come first.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reaper = Reaper::start()?;
    let runs = Registry::open(&settings.runs)
        .map_err(|error| io::Error::other(format!("{}: {error}", settings.runs.display())))?;
    let contexts = Contexts::new(reaper.clone(), Arc::clone(&settings));
    // One at least is there from the beginning.
    tokio::task::spawn_blocking(|| {}).await.map_err(io::Error::other)?;
    let listener = listen(&settings.socket)?;
    crate::log(&format!("version {} serves on @{}", env!("CARGO_PKG_VERSION"), settings.socket));

    let refused = settings.resolver_port.and_then(names::serve);
    let usage = Usage::new(settings.awaits_call.then(|| settings.runs.join(CALLED)));
    let canary = isolation::canary(settings.canary.as_deref())?;
    let proof = Arc::new(Proof::new(canary, setup::opened(&settings.runs)));
    let (idle_timeout, last_words) = (settings.idle_timeout, settings.last_words.clone());
    let service = Service {
        settings,
        usage: usage.clone(),
        proof: Arc::clone(&proof),
        reaper: reaper.clone(),
        runs: Arc::clone(&runs),
        contexts,
        turn: Arc::default(),
        uploads: Arc::default(),
        extracts: Extracts::default(),
        watches: Watches::default(),
        scaling: Arc::default(),
        asking: Arc::default(),
        refused,
    };
    let service = AgentServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(Counted { service, usage: usage.clone() })
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::pin!(server);
    let idle = async {
        match idle_timeout {
            Some(limit) => usage.until_idle(limit).await,
            None => pending().await,
        }
    };
    let stop = async {
        let ending = tokio::select! {
            _ = terminate.recv() => Ending::Signal(15),
            _ = interrupt.recv() => Ending::Signal(2),
            () = idle => Ending::IdleTimeout,
            () = proof.seek() => Ending::NotIsolated,
        };
        crate::log(&format!("ends: {ending:?}"));
        ending.leave_word(&last_words);
        runs.stop();
        // A little more than a kill takes at most; what is left then goes with the container.
        let _ = tokio::time::timeout(KILL_GRACE + Duration::from_secs(1), reaper.kill_all()).await;
        // Once more: what ran until now could write there, too.
        ending.leave_word(&last_words);
        ending.code()
    };
    tokio::select! {
        result = &mut server => result.map(|()| ExitCode::SUCCESS).map_err(io::Error::other),
        code = stop => Ok(code),
    }
}

fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = StdUnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
