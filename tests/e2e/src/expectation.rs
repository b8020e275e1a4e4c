//! What is expected of an execution's end, and the comparison with what the API says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How much of a log's head, and as much of its tail, Executor keeps, in bytes.
pub const KEPT_BYTES: usize = 1024 * 1024;

/// The one line that stands for what was left out is no longer than this, line ends included.
const MARKER_MAX_BYTES: usize = 300;

/// Characters of a log that are shown when it is not as expected.
const SHOWN_CHARS: usize = 300;

/// What is expected of an execution's end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expectation {
    /// `outcome` of the answer.
    pub outcome: String,
    /// `reason` of the answer.
    pub reason: String,
    /// `exitCode`, where the cluster can know one.
    pub exit_code: Option<i64>,
    /// `signal`; none means that there is none.
    pub signal: Option<i64>,
    /// The most that `durations.runSeconds` may be.
    pub runs_at_most_seconds: Option<f64>,
    /// The log.
    pub log: ExpectedLog,
}

/// What is expected of a log, in one of several ways of writing it down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
pub enum ExpectedLog {
    /// Exactly this text.
    Text {
        /// The text.
        text: String,
    },
    /// Exactly these bytes.
    Base64 {
        /// The bytes, in standard base64.
        base64: String,
    },
    /// Exactly a text many times over; what is beyond the kept size is lost, and counted.
    Repeat {
        /// What is repeated.
        repeat: Repeat,
    },
    /// All of these texts, where shells and clusters word the rest each in their way.
    Contains {
        /// The texts.
        contains: Vec<String>,
    },
    /// Exactly what has this digest.
    Digest {
        /// SHA-256, lower-case hexadecimal.
        sha256: String,
        /// The size.
        bytes: usize,
    },
}

/// A text many times over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// What is repeated.
    pub text: String,
    /// How often.
    pub times: usize,
    /// What comes after.
    #[serde(default)]
    pub then: String,
}

impl ExpectedLog {
    /// Checks the whole output of a script, nothing of it lost.
    pub fn check_whole(&self, log: &[u8]) -> Result<(), String> {
        let same = |expected: &[u8]| match first_difference(expected, log) {
            None => Ok(()),
            Some(at) => Err(format!(
                "log has {} bytes, expected {}; they differ at byte {at}:\n     got {}\nexpected {}",
                log.len(),
                expected.len(),
                shown(log, at),
                shown(expected, at)
            )),
        };
        match self {
            Self::Text { text } => same(text.as_bytes()),
            Self::Base64 { base64 } => same(&STANDARD.decode(base64).map_err(|e| e.to_string())?),
            Self::Repeat { repeat } => same(&repeat.bytes()),
            Self::Contains { contains } => {
                let text = String::from_utf8_lossy(log);
                match contains.iter().find(|part| !text.contains(part.as_str())) {
                    None => Ok(()),
                    Some(part) => Err(format!("log lacks {part:?}: {}", shown(log, 0))),
                }
            }
            Self::Digest { sha256, bytes } => {
                let digest: String = Sha256::digest(log)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                if (digest.as_str(), log.len()) == (sha256.as_str(), *bytes) {
                    return Ok(());
                }
                Err(format!("log has {} bytes and SHA-256 {digest}", log.len()))
            }
        }
    }

    /// The bytes that were written, where they are too many to be kept whole.
    fn oversize(&self) -> Option<Vec<u8>> {
        match self {
            Self::Repeat { repeat } => Some(repeat.bytes()).filter(|b| b.len() > 2 * KEPT_BYTES),
            _ => None,
        }
    }

    /// Checks a log with the summary of it in the answer: `{"bytes","lostBytes","complete"}`.
    pub fn check(&self, log: &[u8], summary: &Value) -> Result<(), String> {
        let (written, lost) = match self.oversize() {
            Some(written) => {
                check_shortened(&written, log)?;
                (written.len(), written.len() - 2 * KEPT_BYTES)
            }
            None => {
                self.check_whole(log)?;
                (log.len(), 0)
            }
        };
        let expected = serde_json::json!(
            { "bytes": written, "lostBytes": lost, "complete": lost == 0 }
        );
        if *summary == expected {
            return Ok(());
        }
        Err(format!("log summary is {summary}, expected {expected}"))
    }
}

