//! What an attempt makes of a delivery: done, given up, or tried again, and when.

use http::StatusCode;
use http::header::RETRY_AFTER;
use jiff::{SignedDuration, Timestamp};
use store::Settled;

/// The pauses after each failed attempt where the operator says nothing, in seconds: the last attempt is made 24 hours
/// after the first. The first ones are for a receiver that restarts, the last ones for one that somebody has to mend.
const PAUSES_SECONDS: [i64; 11] = [
    5, 25, 90, 480, 1_200, 1_800, 3_600, 7_200, 14_400, 28_800, 28_800,
];

/// Each pause is made longer by up to this part of it, so that what failed together does not come back together.
const JITTER_PART: i32 = 10;

/// A receiver that asks for a longer pause than this is not believed: a wrong header must not cost the message.
const RETRY_AFTER_LIMIT: SignedDuration = SignedDuration::from_hours(1);

/// An error's text is cut to so many characters: it is kept for each attempt.
const MAX_ERROR_CHARS: usize = 200;

/// The shortest pause that can be set, in seconds: the outbox is looked at a few times a second.
const MIN_PAUSE_SECONDS: f64 = 0.1;

/// The longest pause that can be set, in seconds: a day.
const MAX_PAUSE_SECONDS: f64 = 86_400.0;

/// More pauses than this cannot be set: each attempt is kept and shown.
const MAX_PAUSES: usize = 50;

/// How long is waited after each failed attempt. After the attempt that follows the last pause, the delivery is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pauses(Vec<SignedDuration>);

impl Default for Pauses {
    fn default() -> Self {
        let pauses = PAUSES_SECONDS.iter().copied();
        Self(pauses.map(SignedDuration::from_secs).collect())
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The receiver answered that, and asked for that pause.
    Status(StatusCode, Option<SignedDuration>),
    /// No answer; why.
    Nothing(String),
    /// There is nothing to tell any more.
    Withdrawn,
}

impl Answered {
    /// Reads the head of an answer.
    pub(super) fn of<B>(response: &http::Response<B>, now: Timestamp) -> Self {
        let status = response.status();
        let patience = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        let asked = response.headers().get(RETRY_AFTER);
        let asked = asked
            .filter(|_| patience.contains(&status))
            .and_then(|value| retry_after(value.to_str().ok()?, now));
        Self::Status(status, asked)
    }

    /// The status, if there was an answer.
    pub(super) fn status_code(&self) -> Option<u16> {
        match self {
            Self::Status(status, _) => Some(status.as_u16()),
            Self::Nothing(_) | Self::Withdrawn => None,
        }
    }

    /// Why the attempt failed; none when it did not.
    pub(super) fn error(&self) -> Option<String> {
        let text = match self {
            Self::Status(status, _) if status.is_success() => return None,
            Self::Status(status, _) if status.is_redirection() => format!(
                "the receiver answered {}; redirects are not followed",
                status.as_u16()
            ),
            Self::Status(StatusCode::GONE, _) => {
                "the receiver answered 410: it wants no more of these".to_owned()
            }
            Self::Status(status, _) => format!("the receiver answered {}", status.as_u16()),
            Self::Nothing(why) => why.clone(),
            Self::Withdrawn => "the execution was deleted".to_owned(),
        };
        Some(text.chars().take(MAX_ERROR_CHARS).collect())
    }
}

impl Pauses {
    /// Reads seconds, separated by commas or blanks; an empty text is the default.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let words = text.split(|c: char| c == ',' || c.is_whitespace());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            return Ok(Self::default());
        }
        if words.len() > MAX_PAUSES {
            return Err(format!("has more than {MAX_PAUSES} pauses"));
        }
        let pause = |word: &str| {
            let seconds = word.parse::<f64>().ok()?;
            let fits = (MIN_PAUSE_SECONDS..=MAX_PAUSE_SECONDS).contains(&seconds);
            fits.then(|| SignedDuration::from_secs_f64(seconds))
        };
        let pauses: Option<_> = words.into_iter().map(pause).collect();
        pauses.map(Self).ok_or_else(|| {
            format!("is no list of seconds from {MIN_PAUSE_SECONDS} to {MAX_PAUSE_SECONDS}")
        })
    }

    /// What becomes of the delivery after its attempt of that number, which ended now.
    pub(super) fn settled(
        &self,
        answered: &Answered,
        attempt: u32,
        now: Timestamp,
        chance: u8,
    ) -> Settled {
        let asked = match answered {
            Answered::Status(status, _) if status.is_success() => return Settled::Delivered,
            Answered::Status(StatusCode::GONE, _) | Answered::Withdrawn => return Settled::Failed,
            Answered::Status(_, asked) => *asked,
            Answered::Nothing(_) => None,
        };
        let before = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(pause) = self.0.get(before) else {
            return Settled::Failed;
        };
        let asked = asked.unwrap_or_default().min(RETRY_AFTER_LIMIT);
        let jitter = *pause / JITTER_PART * i32::from(chance) / i32::from(u8::MAX);
        let pause = (*pause).max(asked) + jitter;
        Settled::Again(now.saturating_add(pause).unwrap_or(Timestamp::MAX))
    }
}

