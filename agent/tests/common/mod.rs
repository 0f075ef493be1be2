//! A real `agent serve` in a process of its own, on a socket of its own, and a client of it.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "every test file is a crate that uses its part of this"
)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use wire::v1::agent_client::AgentClient;
use wire::v1::outcome::How;
use wire::v1::run_event::Event;
use wire::v1::run_spec::What;
use wire::v1::write_request::Part;
use wire::v1::{
    self, AttachRequest, CancelRequest, ContextInfo, CreateContextRequest, DeleteContextRequest,
    Display, Entry, Exception, Form, Outcome, RunEvent, RunRequest, RunSpec, Started, WriteEnd,
    WriteReply, WriteRequest, WriteStart,
};
use wire::{Code, Error};

/// How long a test waits for anything before it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub type Client = AgentClient<Channel>;

/// An agent, killed when the test ends.
pub struct Agent {
    child: Option<Child>,
    /// The lines that it has written into its log.
    log: Arc<Mutex<Vec<String>>>,
    pub socket: String,
    /// Its workspace and its runs, which outlive it.
    pub root: TempDir,
    env: Vec<(&'static str, &'static str)>,
    /// How large its workspace is, if it has a file system of its own.
    disk: Option<&'static str>,
    /// The control group that bounds how many processes it may have, if one does.
    pids: Option<PidsGroup>,
}

/// A control group of a test's own, removed when all in it have ended.
struct PidsGroup(PathBuf);

impl PidsGroup {
    fn new(name: &str, most: u32) -> Self {
        // Version 1 has a tree for each controller, version 2 one for all.
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let group = roots.iter().find(|root| root.is_dir()).unwrap().join(name);
        std::fs::create_dir(&group).unwrap();
        std::fs::write(group.join("pids.max"), most.to_string()).unwrap();
        Self(group)
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        // Those that the agent's end has killed are on their way out.
        for _ in 0..500 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Gives the agent a workspace that only it sees, in a mount namespace of its own.
const ON_A_DISK: &str =
    r#"mount -t tmpfs -o size="$DISK" tmpfs "$CODESANDBOX_WORKDIR" && exec "$0" serve"#;

/// What makes agents PID 1 of a namespace of their own, as they are in sandboxes: gVisor gives orphans to no other.
const AS_PID_1: &str = "AGENTS_AS_PID_1";

impl Agent {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With variables that an image might set.
    pub fn start_with(env: &[(&'static str, &'static str)]) -> Self {
        Self::start_on(None, None, env)
    }

    /// With at most so many processes and threads, its own included.
    pub fn start_with_pids(most: u32) -> Self {
        Self::start_on(None, Some(most), &[])
    }

    /// With a disk of this size, as mount takes it. What is on it is seen through the agent alone.
    pub fn start_on_disk(size: &'static str) -> Self {
        Self::start_on(Some(size), None, &[])
    }

    fn start_on(
        disk: Option<&'static str>,
        pids: Option<u32>,
        env: &[(&'static str, &'static str)],
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        let socket = format!("codesandbox-test-{}", root.path().file_name().unwrap().display());
        std::fs::create_dir(root.path().join("workspace")).unwrap();
        let pids = pids.map(|most| PidsGroup::new(&socket, most));
        let (log, env) = (Arc::default(), env.to_vec());
        let mut agent = Self { child: None, log, socket, root, env, disk, pids };
        agent.restart();
        agent
    }

    /// Starts it again with the same directories.
    pub fn restart(&mut self) {
        let agent = env!("CARGO_BIN_EXE_agent");
        let mut command = Command::new(self.disk.map_or(agent, |_| "unshare"));
        match self.disk {
            Some(size) => command.args(["-rm", "sh", "-c", ON_A_DISK, agent]).env("DISK", size),
            None if std::env::var_os(AS_PID_1).is_some() => {
                command = Command::new("unshare");
                command.args(["-pf", "--mount-proc", "--kill-child", agent, "serve"])
            }
            None => command.arg("serve"),
        };
        let mut child = command
            .env("CODESANDBOX_SOCKET", &self.socket)
            .env("CODESANDBOX_RUNS_DIR", self.runs())
            .env("CODESANDBOX_WORKDIR", self.workspace())
            .env("CODESANDBOX_POD_UID", "a-uid")
            .env("CODESANDBOX_TERMINATION_LOG", self.last_words())
            // As in a sandbox, whatever this machine has.
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL")
            .env_remove("LC_CTYPE")
            // A machine that sets them would hide whether output is flushed, and what a terminal is called.
            .env_remove("PYTHONUNBUFFERED")
            .env_remove("TERM")
            .envs(self.env.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains("serves"), "{line}");
        if let Some(PidsGroup(group)) = &self.pids {
            std::fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let _ = writeln!(std::io::stderr(), "{line}");
                log.lock().unwrap().push(line);
            }
        });
        self.child = Some(child);
    }

