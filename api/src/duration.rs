//! Durations as people write them: `30m`, `1h30m`.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time in Go's notation (`90s`, `30m`, `1h30m`), never negative.
///
/// It keeps the text it was read from, so that reading and writing an object changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

impl Duration {
    /// The length of time; zero where the text is not one, which the schema refuses.
    pub fn as_std(&self) -> std::time::Duration {
        kube::core::Duration::from_str(&self.0)
            .map_or(std::time::Duration::ZERO, std::time::Duration::from)
    }

    /// The length of time that a text means which no schema has judged: one in this notation, or as people write it otherwise.
    pub fn parse(text: &str) -> Option<std::time::Duration> {
        text.parse::<SignedDuration>().ok()?.try_into().ok()
    }

    /// The time so long after another, in whole seconds, rounded up: that is all that Kubernetes' times can hold. The
    /// end of time stays the end of time.
    pub fn after(&self, time: Timestamp) -> Timestamp {
        let duration = self.as_std();
        let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| {
                Timestamp::from_second(time.as_second().saturating_add(seconds)).ok()
            })
            .unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(format!("{}s", duration.as_secs()))
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_notation() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("168h", 604_800)] {
            assert_eq!(Duration::from(text).as_std().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn a_text_of_anybody_s_is_a_length_of_time_or_none() {
        for (text, seconds) in [
            ("1h30m", Some(5400.0)),
            ("1500ms", Some(1.5)),
            ("2 hours", Some(7200.0)),
            ("", None),
            ("30", None),
            ("-1s", None),
            ("soon", None),
            ("99999999999999999999999h", None),
        ] {
            let parsed = Duration::parse(text).map(|duration| duration.as_secs_f64());
            assert_eq!(parsed, seconds, "{text}");
        }
    }

    #[test]
    fn the_time_after_is_in_whole_seconds_and_never_beyond_the_end_of_time() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (text, time) in
            [("1s", at(8)), ("1ms", at(8)), ("1500ms", at(9)), ("9000000000h", Timestamp::MAX)]
        {
            assert_eq!(Duration::from(text).after(at(7)), time, "{text}");
        }
    }
}
