//! Writes what was measured into docs/PERFORMANCE.md: tables between markers, charts beside it, nothing by hand.

use std::path::Path;

use serde_json::Value;

use crate::report::Group;
use crate::{chart, machine};

/// Replaces the part of each group in `<folder>/PERFORMANCE.md`, and writes `<folder>/performance/<group>.svg`. A group that the page has no
/// markers for is told, and its chart written all the same.
///
/// # Panics
/// When a file cannot be read or written.
pub fn write(folder: &Path, machine: &Value, groups: &[Group]) {
    let file = folder.join("PERFORMANCE.md");
    let mut page =
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let charts = folder.join("performance");
    std::fs::create_dir_all(&charts).unwrap_or_else(|e| panic!("{}: {e}", charts.display()));
    for group in groups {
        put(
            &charts.join(format!("{}.svg", group.name())),
            &chart::bars(group),
        );
        match with_part(&page, group.name(), &part(machine, group)) {
            Some(changed) => page = changed,
            None => eprintln!("bench: {} has no part for {}", file.display(), group.name()),
        }
    }
    put(&file, &page);
}

fn part(machine: &Value, group: &Group) -> String {
    format!(
        "{}\n\n{}\n\n{}\n![{name}](performance/{name}.svg)\n",
        group.about(),
        machine::line(machine),
        group.table(),
        name = group.name(),
    )
}

/// The page with another text between the markers of that name; none where it has no such markers.
fn with_part(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- bench:{name} -->\n"),
        format!("<!-- /bench:{name} -->"),
    );
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

fn put(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n";
        let changed = with_part(page, "x", "new\n").expect("markers");
        assert_eq!(changed, "a\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nb\n");
        assert_eq!(with_part(&changed, "x", "old\n").as_deref(), Some(page));
        assert_eq!(with_part(page, "y", ""), None);
    }
}