    /// Ends it as a node's OOM killer would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it as the kubelet would, and gives its exit code and how long that took.
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        let mut child = self.child.take().unwrap();
        let since = Instant::now();
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        (child.wait().unwrap().code(), since.elapsed())
    }

    /// Waits until it has ended by itself, and gives its exit code. Connections go on, and end, meanwhile.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap().code());
        timeout(DEADLINE, ended).await.expect("it ends").unwrap()
    }

    /// What it has logged since it served.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().try_into().unwrap()
    }

    pub fn workspace(&self) -> PathBuf {
        self.root.path().join("workspace")
    }

    pub fn runs(&self) -> PathBuf {
        self.root.path().join("runs")
    }

    /// The file that the kubelet would read when it has ended.
    pub fn last_words(&self) -> PathBuf {
        self.root.path().join("last-words")
    }

    pub async fn client(&self) -> Client {
        let name = self.socket.clone();
        let connector = service_fn(move |_: Uri| {
            let name = name.clone();
            async move {
                let stream = StdUnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
                stream.set_nonblocking(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(UnixStream::from_std(stream)?))
            }
        });
        let channel = Endpoint::from_static("http://agent")
            .initial_stream_window_size(wire::limits::STREAM_WINDOW)
            .initial_connection_window_size(wire::limits::CONNECTION_WINDOW)
            .connect_with_connector(connector)
            .await
            .unwrap();
        AgentClient::new(channel).max_decoding_message_size(wire::limits::MAX_MESSAGE)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The agent's error in a status.
pub fn ours(status: &tonic::Status) -> Error {
    Error::of(status).expect("an error of ours")
}

/// The start of a write to this path.
pub fn at(path: &str) -> WriteStart {
    WriteStart { path: path.to_owned(), ..WriteStart::default() }
}

/// The messages of a whole write.
pub fn parts(
    start: WriteStart,
    data: &[u8],
    sha256: &[u8],
) -> impl Stream<Item = WriteRequest> + use<> {
    let end = WriteEnd { sha256: Bytes::copy_from_slice(sha256) };
    let data =
        data.chunks(wire::limits::CHUNK).map(|chunk| Part::Data(Bytes::copy_from_slice(chunk)));
    let parts: Vec<Part> =
        [Part::Start(start)].into_iter().chain(data).chain([Part::End(end)]).collect();
    tokio_stream::iter(parts.into_iter().map(|part| WriteRequest { part: Some(part) }))
}

pub async fn write(
    client: &mut Client,
    start: WriteStart,
    data: &[u8],
    sha256: &[u8],
) -> Result<WriteReply, Error> {
    answer(client.write(parts(start, data, sha256))).await
}

/// The answer of a call, or the agent's error.
pub async fn answer<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Error> {
    call.await.map(tonic::Response::into_inner).map_err(|status| ours(&status))
}

/// All entries of a listing.
pub async fn entries(
    answer: Result<tonic::Response<Streaming<Entry>>, tonic::Status>,
) -> Result<Vec<Entry>, Error> {
    let mut entries = answer.map_err(|status| ours(&status))?.into_inner();
    let mut found = Vec::new();
    while let Some(entry) = entries.message().await.unwrap() {
        found.push(entry);
    }
    Ok(found)
}

/// The paths of entries, from the workspace on.
pub fn below(agent: &Agent, entries: &[Entry]) -> Vec<String> {
    let root = agent.workspace();
    let paths = entries.iter().map(|entry| Path::new(OsStr::from_bytes(&entry.path)));
    paths.map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect()
}

/// What is in a directory, by name.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A command line for the shell.
pub fn shell(line: &str) -> RunSpec {
    command(v1::Command { shell: line.to_owned(), ..v1::Command::default() })
}

pub fn argv(words: &[&str]) -> RunSpec {
    command(v1::Command {
        argv: words.iter().map(ToString::to_string).collect(),
        ..v1::Command::default()
    })
}

pub fn command(command: v1::Command) -> RunSpec {
    RunSpec { what: Some(What::Command(command)), ..RunSpec::default() }
}

/// Code for the default context.
pub fn python(source: &str) -> RunSpec {
    python_in("", source)
}

pub fn python_in(context: &str, source: &str) -> RunSpec {
    code("python", context, source)
}

pub fn code(language: &str, context: &str, source: &str) -> RunSpec {
    let source = source.to_owned().into_bytes().into();
    let code = v1::Code { language: language.to_owned(), context: context.to_owned(), source };
    RunSpec { what: Some(What::Code(code)), ..RunSpec::default() }
}

pub fn limited(spec: RunSpec, timeout: Duration) -> RunSpec {
    RunSpec { timeout_ms: timeout.as_millis().try_into().unwrap(), ..spec }
}

/// Starts a run, or attaches to it.
pub async fn start(
    client: &mut Client,
    id: &str,
    spec: RunSpec,
    from: u64,
) -> Result<Streaming<RunEvent>, Error> {
    let request = RunRequest { run_id: id.to_owned(), spec: Some(spec), from };
    let answer = timeout(DEADLINE, client.run(request)).await.expect("the run begins in time");
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::of(&status).expect("an error of ours"))
}

