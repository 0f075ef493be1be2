//! A part of what a run has written, as a model reads it.

use rmcp::model::{CallToolResult, ContentBlock};
use wire::v1::OutputReply;

use crate::{
    args::{OutputStream, RunOutput},
    contents::whole_characters,
    outcome,
};

/// What is said where a log ends before the run's output.
pub(crate) const LOG_FULL: &str =
    "the log's bound was reached; later output was counted, not kept: write large output to a file";

/// The answer: a line of facts, the text, and where to go on.
pub(crate) fn told(args: &RunOutput, reply: &OutputReply) -> CallToolResult {
    answer(args, reply, "call again", None)
}

/// The same from a tool with more to say, after which another one goes on.
pub(crate) fn answer(
    args: &RunOutput,
    reply: &OutputReply,
    go_on: &str,
    more: Option<String>,
) -> CallToolResult {
    let ids = format!("run_id={} sandbox_id={}", args.run_id, args.sandbox_id);
    let mut text = match &reply.outcome {
        None => format!("status=running {ids}"),
        Some(outcome) => outcome::facts(outcome, &ids),
    };
    let searched = !args.pattern.is_empty();
    let (mut from, mut next) = (reply.offset, reply.next);
    let mut data = &reply.data[..];
    if !searched {
        // A part that begins or ends within a character.
        let begun = data.iter().take(3).take_while(|&&byte| byte & 0xc0 == 0x80).count();
        let begun = if from > 0 { begun } else { 0 };
        data = &data[begun..];
        from = from.saturating_add(begun as u64);
        if next < reply.kept || reply.outcome.is_none() {
            data = &data[..whole_characters(data)];
        }
        next = from.saturating_add(data.len() as u64);
    }
    let stream = match args.stream {
        OutputStream::Both => "output",
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    };
    if !data.is_empty() {
        let body = String::from_utf8_lossy(data);
        text = format!("{text}\n--- {stream}\n{}", body.trim_end_matches('\n'));
    }
    for note in notes(reply, searched, stream, from, next, go_on).into_iter().chain(more) {
        text = format!("{text}\n[{note}]");
    }
    let lost = reply.outcome.as_ref().is_some_and(outcome::lost);
    let content = vec![ContentBlock::text(text)];
    if lost { CallToolResult::error(content) } else { CallToolResult::success(content) }
}

fn notes(
    reply: &OutputReply,
    searched: bool,
    stream: &str,
    from: u64,
    next: u64,
    go_on: &str,
) -> Vec<String> {
    let mut notes = Vec::new();
    let done = if searched { "searched" } else { "these are" };
    let kept = reply.kept;
    if next < kept || reply.outcome.is_none() {
        notes.push(format!(
            "{done} bytes {from}..{next} of {kept} of {stream}; {go_on} with offset={next} for more"
        ));
    } else if from > 0 || searched {
        notes.push(format!("{done} bytes {from}..{next} of {kept} of {stream}"));
    }
    if reply.truncated {
        notes.push(LOG_FULL.into());
    }
    notes.extend(reply.outcome.as_ref().and_then(outcome::advice));
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wire::v1::{Empty, Outcome, outcome::How};

    use super::*;

    fn told(arguments: &serde_json::Value, reply: &OutputReply) -> (String, bool) {
        let mut all = json!({"sandbox_id": "a", "run_id": "r"});
        all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        let result = super::told(&serde_json::from_value(all).unwrap(), reply);
        (result.content[0].as_text().unwrap().text.clone(), result.is_error == Some(true))
    }

    fn part(data: &[u8], offset: u64, kept: u64, how: Option<How>) -> OutputReply {
        OutputReply {
            data: data.to_vec().into(),
            offset,
            next: offset + data.len() as u64,
            kept,
            truncated: false,
            outcome: how.map(|how| Outcome { how: Some(how), ..Outcome::default() }),
        }
    }

    const EXITED: &str = "exit_code=0 duration=0.000s run_id=r sandbox_id=a";
    const RUNNING: &str = "status=running run_id=r sandbox_id=a";

    #[test]
    fn a_part_says_what_it_is_of_and_where_to_go_on() {
        let ended = Some(How::Exited(0));
        for (reply, text) in [
            (part(b"all\n", 0, 4, ended), format!("{EXITED}\n--- output\nall")),
            (part(b"", 0, 0, ended), EXITED.to_owned()),
            (
                part(b"end\n", 6, 10, ended),
                format!("{EXITED}\n--- output\nend\n[these are bytes 6..10 of 10 of output]"),
            ),
            (
                part(b"begin", 0, 10, ended),
                format!(
                    "{EXITED}\n--- output\nbegin\n[these are bytes 0..5 of 10 of output; call again with offset=5 for more]"
                ),
            ),
            (
                part(b"", 10, 10, None),
                format!(
                    "{RUNNING}\n[these are bytes 10..10 of 10 of output; call again with offset=10 for more]"
                ),
            ),
        ] {
            assert_eq!(told(&json!({}), &reply), (text, false));
        }
    }

    #[test]
    fn a_character_that_was_cut_is_left_to_the_next_part() {
        let text = "aé文".as_bytes();
        let (cut, _) =
            told(&json!({"stream": "stderr"}), &part(&text[..5], 0, 6, Some(How::Exited(0))));
        assert_eq!(
            cut,
            format!(
                "{EXITED}\n--- stderr\naé\n[these are bytes 0..3 of 6 of stderr; call again with offset=3 for more]"
            )
        );
        let (end, _) =
            told(&json!({"stream": "stderr"}), &part(&text[2..], 2, 6, Some(How::Exited(0))));
        assert_eq!(end, format!("{EXITED}\n--- stderr\n文\n[these are bytes 3..6 of 6 of stderr]"));
        let (bytes, _) = told(&json!({}), &part(b"\xff\xfe", 0, 2, Some(How::Exited(0))));
        assert_eq!(bytes, format!("{EXITED}\n--- output\n\u{fffd}\u{fffd}"));
    }

    #[test]
    fn a_search_says_how_far_it_came() {
        let found = OutputReply { next: 90, ..part(b"error: x\n", 10, 100, Some(How::Exited(0))) };
        let (text, _) = told(&json!({"pattern": "error"}), &found);
        assert_eq!(
            text,
            format!(
                "{EXITED}\n--- output\nerror: x\n[searched bytes 10..90 of 100 of output; call again with offset=90 for more]"
            )
        );
    }

    #[test]
    fn a_lost_run_is_an_error_here_too_and_a_full_log_is_said() {
        let lost = OutputReply { truncated: true, ..part(b"x\n", 0, 2, Some(How::Lost(Empty {}))) };
        let (text, error) = told(&json!({}), &lost);
        assert!(error && text.starts_with("status=lost "), "{text}");
        assert!(
            text.contains("\n[the log's bound was reached; ") && text.contains("\n[RUN_LOST: "),
            "{text}"
        );
    }

    #[test]
    fn without_a_place_the_end_is_asked_for_and_waited_for() {
        let request = |arguments: serde_json::Value| {
            let mut all = json!({"sandbox_id": "a", "run_id": "r", "wait_seconds": 60});
            all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
            let request = serde_json::from_value::<RunOutput>(all).unwrap().request();
            (request.from_end, request.until_end, request.offset, request.length, request.wait_ms)
        };
        assert_eq!(request(json!({})), (true, true, 0, 16_000, 45_000));
        assert_eq!(request(json!({"offset": 7})), (false, false, 7, 16_000, 45_000));
        assert_eq!(
            request(json!({"pattern": "x", "max_output_chars": 1})),
            (false, true, 0, 200, 45_000)
        );
    }
}
