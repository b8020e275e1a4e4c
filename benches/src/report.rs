//! Figures with their references and targets, as JSON and as tables.
//!
//! The JSON of a run:
//! - `schema`: 1.
//! - `machine`: what it was measured on, see [`crate::machine`].
//! - `size`: `full`, `quick` or `tiny`; the last shows that the harness works, and its figures mean nothing.
//! - `groups`: by name, one for each kind of measurement (`accept-sqlite`, `drain`, …), each with
//!   - `about`: the setting in a sentence or a few, for readers of the table;
//!   - `figures`: a list of `{"what", "value", "unit", "reference", "ratio", "atMost", "atLeast"}`. `value` is in `unit`
//!     (`1/s`, `ms`, `s`, `MiB`, `count`, or empty for a ratio alone). `reference` is the `what` of a figure of the same group,
//!     measured in the same run, and `ratio` this by that: of interleaved rounds the median, not the ratio of the two values.
//!     `atMost` and `atLeast` are the project's targets, for the ratio where there is one, else for the value. What is
//!     absent is null.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// One figure.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    reference: Option<String>,
    ratio: Option<f64>,
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    /// So many a second.
    pub fn rate(what: &str, value: f64) -> Self {
        Self::new(what, value, "1/s")
    }

    /// A time, in milliseconds.
    pub fn time(what: &str, value: Duration) -> Self {
        Self::new(what, value.as_secs_f64() * 1_000.0, "ms")
    }

    /// A figure in that unit.
    pub fn new(what: &str, value: f64, unit: &'static str) -> Self {
        Self {
            what: what.to_owned(),
            value,
            unit,
            ..Self::default()
        }
    }

    /// It is so much of that other figure of its group.
    pub fn by(self, ratio: f64, reference: &str) -> Self {
        Self {
            ratio: Some(ratio),
            reference: Some(reference.to_owned()),
            ..self
        }
    }

    /// The ratio, or the value where there is none, is to be at most this.
    pub fn at_most(self, limit: f64) -> Self {
        let target = Some(Target::AtMost(limit));
        Self { target, ..self }
    }

    /// The same, at least.
    pub fn at_least(self, limit: f64) -> Self {
        let target = Some(Target::AtLeast(limit));
        Self { target, ..self }
    }

    fn is_met(&self) -> bool {
        let value = self.ratio.unwrap_or(self.value);
        match self.target {
            Some(Target::AtMost(limit)) => value <= limit,
            Some(Target::AtLeast(limit)) => value >= limit,
            None => true,
        }
    }

    fn json(&self) -> Value {
        let (most, least) = match self.target {
            Some(Target::AtMost(limit)) => (Some(limit), None),
            Some(Target::AtLeast(limit)) => (None, Some(limit)),
            None => (None, None),
        };
        json!({
            "what": self.what, "value": rounded(self.value), "unit": self.unit, "reference": self.reference,
            "ratio": self.ratio.map(rounded), "atMost": most, "atLeast": least,
        })
    }

    fn row(&self) -> String {
        let ratio = match (&self.reference, self.ratio) {
            (Some(reference), Some(ratio)) => format!("{} of {reference}", shown(ratio)),
            _ => String::new(),
        };
        let target = match self.target {
            Some(Target::AtMost(limit)) => format!("≤ {}", shown(limit)),
            Some(Target::AtLeast(limit)) => format!("≥ {}", shown(limit)),
            None => String::new(),
        };
        let value = format!("{} {}", shown(self.value), self.unit);
        let missed = if self.is_met() { "" } else { " (missed)" };
        format!(
            "| {} | {} | {ratio} | {target}{missed} |\n",
            self.what,
            value.trim_end()
        )
    }
}

/// What one kind of measurement gave.
#[derive(Clone, Debug, Default)]
pub struct Group {
    name: String,
    about: String,
    figures: Vec<Figure>,
}

impl Group {
    /// An empty one; the name is also that of its chart, and `about` says what the reader must know of the setting.
    pub fn new(name: &str, about: &str) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            figures: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The setting.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Adds one.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// What misses its target.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.figures.iter().filter(|figure| !figure.is_met());
        missed
            .map(|figure| format!("{}: {}", self.name, figure.what))
            .collect()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        json!({ "about": self.about, "figures": figures })
    }

    /// As a table of Markdown.
    pub fn table(&self) -> String {
        let mut text = "| measured | | by its reference | target |\n|---|---|---|---|\n".to_owned();
        text.extend(self.figures.iter().map(Figure::row));
        text
    }

    /// Names and values of the figures in that unit, for a chart.
    pub fn in_unit(&self, unit: &str) -> Vec<(&str, f64)> {
        let figures = self.figures.iter().filter(|figure| figure.unit == unit);
        figures
            .map(|figure| (&*figure.what, figure.value))
            .collect()
    }

    /// The units that figures of it have, in their order.
    pub fn units(&self) -> Vec<&'static str> {
        let mut units = Vec::new();
        for figure in &self.figures {
            if !figure.unit.is_empty() && !units.contains(&figure.unit) {
                units.push(figure.unit);
            }
        }
        units
    }
}

/// The JSON of a run.
pub fn json(machine: &Value, size: &str, groups: &[Group]) -> Value {
    let groups: Map<String, Value> = groups
        .iter()
        .map(|group| (group.name.clone(), group.json()))
        .collect();
    json!({ "schema": 1, "machine": machine, "size": size, "groups": groups })
}

/// Three digits after the point, and more of what is small.
fn rounded(value: f64) -> f64 {
    let digits = if value.abs() < 1.0 {
        100_000.0
    } else {
        1_000.0
    };
    (value * digits).round() / digits
}

/// Three digits that count, for people.
pub fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let (head, tail) = digits.split_at(digits.len() - 3);
            match head.len() {
                0..=3 => format!("{head},{tail}"),
                n => format!("{},{},{tail}", &head[..n - 3], &head[n - 3..]),
            }
        }
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The value below which that share of the values lies (nearest rank); zero of none.
pub fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    // A rank is far below 2^52, and at least 1.
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let index = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

/// The middle one, or the mean of the two in the middle; zero of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The median of the rounds' ratios, each of two figures measured one after the other.
pub fn ratio(values: &[f64], references: &[f64]) -> f64 {
    let ratios = values
        .iter()
        .zip(references)
        .map(|(value, reference)| value / reference);
    median(&ratios.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&values, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&values[..1], 0.99), Duration::from_millis(100));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn medians_are_in_the_middle_and_ratios_are_of_rounds() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(ratio(&[1.0, 20.0, 3.0], &[2.0, 10.0, 3.0]), 1.0);
    }

    #[test]
    fn a_missed_target_shows() {
        let mut group = Group::new("test", "about");
        group.add(Figure::rate("raw", 10.0));
        group.add(Figure::rate("ours", 9.0).by(0.9, "raw").at_least(1.0));
        group.add(Figure::time("p99", Duration::from_millis(2)).at_most(3.0));
        assert_eq!(group.missed(), ["test: ours"]);
        let table = group.table();
        assert!(
            table.contains("| ours | 9.00 1/s | 0.90 of raw | ≥ 1.00 (missed) |"),
            "{table}"
        );
        assert_eq!(group.json()["figures"][2]["atMost"], 3.0);
        assert_eq!(group.in_unit("1/s").len(), 2);
        assert_eq!(group.units(), ["1/s", "ms"]);
    }

    #[test]
    fn numbers_are_shown_with_the_digits_that_count() {
        let cases = [
            (0.0, "0.00"),
            (0.01234, "0.0123"),
            (9.876, "9.88"),
            (123.4, "123"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
    }
}
