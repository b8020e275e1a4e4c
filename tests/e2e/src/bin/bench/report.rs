//! Figures with their targets, as JSON and as a table.

use std::time::Duration;

use serde_json::{Value, json};

/// What was measured on, by what matters only.
pub struct Machine {
    cores: usize,
    memory_gib: u64,
    /// Of the last minute, before anything was measured.
    load: String,
}

impl Machine {
    /// This one, as Linux tells.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        let load = read("/proc/loadavg");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib.unwrap_or(0) + 512 * 1024) / (1024 * 1024),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "cores": self.cores, "memoryGiB": self.memory_gib, "loadBefore": self.load })
    }
}

/// One figure.
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    /// It is to be at most this.
    target: Option<f64>,
}

/// What a run measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a time.
    pub fn time(&mut self, what: &str, time: Duration, target: Option<Duration>) {
        let millis = |d: Duration| (d.as_secs_f64() * 10_000.0).round() / 10.0;
        self.rows.push(Row {
            what: what.to_owned(),
            value: millis(time),
            unit: "ms",
            target: target.map(millis),
        });
    }

    /// Adds a ratio.
    pub fn ratio(&mut self, what: &str, ratio: f64, target: Option<f64>) {
        self.rows.push(Row {
            what: what.to_owned(),
            value: (ratio * 1_000.0).round() / 1_000.0,
            unit: "",
            target,
        });
    }

    /// Whether every target is met.
    pub fn holds(&self) -> bool {
        let met = |row: &Row| row.target.is_none_or(|target| row.value <= target);
        self.rows.iter().all(met)
    }

    /// As JSON: a list of figures.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({ "what": row.what, "value": row.value, "unit": row.unit, "target": row.target })
        });
        rows.collect()
    }

    /// As a table of Markdown.
    pub fn table(&self, machine: &Machine) -> String {
        let mut text = format!(
            "{} cores, {} GiB, load {} before\n\n| measured | | target |\n|---|---|---|\n",
            machine.cores, machine.memory_gib, machine.load
        );
        for row in &self.rows {
            let with_unit = |value: f64| format!("{value} {}", row.unit).trim_end().to_owned();
            let target = row.target.map(with_unit);
            let target = target.map_or(String::new(), |target| format!("≤ {target}"));
            text += &format!("| {} | {} | {target} |\n", row.what, with_unit(row.value));
        }
        text
    }
}

/// The value below which that share of the values lies (nearest rank).
pub fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    // A rank is far below 2^52, and at least 1.
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
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
    }

    #[test]
    fn a_missed_target_shows() {
        let mut report = Report::default();
        report.ratio("a", 0.5, Some(0.7));
        report.ratio("b", 9.0, None);
        assert!(report.holds());
        report.time(
            "c",
            Duration::from_millis(2),
            Some(Duration::from_millis(1)),
        );
        assert!(!report.holds());
    }
}
