//! Amounts as Kubernetes writes them, in the forms that our schema lets through.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What the suffixes stand for, in thousandths.
const SUFFIXES: [(&str, f64); 10] = [
    ("Ki", 1024e3),
    ("Mi", 1_048_576e3),
    ("Gi", 1_073_741_824e3),
    ("Ti", 1_099_511_627_776e3),
    ("m", 1.0),
    ("k", 1e6),
    ("M", 1e9),
    ("G", 1e12),
    ("T", 1e15),
    ("", 1e3),
];

/// An amount in thousandths; none where it is written otherwise. Exact up to nine terabytes.
pub fn of(quantity: &Quantity) -> Option<f64> {
    read(&quantity.0)
}

/// The amount that a text is, in thousandths; none where it is none.
pub fn read(text: &str) -> Option<f64> {
    let (number, factor) =
        SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)))?;
    // Floats know more, such as -1, 1e3 and nan.
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    // Nobody is given anything finer, and 2.01 times 1000 is not quite 2010.
    Some((number.parse::<f64>().ok()? * factor).round())
}

/// The shortest text that is an amount in thousandths.
pub fn written(thousandths: f64) -> String {
    let texts = SUFFIXES.iter().map(|(suffix, factor)| format!("{}{suffix}", thousandths / factor));
    texts.min_by_key(String::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_thousandths() {
        for (text, expected) in [
            ("1", Some(1000.0)),
            ("500m", Some(500.0)),
            ("1.5", Some(1500.0)),
            ("2.01", Some(2010.0)),
            ("2k", Some(2e6)),
            ("1Ki", Some(1_024_000.0)),
            ("4Gi", Some(4_294_967_296e3)),
            ("4G", Some(4e12)),
            ("1M", Some(1e9)),
            ("1T", Some(1e15)),
            ("much", None),
            ("-1", None),
            ("1e3", None),
            ("nan", None),
            ("infinity", None),
            (".", None),
            ("", None),
        ] {
            assert_eq!(of(&Quantity(text.into())), expected, "{text}");
        }
    }

    #[test]
    fn amounts_are_written_as_short_as_they_can_be() {
        for (amounts, text) in [
            (&["0"][..], "0"),
            (&["2", "500m"], "2.5"),
            (&["1m"], "1m"),
            (&["2.01", "1.99"], "4"),
            (&["1Gi", "512Mi"], "1.5Gi"),
            (&["1Gi", "100Mi"], "1124Mi"),
            (&["4G", "4G"], "8G"),
            (&["1Gi", "1G"], "2073741824"),
        ] {
            let sum = amounts.iter().map(|text| read(text).unwrap()).sum();
            assert_eq!(written(sum), text, "{amounts:?}");
        }
    }
}
