//! Bar charts as SVG, by hand: a few rectangles and texts, readable on light and dark pages.

use std::fmt::Write as _;

use crate::report::{Group, shown};

/// All widths and heights are in SVG's pixels.
const WIDTH: usize = 860;
const LABELS_WIDTH: usize = 430;
const BARS_WIDTH: usize = 330;
const ROW_HEIGHT: usize = 26;
const BAR_HEIGHT: usize = 16;
const HEADING_HEIGHT: usize = 34;

/// In the middle between black and white, so that it shows on both.
const INK: &str = "#808890";
const BAR: &str = "#4a7fb5";

/// One bar for each figure, those of a unit on a scale of their own.
pub fn bars(group: &Group) -> String {
    let mut rows = String::new();
    let mut y = 0;
    for unit in group.units() {
        let figures = group.in_unit(unit);
        let largest = figures.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        text(
            &mut rows,
            0,
            y + HEADING_HEIGHT - 10,
            "start",
            &format!("{}, in {unit}", group.name()),
        );
        y += HEADING_HEIGHT;
        for (what, value) in figures {
            let share = if largest > 0.0 { value / largest } else { 0.0 };
            // A positive number below the width.
            let length = ((share * BARS_WIDTH as f64).round() as usize).max(1);
            let middle = y + ROW_HEIGHT / 2 + 4;
            text(&mut rows, LABELS_WIDTH - 8, middle, "end", what);
            let _ = writeln!(
                rows,
                r#"<rect x="{LABELS_WIDTH}" y="{}" width="{length}" height="{BAR_HEIGHT}" fill="{BAR}"/>"#,
                y + (ROW_HEIGHT - BAR_HEIGHT) / 2,
            );
            text(
                &mut rows,
                LABELS_WIDTH + length + 6,
                middle,
                "start",
                &shown(value),
            );
            y += ROW_HEIGHT;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n{rows}</svg>\n",
        height = y + 8,
    )
}

fn text(rows: &mut String, x: usize, y: usize, anchor: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('`', "");
    // Writing to a String does not fail.
    let _ = writeln!(
        rows,
        r#"<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Figure;

    #[test]
    fn the_longest_bar_is_of_the_largest_figure() {
        let mut group = Group::new("accept", "about");
        group.add(Figure::rate("a < b", 50.0));
        group.add(Figure::rate("c", 100.0));
        group.add(Figure::new("d", 3.0, "MiB"));
        let svg = bars(&group);
        for part in [
            "a &lt; b",
            "accept, in 1/s",
            "accept, in MiB",
            ">100</text>",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(
            svg.contains(&format!("width=\"{}\"", BARS_WIDTH / 2)),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect").count(), 3);
    }
}