/// Runs something to its end.
pub async fn run(client: &mut Client, id: &str, spec: RunSpec) -> Seen {
    let events = start(client, id, spec, 0).await.unwrap();
    see(events).await
}

/// The code with which a run is refused.
pub async fn refused(client: &mut Client, id: &str, spec: RunSpec) -> Error {
    start(client, id, spec, 0).await.map(drop).unwrap_err()
}

pub async fn attach(client: &mut Client, id: &str, from: u64) -> Result<Streaming<RunEvent>, Code> {
    let answer = client.attach(AttachRequest { run_id: id.to_owned(), from }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Error::of(&status).unwrap().code)
}

pub async fn cancel(client: &mut Client, id: &str) -> bool {
    client.cancel(CancelRequest { run_id: id.to_owned() }).await.unwrap().into_inner().was_running
}

/// The next event of a stream.
pub async fn next(events: &mut Streaming<RunEvent>) -> RunEvent {
    timeout(DEADLINE, events.message()).await.expect("an event in time").unwrap().expect("an event")
}

/// Waits until a stream has brought this text on stdout.
pub async fn until(events: &mut Streaming<RunEvent>, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        if let Some(Event::Output(output)) = next(events).await.event {
            seen.extend_from_slice(&output.data);
        }
    }
}

/// A run that is cancelled when it has printed that it has begun.
pub async fn interrupted(client: &mut Client, id: &str, spec: RunSpec) -> Seen {
    let mut events = start(client, id, spec, 0).await.unwrap();
    until(&mut events, "begun").await;
    assert!(cancel(client, id).await);
    see(events).await
}

/// All that a stream has brought.
#[derive(Debug, Default)]
pub struct Seen {
    pub events: Vec<RunEvent>,
    pub started: Option<Started>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub displays: Vec<Display>,
    pub exceptions: Vec<Exception>,
    pub truncated: bool,
    pub outcome: Option<Outcome>,
}

