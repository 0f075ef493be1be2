//! A caller that follows one sandbox to the end of its step, as the errors tell it to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Step,
    judge::{Claim, End, Ran},
    workload::{BEGUN, ENDED, Program, content, sha256},
};
use crate::mcp::{Answer, Door, text};

/// The longest a step may take to come to its end.
const PATIENCE: Duration = Duration::from_mins(2);
/// The pause before a call is made again.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// How often a caller asks again for an outcome that is said to be unknown.
const UNKNOWNS: u64 = 5;
/// What a sandbox is set up with. It takes long enough to die in, and says nothing before it is at its end.
const SETUP: &str = "sleep 2; echo made > set-up";

/// The file that is written over and over.
const FILE: &str = "upload.bin";

/// A caller of one sandbox.
pub(super) struct Caller {
    door: Arc<Door>,
    pub(super) sandbox: String,
    pub(super) step: Step,
    /// How long the sandbox lives if nobody deletes it.
    pub(super) ttl: &'static str,
    /// What it was told instead of results, by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// How many calls it has made.
    pub(super) calls: u64,
    /// The first words of each code.
    pub(super) words: BTreeMap<String, String>,
    /// The call that took longest, and how long.
    pub(super) slowest: (Duration, String),
    /// The last error's words.
    pub(super) last: String,
    pub(super) deadline: Instant,
}

