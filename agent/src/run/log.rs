//! The log of one run: a file of numbered events that only grows, up to a bound.
//!
//! A header with the hash of the spec, then records: a length and an encoded event. The number of an
//! event is its place. Nothing is synced: the log outlives the agent, not the node.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use wire::limits::{CHUNK, MAX_MESSAGE};
use wire::v1::run_event::Event;
use wire::v1::{RunEvent, Started, Stream};

/// The hash of a spec.
pub(crate) type Hash = [u8; 32];

const MAGIC: &[u8; 8] = b"CSBRUN1\n";
const HEADER: u64 = 8 + 32;
/// Every how many events their place in the file is remembered.
const STRIDE: u64 = 256;

/// The writer of a log.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    /// The marks of events 0, STRIDE, 2 × STRIDE …
    index: Vec<Mark>,
    /// Where the next event will be.
    next: Mark,
}

/// What is before an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// How many events: its number.
    pub(crate) events: u64,
    /// How much of the file: its place.
    pub(crate) place: u64,
    /// How much output.
    pub(crate) written: Written,
}

/// How much was written to each stream, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

impl Written {
    /// To one stream, or to both together.
    pub(crate) fn to(self, stream: Stream) -> u64 {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
            Stream::Unspecified => self.stdout + self.stderr,
        }
    }
}

/// What is before the first event.
pub(crate) const START: Mark =
    Mark { events: 0, place: HEADER, written: Written { stdout: 0, stderr: 0 } };

impl Log {
    /// A new log; one that exists is an error.
    pub(crate) fn create(path: &Path, spec: &Hash) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&[&MAGIC[..], spec].concat())?;
        Ok(Self { file: Some(file), index: Vec::new(), next: START })
    }

    /// The log of a former agent, cut after its last whole event.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Found)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut reader = BufReader::new(&file);
        let mut header = [0; 40];
        reader.read_exact(&mut header)?;
        let (magic, spec) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut found =
            Found { spec: Hash::default(), started: None, last: None, truncated: false };
        found.spec.copy_from_slice(spec);
        let mut log = Self { file: None, index: Vec::new(), next: START };
        while let Some((event, length)) = next(&mut reader) {
            log.remember(&event, length);
            match &event.event {
                Some(Event::Started(started)) => found.started = Some(started.clone()),
                Some(Event::Truncated(_)) => found.truncated = true,
                _ => {}
            }
            found.last = Some(RunEvent {
                event: event.event.filter(|e| matches!(e, Event::Outcome(_))),
                ..event
            });
        }
        drop(reader);
        file.set_len(log.next.place)?;
        (&file).seek(SeekFrom::End(0))?;
        log.file = Some(file);
        Ok((log, found))
    }

    /// Appends an event. After an error the log is as it was.
    pub(crate) fn append(&mut self, event: &RunEvent) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let record = record(event);
        if let Err(error) = file.write_all(&record) {
            file.set_len(self.next.place)?;
            file.seek(SeekFrom::Start(self.next.place))?;
            return Err(error);
        }
        self.remember(event, record.len() as u64);
        Ok(())
    }

    /// Lets the file go: an ended run needs none open.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Where the next event will be, and what there is before it.
    pub(crate) fn end(&self) -> Mark {
        self.next
    }

    /// The last mark that is not behind the event of this number.
    pub(crate) fn seek(&self, number: u64) -> Mark {
        self.last(|mark| mark.events <= number)
    }

    /// The last mark before which no more was written to a stream.
    pub(crate) fn seek_output(&self, stream: Stream, bytes: u64) -> Mark {
        self.last(|mark| mark.written.to(stream) <= bytes)
    }

    fn last(&self, before: impl Fn(&Mark) -> bool) -> Mark {
        let behind = self.index.partition_point(before);
        self.index[..behind].last().copied().unwrap_or(START)
    }

    fn remember(&mut self, event: &RunEvent, length: u64) {
        let next = &mut self.next;
        if next.events.is_multiple_of(STRIDE) {
            self.index.push(*next);
        }
        next.events += 1;
        next.place += length;
        if let Some(Event::Output(output)) = &event.event {
            let bytes = output.data.len() as u64;
            match output.stream() {
                Stream::Stderr => next.written.stderr += bytes,
                _ => next.written.stdout += bytes,
            }
        }
    }
}

/// What a log tells of a run whose agent is gone.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) spec: Hash,
    pub(crate) started: Option<Started>,
    /// The last event; its content only if that is the outcome.
    pub(crate) last: Option<RunEvent>,
    pub(crate) truncated: bool,
}

/// A reader of a log, which may still grow.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    number: u64,
    place: u64,
    buffer: BytesMut,
}

impl Reader {
    /// Reads from a mark of the log.
    pub(crate) fn open(path: &Path, from: Mark) -> io::Result<Self> {
        let (number, place) = (from.events, from.place);
        Ok(Self { file: File::open(path)?, number, place, buffer: BytesMut::new() })
    }

