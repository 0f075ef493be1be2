//! A DNS query and what refuses it, as bytes of one datagram (RFC 1035, 4.1).

/// The longest query that is read. A question begins behind twelve bytes and takes 259 at most; what follows it, such as
/// EDNS's record with its padding, is of no use to who refuses.
pub(crate) const MAX_QUERY: usize = 512;
/// How long what comes before the question is.
pub(crate) const HEADER: usize = 12;
/// The longest name, with the lengths of its labels and the zero at its end.
const MAX_NAME: usize = 255;
/// The longest label. A longer one has bits set that make it a pointer, or nothing that is known.
const MAX_LABEL: usize = 63;
/// How long type and class are, which stand behind the name.
const KIND: usize = 4;

/// That a message is a response, and what kind of query it is; 0 is the usual one.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
/// What a response says of its query: that it wished for recursion, and that it did not wish for validation.
const RECURSION_DESIRED: u8 = 0x01;
const CHECKING_DISABLED: u8 = 0x10;
/// The code of who will not answer.
const REFUSED: u8 = 5;

/// The answer to a query, and what may be told of its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The query's header and question, and nothing else.
    pub(crate) reply: Vec<u8>,
    /// The last two labels of the name, or the one it has. What stands before them may be a secret.
    pub(crate) domain: String,
}

/// Refuses a query. What is no query with one question gets no answer.
pub(crate) fn refuse(message: &[u8]) -> Option<Refusal> {
    let [id @ .., flags, more, high, low, _, _, _, _, _, _] = message.first_chunk::<HEADER>()?;
    if flags & (RESPONSE | OPCODE) != 0 || [*high, *low] != [0, 1] {
        return None;
    }
    let (length, labels) = name(&message[HEADER..])?;
    let question = message.get(HEADER..HEADER + length + KIND)?;
    let flags = [RESPONSE | flags & RECURSION_DESIRED, more & CHECKING_DISABLED | REFUSED];
    let reply = [&id[..], &flags, &[0, 1, 0, 0, 0, 0, 0, 0], question].concat();
    Some(Refusal { reply, domain: domain(labels) })
}

/// How long the name at the beginning of these bytes is, and its last two labels, which are empty where it has none.
fn name(bytes: &[u8]) -> Option<(usize, [&[u8]; 2])> {
    let (mut at, mut last) = (0, [&[][..]; 2]);
    while at < MAX_NAME {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        match length {
            0 => return Some((at, last)),
            // A pointer would lead into the header: there is no name before this one.
            _ if length > MAX_LABEL => return None,
            _ => last = [last[1], bytes.get(at..at + length)?],
        }
        at += length;
    }
    None
}

/// Labels as a domain that can be shown to anybody: with no other characters than names of hosts have.
fn domain(labels: [&[u8]; 2]) -> String {
    let shown = |label: &[u8]| label.iter().map(|byte| shown(*byte)).collect();
    let labels: Vec<String> =
        labels.into_iter().filter(|label| !label.is_empty()).map(shown).collect();
    // The root has none.
    if labels.is_empty() { ".".to_owned() } else { labels.join(".") }
}

fn shown(byte: u8) -> char {
    match byte.to_ascii_lowercase() {
        byte @ (b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') => char::from(byte),
        _ => '?',
    }
}

#[cfg(test)]
mod tests;
