//! The steps of a setup, one after another, until one fails.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::files::Planned;
use super::git::{Credentials, Git, Target};
use super::installs::{Install, installs};
use super::{Failure, Plan};
use crate::settings::{self, Settings};

/// How often it is looked whether a command has ended.
const LOOK: Duration = Duration::from_millis(20);
/// The pauses before a server is asked again: the network of a new pod may only just be opening.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// Where steps are done, and until when.
pub(super) struct Steps<'a> {
    settings: &'a Settings,
    /// Where all their output goes.
    log: File,
    deadline: Instant,
}

impl<'a> Steps<'a> {
    pub(super) fn new(settings: &'a Settings, log: File, deadline: Instant) -> Self {
        Self { settings, log, deadline }
    }

    /// Does all of a plan; gives what failed, and how.
    pub(super) async fn all(mut self, plan: &Plan) -> Result<(), (String, Failure)> {
        if let Some(git) = &plan.git {
            self.clone_from(git).await?;
        }
        for (number, file) in plan.files.iter().enumerate() {
            self.file(number, file).await.map_err(|why| (format!("write {}", file.path), why))?;
        }
        for line in &plan.commands {
            self.line(line).await?;
        }
        if plan.auto {
            self.install(&plan.files).await?;
        }
        Ok(())
    }

    /// Installs what is needed. Last: what that follows from may be what the other steps have brought.
    async fn install(&mut self, files: &[Planned]) -> Result<(), (String, Failure)> {
        let workspace = &self.settings.workspace;
        let given: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        for install in installs(|name| workspace.join(name).is_file(), &given) {
            match install {
                Install::Line(line) => self.line(line).await?,
                Install::Imports(imports) => self.run(&imports.said(), imports.command()).await?,
            }
        }
        Ok(())
    }

    /// Clones a repository, unless that has been done.
    async fn clone_from(&mut self, git: &Git) -> Result<(), (String, Failure)> {
        let failed = |why: String| (format!("git clone {}", git.url), Failure::NotDone(why));
        let credentials = Credentials::from_env().map_err(failed)?;
        let target = Target::prepare(git, &self.settings.workspace, &self.settings.home);
        let Some(target) = target.map_err(|error| failed(error.to_string()))? else {
            return Ok(());
        };
        for step in git.steps(&target) {
            let mut pauses = PAUSES.into_iter().filter(|_| step.asks());
            loop {
                let ran = self.run(&step.said(), step.command(credentials.as_ref())).await;
                match (ran, pauses.next()) {
                    (Err((_, Failure::Exited(_))), Some(pause)) => sleep(pause).await,
                    (ran, _) => break ran?,
                }
            }
        }
        target.fill().map_err(|error| failed(error.to_string()))
    }

    /// Writes a file. What is at its place may let nobody write for ever.
    async fn file(&self, number: usize, file: &Planned) -> Result<(), Failure> {
        let (file, workspace) = (file.clone(), self.settings.workspace.clone());
        let written = spawn_blocking(move || file.write(number, &workspace));
        match timeout(self.left(), written).await {
            Ok(Ok(written)) => written.map_err(|error| Failure::NotDone(error.to_string())),
            Ok(Err(error)) => Err(Failure::NotDone(error.to_string())),
            Err(_) => Err(Failure::TimedOut),
        }
    }

    /// How long all of it may still take.
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs a line of a shell.
    async fn line(&mut self, line: &str) -> Result<(), (String, Failure)> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        settings::hide_ours(&mut command);
        self.run(line, command).await
    }

    /// Runs a command to its end, with all output in the log.
    async fn run(&mut self, said: &str, command: Command) -> Result<(), (String, Failure)> {
        // What cannot be logged is run all the same.
        let _ = writeln!(self.log, "$ {said}");
        let program = command.get_program().to_string_lossy().into_owned();
        let ended = match self.start(command) {
            Ok(child) => self.follow(child).await,
            Err(error) => Err(Failure::NotStarted(why(&error, &program))),
        };
        ended.map_err(|failure| (said.to_owned(), failure))
    }

    fn start(&self, mut command: Command) -> io::Result<Child> {
        command.current_dir(&self.settings.workspace).process_group(0);
        command.stdin(Stdio::null());
        command.stdout(self.log.try_clone()?).stderr(self.log.try_clone()?).spawn()
    }

    async fn follow(&self, mut child: Child) -> Result<(), Failure> {
        let ended = async {
            loop {
                match child.try_wait() {
                    Ok(Some(status)) => return Ok(status),
                    Ok(None) => sleep(LOOK).await,
                    Err(error) => return Err(error),
                }
            }
        };
        let ended = timeout(self.left(), ended).await;
        end_all(&child);
        match ended {
            Ok(Ok(status)) => judge(status),
            Ok(Err(error)) => Err(Failure::NotStarted(error.to_string())),
            Err(_) => Err(Failure::TimedOut),
        }
    }
}

/// Why a program could not be started.
fn why(error: &io::Error, program: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("the image has no {program}: use another, or do without what needs it")
        }
        _ => error.to_string(),
    }
}

/// Ends what a command has left, so that it does not go on beside the next one. What has left its group ends with the container.
fn end_all(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // Mostly there is nobody left in it.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

fn judge(status: ExitStatus) -> Result<(), Failure> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Exited(code)),
        (None, signal) => Err(Failure::Signaled(signal.unwrap_or_default())),
    }
}
