//! The GPUs of a sandbox, as NVIDIA's driver tells of them when somebody asks.
//!
//! nvidia-smi knows most, where it is there: the toolkit that gives a container its GPUs brings it along. The
//! driver's own files know names and UUIDs, and its device nodes at least how many there are. Nothing of NVIDIA's
//! is loaded into the agent.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::timeout;
use wire::Error;
use wire::limits::{GPU_PATIENCE, MAX_GPU_TEXT, MAX_GPUS};
use wire::v1::{Gpu, GpusReply, Stream};

use crate::control::{Report, Spec, Status};
use crate::files;
use crate::process;
use crate::reaper::Reaper;
use crate::supervise;

/// Where nvidia-smi may be: in PATH, or where some nodes have their driver, whose paths containers are given as they are.
const SMI: [&str; 2] = ["nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"];
/// What is asked of nvidia-smi, in the order in which [`rows`] takes it.
const QUERY: &str = "--query-gpu=uuid,name,memory.total,memory.used,driver_version";
/// The most that is read of any of it, in bytes: a line for each GPU, or a few for one.
const MAX_READ: usize = 64 << 10;

/// Held while nvidia-smi runs: many who ask do not start many.
pub(crate) type Turn = Arc<Mutex<()>>;

/// What GPUs the sandbox has now.
pub(crate) async fn gpus(reaper: &Reaper, turn: &Turn) -> Result<GpusReply, Error> {
    let asked = async {
        let _held = turn.lock().await;
        ask(reaper).await
    };
    let told = match timeout(GPU_PATIENCE, asked).await {
        Ok(Some(text)) => rows(&text),
        _ => GpusReply::default(),
    };
    if !told.gpus.is_empty() {
        return Ok(told);
    }
    files::blocking(|| Ok(seen(Path::new("/")))).await
}

/// What nvidia-smi says, if it is there and all is well. It ends with who waits for it.
async fn ask(reaper: &Reaper) -> Option<String> {
    let root = Path::new("/");
    let smi = SMI.into_iter().find(|name| supervise::installed(name, root))?;
    let argv = [smi, QUERY, "--format=csv,noheader,nounits"].map(str::to_owned).into();
    let spec = Spec { argv, cwd: root.to_owned(), ..Spec::default() };
    let (mut control, mut output) = process::start(reaper, &spec, &[]).await.ok()?;
    let mut text = Vec::new();
    let exit = loop {
        tokio::select! {
            stream = output.ready() => {
                let data = output.take(stream).unwrap_or_default();
                keep(&mut text, stream, &data);
                tokio::task::yield_now().await;
            }
            report = control.report() => match report {
                Some(Report::Exited(exit)) => break exit,
                Some(_) => {}
                None => return None,
            },
        }
    };
    output.drain(|stream, data| keep(&mut text, stream, &data));
    // It says what is wrong on stdout, too.
    (exit.status == Status::Exited(0) && text.len() <= MAX_READ)
        .then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Keeps what is written on stdout, and no more than shows that it is too much.
fn keep(text: &mut Vec<u8>, stream: Stream, data: &[u8]) {
    if stream == Stream::Stdout && text.len() <= MAX_READ {
        text.extend_from_slice(data);
    }
}

/// The GPUs in what nvidia-smi answers to [`QUERY`].
pub(crate) fn rows(text: &str) -> GpusReply {
    let mut reply = GpusReply::default();
    for line in text.lines().take(MAX_GPUS) {
        let Some((uuid, rest)) = line.split_once(", ") else { continue };
        // From behind: only the name may have commas of its own.
        let mut fields = rest.rsplitn(4, ", ");
        let (Some(driver), Some(used), Some(total), Some(name)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        reply.driver = told(driver);
        // In MiB, or in words such as [N/A] where the GPU has no memory of its own.
        let bytes =
            |mib: &str| mib.trim().parse::<u64>().ok().and_then(|mib| mib.checked_mul(1 << 20));
        let memory = bytes(total).zip(bytes(used));
        let (memory_bytes, used_bytes) = memory.unwrap_or_default();
        reply.gpus.push(Gpu { uuid: told(uuid), name: told(name), memory_bytes, used_bytes });
    }
    reply
}

/// What the driver's files and device nodes show, below a root.
fn seen(root: &Path) -> GpusReply {
    let driver = read(&root.join("proc/driver/nvidia/version"));
    let nodes = names(&root.join("dev"));
    let mut minors: Vec<u32> = nodes.filter_map(|name| minor(&name)).collect();
    minors.sort_unstable();
    minors.truncate(MAX_GPUS);
    // These are of all GPUs of the node, whoever has them.
    let gpus = root.join("proc/driver/nvidia/gpus");
    let informations: Vec<_> = names(&gpus)
        .filter_map(|name| information(&read(&gpus.join(name).join("information"))?))
        .collect();
    let gpus = minors.into_iter().map(|minor| {
        let known = informations.iter().find(|(of, _)| *of == minor);
        known.map_or_else(Gpu::default, |(_, gpu)| gpu.clone())
    });
    GpusReply {
        driver: driver.as_deref().and_then(version).unwrap_or_default(),
        gpus: gpus.collect(),
    }
}

/// The minor number in the name of a GPU's device node; nvidiactl and the like are none.
fn minor(node: &str) -> Option<u32> {
    let digits = node.strip_prefix("nvidia")?;
    // As the driver writes it: no sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The version in /proc/driver/nvidia/version, which stands between words that change from one to another.
pub(crate) fn version(text: &str) -> Option<String> {
    let line = text.lines().next()?.strip_prefix("NVRM version:")?;
    let numbers = |word: &&str| {
        word.contains('.') && word.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
    };
    line.split_whitespace().find(numbers).map(told)
}

/// The minor number, and what else is told, in a GPU's information file.
pub(crate) fn information(text: &str) -> Option<(u32, Gpu)> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let minor = field("Device Minor")?.parse().ok()?;
    // Question marks stand there before anybody has used the GPU.
    let uuid = field("GPU UUID").filter(|uuid| !uuid.contains('?'));
    let name = field("Model").unwrap_or_default();
    let gpu = Gpu { uuid: told(uuid.unwrap_or_default()), name: told(name), ..Gpu::default() };
    Some((minor, gpu))
}

/// A text within bounds.
fn told(text: &str) -> String {
    let text = text.trim();
    text[..text.floor_char_boundary(MAX_GPU_TEXT)].to_owned()
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_READ as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests;
