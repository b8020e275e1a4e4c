//! Keeping text untouched by the variable expansion of `command`, `args` and `env` values.

/// The text in the form from which the kubelet's expansion makes the text itself again.
///
/// The kubelet replaces `$(NAME)` when `NAME` is in the container's environment, and reads `$$` as `$`:
/// not only in front of a parenthesis, but everywhere. So a shell's `$$` (its process id) would arrive as `$`,
/// and doubling only the `$` of each `$(` would still break `$$`, `$$(…)` and `$$$`. Doubling every `$` is the
/// one rule under which the expansion meets nothing but pairs.
pub(crate) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    //! Text that is made literal and then expanded is the same text.
    use std::collections::BTreeMap;

    use super::*;

    /// The kubelet's rule, written from its description and checked below against examples of its own tests.
    fn expand(text: &str, env: &BTreeMap<&str, &str>) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) =
                rest.strip_prefix('(').and_then(|r| r.split_once(')'))
            {
                match env.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = after;
            } else {
                // The next character is taken along, unless nothing follows.
                out.push('$');
                let mut chars = rest.chars();
                out.extend(chars.next());
                rest = chars.as_str();
            }
        }
        out + rest
    }

    fn env() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([("A", "1"), ("date", "2"), ("", "3"), ("$", "4")])
    }

    #[test]
    fn the_model_of_the_kubelet_agrees_with_its_documented_examples() {
        for (text, expanded) in [
            ("$(A)-$(A)", "1-1"),
            ("$$(A)_$(A)", "$(A)_1"),
            ("f000-$$A", "f000-$A"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(A$(A))", "$(A$(A))"),
            ("$$$$$$(A)", "$$$(A)"),
            ("$$$$$$$(A)", "$$$1"),
            ("foo$(Awhoops!", "foo$(Awhoops!"),
            ("$?_boo_$!", "$?_boo_$!"),
            ("$(A)bar$", "1bar$"),
            ("--$($($(--", "--$($($(--"),
        ] {
            assert_eq!(expand(text, &env()), expanded, "{text}");
        }
    }

    #[test]
    fn scripts_reach_the_shell_untouched() {
        for text in [
            "",
            "$",
            "$$",
            "$$$",
            "$(",
            "$)",
            "$()",
            "$$(",
            "$(A)",
            "$$(A)",
            "$$$(A)",
            "$(date)",
            "$(date",
            "$((1+2))",
            "${A}",
            "$A",
            "echo $$ > pid; kill -TERM $$",
            "x=$(A)$$(A)$",
            "echo \"$(cat <<'EOF'\n$(A) $$ \\$\nEOF\n)\"",
            "awk '{print $(NF)}'",
            "é$(é)$é$",
            "make VAR='$(A)' OTHER='$$(A)'",
        ] {
            assert_eq!(expand(&literal(text), &env()), text);
        }
    }

    #[test]
    fn so_does_any_text_of_the_characters_that_matter() {
        const ALPHABET: [char; 7] = ['$', '(', ')', 'A', '{', 'é', '\n'];
        let mut state: u64 = std::env::var("TEST_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(0x9e37_79b9);
        println!("TEST_SEED={state}");
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                text.push(ALPHABET[(state >> 33) as usize % ALPHABET.len()]);
            }
            assert_eq!(expand(&literal(&text), &env()), text);
        }
    }
}
