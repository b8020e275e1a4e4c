//! Kubernetes quantities: `250m`, `1.5`, `128Mi`, `1e3`.
//!
//! The grammar and the suffixes are those of
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Quantities longer than this are refused: Kubernetes' own values need far less.
const MAX_LENGTH_CHARS: usize = 32;

/// Kubernetes holds quantities below 2^63; more nano-units than that many whole units is no quantity.
const MAX_NANOS: i128 = (i64::MAX as i128) * NANOS_PER_UNIT;

const NANOS_PER_UNIT: i128 = 1_000_000_000;

/// A non-negative amount, kept as it was written.
#[derive(Clone, Debug)]
pub struct Quantity {
    text: String,
    nanos: i128,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the grammar.
    #[error("is not a Kubernetes quantity such as 250m, 2 or 128Mi")]
    Syntax,
    /// Less than zero.
    #[error("must not be negative")]
    Negative,
    /// More than Kubernetes can hold, or finer than a billionth.
    #[error("is out of the range of Kubernetes quantities")]
    Range,
}

impl Quantity {
    /// The text as it was written, which is what the API server gets.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is nothing at all.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is a whole number of thousandths: the finest step Kubernetes takes for CPU.
    pub fn is_whole_millis(&self) -> bool {
        self.nanos % (NANOS_PER_UNIT / 1000) == 0
    }

    /// Whether it is a whole number of units: what Kubernetes takes for bytes.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANOS_PER_UNIT == 0
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.len() > MAX_LENGTH_CHARS {
            return Err(QuantityError::Syntax);
        }
        if let Some(positive) = text.strip_prefix('-') {
            if positive.starts_with(['+', '-']) {
                return Err(QuantityError::Syntax);
            }
            let positive = Self::from_str(positive)?;
            // Minus nothing is a spelling that nobody means.
            let error = if positive.is_zero() {
                QuantityError::Syntax
            } else {
                QuantityError::Negative
            };
            return Err(error);
        }
        let number = text.strip_prefix('+').unwrap_or(text);
        let end = number
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(number.len());
        let (digits, suffix) = number.split_at(end);
        let nanos = scale(decimal(digits)?, suffix)?;
        Ok(Self {
            text: text.to_owned(),
            nanos,
        })
    }
}

/// A decimal number as its digits and how many of them stand behind the point.
fn decimal(digits: &str) -> Result<(i128, u32), QuantityError> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError::Syntax);
    }
    let fraction = fraction.trim_end_matches('0');
    let all = format!("0{whole}{fraction}");
    let value = all.parse::<i128>().map_err(|_| QuantityError::Range)?;
    let places = u32::try_from(fraction.len()).map_err(|_| QuantityError::Range)?;
    Ok((value, places))
}

/// The number times its suffix, in billionths. Finer amounts are out of range rather than rounded.
fn scale((value, places): (i128, u32), suffix: &str) -> Result<i128, QuantityError> {
    let (binary, exponent): (u32, i32) = match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (1, 0),
        "Mi" => (2, 0),
        "Gi" => (3, 0),
        "Ti" => (4, 0),
        "Pi" => (5, 0),
        "Ei" => (6, 0),
        _ => (0, decimal_exponent(suffix)?),
    };
    if value == 0 {
        return Ok(0);
    }
    // All powers of ten as one: apart, an amount in range would leave the range on the way.
    let tens = i64::from(NANOS_PER_UNIT.ilog10()) + i64::from(exponent) - i64::from(places);
    let power = u32::try_from(tens.unsigned_abs())
        .ok()
        .and_then(|tens| 10_i128.checked_pow(tens))
        .ok_or(QuantityError::Range)?;
    let (times, divisor) = if tens >= 0 { (power, 1) } else { (1, power) };
    let numerator = value
        .checked_mul(1024_i128.pow(binary))
        .and_then(|scaled| scaled.checked_mul(times))
        .ok_or(QuantityError::Range)?;
    if numerator % divisor != 0 || numerator / divisor > MAX_NANOS {
        return Err(QuantityError::Range);
    }
    Ok(numerator / divisor)
}

/// The exponent of `e3`, `E-2`: at most two digits behind zeros, more is out of range for any amount.
fn decimal_exponent(suffix: &str) -> Result<i32, QuantityError> {
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .ok_or(QuantityError::Syntax)?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Syntax);
    }
    if digits.trim_start_matches('0').len() > 2 {
        return Err(QuantityError::Range);
    }
    exponent.parse().map_err(|_| QuantityError::Range)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    //! The grammar, by example.
    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn same_amounts_are_equal_however_they_are_written() {
        for (a, b) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1Ki", "1024"),
            ("1k", "1e3"),
            ("1.5Gi", "1536Mi"),
            ("+2", "2"),
            ("1E3", "1000"),
            ("1E003", "1000"),
            ("1E", "1e18"),
            ("100n", "0.1u"),
            (".5", "0.50"),
            ("5.", "5"),
            ("2.0000000029070E", "2000000002907000000"),
            ("0e99", "0"),
        ] {
            assert_eq!(q(a), q(b), "{a} {b}");
        }
        assert!(q("128Mi") < q("1Gi"));
        assert!(q("999m") < q("1"));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for (text, error) in [
            ("", QuantityError::Syntax),
            (".", QuantityError::Syntax),
            ("abc", QuantityError::Syntax),
            ("1 Gi", QuantityError::Syntax),
            ("1gb", QuantityError::Syntax),
            ("1.2.3", QuantityError::Syntax),
            ("0x10", QuantityError::Syntax),
            ("1e", QuantityError::Syntax),
            ("e3", QuantityError::Syntax),
            ("-1", QuantityError::Negative),
            ("--1", QuantityError::Syntax),
            ("-+1", QuantityError::Syntax),
            ("1e99", QuantityError::Range),
            ("9999999999999999999999", QuantityError::Range),
            ("1e-10", QuantityError::Range),
            ("１", QuantityError::Syntax),
            ("NaN", QuantityError::Syntax),
            ("Infinity", QuantityError::Syntax),
        ] {
            let got = text.parse::<Quantity>().expect_err(text);
            assert_eq!(got, error, "{text}");
        }
    }

    #[test]
    fn steps_are_told() {
        assert!(q("250m").is_whole_millis() && !q("250m").is_whole());
        assert!(!q("1u").is_whole_millis());
        assert!(q("0").is_zero() && q("0Mi").is_zero());
    }
}