    /// The number of the next event.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next encoded event before `end`, a place where one ends; `None` when all are read.
    pub(crate) fn next(&mut self, end: u64) -> io::Result<Option<Bytes>> {
        loop {
            let length =
                self.buffer.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize);
            if let Some(length) = length.filter(|length| self.buffer.len() >= 4 + length) {
                self.buffer.advance(4);
                self.number += 1;
                return Ok(Some(self.buffer.split_to(length).freeze()));
            }
            let left = end.saturating_sub(self.place);
            if left == 0 {
                return Ok(None);
            }
            let wanted = CHUNK.max(length.map_or(0, |length| length + 4));
            let have = self.buffer.len();
            self.buffer.resize(have + wanted.min(usize::try_from(left).unwrap_or(wanted)), 0);
            let read = self.file.read_at(&mut self.buffer[have..], self.place)?;
            self.buffer.truncate(have + read);
            self.place += read as u64;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// An event as it stands in the file.
fn record(event: &RunEvent) -> Vec<u8> {
    let length = event.encoded_len();
    let mut record = Vec::with_capacity(4 + length);
    record.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    // A vector grows, so that there always is room.
    let _ = event.encode(&mut record);
    record
}

/// The next whole event and how long its record is, which need not be how long ours would be; `None` at
/// the end and before anything that is none.
fn next(from: &mut impl Read) -> Option<(RunEvent, u64)> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let length =
        usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= MAX_MESSAGE)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some((RunEvent::decode(&body[..]).ok()?, 4 + length as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::v1::{Outcome, Output};

    fn output(number: u64) -> RunEvent {
        let data = Bytes::from(format!("line {number}"));
        RunEvent { number, at_ms: 0, event: Some(Event::Output(Output { stream: 1, data })) }
    }

    fn numbers(reader: &mut Reader, end: u64) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(event) = reader.next(end).unwrap() {
            found.push(RunEvent::decode(event).unwrap().number);
        }
        found
    }

    #[test]
    fn events_are_read_from_any_number_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = Log::create(&path, &[7; 32]).unwrap();
        (0..1000).for_each(|number| log.append(&output(number)).unwrap());
        let mut reader = Reader::open(&path, log.seek(700)).unwrap();
        assert_eq!(reader.number(), 512);
        assert_eq!(numbers(&mut reader, log.end().place), (512..1000).collect::<Vec<_>>());
        log.append(&output(1000)).unwrap();
        assert_eq!(numbers(&mut reader, log.end().place), [1000]);
        let mut reader = Reader::open(&path, log.seek(u64::MAX)).unwrap();
        assert_eq!(numbers(&mut reader, log.end().place), (768..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn output_is_found_by_how_much_was_written_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = Log::create(&path, &[7; 32]).unwrap();
        for number in 0..1000 {
            let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            let data = Bytes::from_static(b"1234");
            let event = Event::Output(Output { stream: stream.into(), data });
            log.append(&RunEvent { number, at_ms: 0, event: Some(event) }).unwrap();
        }
        let written = Written { stdout: 2000, stderr: 2000 };
        assert_eq!((log.end().events, log.end().written), (1000, written));
        for (stream, bytes, number) in [
            (Stream::Stdout, 0, 0),
            (Stream::Stdout, 511, 0),
            (Stream::Stdout, 512, 256),
            (Stream::Stderr, 1999, 768),
            (Stream::Unspecified, 2047, 256),
            (Stream::Unspecified, u64::MAX, 768),
        ] {
            assert_eq!(log.seek_output(stream, bytes).events, number, "{stream:?} {bytes}");
        }
        let (taken_up, _) = Log::open(&path).unwrap();
        assert_eq!((taken_up.index, taken_up.next), (log.index, log.next));
    }

    #[test]
    fn a_log_that_was_cut_off_is_taken_up_after_its_last_whole_event() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = Log::create(&path, &[7; 32]).unwrap();
        (0..3).for_each(|number| log.append(&output(number)).unwrap());
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(log.end().place - 2).unwrap();

        let (mut log, found) = Log::open(&path).unwrap();
        assert_eq!((log.end().events, found.spec), (2, [7; 32]));
        let outcome = RunEvent {
            number: 2,
            event: Some(Event::Outcome(Outcome::default())),
            ..RunEvent::default()
        };
        log.append(&outcome).unwrap();
        let (_, found) = Log::open(&path).unwrap();
        assert_eq!(found.last, Some(outcome));
    }

    /// A downgrade, or user code that writes to the file.
    #[test]
    fn a_log_whose_events_are_longer_than_ours_is_taken_up_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = Log::create(&path, &[7; 32]).unwrap();
        let unknown_field = [0xf8, 0x07, 0x01];
        let event = [output(0).encode_to_vec(), unknown_field.to_vec()].concat();
        let length = u32::try_from(event.len()).unwrap().to_be_bytes();
        log.file.as_mut().unwrap().write_all(&[&length[..], &event].concat()).unwrap();
        let (mut log, _) = Log::open(&path).unwrap();
        log.append(&output(1)).unwrap();
        let mut reader = Reader::open(&path, START).unwrap();
        assert_eq!(numbers(&mut reader, log.end().place), [0, 1]);
    }

    #[test]
    fn a_file_that_is_no_log_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        std::fs::write(&path, [0; 64]).unwrap();
        assert!(Log::open(&path).is_err());
    }
}