/// The pause that a `Retry-After` asks for (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<SignedDuration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(SignedDuration::from_secs(seconds.into()));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(date.timestamp().duration_since(now)).filter(SignedDuration::is_positive)
}

#[cfg(test)]
mod tests {
    //! The table of answers, and the times of the attempts.
    use super::*;

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().expect("a time")
    }

    fn answer(status: u16, asked: Option<&str>) -> Answered {
        let mut response = http::Response::builder().status(status);
        if let Some(asked) = asked {
            response = response.header("retry-after", asked);
        }
        Answered::of(&response.body(()).expect("an answer"), now())
    }

    fn settled(answered: &Answered, attempt: u32, now: Timestamp, chance: u8) -> Settled {
        Pauses::default().settled(answered, attempt, now, chance)
    }

    /// The pause after the first attempt, in milliseconds.
    fn pause(answered: &Answered, chance: u8) -> i128 {
        match settled(answered, 1, now(), chance) {
            Settled::Again(at) => at.duration_since(now()).as_millis(),
            other => panic!("{answered:?}: {other:?}"),
        }
    }

    #[test]
    fn only_2xx_is_taken_and_only_410_is_given_up_at_once() {
        for status in [200, 201, 202, 204, 299] {
            let answered = answer(status, None);
            assert_eq!(settled(&answered, 1, now(), 0), Settled::Delivered);
            assert_eq!(answered.error(), None);
        }
        assert_eq!(settled(&answer(410, None), 1, now(), 0), Settled::Failed);
        for status in [300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 502, 503] {
            let answered = answer(status, None);
            assert_eq!(pause(&answered, 0), 5_000, "{status}");
            assert_eq!(answered.status_code(), Some(status));
            let error = answered.error().expect("an error");
            assert!(error.contains(&status.to_string()), "{error}");
            assert_eq!(error.contains("redirects"), status < 400, "{error}");
        }
        let silent = Answered::Nothing("x".repeat(9_999));
        assert_eq!(pause(&silent, 0), 5_000);
        assert_eq!(silent.error().expect("an error").len(), MAX_ERROR_CHARS);
    }

    #[test]
    fn a_pause_that_the_receiver_asks_for_is_kept_within_reason() {
        for (status, asked, seconds) in [
            (429, "120", 120),
            (503, "120", 120),
            (503, "Sat, 31 Jan 2026 12:02:00 GMT", 120),
            (429, "1", 5),
            (429, "999999", 3_600),
            (429, "Sat, 31 Jan 2037 12:02:00 GMT", 3_600),
            (429, "Sat, 31 Jan 2015 12:02:00 GMT", 5),
            (429, "soon", 5),
            (429, "-7", 5),
            (500, "120", 5),
            (302, "120", 5),
        ] {
            let pause = pause(&answer(status, Some(asked)), 0);
            assert_eq!(pause, seconds * 1_000, "{status} {asked}");
        }
    }

    #[test]
    fn the_attempts_are_made_over_24_hours() {
        for (chance, most_seconds) in [(0, 86_400), (u8::MAX, 86_400 * 11 / 10)] {
            let (mut at, mut attempts) = (now(), 1);
            while let Settled::Again(next) = settled(&answer(500, None), attempts, at, chance) {
                assert!(next > at);
                (at, attempts) = (next, attempts + 1);
            }
            assert_eq!(at.duration_since(now()).as_secs(), most_seconds);
            assert_eq!(attempts, 12);
        }
    }
    #[test]
    fn the_pauses_can_be_set() {
        let pauses = Pauses::read("0.5, 2\n86400").expect("three pauses");
        let failed = answer(500, None);
        let millis = |attempt| match pauses.settled(&failed, attempt, now(), 0) {
            Settled::Again(at) => Some(at.duration_since(now()).as_millis()),
            _ => None,
        };
        let times: Vec<_> = (1..=4).map(millis).collect();
        assert_eq!(times, [Some(500), Some(2_000), Some(86_400_000), None]);
        assert_eq!(Pauses::read(" "), Ok(Pauses::default()));
        let many = "1 ".repeat(MAX_PAUSES + 1);
        for wrong in ["0", "-1", "86401", "NaN", "inf", "soon", "5;25", &many] {
            assert!(Pauses::read(wrong).is_err(), "{wrong}");
        }
    }
}