impl Seen {
    pub fn out(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    pub fn err(&self) -> &str {
        str::from_utf8(&self.stderr).unwrap()
    }

    pub fn outcome(&self) -> &Outcome {
        self.outcome.as_ref().expect("an outcome")
    }

    pub fn how(&self) -> How {
        self.outcome().how.expect("a known outcome")
    }

    /// The only exception's traceback, without the marks below the lines that newer Pythons make.
    pub fn traceback(&self) -> String {
        let [exception] = &self.exceptions[..] else { panic!("{:?}", self.exceptions) };
        let marks = |line: &&str| !line.contains(['^', '~']);
        exception.traceback.split_inclusive('\n').filter(marks).collect()
    }

    /// The text of the last expression's value.
    pub fn result(&self) -> Option<&str> {
        let display = self.displays.iter().find(|display| display.result)?;
        let form = display.forms.iter().find(|form| form.mime == "text/plain")?;
        str::from_utf8(&form.data).ok()
    }
}

/// What was shown in these forms, with no id.
pub fn shown(forms: &[(&str, &str)]) -> Display {
    let forms = forms.iter().map(|(mime, data)| Form {
        mime: (*mime).to_owned(),
        data: data.as_bytes().to_vec().into(),
    });
    Display { forms: forms.collect(), ..Display::default() }
}

/// Reads a stream to its end.
pub async fn see(mut events: Streaming<RunEvent>) -> Seen {
    let mut seen = Seen::default();
    while let Some(event) =
        timeout(DEADLINE, events.message()).await.expect("an event in time").unwrap()
    {
        match event.event.clone().unwrap() {
            Event::Started(started) => seen.started = Some(started),
            Event::Output(output) if output.stream() == v1::Stream::Stdout => {
                seen.stdout.extend(output.data);
            }
            Event::Output(output) => seen.stderr.extend(output.data),
            Event::Display(display) => seen.displays.push(display),
            Event::Exception(exception) => seen.exceptions.push(exception),
            Event::Truncated(_) => seen.truncated = true,
            Event::Changes(_) => {}
            Event::Outcome(outcome) => seen.outcome = Some(outcome),
        }
        seen.events.push(event);
    }
    seen
}

/// Waits until a run is known to the agent.
pub async fn known(client: &mut Client, id: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let request = AttachRequest { run_id: id.to_owned(), from: 0 };
        // One that waits gives no answer yet, one that is not known gives an error.
        let mut client = client.clone();
        match timeout(Duration::from_millis(50), client.attach(request)).await {
            Ok(Err(_)) => assert!(Instant::now() < deadline),
            Ok(Ok(_)) | Err(_) => return,
        }
    }
}

/// Waits until something is so.
pub async fn eventually(mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so().await {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes a context with nothing of its own.
pub async fn create(client: &mut Client, name: &str, language: &str) -> Result<ContextInfo, Error> {
    let (name, language) = (name.to_owned(), language.to_owned());
    let request = CreateContextRequest { name, language, ..CreateContextRequest::default() };
    let reply = client.create_context(request).await.map_err(|status| ours(&status))?;
    Ok(reply.into_inner().context.unwrap())
}

/// Deletes a context, and says whether there was one.
pub async fn delete(client: &mut Client, name: &str) -> bool {
    let request = DeleteContextRequest { name: name.to_owned() };
    client.delete_context(request).await.unwrap().into_inner().existed
}

/// Whether a process of this number lives.
pub fn lives(pid: &str) -> bool {
    let pid: u32 = pid.trim().parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

/// How many zombies there are among the children of a process and of those children.
pub fn zombies_below(root: i32) -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        let state = fields.next()?.to_owned();
        Some((pid, state, fields.next()?.parse::<i32>().ok()?))
    });
    let stats: Vec<_> = stats.collect();
    let children: Vec<i32> =
        stats.iter().filter(|stat| stat.2 == root).map(|stat| stat.0).collect();
    stats
        .iter()
        .filter(|(_, state, parent)| state == "Z" && (*parent == root || children.contains(parent)))
        .count()
}

/// What ends is a zombie until its parent has had its turn.
pub fn until_no_zombie(agent: &Agent) {
    let deadline = Instant::now() + DEADLINE;
    while zombies_below(agent.pid()) > 0 {
        assert!(Instant::now() < deadline, "{} zombies", zombies_below(agent.pid()));
    }
}
