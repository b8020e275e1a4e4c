//! Kubernetes quantities: a decimal number with a binary or decimal suffix, or an exponent.

use serde_json::Value;

/// The error of a text that is none, as the API server words it.
pub const ERROR: &str =
    r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The value of a quantity in an object; none when it is missing or none.
pub fn of(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

/// The value of a quantity as text.
pub fn parse(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number);
    if !unsigned.bytes().any(|b| b.is_ascii_digit())
        || !unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    Some(number * factor(suffix)?)
}

fn factor(suffix: &str) -> Option<f64> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(power) = binary.iter().position(|s| *s == suffix) {
        return Some(1024f64.powi(power as i32 + 1));
    }
    let decimal = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    if let Some((_, power)) = decimal.iter().find(|(s, _)| *s == suffix) {
        return Some(10f64.powi(*power));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-18..=18).contains(&exponent).then(|| 10f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let good = [
            ("1", 1.0),
            ("500m", 0.5),
            ("64Mi", 67_108_864.0),
            ("1e3", 1000.0),
            ("0.5", 0.5),
            ("2k", 2000.0),
            ("-1", -1.0),
            ("1E", 1e18),
        ];
        for (text, value) in good {
            assert!((parse(text).expect(text) - value).abs() < 1e-9, "{text}");
        }
        for text in [
            "", "abc", "1 Mi", "1mi", "Mi", "1KiB", "--1", "1.2.3", "1e", ".",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
