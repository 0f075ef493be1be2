//! Durations as people write them: `30m`, `1h30m`.

use std::{fmt, str::FromStr};

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
}
