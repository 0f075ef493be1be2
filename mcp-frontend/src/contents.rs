//! A file's bytes in the form their reader can use: text, picture or resource.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

use crate::{args::FileRead, uris::Uri};

/// The answer to who reads a file.
pub(crate) fn told(args: &FileRead, contents: client::Contents) -> CallToolResult {
    let client::Contents { entry, mut data } = contents;
    let whole = args.offset == 0 && data.len() as u64 == entry.size;
    if whole && let Some(mime) = image(&data) {
        return CallToolResult::success(vec![ContentBlock::image(BASE64.encode(&data), mime)]);
    }
    if !whole {
        data.truncate(whole_characters(&data));
    }
    // What the agent says of a file need not be true, or even fit.
    let end = args.offset.saturating_add(data.len() as u64);
    let mut content = vec![match String::from_utf8(data) {
        Ok(text) => ContentBlock::text(text),
        Err(error) => {
            let blob = BASE64.encode(error.as_bytes());
            let uri = Uri::file(&args.sandbox_id, &args.path).to_string();
            ContentBlock::resource(
                ResourceContents::blob(blob, uri).with_mime_type("application/octet-stream"),
            )
        }
    }];
    if !whole {
        let part = format!("bytes {}..{end} of {} in {}", args.offset, entry.size, args.path);
        let more = if end < entry.size {
            format!("; call again with offset={end} for more")
        } else {
            String::new()
        };
        content.push(ContentBlock::text(format!("[{part}{more}]")));
    }
    CallToolResult::success(content)
}

/// How much of a part of a file is whole characters, if it is a text that was cut within one.
pub(crate) fn whole_characters(data: &[u8]) -> usize {
    match str::from_utf8(data) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => data.len(),
    }
}

/// The picture formats clients show, by their first bytes.
pub(crate) fn image(data: &[u8]) -> Option<&'static str> {
    [
        (&b"\x89PNG\r\n\x1a\n"[..], "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
    ]
    .into_iter()
    .find_map(|(magic, mime)| data.starts_with(magic).then_some(mime))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of what reading six bytes of a file says.
    fn read(offset: u64, size: u64, data: &[u8]) -> Vec<Option<String>> {
        let args = FileRead { sandbox_id: "a".into(), path: "/x".into(), offset, limit: 6 };
        let entry = wire::v1::Entry { size, ..wire::v1::Entry::default() };
        let result = told(&args, client::Contents { entry, data: data.into() });
        result.content.iter().map(|block| Some(block.as_text()?.text.clone())).collect()
    }

    fn texts<const N: usize>(texts: [&str; N]) -> Vec<Option<String>> {
        texts.map(|text| Some(text.to_owned())).into()
    }

    #[test]
    fn a_part_of_a_text_is_text_wherever_it_is_cut() {
        assert_eq!(read(0, 3, b"abc"), texts(["abc"]));
        let cut = &"abcdeé".as_bytes()[..6];
        let more = "[bytes 0..5 of 7 in /x; call again with offset=5 for more]";
        assert_eq!(read(0, 7, cut), texts(["abcde", more]));
        assert_eq!(read(5, 7, "é".as_bytes()), texts(["é", "[bytes 5..7 of 7 in /x]"]));
        assert_eq!(read(0, 9, b"a\xff\xffdef")[0], None);
    }

    #[test]
    fn what_an_agent_says_of_a_file_need_not_fit() {
        let note = format!("[bytes {0}..{0} of 1 in /x]", u64::MAX);
        assert_eq!(read(u64::MAX, 1, b"lie"), texts(["lie", &note]));
    }
}
