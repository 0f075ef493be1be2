//! What Kubernetes takes for a label.

/// Whether a label can have this key: a name of at most 63 characters, behind a DNS subdomain and a slash or not.
pub(crate) fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_part = |part: &str| {
        is_name(part) && !part.contains(['_', '.']) && part == part.to_ascii_lowercase()
    };
    let is_subdomain = |prefix: &str| prefix.len() <= 253 && prefix.split('.').all(is_part);
    is_name(name) && prefix.is_none_or(is_subdomain)
}

/// Whether a label can have this value.
pub(crate) fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// Letters, digits, `-`, `_` and `.`, with a letter or digit at either end.
fn is_name(text: &str) -> bool {
    let ends = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let mut bytes = text.bytes();
    text.len() <= 63
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_those_that_kubernetes_takes() {
        let long = "a".repeat(63);
        for key in ["a", "app.kubernetes.io/name", "A_b.c-1", "x/Y", &long] {
            assert!(is_key(key), "{key}");
        }
        for key in
            ["", "/a", "a/", "a/b/c", "-a", "a-", "a b", "A.b/c", "a_b/c", "é", &format!("{long}a")]
        {
            assert!(!is_key(key), "{key}");
        }
        for value in ["", "a", "1.2_3-X", &long] {
            assert!(is_value(value), "{value}");
        }
        for value in ["-a", "a/b", " ", "a.", &format!("{long}a")] {
            assert!(!is_value(value), "{value}");
        }
    }
}