impl Repeat {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.text.repeat(self.times).into_bytes();
        bytes.extend_from_slice(self.then.as_bytes());
        bytes
    }
}

impl Expectation {
    /// Checks a finished execution and its log; gives everything that is wrong.
    pub fn check(&self, execution: &Value, log: &[u8]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut same = |field: &str, expected: Value| {
            if execution[field] != expected {
                wrong.push(format!(
                    "{field} is {}, expected {expected}",
                    execution[field]
                ));
            }
        };
        same("status", "FINISHED".into());
        same("outcome", self.outcome.clone().into());
        same("reason", self.reason.clone().into());
        if let Some(code) = self.exit_code {
            same("exitCode", code.into());
        }
        same("signal", self.signal.map_or(Value::Null, Value::from));
        if let Some(most) = self.runs_at_most_seconds {
            let ran = execution["durations"]["runSeconds"].as_f64();
            if ran.is_none_or(|ran| ran > most) {
                wrong.push(format!("it ran {ran:?} s, expected at most {most}"));
            }
        }
        if let Err(e) = self.log.check(log, &execution["log"]) {
            wrong.push(e);
        }
        if !wrong.is_empty() {
            wrong.push(format!("message: {}", execution["message"]));
        }
        wrong
    }
}

/// The first and the last MiB are there, and between them one line that says how much is lost.
fn check_shortened(written: &[u8], log: &[u8]) -> Result<(), String> {
    let lost = written.len() - 2 * KEPT_BYTES;
    let head = &written[..KEPT_BYTES];
    let tail = &written[written.len() - KEPT_BYTES..];
    if !log.starts_with(head) {
        let at = first_difference(head, log).unwrap_or_default();
        return Err(format!(
            "the head is not kept from byte {at}: {}",
            shown(log, at)
        ));
    }
    if !log.ends_with(tail) {
        return Err(format!("the tail is not kept in {} bytes", log.len()));
    }
    let marker = log
        .get(KEPT_BYTES..log.len() - KEPT_BYTES)
        .unwrap_or_default();
    let line = String::from_utf8_lossy(marker);
    let line = line.trim_matches('\n');
    if marker.len() > MARKER_MAX_BYTES || line.contains('\n') || !line.contains(&lost.to_string()) {
        return Err(format!(
            "between head and tail there must be one line that says {lost}, not {}",
            shown(marker, 0)
        ));
    }
    Ok(())
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let differs = a.iter().zip(b).position(|(a, b)| a != b);
    differs.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

/// The bytes around that place, readable.
fn shown(bytes: &[u8], at: usize) -> String {
    let from = at.saturating_sub(20);
    let end = bytes.len().min(from + SHOWN_CHARS);
    let more = if end < bytes.len() { "…" } else { "" };
    format!(
        "{:?}{more}",
        String::from_utf8_lossy(&bytes[from.min(end)..end])
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_shortened_log_needs_head_tail_and_one_line_with_the_count() {
        let log: ExpectedLog =
            toml::from_str("repeat = { text = 'x', times = 2097153 }").expect("toml");
        let kept = "x".repeat(KEPT_BYTES);
        let summary = json!({ "bytes": 2_097_153, "lostBytes": 1, "complete": false });
        let good = format!("{kept}\n[1 bytes left out]\n{kept}");
        assert_eq!(log.check(good.as_bytes(), &summary), Ok(()));
        for marker in ["", "\n[2 bytes]\n", "\n1\n1\n", &"1".repeat(400)] {
            let bad = format!("{kept}{marker}{kept}");
            assert!(log.check(bad.as_bytes(), &summary).is_err(), "{marker:?}");
        }
        assert!(log.check(&good.as_bytes()[1..], &summary).is_err());
        assert!(
            log.check(&good.as_bytes()[..good.len() - 1], &summary)
                .is_err()
        );
    }

    #[test]
    fn a_whole_log_is_compared_to_the_byte() {
        let log: ExpectedLog = toml::from_str(r#"text = "ab\n""#).expect("toml");
        let summary = json!({ "bytes": 3, "lostBytes": 0, "complete": true });
        assert_eq!(log.check(b"ab\n", &summary), Ok(()));
        assert!(log.check(b"ab", &summary).is_err());
        assert!(log.check(b"ab\n\n", &summary).is_err());
        assert!(log.check(b"ab\n", &json!(null)).is_err());
    }
}
