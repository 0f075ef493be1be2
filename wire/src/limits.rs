//! The bounds both ends keep, each with the reason for its size.

use std::time::Duration;

/// The largest message. Code and stdin travel in one message, so this bounds them too (with [`MAX_SOURCE`]).
pub const MAX_MESSAGE: usize = 8 << 20;
/// The longest error, in bytes. It is a header, in which a byte may take three, and clients take 16 KiB of them.
pub const MAX_ERROR: usize = 4096;
/// The longest code or stdin of one run, in bytes. Larger input is written to a file first.
pub const MAX_SOURCE: usize = 6 << 20;
/// The longest input of one call, in bytes: what a person pastes, and held in memory while the run reads it.
pub const MAX_INPUT: usize = 1 << 20;
/// How long input waits for a run that does not read it.
pub const INPUT_PATIENCE: Duration = Duration::from_secs(5);
/// The most rows or columns of a terminal: more than anybody's screen, and programs allocate both multiplied.
pub const MAX_TERMINAL: u32 = 1000;
/// The longest run id, in bytes. Ids are `[A-Za-z0-9_.-]`, since logs are files named after them.
pub const MAX_RUN_ID: usize = 64;
/// The longest context name, in bytes, of the same characters.
pub const MAX_CONTEXT: usize = 64;
/// How much of one run's output is kept, in bytes of event data. Fifteen million bytes
/// (`seq 1 2000000`) have to fit whole.
pub const RUN_LOG: u64 = 32 << 20;
/// How much all runs keep together; beyond it the logs of the oldest ended runs go. The emptyDir below
/// has twice that size.
pub const ALL_LOGS: u64 = 128 << 20;
/// How many runs are remembered: ended ones beyond it are forgotten, oldest first.
pub const MAX_RUNS: usize = 1024;
/// How many runs may be going on at once.
pub const MAX_ACTIVE_RUNS: usize = 64;
/// The longest title of a run, in bytes: one line of a list.
pub const MAX_TITLE: usize = 200;
/// How much of a run's output one answer holds if its caller says nothing, and at most, in bytes.
pub const OUTPUT: (u64, u64) = (64 << 10, 1 << 20);
/// The longest side of a scaled picture, in pixels, whatever its caller asks for: no model is shown more.
pub const PICTURE_SIDE: u32 = 2048;
/// The most bytes of a scaled picture, whatever its caller asks for: as many as one that is shown may have.
pub const PICTURE_BYTES: u64 = 2 << 20;
/// The most memory a picture may take while it is decoded: a quarter of a sandbox of 256 MiB, and enough for
/// sixteen million pixels of a PNG. It is the sandbox's own memory, which user code shares.
pub const PICTURE_MEMORY: u64 = 64 << 20;
/// How long a picture waits for its turn: the largest take a second each, and their caller's time is short.
pub const PICTURE_TURN: Duration = Duration::from_secs(5);
/// The longest line that a pattern is looked for in, in bytes: what is longer counts as several.
pub const MAX_LINE: usize = 64 << 10;
/// How long an answer about a run's output waits for more at most: below what load balancers take for silence.
pub const MAX_OUTPUT_WAIT: Duration = Duration::from_secs(50);
/// How many languages an agent may name, and the longest name, in bytes: more than there are.
pub const MAX_LANGUAGES: usize = 32;
/// The most processes that an agent may say its sandbox may have: what Linux takes for `pids.max`.
pub const MAX_PIDS: u64 = 1 << 22;
/// How many GPUs an agent may name: more than a node has.
pub const MAX_GPUS: usize = 64;
/// The longest name, UUID or version of a driver that is told of a GPU, in bytes.
pub const MAX_GPU_TEXT: usize = 128;
/// How long nvidia-smi may take. It answers in a tenth of a second where the driver is kept loaded, in seconds where not.
pub const GPU_PATIENCE: Duration = Duration::from_secs(2);
/// In how many domains an agent tells names that it has refused: more than anybody reads, and each is a line of its log.
pub const MAX_REFUSED_DOMAINS: usize = 16;
/// The longest of these domains, in bytes: two labels of 63 with the dot between.
pub const MAX_REFUSED_DOMAIN: usize = 127;
/// How many contexts may live at once. Each is two processes, so the sandbox's own limits may come first.
pub const MAX_CONTEXTS: usize = 100;
/// How many copies of a context one call makes.
pub const MAX_FORKS: usize = 32;
/// The largest part in which output and files travel: large enough to be cheap, small
/// enough not to hold up other calls on the same stream.
pub const CHUNK: usize = 64 << 10;
/// How many files, directories and packages are looked at for what a run has changed: some tens of milliseconds and a
/// mebibyte of memory. Of a larger workspace nothing is compared, for no caller asked to wait.
pub const CHANGES_LOOKED_AT: usize = 10_000;
/// How many changed files, and packages, and ports are told: more is to be looked at by other means.
pub const CHANGES_TOLD: usize = 100;
/// How long a run may take if its caller sets no timeout.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);
/// The longest timeout that is taken.
pub const MAX_TIMEOUT: Duration = Duration::from_hours(24);
/// How long a compiler may take of a run's time: one that takes longer hangs, or needs more memory than there is.
pub const COMPILE_TIME: Duration = Duration::from_mins(1);
/// How long a process has between SIGTERM (or an interrupt) and SIGKILL.
pub const KILL_GRACE: Duration = Duration::from_secs(2);
/// How long output is still taken from children that outlive their leader, when a run ends.
pub const DRAIN_GRACE: Duration = Duration::from_millis(200);
/// How many entries a List sends if its caller sets no limit.
pub const LIST_LIMIT: u32 = 1000;
/// The most entries that one List sends, whatever its caller sets: all of them are held in memory.
pub const LIST_MOST: u32 = 10_000;
/// How many names of one directory are held at least, if it has so many: fewer, and a directory of a
/// hundred thousand would be read a hundred thousand times where a glob matches none of them.
pub const LIST_NAMES: usize = 1000;
/// The longest glob or pattern, in bytes: more than anybody writes, and compiled in milliseconds.
pub const MAX_PATTERN: usize = 4096;
/// The most levels that List and Copy descend: each holds names or an open directory.
pub const MAX_DEPTH: u32 = 64;
/// The most that is appended at once, in bytes: it is held in memory, for it goes in one write.
pub const MAX_APPEND: usize = 8 << 20;
/// How long what has arrived of a broken upload is kept, or the answer to one that has ended: longer than an API
/// server takes to come back, and then its room on the disk is given back.
pub const UPLOAD_KEPT: Duration = Duration::from_mins(3);
/// How many broken uploads are kept: each is an open file and room on the sandbox's disk. Beyond it the one that
/// broke first goes, and begins anew.
pub const UPLOADS_BROKEN: usize = 8;
/// How many ended uploads are remembered, a path and a digest each, so that none is written twice.
pub const UPLOADS_ENDED: usize = 64;
/// The longest upload id, in bytes, of the same characters as a run's.
pub const MAX_UPLOAD_ID: usize = 64;
/// How many names of one directory are held while it is archived: of a larger one they are read again for each so many.
pub const ARCHIVE_NAMES: usize = 10_000;
/// How many archives are unpacked at once: each has one of the agent's few file threads, which waits for its caller.
pub const EXTRACTS: usize = 2;
/// How long an archive waits for its turn to be unpacked: less than its caller waits.
pub const EXTRACT_TURN: Duration = Duration::from_secs(5);
/// How long the next part of an archive is waited for: others may wait for that thread.
pub const EXTRACT_PATIENCE: Duration = Duration::from_mins(1);
/// How much what stands before one entry of an archive may take, in bytes: its names are held in memory, and no
/// path is longer than 4096.
pub const EXTRACT_HEADER: u64 = 1 << 20;
/// How many watches there may be at once: each is an inotify instance, of which a node gives a user 128, whatever
/// the number of sandboxes that have the same.
pub const WATCHES: usize = 8;
/// How many directories one watch may have: each takes about a kibibyte of the kernel's memory and a path of ours.
pub const WATCH_DIRECTORIES: usize = 4096;
/// How long changes are gathered from the first on, so that what changes all the time is told ten times a second.
pub const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// How many changes are held: beyond them all are told as one overflow, as they are where the kernel's queue of
/// 16384 is full because nobody takes them.
pub const WATCH_CHANGES: usize = 10_000;
/// The largest file that is edited, before and after, in bytes: it is held in memory twice. Source code
/// is far smaller.
pub const MAX_EDIT_FILE: usize = 16 << 20;
/// The most replacements in one Edit: each goes through the whole file.
pub const MAX_EDITS: usize = 100;
/// How far the occurrences of a text that should occur once are counted.
pub const EDIT_OCCURRENCES: usize = 1000;
/// How many of their lines are told: more help nobody to tell them apart.
pub const EDIT_LINES: usize = 10;
/// How much of a file is hashed or copied before others get their turn: some ten milliseconds of work
/// for one of the agent's few file threads.
pub const FILE_STEP: u64 = 4 << 20;
/// How deep the groups of a pattern may be nested: each takes room on the small stack of a file thread.
pub const PATTERN_NESTING: u32 = 50;
/// What a compiled pattern may take, in bytes, and its cache as well.
pub const PATTERN_MEMORY: usize = 10 << 20;
/// How many matches a Search sends if its caller sets no bound.
pub const SEARCH_MATCHES: u32 = 1000;
/// The most matches that one Search sends.
pub const SEARCH_MOST_MATCHES: u32 = 10_000;
/// How many bytes a Search sends if its caller sets no bound.
pub const SEARCH_BYTES: u32 = 256 << 10;
/// The most bytes that one Search sends: those of one file are held in memory.
pub const SEARCH_MOST_BYTES: u32 = 4 << 20;
/// What a line counts for in these bytes besides its path and text: about what it takes in memory.
pub const SEARCH_LINE_COST: usize = 64;
/// How much of a line is sent, in bytes. Longer ones are not made for people to read.
pub const SEARCH_LINE: usize = 1000;
/// The longest line that is searched, in bytes: it is held in memory.
pub const SEARCH_LINE_MEMORY: usize = 8 << 20;
/// The most lines of context on each side of a match.
pub const SEARCH_CONTEXT: u32 = 20;
/// The largest file that is searched, in bytes: it is one step, and holds one of few file threads.
pub const SEARCH_FILE: u64 = 256 << 20;
/// How many files and directories are looked at before others get their turn.
pub const SEARCH_STEP: u32 = 100;
/// How long a Search goes on: less than clients wait for the next line.
pub const SEARCH_TIME: Duration = Duration::from_secs(15);
/// The keepalive ping's interval, while idle as well: load balancers drop connections that are quiet for minutes.
pub const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long a ping's answer may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The window of one stream. Measured: 256 KiB keeps other calls' p99 at 11 ms under a flood of output.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// The window of the connection. More than all unread streams together, or they would block every call.
pub const CONNECTION_WINDOW: u32 = 64 << 20;
/// How many calls may be open on one connection: hyper's default is 200.
pub const MAX_STREAMS: u32 = 1024;
