//! Digests as text.

use std::fmt::Write;

/// Bytes as lower-case digits.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// The bytes of a text of such digits.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit =
        |&digit: &u8| char::from(digit).to_digit(16).and_then(|digit| digit.try_into().ok());
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(text(&[0x00, 0x9f, 0xff]), "009fff");
        assert_eq!(bytes("009fFF"), Some(vec![0x00, 0x9f, 0xff]));
        assert_eq!(bytes(""), Some(vec![]));
        for wrong in ["0", "0g", "é0", "+0"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