impl Caller {
    pub(super) fn new(door: Arc<Door>, sandbox: &str, step: Step) -> Self {
        Self {
            door,
            sandbox: sandbox.into(),
            step,
            ttl: "20m",
            errors: BTreeMap::new(),
            calls: 0,
            words: BTreeMap::new(),
            slowest: (Duration::ZERO, String::new()),
            last: String::new(),
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// The same caller, as if it had not called yet.
    pub(super) fn anew(self) -> Self {
        Self::new(self.door, &self.sandbox, self.step)
    }

    pub(super) fn in_time(&self) -> bool {
        Instant::now() < self.deadline
    }

    async fn call(&mut self, tool: &str, arguments: &Value) -> Answer {
        self.calls += 1;
        let began = Instant::now();
        let answer = self.door.call(tool, arguments.clone()).await;
        if began.elapsed() > self.slowest.0 {
            self.slowest = (began.elapsed(), format!("{tool} of {}", self.sandbox));
        }
        self.note(tool, &answer);
        answer
    }

    /// Counts an answer that is no result.
    fn note(&mut self, tool: &str, answer: &Answer) {
        let Some(code) = answer.code() else { return };
        *self.errors.entry(code.into()).or_default() += 1;
        let words = answer.text().chars().take(300);
        self.last = format!("{tool}: {}", words.collect::<String>().replace('\n', " "));
        self.words.entry(code.into()).or_insert_with(|| self.last.clone());
    }

    fn id(&self) -> Value {
        json!({"sandbox_id": self.sandbox})
    }

    /// Asks for the sandbox; for as long as it takes if it is to be ready.
    pub(super) async fn create(&mut self, ready: bool) -> Result<(), String> {
        let wait = if ready { 45 } else { 0 };
        let mut arguments = json!({"name": self.sandbox, "memory": "128Mi", "cpu": "500m", "ttl": self.ttl, "wait_seconds": wait});
        if self.step == Step::Setup {
            arguments["setup"] = json!([SETUP]);
        }
        if self.step.has_disk() {
            arguments["workspace"] = "64Mi".into();
        }
        while self.in_time() {
            match self.call("sandbox_create", &arguments).await {
                Answer::Told(_) if !ready => return Ok(()),
                Answer::Told(created) => {
                    if created["structuredContent"]["ready"] == true {
                        return Ok(());
                    }
                    self.last = text(&created).into();
                }
                _ => sleep(PAUSE).await,
            }
        }
        Err(self.last.clone())
    }

    /// Whether the sandbox has what its setup was to make, if it had one.
    pub(super) async fn is_set_up(&mut self) -> Result<bool, String> {
        match self.step {
            Step::Setup => Ok(self.say("set-up", "cat set-up").await? == "made"),
            _ => Ok(true),
        }
    }

    /// Deletes the sandbox, and waits until it is said that there is none.
    pub(super) async fn delete(&mut self) -> Result<(), String> {
        let id = self.id();
        while self.in_time() {
            if let Answer::Told(_) = self.call("sandbox_delete", &id).await {
                break;
            }
            sleep(PAUSE).await;
        }
        while self.in_time() {
            // What this asks for is an error.
            let answer = self.door.call("sandbox_get", id.clone()).await;
            if answer.code() == Some("SANDBOX_NOT_FOUND") {
                return Ok(());
            }
            self.last = format!("sandbox_get still says {}", answer.text());
            self.note("sandbox_get", &answer);
            sleep(PAUSE).await;
        }
        Err(self.last.clone())
    }

    /// Starts a run and goes on when it has begun.
    pub(super) async fn begin(&mut self, program: &Program, run: &str) -> Result<(), String> {
        let mut arguments = program.arguments(&self.sandbox, run);
        arguments["wait_seconds"] = 0.into();
        while self.in_time() {
            if let Answer::Told(_) = self.call("run_command", &arguments).await
                && self.lines(BEGUN).await? == 1
            {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Err(self.last.clone())
    }

    /// Asks for a run until there is an outcome; with it the whole answer.
    pub(super) async fn outcome(&mut self, mut arguments: Value) -> (Claim, Value) {
        arguments["wait_seconds"] = 20.into();
        let mut unknowns = 0;
        while self.in_time() {
            let answer = self.call("run_command", &arguments).await;
            match answer {
                Answer::Told(result) if is_running(&result) => continue,
                Answer::Told(result) => return (claim(&result), result),
                Answer::Refused(code, result) if code == "RUN_LOST" => {
                    return (Claim::Lost, result);
                }
                Answer::Refused(code, result) if code == "OUTCOME_UNKNOWN" => {
                    unknowns += 1;
                    if unknowns == UNKNOWNS {
                        return (Claim::Unknown, result);
                    }
                }
                Answer::Refused(..) | Answer::Silence(_) => {}
            }
            sleep(PAUSE).await;
        }
        (Claim::Nothing(self.last.clone()), Value::Null)
    }

    /// Follows a run to its outcome, and looks at what it has left.
    pub(super) async fn run(&mut self, program: &Program, run: &str) -> Result<Ran, String> {
        let (claim, answer) = self.outcome(program.arguments(&self.sandbox, run)).await;
        let output = program.judge(&answer);
        let (starts, finishes) = (self.lines(BEGUN).await?, self.lines(ENDED).await?);
        Ok(Ran { claim, output, starts, finishes })
    }

    /// Follows a run that takes more memory than there is.
    pub(super) async fn hog(&mut self, arguments: Value) -> Claim {
        self.outcome(arguments).await.0
    }

    /// How many lines a file of the sandbox has; none if there is no such file.
    async fn lines(&mut self, file: &str) -> Result<usize, String> {
        let arguments = json!({"sandbox_id": self.sandbox, "path": file});
        while self.in_time() {
            self.calls += 1;
            let answer = self.door.call("file_read", arguments.clone()).await;
            match answer.code() {
                None => return Ok(answer.text().lines().count()),
                Some("FILE_NOT_FOUND") => return Ok(0),
                Some(_) => self.note("file_read", &answer),
            }
            sleep(PAUSE).await;
        }
        Err(self.last.clone())
    }

    /// Writes a file over and over, until one was written after `enough`.
    pub(super) async fn upload(&mut self, enough: &AtomicBool) -> Result<End, String> {
        let mut torn = 0;
        let mut is = String::new();
        for n in 1.. {
            let last = enough.load(Ordering::Relaxed);
            let data = content(n);
            let next = sha256(&data);
            let arguments = json!({"sandbox_id": self.sandbox, "path": FILE, "content_base64": BASE64.encode(&data)});
            while !matches!(self.call("file_write", &arguments).await, Answer::Told(_)) {
                let found = self.digest(&format!("d{n}")).await?;
                torn += usize::from(found != is && found != next);
                sleep(PAUSE).await;
            }
            is = next;
            if last {
                break;
            }
        }
        let found = self.digest("last").await?;
        torn += usize::from(found != is);
        let strays =
            self.say("strays", "ls -A /workspace | grep -c '^[.]codesandbox-' || true").await?;
        Ok(End::Written { torn, strays: strays.parse().map_err(|_| strays)? })
    }

    /// The digest of the file; empty if there is none.
    async fn digest(&mut self, run: &str) -> Result<String, String> {
        let line = format!("[ ! -e {FILE} ] || sha256sum <{FILE} | cut -c-64");
        self.say(run, &line).await
    }

    /// What a shell line says. One that was lost is said again under another id.
    pub(super) async fn say(&mut self, run: &str, line: &str) -> Result<String, String> {
        for attempt in 0.. {
            let run = format!("{run}-{attempt}-{}", self.calls);
            let arguments = json!({"sandbox_id": self.sandbox, "command": line, "run_id": run});
            let (claim, answer) = self.outcome(arguments).await;
            match claim {
                Claim::Exited(0) => {
                    let said = text(&answer).split_once("\n--- stdout\n");
                    return Ok(said.map_or_else(String::new, |(_, said)| said.into()));
                }
                Claim::Lost | Claim::Unknown => {}
                claim => return Err(format!("{line}: {claim:?}")),
            }
        }
        unreachable!("the numbers do not end")
    }

    /// How the sandbox, or its container, ended last, by the front end.
    pub(super) async fn last_termination(&mut self) -> String {
        match self.call("sandbox_get", &self.id()).await {
            Answer::Told(told) => {
                let last = told["structuredContent"]["last_termination"].as_str();
                last.unwrap_or_default().into()
            }
            _ => String::new(),
        }
    }
}

fn meta(result: &Value) -> &Value {
    &result["_meta"]["codesandbox.dev/run"]
}

fn is_running(result: &Value) -> bool {
    meta(result)["status"] == "running"
}

fn claim(result: &Value) -> Claim {
    match meta(result)["status"].as_str() {
        Some("exited") => Claim::Exited(meta(result)["exit_code"].as_i64().unwrap_or(i64::MIN)),
        Some("oom_killed") => Claim::OomKilled,
        Some("lost") => Claim::Lost,
        _ => Claim::Other(text(result).lines().next().unwrap_or_default().into()),
    }
}
