//! The beginning and the end of a stream of any length, in bounded memory.

use std::collections::VecDeque;

/// The beginning and the end of a stream: a quarter and three quarters of its bound.
pub(crate) struct Excerpt {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    max_head: usize,
    max_tail: usize,
    /// How many bytes there were in all.
    pub(crate) total: u64,
}

impl Excerpt {
    /// An excerpt of at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        let max_head = max / 4;
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            max_head,
            max_tail: max - max_head,
            total: 0,
        }
    }

    /// Takes in what comes next.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.total += data.len() as u64;
        let (head, rest) = data.split_at(data.len().min(self.max_head - self.head.len()));
        self.head.extend_from_slice(head);
        // Only the last bytes can stay; a flood is not copied twice.
        let rest = &rest[rest.len().saturating_sub(self.max_tail)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.max_tail);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// Takes in what another excerpt, of the same bound, has seen.
    pub(crate) fn append(&mut self, other: &Self) {
        self.push(&other.head);
        // It has kept more than its head only if ours is full by now, so these lie between our ends.
        self.total += other.omitted();
        let (front, back) = other.tail.as_slices();
        self.push(front);
        self.push(back);
    }

    /// What is kept at most, in bytes.
    pub(crate) fn max(&self) -> usize {
        self.max_head + self.max_tail
    }

    /// How many bytes are not kept.
    pub(crate) fn omitted(&self) -> u64 {
        self.total - self.head.len() as u64 - self.tail.len() as u64
    }

    /// The last bytes, at most so many.
    pub(crate) fn last_bytes(&self, count: usize) -> Vec<u8> {
        let from = if self.tail.is_empty() { &self.head[..] } else { &[] };
        let bytes = from.iter().chain(&self.tail);
        let skip = (from.len() + self.tail.len()).saturating_sub(count);
        bytes.skip(skip).copied().collect()
    }

    /// The text, with a line where something is omitted, so that nothing partial looks complete.
    pub(crate) fn text(&self, log_complete: bool) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let omitted = self.omitted();
        if omitted == 0 {
            return String::from_utf8_lossy(&[&self.head[..], &tail].concat()).into_owned();
        }
        let next = if log_complete {
            "raise max_output_chars, or write the output to a file and read parts of it"
        } else {
            "write large output to a file and read parts of it"
        };
        format!(
            "{}\n[... {omitted} bytes omitted; {next} ...]\n{}",
            String::from_utf8_lossy(&self.head),
            String::from_utf8_lossy(&tail)
        )
    }
}
